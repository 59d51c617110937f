"""Doubles for what lies below the relay: a reactor, streams, backends and searches that the test plays by hand."""

from __future__ import annotations

import select
import time
from collections.abc import Callable
from typing import Any

from twisted.internet.task import Clock

from fipsrelay.config.model import Intake, Limits, Retries, Route, Timeouts, Upstream
from fipsrelay.counters import IntakeCounters
from fipsrelay.crypto.policy import SP800_52
from fipsrelay.errors import UpstreamError
from fipsrelay.relay.frontend import Frontend
from fipsrelay.relay.room import Room
from fipsrelay.upstream.reserve import Reserve
from fipsrelay.wire.deadlines import Deadlines

_PATIENCE = 10.0  # seconds of the real clock


class Reactor(Clock):
    """A clock that also remembers who waits for what; the test calls ``doRead`` and ``doWrite`` itself."""

    def __init__(self) -> None:
        super().__init__()
        self.readers: set[Any] = set()
        self.writers: set[Any] = set()

    def addReader(self, reader: Any) -> None:
        self.readers.add(reader)

    def removeReader(self, reader: Any) -> None:
        self.readers.discard(reader)

    def addWriter(self, writer: Any) -> None:
        self.writers.add(writer)

    def removeWriter(self, writer: Any) -> None:
        self.writers.discard(writer)

    def turn(self) -> None:
        """Run what was put off with ``callLater(0, ...)``."""
        self.advance(0)

    def run(self, until: Callable[[], object], meanwhile: Callable[[], object] = lambda: None) -> None:
        """Deliver the events of real sockets as a reactor would, for at most ten seconds.

        Args:
            until: what is waited for.
            meanwhile: called before each turn: the other end.
        """
        end = time.monotonic() + _PATIENCE
        while time.monotonic() < end:
            meanwhile()
            if until():
                return
            self.turn()
            readable, writable, _ = select.select(self.readers, self.writers, [], 0.01)
            for stream in readable:
                if stream in self.readers:
                    stream.doRead()
            for stream in writable:
                if stream in self.writers:
                    stream.doWrite()
        raise AssertionError("waited in vain")


REFUSED = UpstreamError("connect-refused", 503, "up", "192.0.2.1:443", "connect", "no")


class FakeStream:
    """Follows ``wire.streams.Stream``; the test plays the kernel (``blocked``) and the peer.

    Attributes:
        sent: what the peer has got.
        blocked: the kernel takes nothing.
        breaks: the next write finds the connection broken.
        words: gives what the peer sent before that, where the write is one of a further part.
        ended: the peer has been told that no more comes.
        how: None while open, then ``closed``, ``aborted``, ``reset`` or ``lost``.
        late: bytes that were written after the end.
        quiet: nothing has arrived of which it has not told.
        paced: as a TLS stream has it.
        keeper: is told when it has been closed.
    """

    def __init__(self) -> None:
        self.user: Any = None
        self.keeper: Any = None
        self.name = "192.0.2.1:443"
        self.reading = False
        self.quiet = True
        self.paced = False
        self.sent = bytearray()
        self.blocked = False
        self.breaks = False
        self.words: Callable[[], bytes] = bytes
        self.ended = False
        self.how: str | None = None
        self.late = b""
        self._kept = bytearray()
        self._ending = False
        self._at_end = False

    @property
    def is_open(self) -> bool:
        return self.how is None

    @property
    def unsent(self) -> int:
        return len(self._kept)

    def peer(self) -> str:
        return "192.0.2.9:50000"

    def is_quiet(self) -> bool:
        return self.quiet

    def resume(self) -> None:
        self.reading = self.is_open

    def pause(self) -> None:
        self.reading = False

    def write(self, data: bytes | memoryview, head: bytes = b"", further: bool = False) -> bool:
        assert data or not head
        data = b"".join((head, data))
        if self.how is not None:
            self.late += data
            return False
        if self._ending or self.ended:
            raise AssertionError("a write after write_eof")
        if self.breaks:
            self._break(self.words() if further else b"")
            return False
        if self._kept or self.blocked:
            self._kept += data
            return False
        self.sent += data
        return True

    def _break(self, words: bytes) -> None:
        if words and self.user is not None:
            self.user.stream_data(memoryview(words))
        if self.is_open:
            self.lose()

    def write_eof(self) -> None:
        if self._kept:
            self._ending = True
        elif self.is_open:
            self.ended = True

    def close(self) -> None:
        if self._kept:
            raise AssertionError("a close that would wait for the peer without a deadline")
        self._end("closed")

    def abort(self, reset: bool = False) -> None:
        self._end("reset" if reset else "aborted")

    def _end(self, how: str) -> None:
        if self.how is None:
            self.how = how
        self.user = None
        self.reading = False
        self._kept.clear()
        keeper, self.keeper = self.keeper, None
        if keeper is not None:
            keeper.stream_closed()

    # -- for the test

    def give(self, data: bytes) -> None:
        """The peer's bytes, in a buffer that holds something else afterwards."""
        assert self.reading, "a stream that does not read gives nothing"
        buffer = bytearray(data)
        self.user.stream_data(memoryview(buffer))
        buffer[:] = b"?" * len(buffer)

    def drain(self) -> None:
        """The kernel takes everything again."""
        self.blocked = False
        if self._kept:
            self.sent += self._kept
            self._kept.clear()
            self.ended = self._ending
            self.user.stream_drained()

    def eof(self) -> None:
        """The peer ends in order. Resumed after that, a stream says so again."""
        assert self.reading, "a stream that does not read sees no end"
        self._at_end = True
        self.reading = False
        self.user.stream_eof()

    @property
    def at_end(self) -> bool:
        return self._at_end

    def lose(self) -> None:
        """The connection breaks."""
        user = self.user
        self._end("lost")
        if user is not None:
            user.stream_lost(None)


class FakeKeeper:
    """Follows ``upstream.server.Keeper`` for a connection that is lent."""

    def __init__(self, backend: FakeBackend, stream: FakeStream) -> None:
        self._backend = backend
        self._stream = stream

    def give_back(self) -> None:
        self._backend.give_back(self._stream)

    def stream_closed(self) -> None:
        pass


class FakeSearch:
    """Follows ``upstream.search.Search``; the test decides how it ends.

    Attributes:
        retries: that the caller allows.
        refusal: what ``start`` ends with at once, if anything.
    """

    def __init__(self, backend: FakeBackend, caller: Any, retries: int) -> None:
        self._backend = backend
        self.caller = caller
        self.retries = retries
        self.refusal = backend.refusal
        self.started = self.cancelled = self.over = False

    def start(self) -> None:
        self.started = True
        if self.refusal is not None:
            self.refuse(self.refusal)

    def cancel(self) -> None:
        self.cancelled = self.over = True

    def connect(self, stream: FakeStream) -> FakeStream:
        """It comes up."""
        assert (self.started, self.over) == (True, False)
        self.over = True
        stream.keeper = FakeKeeper(self._backend, stream)
        self.caller.connected(stream)
        return stream

    def refuse(self, error: UpstreamError | None = None) -> None:
        """No server could be used."""
        assert (self.started, self.over) == (True, False)
        self.over = True
        self.caller.refused(error or REFUSED)

    def retry(self) -> None:
        """A server could not be used, and another one is tried; or it is refused when no retry is left."""
        assert (self.started, self.over) == (True, False)
        if self.retries:
            self.retries -= 1
            self.caller.retrying(REFUSED)
        else:
            self.refuse()


class FakeBackend:
    """Follows ``upstream.backend.Backend``.

    Args:
        name: of the upstream.
        check: called with each stream that comes back, at that moment.
        retries: of the upstream.

    Attributes:
        free: what ``take`` gives, the last one first.
        returned: every stream that came back, in order.
        refusal: what every search ends with at once, if anything.
    """

    def __init__(
        self,
        name: str = "up",
        check: Callable[[FakeStream], None] | None = None,
        retries: Retries = Retries(),  # noqa: B008, frozen
    ) -> None:
        self.upstream = Upstream(name, f"{name}.example", retries=retries)
        self.host = f"{name}.example".encode()
        self.free: list[FakeStream] = []
        self.returned: list[FakeStream] = []
        self.searches: list[FakeSearch] = []
        self.refusal: UpstreamError | None = None
        self._check = check

    def take(self) -> FakeStream | None:
        while self.free and not self.free[-1].is_open:
            self.free.pop()
        if not self.free:
            return None
        stream = self.free.pop()
        stream.keeper = FakeKeeper(self, stream)
        return stream

    def search(self, caller: Any, retries: int) -> FakeSearch:
        self.searches.append(FakeSearch(self, caller, retries))
        return self.searches[-1]

    def give_back(self, stream: FakeStream) -> None:
        assert (stream.is_open, stream.unsent) == (True, 0)
        stream.user = None
        stream.resume()
        self.returned.append(stream)
        if self._check is not None:
            self._check(stream)
        self.free.append(stream)


class Port:
    """A frontend with doubles below it.

    Attributes:
        backends: by upstream name: ``up``, and ``other`` for paths below ``/other``.
    """

    def __init__(
        self,
        protocol: str = "http",
        limits: Limits | None = None,
        check: Callable[[FakeStream], None] | None = None,
        retries: Retries = Retries(),  # noqa: B008, frozen
    ) -> None:
        self.reactor = Reactor()
        self.counters = IntakeCounters()
        self.room = Room(10, self.reactor, Reserve())
        self.deadlines = Deadlines(self.reactor, 0.5)
        self.deadlines.start()
        self.backends: dict[str, Any] = {name: FakeBackend(name, check, retries) for name in ("up", "other")}
        self.timeouts = Timeouts()
        intake = Intake("web", 1, protocol, "up", (Route("/other", "other"),) if protocol == "http" else ())
        self.frontend = Frontend(
            intake,
            self.backends,
            self.counters,
            self.timeouts,
            limits or Limits(),
            self.deadlines,
            self.reactor,
            self.room,
            SP800_52,
        )

    @property
    def backend(self) -> FakeBackend:
        """That of ``up``."""
        backend: FakeBackend = self.backends["up"]
        return backend

    def wait(self, seconds: float) -> None:
        """Let time pass, in the steps of the sweep, or larger ones where it is long."""
        steps = min(int(seconds * 2), 250)
        self.reactor.pump([seconds / steps] * steps)


class Recorder:
    """Uses a stream and writes down what it hears.

    Args:
        react: called with the name of each event after it was written down; may close the stream.

    Attributes:
        events: names in order, data in one piece at a time as ``data``.
        data: all of it.
        reason: of ``stream_lost``.
    """

    def __init__(self, react: Callable[[str], object] = lambda name: None) -> None:
        self.events: list[str] = []
        self.data = bytearray()
        self.reason: Exception | None = None
        self._react = react

    def _hear(self, name: str) -> None:
        self.events.append(name)
        self._react(name)

    def stream_connected(self) -> None:
        self._hear("connected")

    def stream_ready(self) -> None:
        self._hear("ready")

    def stream_data(self, view: memoryview) -> None:
        self.data += view
        self._hear("data")

    def stream_drained(self) -> None:
        self._hear("drained")

    def stream_eof(self) -> None:
        self._hear("eof")

    def stream_lost(self, reason: Exception | None) -> None:
        self.reason = reason
        self._hear("lost")
