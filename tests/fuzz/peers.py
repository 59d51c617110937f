"""The two ends of an exchange under fuzzing, and what each was told.

Built on the suite's doubles. Every upstream connection notes for which request it was lent and what it said meanwhile;
``transcript`` compares that with what the agent got.
"""

from __future__ import annotations

from collections.abc import Callable

import attrs

from fipsrelay.config.model import Retries
from tests.doubles import FakeBackend, FakeStream

READ = 2048  # what one read gives here; the relay's own are larger, and what it keeps with them


class Peer(FakeStream):
    """A stream whose kernel may take a part of a write, and whose peer's bytes wait while nobody reads.

    Args:
        hear: told of each piece, and of the end as None, before it is read.

    Attributes:
        window: what the kernel takes of the next write, the rest is kept; None for everything.
        most: the largest ``unsent`` so far.
        queue: from the peer, not read yet.
        ending: after that the peer ends in order.
    """

    def __init__(self, hear: Callable[[bytes | None], None]) -> None:
        super().__init__()
        self.window: int | None = None
        self.most = 0
        self.queue = b""
        self.ending = False
        self._hear = hear

    def is_quiet(self) -> bool:
        return not self.queue and not self.ending

    def write(self, data: bytes | memoryview, head: bytes = b"", further: bool = False) -> bool:
        data = b"".join((head, data))
        window, self.window = self.window, None
        whole = window is None or window >= len(data) or self.blocked or self._kept or self.breaks or not self.is_open
        taken = super().write(data if whole else data[:window], further=further)
        if not whole:
            self._kept += data[window:]
            taken = False
        self.most = max(self.most, self.unsent)
        return taken

    def deliver(self) -> None:
        """Let what the peer has sent be read, as far as somebody reads."""
        while self.queue and self.reading and self.user is not None:
            piece, self.queue = self.queue[:READ], self.queue[READ:]
            self._hear(piece)
            self.give(piece)
        for _ in range(4):
            if not (self.ending and not self.queue and self.reading and self.user is not None):
                return
            self._hear(None)
            self.eof()
        raise AssertionError("the end is reported again and again: a spin")


@attrs.define
class Lending:
    """One use of an upstream connection.

    Attributes:
        number: of the request on its agent's connection, counted from 0.
        host: of the upstream.
        begin: position in what the upstream got.
        said: what the upstream said meanwhile, as it was read.
        ended: it has ended its side in order.
    """

    number: int
    host: bytes
    begin: int
    said: list[bytes] = attrs.Factory(list)
    ended: bool = False


class UpstreamPeer(Peer):
    """Notes what belongs to which request.

    Attributes:
        lendings: in order.
    """

    def __init__(self) -> None:
        super().__init__(self._note)
        self.lendings: list[Lending] = []

    def _note(self, piece: bytes | None) -> None:
        if piece is None:
            self.lendings[-1].ended = True
        else:
            self.lendings[-1].said.append(piece)

    def asked(self) -> list[tuple[Lending, bytes]]:
        """Each use with what the upstream got in it."""
        ends = [lending.begin for lending in self.lendings[1:]] + [len(self.sent)]
        return [
            (lending, bytes(self.sent[lending.begin : end])) for lending, end in zip(self.lendings, ends, strict=True)
        ]


class LendingBackend(FakeBackend):
    """Gives its streams out for requests that are counted.

    Args:
        accepted: one entry for each request accepted so far, by whichever backend.
    """

    def __init__(self, name: str, check: Callable[[FakeStream], None], retries: Retries, accepted: list[str]) -> None:
        super().__init__(name, check, retries)
        self._accepted = accepted

    def lend(self, stream: UpstreamPeer) -> UpstreamPeer:
        """``stream`` is for the request that was accepted last."""
        stream.lendings.append(Lending(len(self._accepted) - 1, self.host, len(stream.sent)))
        return stream

    def take(self) -> FakeStream | None:
        self._accepted.append(self.upstream.name)
        self.end_idle()
        stream = super().take()
        return self.lend(stream) if isinstance(stream, UpstreamPeer) else None

    def end_idle(self) -> None:
        """What happens to a connection that nobody uses ends it."""
        for stream in self.free:
            if not stream.is_quiet():
                stream.lose()
