"""Exchanges under every order of events that hypothesis can think of: pieces, stalls, ends, breaks and time."""

from __future__ import annotations

import functools
from collections import Counter
from typing import Any, cast

import attrs
from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from fipsrelay.config.model import Retries
from fipsrelay.errors import MessageError, UpstreamError
from fipsrelay.relay.exchange import Exchange
from fipsrelay.upstream.search import RETRIES
from fipsrelay.wire.heads import HeadReader
from fipsrelay.wire.http1 import UNTIL_CLOSE, body_of, parse_request, parse_response
from tests.doubles import FakeStream, Port

SIZES = (1, 70, 5000, 20_000, 1_000_000, 1_000_000)
PAUSES = (1.0, 6.0, 11.0, 31.0, 61.0, 121.0)


@attrs.frozen
class Message:
    """What was read: ``body`` so far, and whether it is all."""

    name: bytes
    status: int
    local: bool
    body: bytes
    complete: bool


def read_messages(data: bytes, answers_to: list[bytes] | None = None, ended: bool = False) -> list[Message]:
    """All requests in ``data``, or the final answers to requests of the methods ``answers_to``."""
    messages: list[Message] = []
    view, position = memoryview(data), 0
    while position < len(view):
        head_bytes, position = HeadReader(65536).feed(view, position)
        if head_bytes is None:
            break
        head: Any
        if answers_to is None:
            head = parse_request(head_bytes)
            name, status = head.target, 0
        else:
            head = parse_response(head_bytes, answers_to[len(messages)])
            name, status = b"", head.status
            if status < 200:
                continue
        body = body_of(head.body)
        content = b""
        while position < len(view) and not body.done:
            pieces, position = body.feed(view, position)
            content += b"".join(pieces)
        complete = body.done or (ended and head.body == UNTIL_CLOSE)
        messages.append(Message(name, status, b"fipsrelay-error" in head_bytes.lower(), content, complete))
    return messages


def request(number: int, kind: int) -> tuple[bytes, bytes, bytes]:
    """Method, bytes and body of a request."""
    path = (b"/%d" if kind % 2 else b"/other/%d") % number
    body = b"%d;" % number * (2, 2, 100, 30, 0, 0, 6000, 9000)[kind]
    method = b"HEAD" if kind == 4 else b"POST" if body else b"GET"
    head = b"%b %b HTTP/1.1\r\nHost: a\r\n" % (method, path)
    if kind in (3, 6):
        cut = len(body) // 3
        chunks = (body[:cut], body[cut:])
        coded = b"".join(b"%x\r\n%b\r\n" % (len(chunk), chunk) for chunk in chunks) + b"0\r\n\r\n"
        return method, head + b"Transfer-Encoding: chunked\r\n\r\n" + coded, body
    close = b"Connection: close\r\n" if kind == 1 else b""
    return method, head + close + b"Content-Length: %d\r\n\r\n" % len(body) + body, body


def answer_body(name: bytes, kind: int) -> bytes:
    return b"<%b>" % name * (1, 0, 4500, 40, 30, 2)[kind]


def answer(name: bytes, kind: int, head_only: bool) -> bytes:
    body = b"" if head_only else answer_body(name, kind)
    if kind in (2, 3):
        coded = b"%x\r\n%b\r\n0\r\n\r\n" % (len(body), body)
        return b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + (b"" if head_only else coded)
    if kind == 4:
        return b"HTTP/1.1 200 OK\r\n\r\n" + body
    interim = b"HTTP/1.1 100 Continue\r\n\r\n" if kind == 5 else b""
    close = b"Connection: close\r\n" if kind == 1 else b""
    length = len(answer_body(name, kind))
    return interim + b"HTTP/1.1 200 OK\r\n%bContent-Length: %d\r\n\r\n" % (close, length) + body


class Server:
    """The peer of one upstream stream.

    Attributes:
        spoilt: whether it sent what nobody asked for, or ends after its answer.
    """

    def __init__(self, stream: FakeStream, kinds: dict[bytes, int]) -> None:
        self.stream = stream
        self.spoilt = False
        self.queue = b""
        self._answered = 0
        self._kinds = kinds

    def asked(self) -> list[Message]:
        return read_messages(bytes(self.stream.sent))

    def begin(self, kind: int) -> None:
        """Answer the next request, be it complete or not."""
        asked = self.asked()
        if self.queue or self._answered == len(asked):
            return
        name = asked[self._answered].name
        head_only = self.methods()[self._answered] == b"HEAD"
        self._kinds[name] = kind
        self.queue = answer(name, kind, head_only)
        self._answered += 1
        self.spoilt |= kind == 1 or (kind == 4 and not head_only)

    def methods(self) -> list[bytes]:
        """One for each request that has begun."""
        found = []
        view, position = memoryview(bytes(self.stream.sent)), 0
        while position < len(view):
            head_bytes, position = HeadReader(65536).feed(view, position)
            if head_bytes is None:
                break
            head = parse_request(head_bytes)
            found.append(head.method)
            body = body_of(head.body)
            while position < len(view) and not body.done:
                _, position = body.feed(view, position)
        return found

    def send(self, size: int, noise: bytes = b"") -> None:
        if not (self.stream.reading and self.stream.user):
            return
        piece, self.queue = self.queue[:size], self.queue[size:]
        # Not while a request is on its way here: from its answer nobody could tell it.
        if noise and not (self.queue or self.spoilt or self.stream.unsent) and self._answered == len(self.asked()):
            piece += noise
            self.spoilt = True
        if piece:
            self.stream.give(piece)

    def last_words(self, size: int) -> bytes:
        return self.queue[:size]

    def check_free(self, case: SynchronousTestCase) -> None:
        """May its connection carry another request?"""
        asked = self.asked()
        case.assertFalse(self.spoilt)
        case.assertEqual((self.queue, self._answered), (b"", len(asked)))
        case.assertTrue(all(message.complete for message in asked))


class World:
    """One agent connection, and whatever upstream connections come of it."""

    def __init__(self, case: SynchronousTestCase, kinds: list[int], replay: bool) -> None:
        self.case = case
        self.replay = replay
        retries = Retries(replay, 10_000)
        self.port = Port(check=lambda stream: self.server(stream).check_free(case), retries=retries)
        self.servers: list[Server] = []
        self._seen: tuple[int, bool, int] | None = None
        self.answer_kinds: dict[bytes, int] = {}
        made = [request(number, kind) for number, kind in enumerate(kinds)]
        self.methods = [method for method, _, _ in made]
        self.bodies = {b"/%d" % number: body for number, (_, _, body) in enumerate(made)}
        self.script = b"".join(data for _, data, _ in made)
        self.agent = cast(Any, FakeStream())
        self.exchange = Exchange(self.port.frontend)
        self.exchange.makeConnection(self.agent)

    def server(self, stream: FakeStream) -> Server:
        return next(server for server in self.servers if server.stream is stream)

    def waiting(self) -> list[Any]:
        return [each for backend in self.port.backends.values() for each in backend.searches if not each.over]

    def play(self, action: str, amount: int) -> None:
        """Let one thing happen, if it can. Whoever has gone before that gets nothing more."""
        gone = [each for each in (self.agent, *(server.stream for server in self.servers)) if not each.is_open]
        for stream in gone:
            stream.late = b""
        getattr(self, action)(amount)
        self.case.assertFalse(any(stream.late for stream in gone))
        for _ in range(3):
            if not (self.agent.at_end and self.agent.reading):
                break
            self.agent.eof()
        else:
            self.case.fail("the agent's end is reported again and again: a spin")
        self.check()

    # -- what may happen

    def agent_sends(self, amount: int) -> None:
        if self.agent.reading and not self.agent.at_end:
            piece, self.script = self.script[: SIZES[amount]], self.script[SIZES[amount] :]
            if piece:
                self.agent.give(piece)

    def agent_stalls(self, amount: int) -> None:
        self.agent.blocked = True

    def agent_takes(self, amount: int) -> None:
        self.agent.drain()

    def agent_ends(self, amount: int) -> None:
        if self.agent.reading and not self.agent.at_end:
            self.agent.eof()

    def agent_breaks(self, amount: int) -> None:
        if amount:
            self.agent.breaks = True
        else:
            self.agent.lose()

    def connects(self, amount: int) -> None:
        for attempt in self.waiting():
            stream = FakeStream()
            stream.paced = amount % 2 == 1
            self.servers.append(Server(stream, self.answer_kinds))
            attempt.connect(stream)

    def retried(self, amount: int) -> None:
        for attempt in self.waiting():
            attempt.retry()

    def refused(self, amount: int) -> None:
        for attempt in self.waiting():
            attempt.refuse()

    def upstream_answers(self, amount: int) -> None:
        for server in self.servers:
            server.begin(amount)

    def upstream_sends(self, amount: int) -> None:
        for server in self.servers:
            server.send(SIZES[amount])

    def upstream_makes_noise(self, amount: int) -> None:
        for server in self.servers:
            server.send(SIZES[amount], b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")

    def upstream_stalls(self, amount: int) -> None:
        for server in self.servers:
            server.stream.blocked = True

    def upstream_takes(self, amount: int) -> None:
        for server in self.servers:
            if server.stream.is_open:
                server.stream.drain()

    def upstream_ends(self, amount: int) -> None:
        for server in self.servers:
            if server.stream.reading and server.stream.user:
                server.stream.eof()

    def upstream_breaks(self, amount: int) -> None:
        for server in self.servers:
            if server.stream.is_open:
                if amount:
                    server.stream.breaks = True
                    server.stream.words = functools.partial(server.last_words, SIZES[amount] if amount % 2 else 0)
                else:
                    server.stream.lose()

    def turn(self, amount: int) -> None:
        self.port.reactor.turn()

    def time_passes(self, amount: int) -> None:
        self.port.reactor.pump([PAUSES[amount] / 4] * 4)

    def drains(self, amount: int) -> None:
        if not self.port.frontend.draining:
            self.port.frontend.drain()

    # -- what must be true

    def check(self) -> None:
        """Each answer belongs to its request; each complete request arrived whole; an open agent has one account."""
        self.case.assertEqual(self.port.counters.open_connections, int(self.agent.is_open))
        self.case.assertEqual(self.port.counters.errors["upstream-http"], 0)  # every answer is good HTTP
        seen = len(self.agent.sent), self.agent.ended, sum(len(server.stream.sent) for server in self.servers)
        if seen == self._seen:
            return
        self._seen = seen
        answers = read_messages(bytes(self.agent.sent.partition(b"\x15\x03")[0]), self.methods, self.agent.ended)
        for number, message in enumerate(answers):
            if message.local:
                self.case.assertIn(message.status, (408, 502, 503, 504))
                continue
            name = (b"/%d", b"/other/%d")[self.methods_path(number)] % number
            expected = b"" if self.methods[number] == b"HEAD" else answer_body(name, self.answer_kinds[name])
            self.case.assertTrue(expected.startswith(message.body))
            if message.complete and self.answer_kinds[name] != 4:
                self.case.assertEqual(message.body, expected)
        reached: Counter[bytes] = Counter()
        for server in self.servers:
            for message in server.asked():
                name = b"/" + message.name.rpartition(b"/")[2]
                reached[name] += 1
                body = self.bodies[name]
                self.case.assertTrue(body.startswith(message.body))
                if message.complete:
                    self.case.assertEqual(message.body, body)
        for number, method in enumerate(self.methods):
            times = reached[b"/%d" % number]
            if method == b"POST" and not self.replay:
                self.case.assertLessEqual(times, 1, "what may have been read was sent again")
            self.case.assertLessEqual(times, 1 + RETRIES)

    def methods_path(self, number: int) -> int:
        return int(any(message.name == b"/other/%d" % number for each in self.servers for message in each.asked()))

    def end(self) -> None:
        """Everybody leaves and time passes: nothing may be left."""
        if self.agent.reading and not self.agent.at_end:
            self.play("agent_ends", 0)
        for server in self.servers:
            if server.stream.user is not None:
                server.stream.lose()
        for backend in self.port.backends.values():
            backend.refusal = UpstreamError("connect-refused", 503, "up", "192.0.2.1:443", "connect", "no")
        self.play("refused", 0)
        self.play("time_passes", 5)
        self.play("time_passes", 5)
        self.case.assertFalse(self.agent.is_open)
        self.case.assertEqual(self.waiting(), [])
        self.case.assertEqual(self.port.room.left, 10)
        for server in self.servers:
            free = any(server.stream in backend.free for backend in self.port.backends.values())
            self.case.assertTrue(free or not server.stream.is_open)
        self.port.deadlines.stop()
        self.case.assertEqual(self.port.reactor.getDelayedCalls(), [])


# Mostly what carries a request on: what ends connections is rare, or few requests would ever see an answer.
ACTIONS = (
    *("agent_sends", "upstream_sends") * 8,
    *("connects", "upstream_answers") * 6,
    *("turn", "agent_takes", "upstream_takes") * 3,
    *("agent_stalls", "upstream_stalls") * 2,
    *("time_passes", "refused", "retried", "agent_ends", "agent_breaks"),
    *("upstream_ends", "upstream_breaks", "upstream_makes_noise", "drains"),
)
STEPS = st.binary(min_size=40, max_size=140)  # two bytes a step; much faster to make than lists of tuples


class InterleavingTests(SynchronousTestCase):
    """See the module."""

    @given(st.lists(st.integers(0, 7), min_size=1, max_size=4), STEPS, st.booleans())
    @settings(derandomize=True, database=None, deadline=None, max_examples=3000)
    def test_any_order(self, kinds: list[int], steps: bytes, replay: bool) -> None:
        world = World(self, kinds, replay)
        for action, amount in zip(steps[::2], steps[1::2], strict=False):
            world.play(ACTIONS[action % len(ACTIONS)], amount % 6)
        world.end()

    def test_everything_in_order(self) -> None:
        """The way most of it goes: that the other test can see answers at all."""
        kinds = [2, 3, 4, 5, 6, 7, 0]
        world = World(self, kinds, replay=False)
        for _ in range(12):
            world.play("agent_sends", 5)
            world.play("connects", 0)
            world.play("upstream_answers", 0)
            world.play("upstream_sends", 5)
            world.play("turn", 0)
        answers = read_messages(bytes(world.agent.sent), world.methods)
        self.assertEqual([(each.status, each.complete) for each in answers], [(200, True)] * len(kinds))
        self.assertEqual(len(world.servers), 2)
        world.end()

    def test_the_reader_sees_faults(self) -> None:
        self.assertRaises(MessageError, read_messages, b"nonsense\r\n\r\n", [b"GET"])
