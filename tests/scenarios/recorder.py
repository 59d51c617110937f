"""An upstream that records what it gets, and readers that must agree on it: h11, llhttp, and careless ones of our own.

Nothing here knows the relay's parser.
"""

from __future__ import annotations

import re
import socket
import ssl
import threading
from collections.abc import Callable, Sequence

import attrs
import h11
import httptools

HEAD_LIMIT = 1 << 18
Request = tuple[bytes, bytes, bytes]  # method, target, body
Answer = tuple[int, bytes]  # status, body


# -- h11, in both roles


class Recording:
    """One connection of the relay.

    Attributes:
        number: in the order of their coming.
        raw: all that was sent on it.
        requests: those that h11 has read whole, in order.
        error: why h11 reads no further.
        over: the connection has ended.
    """

    def __init__(self, number: int) -> None:
        self.number = number
        self.raw = bytearray()
        self.requests: list[Request] = []
        self.error = ""
        self.over = False
        self._connection = h11.Connection(h11.SERVER, max_incomplete_event_size=HEAD_LIMIT)
        self._first = (b"", b"")
        self._body = b""

    def feed(self, data: bytes) -> None:
        """Read on; h11's errors pass."""
        self.raw += data
        self._connection.receive_data(data)
        while not isinstance(event := self._connection.next_event(), type) and not isinstance(
            event, h11.ConnectionClosed
        ):
            if isinstance(event, h11.Request):
                self._first = bytes(event.method), bytes(event.target)
                self._body = b""
            elif isinstance(event, h11.Data):
                self._body += event.data
            elif isinstance(event, h11.EndOfMessage):
                self.requests.append((*self._first, self._body))
                # Answered at once, so that h11 reads on; what is really sent is up to the test.
                self._connection.send(h11.Response(status_code=204, headers=[]))
                self._connection.send(h11.EndOfMessage())
                if self._connection.our_state is h11.MUST_CLOSE:
                    break
                self._connection.start_next_cycle()


class Recorder:
    """What a ``TlsPeer`` serves with.

    Args:
        reply: called for each request that is whole, with the connection, its recording and the place in ``requests``.

    Attributes:
        recordings: of all connections.
    """

    def __init__(self, reply: Callable[[ssl.SSLSocket, Recording, int], None]) -> None:
        self.recordings: list[Recording] = []
        self._reply = reply
        self._lock = threading.Lock()

    def serve(self, sock: ssl.SSLSocket) -> None:
        """Record and answer until the connection ends."""
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        sock.settimeout(None)  # it is for the relay to end it: an end of this side might meet a request
        with self._lock:
            recording = Recording(len(self.recordings))
            self.recordings.append(recording)
        try:
            answered = 0
            while data := sock.recv(65536):
                recording.feed(data)
                for place in range(answered, len(recording.requests)):
                    self._reply(sock, recording, place)
                answered = len(recording.requests)
        except h11.ProtocolError as error:
            recording.error = str(error)
        except OSError:
            pass  # the relay has given it up, or the reply has
        finally:
            recording.over = True


def read_requests(data: bytes) -> list[Request] | None:
    """How h11 reads an agent's bytes; None when it refuses them."""
    recording = Recording(0)
    try:
        recording.feed(data)
    except h11.ProtocolError:
        return None
    return recording.requests


def read_answers(data: bytes, methods: Sequence[bytes]) -> tuple[list[tuple[int, dict[bytes, bytes], bytes]], str]:
    """How h11 reads the answers to requests of these methods, interim ones left out.

    Returns:
        Statuses, fields (names in small letters) and bodies; and what is wrong with the stream.
    """
    connection = h11.Connection(h11.CLIENT, max_incomplete_event_size=HEAD_LIMIT)
    answers: list[tuple[int, dict[bytes, bytes], bytes]] = []
    try:
        connection.receive_data(data)
        connection.receive_data(b"")
        for method in methods:
            if connection.our_state is h11.DONE:
                connection.start_next_cycle()
            connection.send(h11.Request(method=method, target=b"/", headers=[(b"Host", b"a")]))
            connection.send(h11.EndOfMessage())
            status, fields, body = 0, {}, b""
            while not isinstance(event := connection.next_event(), h11.EndOfMessage):
                if isinstance(event, h11.Response):
                    status, fields = event.status_code, dict(event.headers)
                elif isinstance(event, h11.Data):
                    body += event.data
                elif not isinstance(event, h11.InformationalResponse):
                    return answers, "too few"
            answers.append((status, fields, body))
            if connection.their_state is h11.MUST_CLOSE:
                break
    except h11.ProtocolError as error:
        return answers, str(error)
    left = connection.trailing_data[0]
    return answers, f"more: {left[:80]!r}" if left else ""


# -- llhttp


class _Heard:
    """httptools' callbacks."""

    def __init__(self) -> None:
        self.parser: object = None
        self.target = self.body = b""
        self.found: list[tuple[bytes, bytes, bytes]] = []
        self.statuses: list[Answer] = []

    def on_message_begin(self) -> None:
        self.target = self.body = b""

    def on_url(self, url: bytes) -> None:
        self.target += url

    def on_body(self, body: bytes) -> None:
        self.body += body

    def on_message_complete(self) -> None:
        if isinstance(self.parser, httptools.HttpRequestParser):
            self.found.append((self.parser.get_method(), self.target, self.body))
        else:
            assert isinstance(self.parser, httptools.HttpResponseParser)
            self.statuses.append((self.parser.get_status_code(), self.body))


def llhttp_requests(data: bytes) -> list[Request]:
    """How llhttp reads a stream; raises its errors."""
    heard = _Heard()
    heard.parser = parser = httptools.HttpRequestParser(heard)
    parser.feed_data(data)
    return heard.found


def llhttp_answers(data: bytes) -> list[Answer]:
    """The same for answers, none of them to HEAD, which httptools cannot be told of."""
    heard = _Heard()
    heard.parser = parser = httptools.HttpResponseParser(heard)
    parser.feed_data(data)
    return [answer for answer in heard.statuses if answer[0] >= 200]


# -- careless readers


@attrs.frozen
class Message:
    """As a careless reader sees it; ``head`` and ``trailers`` are the bytes themselves."""

    first: bytes
    head: bytes
    body: bytes
    trailers: bytes


class Careless:
    """Reads what can be read at all, and stops where bytes are missing.

    Names count by their letters only, ``chunked`` counts wherever it stands, of a number the digits that are there.

    Args:
        data: a whole stream.
        line_end: what it takes for one.
        coding_wins: goes by Transfer-Encoding where there is a Content-Length too.
    """

    def __init__(self, data: bytes, line_end: bytes, coding_wins: bool) -> None:
        self._data = data
        self._line_end = re.compile(line_end)
        self._coding_wins = coding_wins
        self._position = 0

    def requests(self) -> list[Message]:
        """All messages of a stream of requests."""
        messages: list[Message] = []
        while (message := self._message(lambda first: True, until_close=False)) is not None:
            messages.append(message)
        return messages

    def answers(self, methods: Sequence[bytes]) -> list[Message]:
        """All messages of a stream of answers to requests of these methods; interim answers are messages, too."""
        messages: list[Message] = []
        waiting = list(methods)

        def has_body(first: bytes) -> bool:
            status = int(first.split()[1])
            if status < 200:
                return False
            return (not waiting or waiting.pop(0) != b"HEAD") and status not in (204, 304)

        while (message := self._message(has_body, until_close=True)) is not None:
            messages.append(message)
        return messages

    def _message(self, has_body: Callable[[bytes], bool], until_close: bool) -> Message | None:
        try:
            return self._read(has_body, until_close)
        except EOFError:
            return None

    def _read(self, has_body: Callable[[bytes], bool], until_close: bool) -> Message:
        first = b""
        while not first:
            start = self._position
            first = self._line()
        fields: list[bytes] = []
        while line := self._line():
            if line[:1] in b" \t" and fields:
                fields[-1] += line
            else:
                fields.append(line)
        head = self._data[start : self._position]
        length, coded = None, False
        for field in fields:
            name, _, value = field.partition(b":")
            name = re.sub(rb"[^a-z]", b"", name.lower())
            if name == b"contentlength":
                digits = re.search(rb"[0-9]+", value)
                length = int(digits[0][:18]) if digits else 0
            elif name == b"transferencoding":
                coded = coded or b"chunked" in value.lower()
        if not has_body(first):
            return Message(first, head, b"", b"")
        if coded and (self._coding_wins or length is None):
            return Message(first, head, *self._chunks())
        if length is None and until_close:
            length = len(self._data) - self._position
        return Message(first, head, self._take(length or 0), b"")

    def _line(self) -> bytes:
        match = self._line_end.search(self._data, self._position)
        if match is None:
            raise EOFError
        line = self._data[self._position : match.start()]
        self._position = match.end()
        return line

    def _take(self, size: int) -> bytes:
        end = self._position + size
        if end > len(self._data):
            raise EOFError
        data = self._data[self._position : end]
        self._position = end
        return data

    def _chunks(self) -> tuple[bytes, bytes]:
        body = b""
        while True:
            digits = re.search(rb"[0-9A-Fa-f]+", self._line())
            size = int(digits[0], 16) if digits else 0
            if not size:
                break
            body += self._take(size)
            end = self._line_end.match(self._data, self._position)
            if end is not None:
                self._position = end.end()
        start = end_of_trailers = self._position
        while self._line():
            end_of_trailers = self._position
        return body, self._data[start:end_of_trailers]


_ENDS = (rb"\r\n", rb"\r?\n", rb"\r\n|\n|\r")


def careless_requests(data: bytes) -> list[list[Message]]:
    """How each careless reader reads a stream of requests; the first is the most careful one."""
    return [Careless(data, end, coding_wins).requests() for end in _ENDS for coding_wins in (True, False)]


def careless_answers(data: bytes, methods: Sequence[bytes]) -> list[list[Message]]:
    """The same for answers."""
    return [Careless(data, end, coding_wins).answers(methods) for end in _ENDS for coding_wins in (True, False)]
