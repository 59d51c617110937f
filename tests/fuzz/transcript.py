"""What both ends of an exchange got, read by h11 and compared with what was sent to the other end."""

from __future__ import annotations

import h11

from fipsrelay.config.model import Limits
from fipsrelay.upstream.search import RETRIES
from fipsrelay.wire.http1 import UNTIL_CLOSE, RequestHead, ResponseHead, parse_response
from tests.fuzz.peers import Lending, UpstreamPeer
from tests.messages import HEAD_LIMIT, Message, Reader
from tests.test_http1_streams import lines_of, lines_to_pass, server_sees

Requests = list[Message[RequestHead]]
_LOCAL = frozenset((400, 408, 417, 431, 501, 502, 503, 504, 505))
_LOCAL_SIZE = 500


# -- what upstreams got


def check_asked(peers: list[UpstreamPeer], requests: Requests, replay: bool) -> None:
    """Each connection got well-formed requests, one for each use, and each is the agent's; none too often."""
    begun: dict[int, int] = {}
    for peer in peers:
        for lending, data in peer.asked():
            if data:
                begun[lending.number] = begun.get(lending.number, 0) + 1
                check_request(lending, data, requests[lending.number])
    for number, times in begun.items():
        again = replay or requests[number].head.method in (b"GET", b"HEAD")
        assert times <= (1 + RETRIES if again else 1), "what may have been read was sent again"


def check_request(lending: Lending, data: bytes, request: Message[RequestHead]) -> bool:
    """Returns whether it is complete."""
    head = request.head.rebuild(lending.host)
    assert data[: len(head)] == head[: len(data)], data
    if len(data) < len(head):
        return False
    seen = server_sees(data)
    assert seen is not None, data
    if seen.end is not None:
        assert (seen.end, seen.content, request.end is None) == (len(data), request.content, False), data
        return True
    shared = min(len(seen.content), len(request.content))
    assert seen.content[:shared] == request.content[:shared], data
    return False


def check_returned(peer: UpstreamPeer, requests: Requests, limits: Limits) -> None:
    """A connection that is given back carries nothing of anybody."""
    lending, data = peer.asked()[-1]
    request = requests[lending.number]
    assert check_request(lending, data, request)
    answer = final(lending, request.head.method, limits)
    assert answer is not None
    assert answer.head.keep_alive
    assert answer.end == size(lending), lending.said


# -- what the agent got


def read_said(lending: Lending, method: bytes, limits: Limits) -> Reader[ResponseHead]:
    """What an upstream said in this use."""
    reader = Reader(lambda data: parse_response(data, method, limits.header_lines), limits.head_size)
    for piece in lending.said:
        reader.feed(piece)
    return reader


def is_broken(lending: Lending, method: bytes, limits: Limits) -> bool:
    """Whether the upstream said what is no answer."""
    reader = read_said(lending, method, limits)
    return reader.error is not None or any(message.head.status == 101 for message in reader.messages)


def final(lending: Lending, method: bytes, limits: Limits) -> Message[ResponseHead] | None:
    """The answer that an upstream gave in this use, as far as it got; ``end`` is set when it is complete."""
    for message in read_said(lending, method, limits).messages:
        if message.head.status >= 200:
            if message.head.body == UNTIL_CLOSE and lending.ended:
                message.end = size(lending)
            return message
    return None


def size(lending: Lending) -> int:
    return sum(map(len, lending.said))


def read_answer(method: bytes, data: bytes, ended: bool) -> tuple[h11.Response | None, bytes, int | None]:
    """The first final answer: its head, its content, and where it ends when it is complete.

    Raises:
        h11.RemoteProtocolError: it is broken, or cut by an end in order.
    """
    connection = h11.Connection(h11.CLIENT, max_incomplete_event_size=HEAD_LIMIT)
    connection.send(h11.Request(method=method, target=b"/", headers=[(b"Host", b"a")]))
    connection.send(h11.EndOfMessage())
    connection.receive_data(data)
    if ended:
        connection.receive_data(b"")
    head = None
    content = b""
    while True:
        event = connection.next_event()
        if isinstance(event, h11.Response):
            head = event
        elif isinstance(event, h11.Data):
            content += event.data
        elif isinstance(event, h11.EndOfMessage):
            return head, content, len(data) - len(connection.trailing_data[0])
        elif not isinstance(event, h11.InformationalResponse):
            return head, content, None


def check_answers(
    data: bytes, ended: bool, requests: Requests, faulty: bool, lendings: list[Lending], limits: Limits
) -> None:
    """The agent got one well-formed answer for each request, in order: its upstream's, or one of the relay's own.

    Args:
        data: what it got.
        ended: its connection ended in order, so that nothing may be missing.
        requests: those that the relay accepted.
        faulty: after them came something else, which may have been answered too.
        lendings: all of them.
        limits: of heads.
    """
    position = number = 0
    while position < len(data):
        assert number < len(requests) + faulty, "an answer that nobody asked for"
        request = requests[number].head if number < len(requests) else None
        method = b"GET" if request is None else request.method
        head, content, end = read_answer(method, data[position:], ended)
        if head is None:
            return
        http10 = request is not None and request.http10
        assert not (http10 and data.startswith(b"HTTP/1.1 1", position)), "an interim answer in HTTP/1.0"
        assert not (http10 and any(name == b"transfer-encoding" for name, _ in head.headers)), data
        uses = [lending for lending in lendings if lending.number == number]
        answers = [final(lending, method, limits) for lending in uses]
        if not any(answer is not None and is_this(answer, head, content, end) for answer in answers):
            check_local(head, content)
            if (b"fipsrelay-error", b"upstream-http") in head.headers:
                assert any(is_broken(lending, method, limits) for lending in uses), data
        if end is None:
            return
        position += end
        number += 1
    assert number >= len(requests) or not ended, "a request without an answer"


def is_this(answer: Message[ResponseHead], head: h11.Response, content: bytes, end: int | None) -> bool:
    """Whether the agent got this answer, or the beginning of it."""
    if answer.head.status != head.status_code or lines_of(answer.head.fields) != lines_to_pass(head):
        return False
    if end is None:
        return answer.content.startswith(content)
    return answer.end is not None and answer.content == content


def check_local(head: h11.Response, content: bytes) -> None:
    """The relay's own, if it is no upstream's."""
    assert any(name == b"fipsrelay-error" for name, _ in head.headers), head
    assert head.status_code in _LOCAL, head
    assert len(content) < _LOCAL_SIZE, content
