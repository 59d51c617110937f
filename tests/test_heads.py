"""Where heads end."""

from __future__ import annotations

import time

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from fipsrelay.errors import MessageError
from fipsrelay.wire.heads import HeadReader

PIECES = st.lists(
    st.sampled_from([b"a", b"\r", b"\n", b"\r\n", b"\r\n\r\n", b"GET / HTTP/1.1", b"x" * 30]), max_size=20
)


def read(pieces: list[bytes], limit: int) -> tuple[list[bytes], bytes]:
    """All heads in the pieces, and what is left of the last piece when a head is too large."""
    reader = HeadReader(limit)
    heads: list[bytes] = []
    for piece in pieces:
        view, position = memoryview(piece), 0
        while position < len(view):
            try:
                head, position = reader.feed(view, position)
            except MessageError as error:
                return heads, error.code.encode()
            if head is not None:
                heads.append(head)
    return heads, b"more" if reader.begun else b""


def model(data: bytes, limit: int) -> tuple[list[bytes], bytes]:
    heads: list[bytes] = []
    while data:
        head, end, rest = data.partition(b"\r\n\r\n")
        if len(head + end) > limit or (not end and len(head) >= limit):
            return heads, b"head-too-large"
        if not end:
            return heads, b"more"
        heads.append(head + end)
        data = rest
    return heads, b""


class HeadTests(SynchronousTestCase):
    @given(PIECES, st.lists(st.integers(0, 300), max_size=6), st.integers(4, 80))
    @settings(derandomize=True, database=None, deadline=None, max_examples=500)
    def test_any_chunking(self, parts: list[bytes], cuts: list[int], limit: int) -> None:
        """The same heads and the same refusal as from a naive model of the whole."""
        data = b"".join(parts)
        ends = sorted({cut for cut in cuts if cut < len(data)} | {len(data)})
        pieces = [data[start:end] for start, end in zip([0, *ends], ends, strict=False)]
        self.assertEqual(read(pieces, limit), model(data, limit))

    def test_limit(self) -> None:
        """Exact, in one piece and in any two, beyond the first look too."""
        for limit in (100, 8191, 8192, 8193, 20_000, 65536):
            head = b"x" * (limit - 4) + b"\r\n\r\n"
            for cut in (0, 1, limit // 2, limit - 3, limit - 1):
                self.assertEqual(read([head[:cut], head[cut:] + b"body"], limit), ([head], b"more"))
                larger = b"x" + head
                self.assertEqual(read([larger[:cut], larger[cut:]], limit), ([], b"head-too-large"))

    def test_limit_needs_no_end(self) -> None:
        self.assertEqual(read([b"x" * 99], 100), ([], b"more"))
        self.assertEqual(read([b"x" * 100], 100), ([], b"head-too-large"))

    def test_positions(self) -> None:
        reader = HeadReader(100)
        view = memoryview(b"....a\r\n\r\nbody")
        self.assertEqual(reader.feed(view, 4), (b"a\r\n\r\n", 9))
        self.assertEqual(reader.feed(view, 9), (None, 13))
        self.assertTrue(reader.begun)
        self.assertEqual(reader.feed(memoryview(b"\r\n\r\nrest"), 0), (b"body\r\n\r\n", 4))
        self.assertFalse(reader.begun)

    def test_keeps_no_view(self) -> None:
        """The read buffer means something else after the call."""
        buffer = bytearray(b"a: b\r\n")
        reader = HeadReader(100)
        reader.feed(memoryview(buffer), 0)
        buffer[:] = b"??????"
        self.assertEqual(reader.feed(memoryview(b"\r\n"), 0), (b"a: b\r\n\r\n", 2))

    def test_byte_by_byte_is_linear(self) -> None:
        """Looking again at everything for each byte would take minutes, not milliseconds."""
        head = b"x" * 499_996 + b"\r\n\r\n"
        started = time.process_time()
        self.assertEqual(read([head[at : at + 1] for at in range(len(head))], len(head))[0], [head])
        self.assertLess(time.process_time() - started, 5)
