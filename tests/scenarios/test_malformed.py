"""Malformed HTTP through HAProxy, nginx and the relay: each does what ``docs/strictness.md`` says.

Behind a malformed request comes a good one on the same connection. Where the proxy reads on, that must be what it
reads; where it does not, there is no second answer.
"""

from __future__ import annotations

import contextlib
import re
import socket
import ssl
from collections.abc import Callable, Iterable
from concurrent import futures
from queue import SimpleQueue

import attrs
from twisted.trial.unittest import SynchronousTestCase

from tests.malformed import ANSWERS, BODY, CLOSED, COLUMNS, DOCUMENT, REQUESTS, rows
from tests.scenarios.neighbours import Neighbour, Recorder, first_message, haproxy, messages_of, nginx
from tests.scenarios.stage import HOST, TIMEOUT, Stage, free_range

ASK = b"GET /x HTTP/1.1\r\nHost: a\r\n\r\n"
NEXT = b"GET /next HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"
ANSWER = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok"
NEXT_ANSWER = b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\nConnection: close\r\n\r\nnext"
LANES = 4
PROXIES = {"haproxy": haproxy, "nginx": nginx}
Words = dict[str, dict[str, str]]


@attrs.frozen
class Played:
    """What came of a case.

    Attributes:
        answers: all that the agent got.
        reset: its connection ended with a reset.
        records: what the upstream got, by connection.
    """

    answers: bytes
    reset: bool
    records: tuple[bytes, ...]


# -- in the document's words


def words_of_request(odd: bytes, body: bytes, played: Played) -> str:
    """What a proxy did with a request.

    Args:
        odd: the part of the request that is odd.
        body: what it says.
        played: what came of it.
    """
    requests = [
        (record, message)
        for record in played.records
        for message in messages_of(record)
        if not message.head.startswith(b"GET /next HTTP/1.1\r\n")
    ]
    answers = statuses(played.answers)
    if not requests:
        return answers[0] if answers else without_http(played.answers)
    record, first = requests[0]
    words = "as is" if odd.lower() in record.lower() else "normalized"
    if NEXT in record:
        return f"{words}, tunnel"
    if len(requests) > 1:
        return "two requests"
    if first.body != body:
        words += ", another body"
    if next_answer(played.answers):
        return words
    return f"{words}, then {answers[1]}" if len(answers) > 1 else f"{words}, closes"


def words_of_answer(odd: bytes, played: Played) -> str:
    """What a proxy did with an answer; ``odd`` is the part of it that is odd."""
    data = played.answers
    if played.reset:
        return "cut"
    if not data.startswith(b"HTTP/1."):
        return "raw" if data else "closes"
    first = first_message(data, until_close=True)
    if first is None:
        return "cut"
    if first.head[9:10] == b"5":
        return statuses(data)[0]
    words = "as is" if odd.lower() in data.removesuffix(first.rest).lower() else "normalized"
    return words if first.rest in (b"", next_answer(data)) else f"{words}, and more"


def next_answer(data: bytes) -> bytes:
    """The answer to the next request, from where it must begin, if it is there."""
    return data[data.rfind(b"HTTP/1.1 200 ") :] if data.endswith(b"\r\n\r\nnext") else b""


def statuses(data: bytes) -> list[str]:
    """Of the final answers that an agent got: each with the relay's code, if it has one."""
    found = []
    for message in messages_of(data, until_close=True):
        status = re.match(rb"HTTP/1\.[01] ([2-9][0-9]+) ", message.head)
        code = re.search(rb"\r\nFipsrelay-Error: (\S+)", message.head)
        if status:
            found.append((status[1] + (b" " + code[1] if code else b"")).decode())
    return found


def without_http(data: bytes) -> str:
    """What a proxy says that is no answer of HTTP/1."""
    if not data:
        return "closes"
    if data.startswith(b"\x15\x03"):
        return "TLS alert"
    return "HTTP/2" if data[3:4] == b"\x04" else repr(data)  # the frame SETTINGS


# -- the real programs


@attrs.frozen
class Lane:
    """A proxy's port, and the upstream behind it."""

    port: int
    upstream: Recorder

    def play(self, data: bytes, answer: bytes = ANSWER, closes: bool = False) -> Played:
        """Send ``data`` and the next request as an agent does, and read until the proxy closes."""
        self.upstream.prepare(answer, closes)
        answers, reset = b"", False
        with socket.create_connection(("127.0.0.1", self.port), TIMEOUT) as agent:
            with contextlib.suppress(ConnectionError):  # refused while it is still being sent
                agent.sendall(data + NEXT)
            try:
                while piece := agent.recv(65536):
                    answers += piece
            except ConnectionResetError:
                reset = True
        return Played(answers, reset, tuple(map(bytes, self.upstream.records)))


class DocumentTests(SynchronousTestCase):
    """That the tables can be relied on: a line that is not read is not tested either."""

    def test_rows(self) -> None:
        requests, answers = rows("Requests"), rows("Answers")
        self.assertEqual([row.case for row in requests], list(REQUESTS))
        self.assertEqual([row.case for row in answers], list(ANSWERS))
        lines = [line for line in DOCUMENT.read_text(encoding="utf-8").splitlines() if line.startswith("|")]
        tables = lines.count(f"| {' | '.join(COLUMNS)} |")
        self.assertEqual(len(lines), len(requests) + len(answers) + 2 * tables)
        self.assertLessEqual(CLOSED, ANSWERS.keys())

    def test_cells(self) -> None:
        """Each says something, in words that are explained."""
        text = DOCUMENT.read_text(encoding="utf-8").partition("\n## ")[0]
        for row in rows("Requests") + rows("Answers"):
            self.assertTrue(row.why, row)
            for cell in (row.haproxy, row.nginx, row.relay):
                for words in re.sub(r"[45][0-9][0-9]( [a-z-]+)?", "400", cell).split(", "):
                    self.assertIn(f"`{words}`", text, row)


class NeighbourTests(Stage):
    """That the two end with their test, and say so when they cannot start."""

    def test_end(self) -> None:
        port = free_range(1)
        for name, start in PROXIES.items():
            neighbour = start(self.folder / name, {port: port + 1})
            socket.create_connection(("127.0.0.1", port)).close()
            neighbour.stop()
            self.assertRaises(ConnectionRefusedError, socket.create_connection, ("127.0.0.1", port))
            self.assertRaises(RuntimeError, neighbour.check_alive)

    def test_configuration_refused(self) -> None:
        port = free_range(1)
        for name, start in PROXIES.items():
            with self.assertRaisesRegex(RuntimeError, r"(?s)it ended with status 1; it said:\n.*\b70000\b"):
                start(self.folder / name, {port: 70000})

    def test_not_installed(self) -> None:
        """A scenario that cannot compare fails."""
        with self.assertRaisesRegex(RuntimeError, "no-such-proxy is not installed"):
            Neighbour(self.folder / "none", ["no-such-proxy"], {}, [])


class MalformedTests(Stage):
    """HAProxy, nginx and the relay, each with some lanes.

    Attributes:
        lanes: by proxy, under the names of the rows' attributes.
    """

    def setUp(self) -> None:
        super().setUp()
        names = (*PROXIES, "relay")
        ports = iter(range(first := free_range(len(names) * LANES + 1), first + len(names) * LANES + 1))
        self.lanes = {name: [self.lane(next(ports), name == "relay") for _ in range(LANES)] for name in names}
        self.neighbours: dict[str, Neighbour] = {}
        for name, start in PROXIES.items():
            self.neighbours[name] = start(self.folder / name, self.upstreams(name))
            self.addCleanup(self.neighbours[name].stop)
        upstreams = self.upstreams("relay")
        document = self.document(0)
        document["listen"]["port_range_start"] = next(ports)
        document["upstreams"] = {
            f"up{port}": {"host": HOST, "port": upstream, "addresses": ["127.0.0.1"]}
            for port, upstream in upstreams.items()
        }
        document["intakes"] = {
            f"in{port}": {"port": port, "protocol": "http", "upstream": f"up{port}"} for port in upstreams
        }
        self.relay = self.run_relay(document)

    def lane(self, port: int, tls: bool) -> Lane:
        """What will be behind a proxy's port."""
        client = None
        if tls:
            client = ssl.create_default_context(cafile=str(self.paths.authority))
            client.check_hostname = False
        recorder = Recorder(NEXT_ANSWER, self.server_context() if tls else None, client)
        self.addCleanup(recorder.stop)
        return Lane(port, recorder)

    def upstreams(self, name: str) -> dict[int, int]:
        return {lane.port: lane.upstream.port for lane in self.lanes[name]}

    def play_request(self, lane: Lane, name: str) -> str:
        data, odd = REQUESTS[name]
        played = lane.play(data)
        # The proxy is done with it; what it has sent may still be on its way to the record.
        lane.upstream.fence()
        self.wait_until(lambda: lane.upstream.settled, "the end of what a proxy sent")
        played = attrs.evolve(played, records=tuple(map(bytes, lane.upstream.records)))
        return words_of_request(odd, BODY if BODY in data else b"", played)

    def play_answer(self, lane: Lane, name: str) -> str:
        data, odd = ANSWERS[name]
        return words_of_answer(odd, lane.play(ASK, data, name in CLOSED))

    def play_all(self, cases: Iterable[str], play: Callable[[Lane, str], str]) -> Words:
        """Each case through each proxy; words by case and proxy."""
        free: dict[str, SimpleQueue[Lane]] = {name: SimpleQueue() for name in self.lanes}
        words: Words = {case: {} for case in cases}

        def play_one(proxy: str, case: str) -> None:
            lane = free[proxy].get(timeout=TIMEOUT * 3)
            try:
                words[case][proxy] = play(lane, case)
            finally:
                free[proxy].put(lane)

        for name, lanes in self.lanes.items():
            for lane in lanes:
                free[name].put(lane)
        with futures.ThreadPoolExecutor(len(self.lanes) * LANES) as threads:
            for done in [threads.submit(play_one, name, case) for case in words for name in self.lanes]:
                done.result()
        for neighbour in self.neighbours.values():
            neighbour.check_alive()
        return words

    def assert_as_described(self, chapter: str, words: Words) -> None:
        described = {row.case: {name: getattr(row, name) for name in self.lanes} for row in rows(chapter)}
        differences = {case: words.get(case) for case in described | words if words.get(case) != described.get(case)}
        self.assertEqual(differences, {case: described.get(case) for case in differences})

    def test_requests(self) -> None:
        self.assert_as_described("Requests", self.play_all(REQUESTS, self.play_request))

    def test_answers(self) -> None:
        self.assert_as_described("Answers", self.play_all(ANSWERS, self.play_answer))
