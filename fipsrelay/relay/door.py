"""The ports of a raw TCP intake refuse connections while its upstream is away.

Raw TCP has no words for that. An agent whose connection is accepted writes, and what it has written is lost when there
is nobody to pass it on to; one that is refused keeps it. (An HTTP intake says 503.)
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from twisted.logger import Logger

from fipsrelay.counters import Repeats
from fipsrelay.relay.factory import IntakePort
from fipsrelay.relay.frontend import Frontend
from fipsrelay.wire.deadlines import NEVER

_LOOK = 1.0  # seconds from one look at the upstream to the next
_QUIET = 60.0  # seconds in which the same is not said again

_log = Logger()


class Door:
    """Opens and shuts the ports of one intake.

    Args:
        frontend: the intake's; says which upstream is meant.
        ports: that it listens on.
        opened: called when they accept connections again.

    Attributes:
        deadline: see ``wire.deadlines``; when to look at the upstream next.
    """

    def __init__(self, frontend: Frontend, ports: Sequence[IntakePort], opened: Callable[[], None]) -> None:
        self.deadline = NEVER
        self._frontend = frontend
        self._ports = ports
        self._opened = opened
        self._shut = False
        self._repeats = Repeats(_QUIET)

    def start(self) -> None:
        """Look at the upstream from now on."""
        self._frontend.deadlines.watch(self)
        self.deadline = self._frontend.deadlines.now() + _LOOK

    def stop(self) -> None:
        """Look no more, and leave the ports open: others may have the same sockets."""
        self._frontend.deadlines.forget(self)
        if self._shut:
            self._open()

    def expired(self) -> None:
        """Look."""
        self.deadline = self._frontend.deadlines.now() + _LOOK
        away = self._frontend.backend().cluster.is_away
        if away and not self._shut:
            self._close()
        elif self._shut and not away and self._open():
            _log.info("{intake}: connections are accepted again", intake=self._frontend.intake.name)
            self._opened()

    def _close(self) -> None:
        self._shut = True
        for port in self._ports:
            port.refuse()
        intake = self._frontend.intake
        _log.warn(
            "{intake}: connections are refused while upstream {upstream} has no server available",
            intake=intake.name,
            upstream=intake.upstream,
        )

    def _open(self) -> bool:
        """Whether all of them accept."""
        try:
            for port in self._ports:
                port.accept()
        except OSError as error:
            if self._repeats.admit(str(error), self._frontend.deadlines.now()) is not None:
                intake = self._frontend.intake
                _log.error(
                    "{intake}: no connection can be accepted on port {port}: {error}; see 'fipsrelay doctor'",
                    intake=intake.name,
                    port=intake.port,
                    error=error.strerror,
                )
            return False
        self._shut = False
        return True
