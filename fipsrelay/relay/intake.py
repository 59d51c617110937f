"""The services of intakes: each accepts connections, and finishes them in the end."""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from twisted.application.service import Service
from twisted.internet.defer import Deferred, DeferredList
from twisted.logger import Logger

from fipsrelay.config import model
from fipsrelay.relay.door import Door
from fipsrelay.relay.factory import IntakePort, ProxyFactory, listen
from fipsrelay.relay.frontend import Frontend
from fipsrelay.relay.room import Room
from fipsrelay.relay.sockets import Place, by_place, stop_listening
from fipsrelay.wire.streams import Buffers

_log = Logger()


class Intake(Service):
    """One intake on all of its addresses; stopping drains it.

    Args:
        frontend: what its connections share.
        sockets: bound and listening.
        buffers, room: of the process.
        reactor: Twisted's.
        opened: called when ports that refused connections accept them again; None for ports that never do, because
            somebody else listens on them, too.

    Attributes:
        frontend: see above.
    """

    def __init__(
        self,
        frontend: Frontend,
        sockets: Sequence[socket.socket],
        buffers: Buffers,
        room: Room,
        reactor: Any,
        opened: Callable[[], None] | None,
    ) -> None:
        self.setName(frontend.intake.name)
        self.frontend = frontend
        self._sockets = sockets
        self._buffers = buffers
        self._room = room
        self._reactor = reactor
        self._ports: list[IntakePort] = []
        is_raw = frontend.intake.protocol == "tcp"
        self._door = Door(frontend, self._ports, opened) if is_raw and opened is not None else None

    def startService(self) -> None:
        """Accept connections."""
        super().startService()
        factory = ProxyFactory(self.frontend)
        for sock in self._sockets:
            self._ports.append(listen(self._reactor, sock, factory, self._buffers, self._room))
            sock.close()
        if self._door is not None:
            self._door.start()

    def stopService(self) -> Deferred[None]:
        """Take no more connections; fires when the last one has ended, soon after ``timeouts.drain`` at the latest."""
        super().stopService()
        return Deferred.fromCoroutine(self._drain())

    def is_as_good_as(self, intake: model.Intake) -> bool:
        """Whether it can go on as this one, with its connections."""
        mine = self.frontend.intake
        return (mine.port, mine.protocol, mine.tls is None) == (intake.port, intake.protocol, intake.tls is None)

    def sockets(self) -> dict[Place, socket.socket]:
        """What it listens on, by address and port."""
        return by_place(port.socket for port in self._ports)

    def share(self) -> None:
        """Others have its sockets from now on: refuse nobody any more."""
        if self._door is not None:
            self._door.stop()

    async def _drain(self) -> None:
        self.share()
        for port in self._ports:
            self._room.ports.remove(port)
        await stop_listening(self._ports)
        cut = self._reactor.callLater(self.frontend.timeouts.drain, self.frontend.abort)
        await self.frontend.drain()
        if cut.active():
            cut.cancel()
        self.frontend.leave()


class Departing(Service):
    """Waits in the end for intakes that the configuration no longer knows and that are still finishing."""

    def __init__(self) -> None:
        self.setName("departing intakes")
        self._pending: dict[Intake, Deferred[Any]] = {}

    def __iter__(self) -> Iterator[Intake]:
        """Those that are still finishing."""
        return iter(tuple(self._pending))

    def add(self, intake: Intake, gone: Deferred[Any]) -> None:
        """One that is stopping; ``gone`` fires when it has."""

        def leave(_: object) -> None:
            del self._pending[intake]

        self._pending[intake] = gone
        gone.addErrback(lambda failure: _log.failure("{intake} did not stop as it should", failure, intake=intake.name))
        gone.addCallback(leave)

    def stopService(self) -> Deferred[Any]:
        """Fires when the last of them has stopped."""
        super().stopService()
        return DeferredList(list(self._pending.values()))
