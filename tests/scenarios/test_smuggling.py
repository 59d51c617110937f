"""Messages with two readings, played through the real program: what comes out of it has one.

Each variant is sent in one write, byte by byte, and cut at random places, and a marked request follows it on the same
connection. Upstream, h11, llhttp and readers as careless as can be must find the same messages.
"""

from __future__ import annotations

import os
import random
import re
import socket
import ssl
import threading
from collections.abc import Callable, Sequence

import httptools
from twisted.trial.unittest import SynchronousTestCase

from tests.scenarios.recorder import (
    Recorder,
    Recording,
    careless_answers,
    careless_requests,
    llhttp_answers,
    llhttp_requests,
    read_answers,
    read_requests,
)
from tests.scenarios.stage import HOST, TIMEOUT, Stage, half_close, read_exactly, read_head, reset_at_close
from tests.variants import ANSWERS, POISON, REQUESTS, AnswerVariant, Passed, RequestVariant, passed

Answer = tuple[int, dict[bytes, bytes], bytes]  # status, fields, body
Cut = Callable[[bytes, random.Random], list[bytes]]

SEED = int(os.environ.get("SMUGGLING_SEED") or random.randrange(1 << 32))
READ = b"read"  # the field in which the upstream says which of its requests it answers
MANY = 10  # faults end a run: each may have waited for its time limit
HEAD_END = b"\r\n\r\n"
PIECES = 300  # at most, where bytes go one by one


def in_one_write(data: bytes, chance: random.Random) -> list[bytes]:
    return [data]


def byte_by_byte(data: bytes, chance: random.Random) -> list[bytes]:
    """As far as that is quick: the end of long data goes that way, its beginning at once."""
    start = max(0, len(data) - PIECES)
    return [*([data[:start]] if start else []), *(data[at : at + 1] for at in range(start, len(data)))]


def at_random(data: bytes, chance: random.Random) -> list[bytes]:
    """Up to four cuts, most of them beside a line's end."""
    ends = [at for at, byte in enumerate(data) if byte in b"\r\n:,;"] or [0]
    places = {chance.choice(ends) + chance.randrange(3) for _ in range(3)} | {chance.randrange(len(data) + 1)}
    cuts = sorted(place for place in places if 0 < place < len(data))
    return [data[start:end] for start, end in zip([0, *cuts], [*cuts, len(data)], strict=True)]


def marked(number: int) -> bytes:
    """The request after a variant: the connection ends with its answer."""
    return b"GET /after-%d HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n" % number


class Played(Stage):
    """A relay between this test and a recording upstream.

    Attributes:
        recorder: what the upstream got.
        faults: what is not as it should be; the test fails with them at its end.
    """

    def setUp(self) -> None:
        super().setUp()
        self.recorder = Recorder(self.reply)
        peer = self.start_peer(self.recorder.serve)
        self.relay = self.start_relay(peer.port)
        self.host = f"{HOST}:{peer.port}".encode()
        self.faults: list[str] = []

    def reply(self, sock: ssl.SSLSocket, recording: Recording, place: int) -> None:
        """Answer one request; called in the upstream's threads."""
        raise NotImplementedError

    def new_agent(self) -> socket.socket:
        agent = socket.create_connection(("127.0.0.1", self.http_port), TIMEOUT)
        agent.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return agent

    def send(self, agent: socket.socket, pieces: Sequence[bytes], one_by_one: bool) -> None:
        """As far as the relay has not closed meanwhile."""
        for piece in pieces:
            try:
                agent.sendall(piece)
            except ConnectionError:
                return
            if one_by_one:
                self.page()  # when it is here, the relay has read the piece

    def receive(self, agent: socket.socket) -> tuple[bytes, str]:
        """All that comes, and how it ends."""
        data = b""
        try:
            while piece := agent.recv(65536):
                data += piece
        except ConnectionError:
            return data, "reset"
        except TimeoutError:
            return data, "no end"
        return data, "end"

    def expect(self, what: str, found: object, wanted: object) -> bool:
        """Note a fault unless both are equal."""
        if found != wanted:
            self.faults.append(f"{what}: {str(found)[:600]}\n    instead of {str(wanted)[:600]}")
        return found == wanted

    def read(self, name: str, raw: bytes, methods: Sequence[bytes]) -> list[Answer]:
        """The answers to requests of these methods, as h11 reads them; all readers must agree."""
        answers, wrong = read_answers(raw, methods)
        self.expect(f"{name}, what h11 says", wrong, "")
        plain = [(status, body) for status, _, body in answers]
        if b"HEAD" not in methods:
            try:
                self.expect(f"{name}, how llhttp reads the answers", llhttp_answers(raw), plain)
            except httptools.HttpParserError as error:
                self.expect(f"{name}, what llhttp says", str(error), "")
        for messages in careless_answers(raw, methods):
            found = [(int(message.first.split()[1]), message.body) for message in messages]
            finals = [(status, body) for status, body in found if status >= 200]
            if not self.expect(f"{name}, how a careless reader reads the answers", finals, plain):
                break
        return answers

    def stop(self) -> None:
        """Stop the relay, and compare the readings of all that the upstream got."""
        self.relay.check_alive()
        self.relay.stop()
        self.wait_until(lambda: all(recording.over for recording in self.recorder.recordings), "the upstream's end")
        for recording in self.recorder.recordings:
            self.compare(recording)

    def report(self) -> None:
        """Fail if there are faults."""
        if self.faults:
            self.fail(f"SMUGGLING_SEED={SEED}, {len(self.faults)} faults:\n" + "\n".join(self.faults[:20]))

    def compare(self, recording: Recording) -> None:
        """What one connection carried has one reading."""
        name = f"upstream connection {recording.number}"
        self.expect(f"{name}, h11's error", recording.error, "")
        try:
            self.expect(f"{name}, llhttp's reading", llhttp_requests(bytes(recording.raw)), recording.requests)
        except httptools.HttpParserError as error:
            self.expect(f"{name}, llhttp's error", str(error), "")
        for number, messages in enumerate(careless_requests(bytes(recording.raw))):
            read = [(*message.first.split()[:2], message.body) for message in messages]
            self.expect(f"{name}, reading of the careless reader {number}", read, recording.requests)


class RequestTests(Played):
    """Agents send them."""

    def reply(self, sock: ssl.SSLSocket, recording: Recording, place: int) -> None:
        """Say what was read: which request of which connection."""
        method, target, _ = recording.requests[place]
        body = b"%b %b" % (method, target)
        head = b"HTTP/1.1 200 OK\r\nRead: %d %d\r\nContent-Length: %d\r\n\r\n" % (recording.number, place, len(body))
        sock.sendall(head if method == b"HEAD" else head + body)

    def test_in_one_write(self) -> None:
        self.play(in_one_write)

    def test_byte_by_byte(self) -> None:
        self.play(byte_by_byte)

    def test_cut_at_random(self) -> None:
        """Each piece is read before the next is sent."""
        self.play(at_random, one_by_one=True)

    def play(self, cut: Cut, one_by_one: bool = False) -> None:
        chance = random.Random(SEED)
        self.wanted: dict[tuple[int, int], tuple[str, Passed]] = {}  # by connection and place
        for number, variant in enumerate(REQUESTS):
            with self.new_agent() as agent:
                self.send(agent, cut(variant.data + marked(number), chance), one_by_one)
                if variant.waits:
                    agent.shutdown(socket.SHUT_WR)
                self.check(variant, number, *self.receive(agent))
            if len(self.faults) >= MANY:
                break
        self.stop()
        for recording in self.recorder.recordings:
            for place, message in enumerate(careless_requests(bytes(recording.raw))[0]):
                name, form = self.wanted.pop((recording.number, place), ("a request of nobody's", None))
                found = (message.head, message.body, message.trailers)
                self.expect(f"upstream, {name}", found, form and (form.head(self.host), form.body, form.trailers))
        self.expect("answers to what did not arrive", self.wanted, {})
        self.report()

    def check(self, variant: RequestVariant, number: int, raw: bytes, end: str) -> None:
        """The agent has one answer a request, in order, and then the end."""
        forms = forms_of(variant, number)
        methods = [form.first.split()[0] for form in forms] + ([b"GET"] if variant.fault else [])
        answers = self.read(variant.name, raw, methods)
        found = [(fields.get(b"fipsrelay-error", b"").decode(), status) for status, fields, _ in answers]
        fault = [variant.fault] if variant.fault else []
        if variant.ends:
            end = "end"  # the marked request may have met a closed socket
        self.expect(variant.name, (found, end), ([("", 200)] * len(forms) + fault, "reset" if variant.waits else "end"))
        for form, (_, fields, _) in zip(forms, answers, strict=False):
            connection, place = map(int, fields.get(READ, b"-1 -1").split())
            self.wanted[connection, place] = (variant.name, form)


class AnswerTests(Played):
    """Upstreams send them."""

    def setUp(self) -> None:
        super().setUp()
        self.number = 0  # of the variant that is played
        self.connection = -1  # that it came by
        self.pieces: list[bytes] = []
        self.later = b""  # sent when the agent has the answer
        self.passed_on = threading.Event()
        self.sent_later = threading.Event()

    def reply(self, sock: ssl.SSLSocket, recording: Recording, place: int) -> None:
        """Play the variant, or answer a marked request with its own target and the connection's number."""
        target = recording.requests[place][1]
        if target != b"/variant-%d" % self.number:
            body = b"%b %d" % (target, recording.number)
            sock.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body))
            return
        variant = ANSWERS[self.number]
        self.connection = recording.number
        for piece in self.pieces:
            sock.sendall(piece)
        if variant.end or self.later:
            self.passed_on.wait(TIMEOUT)
        if variant.end:
            end_connection(sock, variant.end)
        elif self.later:
            sock.sendall(self.later)
            self.sent_later.set()

    def test_in_one_write(self) -> None:
        self.play(in_one_write)

    def test_byte_by_byte(self) -> None:
        self.play(byte_by_byte)

    def test_cut_at_random(self) -> None:
        self.play(at_random)

    def play(self, cut: Cut) -> None:
        chance = random.Random(SEED)
        for self.number, variant in enumerate(ANSWERS):
            pieces = cut(variant.sent, chance) if variant.sent else []
            self.pieces = [*pieces[:-1], pieces[-1] + variant.more] if variant.more else pieces
            self.passed_on.clear()
            with self.new_agent() as agent:
                first = b"%b /variant-%d HTTP/1.1\r\nHost: a\r\n\r\n" % (variant.method, self.number)
                agent.sendall(first + marked(self.number))
                # The relay may see a reset before the bytes that came before it; what it passes on, it has seen.
                raw = read_head(agent) if variant.end and HEAD_END in variant.sent else b""
                self.passed_on.set()
                rest, end = self.receive(agent)
                self.check(variant, raw + rest, end)
            with self.new_agent() as agent:
                agent.sendall(marked(self.number))
                answers = self.read(f"{variant.name}, another agent", self.receive(agent)[0], [b"GET"])
                self.expect_own(f"{variant.name}, another agent", answers, variant.kept)
            if len(self.faults) >= MANY:
                break
        self.stop()
        self.report()

    def check(self, variant: AnswerVariant, raw: bytes, end: str) -> None:
        """The agent has the answer in its normal form, a 502 or a cut; its next request has its own answer."""
        name = variant.name
        if variant.cut:
            answers, _ = read_answers(raw, [variant.method])
            self.expect(name, (answers, end), ([], "reset"))
            return
        self.expect(name, end, "end")
        self.expect(f"{name}, interim answers", raw[: len(variant.interim)], variant.interim)
        answers = self.read(name, raw, [variant.method, b"GET"])
        if variant.code:
            found = [(fields.get(b"fipsrelay-error", b"").decode(), status) for status, fields, _ in answers]
            self.expect(name, found, [(variant.code, 502), ("", 200)])
        else:
            finals = careless_answers(raw[len(variant.interim) :], [variant.method, b"GET"])[0]
            parts = [(message.head, message.body, message.trailers) for message in finals[:1]]
            self.expect(name, parts, [(variant.head, variant.body, variant.trailers)])
        self.expect_own(f"{name}, the next request", answers[1:], variant.kept)

    def expect_own(self, name: str, answers: Sequence[Answer], kept: bool) -> None:
        """One answer to the marked request, over the same connection only if that is fit for it."""
        bodies = [body.split() for _, _, body in answers]
        self.expect(name, [body[0] for body in bodies if body], [b"/after-%d" % self.number])
        same = [int(body[1]) == self.connection for body in bodies if len(body) == 2]
        self.expect(f"{name}: over the same connection", same, [kept])

    def test_bytes_that_come_later(self) -> None:
        """An upstream goes on after its answer: that is nobody's, and the connection serves nobody any more."""
        self.number = next(number for number, variant in enumerate(ANSWERS) if variant.name == "answer: length")
        self.pieces = [ANSWERS[self.number].sent]
        for self.later in (POISON, b"HTTP/1.1 100 Continue\r\n\r\n", b"x", b"\r\n"):
            self.sent_later.clear()
            self.passed_on.clear()
            with self.new_agent() as agent:
                agent.sendall(b"GET /variant-%d HTTP/1.1\r\nHost: a\r\n\r\n" % self.number)
                raw = read_exactly(agent, len(self.pieces[0]))
                self.passed_on.set()
                self.sent_later.wait(TIMEOUT)
                self.page()
                agent.sendall(marked(self.number))
                raw += self.receive(agent)[0]
            answers = self.read(f"{self.later!r}", raw, [b"GET", b"GET"])
            self.expect_own(f"{self.later!r}", answers[1:], kept=False)
        self.stop()
        self.report()


def forms_of(variant: RequestVariant, number: int) -> list[Passed]:
    """All that the upstream must get of a variant and the marked request after it."""
    goes_on = not (variant.fault or variant.ends or variant.waits)
    return [*variant.passed, *([passed(first=b"GET /after-%d HTTP/1.1" % number)] if goes_on else [])]


def origin_form(method: bytes, target: bytes) -> bytes:
    """A target without the authority that it may name."""
    path = re.sub(rb"(?i)^http://[^/?]*", b"", target)
    if not path:
        return b"*" if method == b"OPTIONS" else b"/"
    return b"/" + path if path[:1] == b"?" else path


def end_connection(sock: ssl.SSLSocket, how: str) -> None:
    """End the upstream's connection."""
    if how == "close_notify":
        half_close(sock)
    elif how == "reset":
        reset_at_close(sock)
    sock.close()


class VariantTests(SynchronousTestCase):
    def test_count(self) -> None:
        """Names and bytes differ."""
        for least, names, messages in (
            (200, [variant.name for variant in REQUESTS], {variant.data for variant in REQUESTS}),
            (60, [variant.name for variant in ANSWERS], {(v.method, v.sent, v.more, v.end) for v in ANSWERS}),
        ):
            self.assertEqual(len(set(names)), len(names))
            self.assertEqual(len(messages), len(names))
            self.assertGreaterEqual(len(names), least)

    def test_what_is_expected_is_what_the_agent_means(self) -> None:
        """Where h11 takes the agent's bytes, it reads what the upstream is to get."""
        taken = 0
        for number, variant in enumerate(REQUESTS):
            read = read_requests(variant.data + marked(number))
            if variant.fault or variant.waits or read is None:
                continue
            forms = [(*form.first.split()[:2], form.body) for form in forms_of(variant, number)]
            found = [(method, origin_form(method, target), body) for method, target, body in read]
            self.assertEqual(found, forms[: max(1, len(found))], variant.name)  # h11 goes on after no HTTP/1.0
            taken += 1
        self.assertGreater(taken, 80)
