"""Clients for the tests of cross-talk and the soak. The intake is ``echo``.

A client sends what its random numbers say, aborts when they say so, and takes nothing but its own answers, in order
and to the byte. An answer that it does not get has to be explained: by its own fault, or by what it asked the intake
to do.
"""

from __future__ import annotations

import random
import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor, wait

from tests.scenarios.echo import RAW, Intake
from tests.scenarios.plays import CUTS, Mix, Play, Request, content, draw_request
from tests.scenarios.stage import Stage
from tests.scenarios.traffic import ANSWERED, CUT, UNANSWERED, Connection, Ended, Enough, Reading, Wrong

# What comes of a request when the intake has this fault; cut, when some of its answer has been passed on already.
EXPECTED = {
    "": (ANSWERED,),
    "stray": (ANSWERED,),
    **dict.fromkeys(CUTS, ("502 upstream-closed", CUT)),
    "head": ("502 upstream-http",),
    "chunk": (CUT,),
    "stall": ("504 answer-timeout", CUT),
}
# What else explains that there is no answer.
ABORTED, AWAY, LATE, AFTER, RESET = (
    "the client aborted",
    "the intake was away",
    "the intake left without a word",
    "the answer before ended the connection",
    "an answer was cut, and the reset overtook this one",
)
PERIOD = 0.25  # seconds between two looks at what goes on


class Client:
    """One client: batches of requests, each on the connection of the one before if that is still good.

    Args:
        number: its id.
        port: of the relay.
        mix: what its requests are like.
        rng: what happens to them.
        troubled: whether what began at a time of ``time.monotonic`` may have met an intake that was away.

    Attributes:
        tally: what came of requests, and what explains it.
        sent: requests so far.
        late: how many of them make the intake leave without a word, a little later.
    """

    def __init__(
        self,
        number: int,
        port: int,
        mix: Mix,
        rng: random.Random,
        troubled: Callable[[float], bool] = lambda began: False,
    ) -> None:
        self.tally: Counter[tuple[str, str]] = Counter()
        self.sent = self.late = 0
        self._number = number
        self._port = port
        self._mix = mix
        self._rng = rng
        self._troubled = troubled
        self._connection: Connection | None = None
        self._began = 0.0

    def close(self) -> None:
        """Go in order."""
        self._drop("fin")

    def turn(self) -> None:
        """One request or several at once; raises Wrong."""
        rng = self._rng
        count = 1 if rng.random() < 0.8 else rng.randint(2, 5)
        numbers = range(self.sent, self.sent + count)
        requests = [draw_request(rng, self._number, n, self._mix, n == numbers[-1]) for n in numbers]
        self.sent += count
        self.late += sum(request.play.end == "late" for request in requests)
        self._began = time.monotonic()
        if self._connection is None:
            self._connection = Connection(self._port, narrow=rng.random() < self._mix.slow)
        try:
            if rng.random() < self._mix.client_faults:
                self._abort(self._connection, requests)
            else:
                self._behave(self._connection, requests)
        except Wrong as error:
            batch = [request._replace(message=request.message[:200]) for request in requests]
            raise Wrong(f"{error}; {self._connection.ended or 'open'}; the batch was {batch}") from error

    def _pauses(self) -> int:
        return self._rng.randint(1, 4) if self._rng.random() < self._mix.slow else 0

    def _behave(self, connection: Connection, requests: Sequence[Request]) -> None:
        rng = self._rng
        connection.send(b"".join(request.message for request in requests), self._pauses())
        half = rng.random() < 0.05
        if half:
            connection.end("half")
        connection.pauses = self._pauses()
        if self._read(connection, requests, "") and half:
            connection.expect_end()
        if half or rng.random() < 0.05:
            self._drop(rng.choice(("fin", "reset")))

    def _abort(self, connection: Connection, requests: Sequence[Request]) -> None:
        """Break off in a head or a body, before an answer, or in it."""
        rng = self._rng
        stream = b"".join(request.message for request in requests)
        state, how = rng.choice(("sending", "waiting", "reading")), rng.choice(("half", "fin", "reset"))
        if state == "sending":
            stream = stream[: rng.randrange(len(stream) if rng.random() < 0.5 else min(len(stream), 200))]
            connection.send(stream, self._pauses())
            connection.end(how)
            if how == "half":
                begun, length = [], 0
                for request in requests:
                    if length < len(stream):
                        begun.append(request)
                    length += len(request.message)
                if self._read(connection, begun, ABORTED):
                    connection.expect_end()
                how = "fin"
        else:
            connection.send(stream)
            how = "fin" if how == "half" else how
            if state == "reading":
                connection.wanted = rng.randrange(1, 300 if rng.random() < 0.5 else 50_000)
                try:
                    self._read(connection, requests, ABORTED)
                except Enough:
                    self.tally[ABORTED, "stopped reading"] += 1
        self.tally[ABORTED, f"{state}, {how}"] += 1
        self._drop(how)

    def _read(self, connection: Connection, requests: Sequence[Request], excuse: str) -> bool:
        """The answers; returns whether the connection goes on."""
        for at, request in enumerate(requests):
            reading = Reading(connection, request)
            result = reading.read()
            # Of an answer behind others even the beginning may not have left yet.
            cut = connection.ended == "reset" and any(each.play.fault for each in requests[at or 1 :])
            self._judge(request, result, excuse or (RESET if cut and result in (CUT, UNANSWERED) else ""))
            if not reading.goes_on:
                self._drop("fin", expect_end=result not in (CUT, UNANSWERED))
                self.tally[AFTER, UNANSWERED] += len(requests) - 1 - at
                return False
        if connection.received:
            raise Wrong(f"after the last answer came {bytes(connection.received[:200])!r}")
        return True

    def _judge(self, request: Request, result: str, excuse: str) -> None:
        """Count it, if it is explained."""
        fault = request.play.fault
        if result in EXPECTED[fault]:
            why = f"intake: {fault}" if fault else ""
        elif result == ANSWERED:
            raise Wrong(f"an answer that the intake has not given: {request.play}")
        elif excuse:
            why = excuse
        elif result[:2] == "50" and self._troubled(self._began):
            why = AWAY
        elif result == "502 upstream-closed" and "late" in self._mix.ends:
            why = LATE
        else:
            raise Wrong(f"{result}: {request.play}")
        self.tally[why, result] += 1

    def _drop(self, how: str, expect_end: bool = False) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            if expect_end:
                connection.expect_end()
            connection.end(how)


class RawClient:
    """A client of a raw TCP intake: one conversation a connection, in which each side ends its direction by itself.

    Args:
        number, port, mix, rng, troubled: as of ``Client``.

    Attributes:
        number: its id.
        tally: what came of conversations, and what explains it.
        sent: conversations so far.
        delivered: numbers of those whose upload nobody could acknowledge, but that must have arrived.
    """

    def __init__(self, number: int, port: int, mix: Mix, rng: random.Random, troubled: Callable[[float], bool]) -> None:
        self.tally: Counter[tuple[str, str]] = Counter()
        self.sent = 0
        self.delivered: list[int] = []
        self.number = number
        self._port = port
        self._mix = mix
        self._rng = rng
        self._troubled = troubled

    def close(self) -> None:
        """Nothing is open between two turns."""

    def turn(self) -> None:
        """One conversation; raises Wrong."""
        rng, mix = self._rng, self._mix
        size, length = (rng.randint(1, max(1, rng.choice(mix.sizes))) for _ in range(2))
        play = Play(self.number, self.sent, size, length, form=rng.choice(("up", "down", "echo")))
        self.sent += 1
        if rng.random() < mix.fault_rate:
            play = play._replace(fault=rng.choice(CUTS), at=rng.randrange(length))
        elif rng.random() < mix.slow:
            play = play._replace(pauses=3)
        began = time.monotonic()
        connection = Connection(self._port, narrow=rng.random() < mix.slow)
        if rng.random() < mix.client_faults:
            connection.wanted = rng.randint(0, length)
        try:
            connection.send(RAW + play.line + b"\r\n")
            why, result = self._converse(connection, play), ANSWERED
        except Enough:
            connection.end("reset")
            why, result = ABORTED, CUT
        except Ended:
            why, result = self._cut(connection, play, began), CUT
        except Wrong as error:
            raise Wrong(f"{error}; {connection.ended or 'open'}; {play}") from error
        finally:
            connection.end("fin")
        self.tally[f"raw: {why}", result] += 1

    def _converse(self, connection: Connection, play: Play) -> str:
        upload, download = content("request", play, play.size), content("answer", play, play.length)
        if play.form != "down":
            connection.send(upload, play.pauses)
            connection.end("half")
        if play.form == "echo":
            connection.expect(upload)
        connection.pauses = play.pauses
        connection.expect(download)
        connection.expect_end()
        if connection.ended != "fin":
            raise Ended
        if play.fault:
            raise Wrong("complete, but the intake has not sent all of it")
        if play.form == "down":
            connection.send(upload, play.pauses)
            if not connection.broken:
                connection.end("fin")
                self.delivered.append(play.number)
        return play.form

    def _cut(self, connection: Connection, play: Play, began: float) -> str:
        """Why: what was cut must look so, but for the intake's end in order."""
        if connection.ended == "reset" and self._troubled(began):
            return AWAY
        if play.fault and connection.ended == ("fin" if play.fault == "notify" else "reset"):
            return f"intake: {play.fault}"
        raise Wrong(f"cut: {connection.ended}; {len(connection.received)}; {time.monotonic() - began:.1f} s; {play}")


class Traffic(Stage):
    """An intake, and clients that are told to go on together.

    Attributes:
        intake: it.
        seed: of all that is random.
    """

    seed = ""

    def setUp(self) -> None:
        super().setUp()
        self.intake = Intake(self.paths.certificate, self.paths.key)
        self.addCleanup(self.intake.stop)

    def chance(self, number: int) -> random.Random:
        """A client's own random numbers."""
        return random.Random(f"{self.seed} {number}")

    def run_clients(
        self,
        clients: Sequence[Client | RawClient],
        going_on: Callable[[Client | RawClient], bool],
        watch: Callable[[], object] = lambda: None,
    ) -> None:
        """Each takes turns while it is ``going_on``; the test fails when one sees what it must not."""
        over = threading.Event()

        def run(client: Client | RawClient) -> None:
            try:
                while going_on(client) and not over.is_set():
                    client.turn()
                client.close()
            except BaseException:
                over.set()
                raise

        with ThreadPoolExecutor(len(clients)) as threads:
            parts = [threads.submit(run, client) for client in clients]
            try:
                while wait(parts, PERIOD).not_done and not over.is_set():
                    watch()
            except BaseException:
                over.set()
                raise
        try:
            for part in parts:
                part.result()
        except Wrong as error:
            self.fail(f"seed {self.seed}: {error}\nthe intake says: {self.intake.finish()}")
