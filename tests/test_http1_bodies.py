"""Bodies: known length, chunked, until close. Chunked framing is refused by name, decoded and encoded."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from fipsrelay.errors import MessageError
from fipsrelay.wire.http1 import (
    CHUNKED,
    UNTIL_CLOSE,
    ChunkedBody,
    LengthBody,
    UntilCloseBody,
    body_of,
    encode_chunk,
    last_chunk,
)

BAD_CHUNK = ("bad-chunk", 400)
TOO_LARGE = ("head-too-large", 431)


def decode(data: bytes, step: int = 1 << 20) -> tuple[bytes, bytes, int] | tuple[str, int]:
    """Feed ``data`` in steps; gives content, trailers and where the message ends, or code and status of the refusal."""
    body = ChunkedBody()
    content, position = b"", 0
    try:
        for start in range(0, len(data), step):
            pieces, end = body.feed(memoryview(data)[: start + step], start)
            content += b"".join(pieces)
            position = end
            if body.done:
                return content, body.trailers, position
    except MessageError as error:
        return error.code, error.status
    return "incomplete", position


# A name, a chunked body, and how it is refused.
REFUSED: dict[str, tuple[bytes, tuple[str, int]]] = {
    "empty size": (b"\r\n", BAD_CHUNK),
    "size with a sign": (b"+5\r\nhello\r\n0\r\n\r\n", BAD_CHUNK),
    "negative size": (b"-5\r\nhello\r\n0\r\n\r\n", BAD_CHUNK),
    "size with a prefix": (b"0x5\r\nhello\r\n0\r\n\r\n", BAD_CHUNK),
    "size with an underscore": (b"1_0\r\n0123456789abcdef\r\n0\r\n\r\n", BAD_CHUNK),
    "space before the size": (b" 5\r\nhello\r\n0\r\n\r\n", BAD_CHUNK),
    "size that is no number": (b"five\r\n", BAD_CHUNK),
    "size with a superscript digit": (b"\xb2\r\nhi\r\n0\r\n\r\n", BAD_CHUNK),
    "size above 64 bits": (b"10000000000000005\r\nhello\r\n0\r\n\r\n", BAD_CHUNK),
    "size of sixteen digits": (b"0" * 15 + b"5\r\nhello\r\n0\r\n\r\n", BAD_CHUNK),
    "two sizes": (b"5 5\r\nhello\r\n0\r\n\r\n", BAD_CHUNK),
    "bare LF after the size": (b"5\nhello\r\n0\r\n\r\n", BAD_CHUNK),
    "bare CR after the size": (b"5\rhello\r\n0\r\n\r\n", BAD_CHUNK),
    "two CRs after the size": (b"5\r\r\nhello\r\n0\r\n\r\n", BAD_CHUNK),
    "bare CR in an extension": (b"5;a\rb\r\nhello\r\n0\r\n\r\n", BAD_CHUNK),
    "bare LF in an extension": (b"5;a\nb\r\nhello\r\n0\r\n\r\n", BAD_CHUNK),
    "NUL in an extension": (b"5;a\0\r\nhello\r\n0\r\n\r\n", BAD_CHUNK),
    "endless extension": (b"5;" + b"a" * 5000, BAD_CHUNK),
    "chunk longer than its size": (b"5\r\nhello!\r\n0\r\n\r\n", BAD_CHUNK),
    "chunk shorter than its size": (b"5\r\nhell\r\n0\r\n\r\n", BAD_CHUNK),
    "bare LF after the data": (b"5\r\nhello\n0\r\n\r\n", BAD_CHUNK),
    "bare CR after the data": (b"5\r\nhello\r0\r\n\r\n", BAD_CHUNK),
    "nothing after the data": (b"5\r\nhello0\r\n\r\n", BAD_CHUNK),
    "bare LF at the end": (b"0\r\n\n", BAD_CHUNK),
    "folded trailer": (b"0\r\nA: b\r\n c\r\n\r\n", BAD_CHUNK),
    "trailer without a colon": (b"0\r\nA\r\n\r\n", BAD_CHUNK),
    "trailer without a name": (b"0\r\n: b\r\n\r\n", BAD_CHUNK),
    "space before a trailer's colon": (b"0\r\nA : b\r\n\r\n", BAD_CHUNK),
    "bare LF in a trailer": (b"0\r\nA: b\nC: d\r\n\r\n", BAD_CHUNK),
    "bare CR in a trailer": (b"0\r\nA: b\rc\r\n\r\n", BAD_CHUNK),
    "NUL in a trailer": (b"0\r\nA: \0\r\n\r\n", BAD_CHUNK),
    "control character in a trailer": (b"0\r\nA: \x01\r\n\r\n", BAD_CHUNK),
    "Content-Length as a trailer": (b"0\r\ncontent-length: 5\r\n\r\n", BAD_CHUNK),
    "Transfer-Encoding as a trailer": (b"0\r\nTransfer-Encoding: chunked\r\n\r\n", BAD_CHUNK),
    "Host as a trailer": (b"0\r\nHost: a\r\n\r\n", BAD_CHUNK),
    "Connection as a trailer": (b"0\r\nConnection: close\r\n\r\n", BAD_CHUNK),
    "Trailer as a trailer": (b"0\r\nTrailer: a\r\n\r\n", BAD_CHUNK),
    "endless trailer": (b"0\r\nA: " + b"b" * 5000, BAD_CHUNK),
    "trailers without end": (b"0\r\n" + b"A: 0123456789abc\r\n" * 1000, TOO_LARGE),
}


class ChunkedTests(SynchronousTestCase):
    def test_refused(self) -> None:
        outcomes = {name: decode(data) for name, (data, _) in REFUSED.items()}
        self.assertEqual(outcomes, {name: wanted for name, (_, wanted) in REFUSED.items()})

    def test_refused_byte_by_byte(self) -> None:
        outcomes = {name: decode(data, 1) for name, (data, _) in REFUSED.items()}
        self.assertEqual(outcomes, {name: wanted for name, (_, wanted) in REFUSED.items()})

    def test_accepted(self) -> None:
        for data, content, trailers in (
            (b"0\r\n\r\n", b"", b""),
            (b"5\r\nhello\r\n0\r\n\r\n", b"hello", b""),
            (b"0" * 14 + b"5\r\nhello\r\n000\r\n\r\n", b"hello", b""),
            (b"a\r\n\r\n0\r\n\r\n\r\n\0\r\n1\r\n!\r\n0\r\n\r\n", b"\r\n0\r\n\r\n\r\n\0!", b""),
            (b"A\r\n0123456789\r\n0\r\n\r\n", b"0123456789", b""),
            (b'5;a=b;c="d;\xe9";\te \r\nhello\r\n0;f\r\n\r\n', b"hello", b""),
            (b"5 \t;a\r\nhello\r\n0  \r\n\r\n", b"hello", b""),
            (b"0\r\nA: b\r\nC:\xe9\r\n\r\n", b"", b"A: b\r\nC:\xe9\r\n"),
        ):
            for step in (1, 1 << 20):
                self.assertEqual(decode(data + b"POST", step), (content, trailers, len(data)), (data, step))

    def test_longest_line_is_the_same_in_any_cut(self) -> None:
        for length, wanted in ((4096, b"hello"), (4097, None)):
            line = b"5;".ljust(length - 2, b"a") + b"\r\n"
            for step in (1, 64, 1000, 4095, 4096, 5000):
                outcome = decode(line + b"hello\r\n0\r\n\r\n", step)
                self.assertEqual(outcome[0], "bad-chunk" if wanted is None else wanted, (length, step))

    def test_most_trailers(self) -> None:
        trailers = b"A: 0123456789ab\r\n" * (16384 // 17)
        self.assertEqual(decode(b"0\r\n" + trailers + b"\r\n"), (b"", trailers, len(trailers) + 5))

    def test_large_chunk_is_passed_on_as_it_comes(self) -> None:
        """Nothing is collected or copied: a chunk of a gigabyte needs no gigabyte."""
        body = ChunkedBody()
        data = memoryview(b"40000000\r\n" + b"x" * 100)
        pieces, end = body.feed(data, 0)
        self.assertEqual(([bytes(piece) for piece in pieces], end, body.done), ([b"x" * 100], 110, False))
        self.assertIs(pieces[0].obj, data.obj)

    @given(
        st.lists(st.binary(max_size=40)),
        st.lists(st.sampled_from((b"A: b\r\n", b"X-Sum:\xff\r\n"))),
        st.integers(1, 50),
        st.binary(max_size=5),
    )
    @settings(derandomize=True, database=None, deadline=None, max_examples=200)
    def test_round_trip(self, chunks: list[bytes], trailers: list[bytes], step: int, rest: bytes) -> None:
        """Also for pieces: many make one chunk, none and empty ones make nothing, since an empty chunk is the end."""
        encoded = b"".join(encode_chunk([memoryview(chunk)]) for chunk in chunks)
        encoded += encode_chunk([memoryview(chunk) for chunk in chunks]) + encode_chunk([])
        encoded += last_chunk(b"".join(trailers))
        self.assertEqual(decode(encoded + rest, step), (b"".join(chunks) * 2, b"".join(trailers), len(encoded)))


class LengthTests(SynchronousTestCase):
    def test_takes_its_length_and_no_more(self) -> None:
        body = LengthBody(5)
        pieces, end = body.feed(memoryview(b"..abc"), 2)
        self.assertEqual((b"".join(pieces), end, body.remaining, body.done), (b"abc", 5, 2, False))
        pieces, end = body.feed(memoryview(b"deNEXT"), 0)
        self.assertEqual((b"".join(pieces), end, body.remaining, body.done), (b"de", 2, 0, True))

    def test_nothing(self) -> None:
        self.assertTrue(LengthBody(0).done)


class UntilCloseTests(SynchronousTestCase):
    def test_takes_everything(self) -> None:
        body = UntilCloseBody()
        pieces, end = body.feed(memoryview(b"..abc"), 2)
        self.assertEqual((b"".join(pieces), end, body.done), (b"abc", 5, False))


class BodyOfTests(SynchronousTestCase):
    def test_kinds(self) -> None:
        kinds = [type(body_of(length)) for length in (0, 5, CHUNKED, UNTIL_CLOSE)]
        self.assertEqual(kinds, [LengthBody, LengthBody, ChunkedBody, UntilCloseBody])
