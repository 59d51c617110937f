"""Target: message boundaries. An input is a line of plan, then a stream of requests or of answers.

The plan's first byte says what is read, its others how long the pieces are in which the stream arrives. Only
``MessageError`` may come of it, however it is cut; what is kept has a bound; a rebuilt head means the same when it is
read again; and h11 reads what the relay would send on, and what both accept, as the relay does.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from itertools import accumulate, cycle, islice, takewhile
from typing import Any

import attrs

from fipsrelay.errors import MessageError
from fipsrelay.wire.http1 import UNTIL_CLOSE, RequestHead, parse_request, parse_response
from fipsrelay.wire.known import Known
from tests.fuzz.inputs import expand, held, length
from tests.messages import HEAD_LIMIT, Head, Reader, cut
from tests.test_http1_streams import HOST, OracleTests, client_sees, server_sees

SMALL_HEAD, FEW_LINES = 300, 5
_CHUNKED_HOLDS = 4096 + 16384 + 4096  # a line, trailers, and the line that was too much for them
_EVERY_BYTE = 400  # longer streams are not also read a byte at a time
_CUTS = 100  # at most
_COMPARED = 4  # messages of a stream that h11 is asked about

# What h11 refuses although it has one reading: white space before a chunk extension, and an upgrade nobody asked for,
# which only the relay's reader of answers refuses.
_NOT_TO_H11 = re.compile(rb"(?m)^[0-9A-Fa-f]+[ \t]+;|^HTTP/1\.[01] 101[ \r]")
# What h11 takes in a trailer section, and the next reader might heed (RFC 9110 §6.5.1).
_FRAMING_FIELD = re.compile(rb"(?im)^(content-length|transfer-encoding|host)[ \t]*:")

_ORACLE = OracleTests()
ParseRequest = Callable[[bytes, int], RequestHead]


@attrs.frozen
class Plan:
    """What an input is.

    Attributes:
        method: of the request that the answers answer, or None for a stream of requests.
        head_size, header_lines: limits.
    """

    method: bytes | None
    head_size: int = HEAD_LIMIT
    header_lines: int = 128


# Requests, answers to GET and to HEAD; small letters for small limits.
PLANS = {
    b"R": Plan(None),
    b"G": Plan(b"GET"),
    b"H": Plan(b"HEAD"),
    b"r": Plan(None, SMALL_HEAD, FEW_LINES),
    b"g": Plan(b"GET", SMALL_HEAD, FEW_LINES),
}


def check(data: bytes, parse: ParseRequest = parse_request) -> str | None:
    """Check one input.

    Args:
        data: the input.
        parse: reads the head of a request.

    Returns:
        The code of what ended the reading, if anything did.
    """
    line, _, stream = data.partition(b"\n")
    letters = list(PLANS)
    plan = PLANS.get(line[:1]) or PLANS[letters[sum(line[:1]) % len(letters)]]
    stream = expand(stream)
    if plan.method is None:
        return check_requests(stream, line[1:], plan, parse)
    return check_answers(stream, line[1:], plan, plan.method)


def check_requests(stream: bytes, sizes: bytes, plan: Plan, parse: ParseRequest) -> str | None:
    """A stream of requests; returns what ended it."""
    heads: list[bytes] = []

    def read_head(data: bytes) -> RequestHead:
        heads.append(data)
        return parse(data, plan.header_lines)

    reader = check_cuts(read_head, stream, sizes, plan)
    check_known(heads, lambda data: parse(data, plan.header_lines))
    start = 0
    for message in reader.messages[:_COMPARED]:
        if message.end is None:
            break
        if stream.startswith(b"\r\n", start):
            start += 2
        other = server_sees(stream[start:])
        if other is None:
            assert _NOT_TO_H11.search(stream, start, message.end), stream
        else:
            _ORACLE.check_agreement(stream, attrs.evolve(message, end=message.end - start), other)
            assert other.event.method == message.head.method  # type: ignore[union-attr]
        assert _FRAMING_FIELD.search(message.trailers) is None, message.trailers
        _ORACLE.check_sent_request(message)
        start = message.end
    return reader.error


def check_answers(stream: bytes, sizes: bytes, plan: Plan, method: bytes) -> str | None:
    """A stream of answers, all to the same method; returns what ended it."""
    reader = check_cuts(lambda data: parse_response(data, method, plan.header_lines), stream, sizes, plan)
    start = 0
    for message in [message for message in reader.messages if message.head.status >= 200][:_COMPARED]:
        head = message.head
        if head.body == UNTIL_CLOSE:
            message.end = len(stream)
        if message.end is None:
            break
        other = client_sees(method, stream[start:], head.body == UNTIL_CLOSE)
        if other is None:
            assert _NOT_TO_H11.search(stream, start, message.end), stream
        else:
            _ORACLE.check_agreement(stream, attrs.evolve(message, end=message.end - start), other)
            assert other.event.status_code == head.status  # type: ignore[union-attr]
        assert _FRAMING_FIELD.search(message.trailers) is None, message.trailers
        _ORACLE.check_sent_answer(message, method)
        start = message.end
    return reader.error


def check_cuts(parse: Callable[[bytes], Head], stream: bytes, sizes: bytes, plan: Plan) -> Reader[Head]:
    """The pieces make no difference; returns what was read of the whole."""

    def reader(pieces: list[bytes]) -> Reader[Head]:
        made = Reader(parse, plan.head_size)
        for piece in pieces:
            made.feed(piece)
            assert held(made._heads) <= plan.head_size
            assert held(made._body) <= _CHUNKED_HOLDS
        return made

    whole = reader([stream])
    events = whole.events()
    assert reader(cut(stream, places(sizes, len(stream)))).events() == events
    if len(stream) <= _EVERY_BYTE:
        assert reader(cut(stream, range(len(stream)))).events() == events
    return whole


def places(sizes: bytes, end: int) -> list[int]:
    """Where the stream is cut: pieces of these sizes, again and again."""
    steps = [max(1, length(byte)) for byte in sizes]
    return list(takewhile(lambda place: place < end, islice(accumulate(cycle(steps)), _CUTS)))


def check_known(heads: list[bytes], parse: Callable[[bytes], RequestHead]) -> None:
    """What is remembered of heads says the same as reading them."""

    def meaning(data: bytes) -> tuple[Any, int, bytes]:
        head = parse(data)
        meant = (head.method, head.target, head.http10, head.keep_alive, head.expects)
        return meant, head.body, head.rebuild(HOST)

    known = Known(meaning)
    for data in heads:
        for _ in range(2):
            try:
                expected: object = meaning(data)
            except MessageError as error:
                expected = error.code
            try:
                found: object = known.read(data)
            except MessageError as error:
                found = error.code
            assert found == expected, data
