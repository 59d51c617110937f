"""Streams of messages: cut in any way they are the same, and h11 finds the same ends."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import attrs
import h11
from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from fipsrelay.wire.http1 import (
    CHUNKED,
    UNTIL_CLOSE,
    RequestHead,
    ResponseHead,
    encode_chunk,
    last_chunk,
    parse_request,
    parse_response,
)
from tests.messages import HEAD_LIMIT, Message, Reader, answer_streams, answers, cut, read, request_streams, requests

HOST = b"intake.example"
FieldLines = list[tuple[bytes, bytes]]


def answer_parser(method: bytes) -> Callable[[bytes], ResponseHead]:
    return lambda data: parse_response(data, method)


def many(examples: int) -> Callable[[Callable[..., None]], Callable[..., None]]:
    return settings(derandomize=True, database=None, deadline=None, max_examples=examples)


class GoodTests(SynchronousTestCase):
    """What is drawn without mutation is read to its end."""

    @many(60)
    @given(st.lists(requests(), min_size=1, max_size=3))
    def test_requests(self, messages: list[bytes]) -> None:
        self.check(read(parse_request, messages), messages)

    @many(60)
    @given(answers(b"POST"))
    def test_answers(self, data: bytes) -> None:
        reader = read(answer_parser(b"POST"), [data])
        if reader.messages[-1].head.body == UNTIL_CLOSE:
            reader.messages[-1].end = len(data)
        self.check(reader, [data])

    def check(self, reader: Reader[Any], messages: list[bytes]) -> None:
        self.assertEqual((reader.error, reader.messages[-1].end), (None, len(b"".join(messages))), messages)


class CutTests(SynchronousTestCase):
    """The same bytes in any pieces are the same messages, ends and errors."""

    @many(120)
    @given(request_streams(), st.lists(st.integers(0, 2000), max_size=8))
    def test_requests(self, data: bytes, places: list[int]) -> None:
        whole = read(parse_request, [data]).events()
        self.assertEqual(read(parse_request, cut(data, places)).events(), whole)
        self.assertEqual(read(parse_request, cut(data, range(len(data)))).events(), whole)

    @many(100)
    @given(answer_streams(), st.lists(st.integers(0, 2000), max_size=8))
    def test_answers(self, stream: tuple[bytes, bytes], places: list[int]) -> None:
        method, data = stream
        parse = answer_parser(method)
        whole = read(parse, [data]).events()
        self.assertEqual(read(parse, cut(data, places)).events(), whole)
        self.assertEqual(read(parse, cut(data, range(len(data)))).events(), whole)

    def test_the_reader_reads(self) -> None:
        """What the comparisons above rest on."""
        stream = (
            b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\nhiGET /b HTTP/1.1\r\nHost: a\r\n\r\nGET\r\n\r\n"
        )
        reader = read(parse_request, cut(stream, (3, 40, 60)))
        self.assertEqual([(message.content, message.end) for message in reader.messages], [(b"hi", 49), (b"", 77)])
        self.assertEqual(reader.error, "bad-head")


# -- h11


@attrs.frozen
class Seen:
    """What h11 saw of the first message.

    Attributes:
        event: its head.
        content: its body.
        end: position after its last byte, or None when it is not complete.
        keep_alive: whether h11 would go on with the connection; None when it has no opinion.
    """

    event: h11.Request | h11.Response
    content: bytes
    end: int | None
    keep_alive: bool | None


def seen(connection: h11.Connection, data: bytes, closed: bool) -> Seen | None:
    """What h11 makes of ``data``; None for a refusal, or when there is not even a head."""
    connection.receive_data(data)
    if closed:
        connection.receive_data(b"")
    head: h11.Request | h11.Response | None = None
    content = b""
    end = None
    try:
        while end is None:
            event = connection.next_event()
            if isinstance(event, h11.Request | h11.Response):
                head = event
            elif isinstance(event, h11.Data):
                content += event.data
            elif isinstance(event, h11.EndOfMessage):
                end = len(data) - len(connection.trailing_data[0])
            elif not isinstance(event, h11.InformationalResponse):
                break
    except h11.RemoteProtocolError:
        return None
    # An upgrade leaves it open until it is answered, and HTTP/1.0 is never kept.
    keep_alive = {h11.DONE: True, h11.MUST_CLOSE: False}.get(connection.their_state)
    if head is not None and head.http_version == b"1.0":
        keep_alive = None
    return None if head is None else Seen(head, content, end, keep_alive)


def server_sees(data: bytes) -> Seen | None:
    return seen(h11.Connection(h11.SERVER, max_incomplete_event_size=HEAD_LIMIT), data, closed=False)


def client_sees(method: bytes, data: bytes, closed: bool) -> Seen | None:
    connection = h11.Connection(h11.CLIENT, max_incomplete_event_size=HEAD_LIMIT)
    connection.send(h11.Request(method=method, target=b"/", headers=[(b"Host", b"a")]))
    connection.send(h11.EndOfMessage())
    return seen(connection, data, closed)


def lines_of(fields: bytes) -> FieldLines:
    """Names in lower case and values of the lines that a head passes on, without the length."""
    pairs = [line.split(b":", 1) for line in fields.split(b"\r\n")[1:]]
    return [(name.lower(), value.strip()) for name, value in pairs if name.lower() != b"content-length"]


def lines_to_pass(event: h11.Request | h11.Response) -> FieldLines:
    """What of h11's header list is to be passed on (RFC 9110 §7.6.1), but for the length and what the relay meets."""
    lines = list(event.headers)
    dropped = {b"content-length", b"transfer-encoding", b"connection", b"keep-alive", b"proxy-connection", b"te"}
    dropped |= {b"upgrade", b"host", b"expect"} if isinstance(event, h11.Request) else {b"upgrade"}
    for name, value in lines:
        if name == b"connection":
            dropped |= {token.strip().lower() for token in value.split(b",")} - {b"close", b"keep-alive"}
    return [(name, value) for name, value in lines if name not in dropped]


def wire_body(message: Message[Any]) -> bytes:
    """The body as the relay sends it on."""
    if message.head.body != CHUNKED:
        return message.content
    return encode_chunk([memoryview(message.content)]) + last_chunk(message.trailers)


class OracleTests(SynchronousTestCase):
    """h11 agrees wherever both accept, and always with what is sent on."""

    @many(300)
    @given(request_streams())
    def test_requests(self, data: bytes) -> None:
        message = read(parse_request, [data]).first()
        if message is None:
            return
        head = message.head
        other = server_sees(data)
        if other is not None:
            self.check_agreement(data, message, other)
            assert isinstance(other.event, h11.Request)
            self.assertEqual(head.method, other.event.method, data)
            if other.event.target.startswith(b"/"):
                self.assertEqual(head.target, other.event.target, data)
        if message.end is not None:
            self.check_sent_request(message)

    @many(300)
    @given(answer_streams())
    def test_answers(self, stream: tuple[bytes, bytes]) -> None:
        method, data = stream
        message = read(answer_parser(method), [data]).first(lambda head: head.status >= 200)
        if message is None:
            return
        head = message.head
        if head.body == UNTIL_CLOSE:
            message.end = len(data)
        other = client_sees(method, data, head.body == UNTIL_CLOSE)
        if other is not None:
            self.check_agreement(data, message, other)
            assert isinstance(other.event, h11.Response)
            self.assertEqual(head.status, other.event.status_code, data)
            self.assertEqual(head.reason.strip(), other.event.reason.strip(), data)
        if message.end is not None:
            self.check_sent_answer(message, method)

    def test_both_accept_most_of_what_is_drawn(self) -> None:
        """An oracle that is seldom asked says nothing."""
        agreed = {"requests": 0, "answers": 0}

        @many(100)
        @given(request_streams(), answer_streams())
        def count(data: bytes, stream: tuple[bytes, bytes]) -> None:
            method, answer = stream
            agreed["requests"] += bool(read(parse_request, [data]).first() and server_sees(data))
            agreed["answers"] += bool(
                read(answer_parser(method), [answer]).first() and client_sees(method, answer, True)
            )

        count()
        self.assertGreater(min(agreed.values()), 40, agreed)

    def check_agreement(self, data: bytes, message: Message[Any], other: Seen) -> None:
        head = message.head
        self.assertEqual((message.content, message.end), (other.content, other.end), data)
        self.assertEqual(lines_of(head.fields), lines_to_pass(other.event), data)
        self.assertEqual(head.http10, other.event.http_version == b"1.0", data)
        if other.keep_alive is not None and head.body != UNTIL_CLOSE:
            self.assertEqual(head.keep_alive, other.keep_alive, data)

    def check_sent_request(self, message: Message[RequestHead]) -> None:
        head = message.head
        rebuilt = head.rebuild(HOST)
        sent = rebuilt + wire_body(message)
        upstream = server_sees(sent + b"GET / HTTP/1.1\r\n")
        assert upstream is not None, sent
        assert isinstance(upstream.event, h11.Request)
        self.assertEqual((upstream.event.method, upstream.event.target), (head.method, head.target), sent)
        self.assertEqual([value for name, value in upstream.event.headers if name == b"host"], [HOST], sent)
        self.assertIs(upstream.keep_alive, True, sent)
        self.check_sent(message, sent, upstream)
        again = parse_request(rebuilt)
        self.assertEqual((again.method, again.target), (head.method, head.target), sent)
        self.assertEqual((again.body, again.fields, again.rebuild(HOST)), (head.body, head.fields, rebuilt), sent)

    def check_sent_answer(self, message: Message[ResponseHead], method: bytes) -> None:
        head = message.head
        rebuilt = head.rebuild()
        if head.body == CHUNKED:
            rebuilt = rebuilt[:-2] + b"Transfer-Encoding: chunked\r\n\r\n"
        sent = rebuilt + wire_body(message)
        agent = client_sees(method, sent, head.body == UNTIL_CLOSE)
        assert agent is not None, sent
        self.check_sent(message, sent, agent)
        again = parse_response(rebuilt, method)
        self.assertEqual((again.status, again.reason), (head.status, head.reason), sent)
        self.assertEqual((again.body, again.fields, again.rebuild()), (head.body, head.fields, head.rebuild()), sent)

    def check_sent(self, message: Message[Any], sent: bytes, other: Seen) -> None:
        self.assertEqual((other.content, other.end), (message.content, len(sent)), sent)
        self.assertEqual(other.event.http_version, b"1.1", sent)
        self.assertEqual(lines_to_pass(other.event), lines_of(message.head.fields), sent)
