"""The listening sockets: bound here, or handed over by the service manager, by name or port of what is to use them."""

from __future__ import annotations

import errno
import os
import socket
from collections.abc import Iterable, Iterator, Mapping, Sequence
from types import MappingProxyType

from twisted.internet.defer import maybeDeferred
from twisted.internet.interfaces import IListeningPort
from twisted.logger import Logger

from fipsrelay.config.model import Config
from fipsrelay.config.values import is_loopback
from fipsrelay.errors import PortProblem, PortsError

PAGE = "statistics"
STORED = "stored"  # what the service manager calls sockets that a relay before this one has had it keep
BACKLOG = 1024
MOST_DESCRIPTORS = 253  # a message on a Unix socket, Linux's SCM_MAX_FD
Place = tuple[str, int]  # address and port
Sockets = Mapping[str, Sequence[socket.socket]]
_FIRST = 3  # descriptor, SD_LISTEN_FDS_START
_FAMILIES = (socket.AF_INET, socket.AF_INET6)

_log = Logger()


def bind(
    config: Config,
    handed: Sockets = MappingProxyType({}),
    held: Mapping[Place, socket.socket] = MappingProxyType({}),
) -> Sockets:
    """Bind every port, by intake name and ``PAGE``, and listen on it, unless there are sockets for it already.

    A host without IPv6 has no ``::1``; that is no reason not to serve its Agent on 127.0.0.1.

    Args:
        config: says where.
        handed: sockets that the service manager has bound. Those that have no name of their own, but that of their unit
            or none (systemd before 227), are told apart by their ports.
        held: see ``bind_intakes``.

    Raises:
        PortsError: all ports that could not be bound, and sockets that may not be used; none is left bound then.
    """
    ports = {PAGE: config.listen.port_range_start, **_ports(config)}
    handed = _told_apart(ports, handed)
    problems = [problem for name in handed for problem in _problems(config, ports, name, handed[name])]
    own = {name: port for name, port in ports.items() if name not in handed}
    return {**handed, **_bind(config, own, held, problems, [sock for each in handed.values() for sock in each])}


def bind_intakes(config: Config, held: Mapping[Place, socket.socket]) -> Sockets:
    """The same for intakes alone, which come while the relay runs.

    Args:
        config: with these intakes only.
        held: sockets that others are about to let go, by address and port: nobody is refused in between.

    Raises:
        PortsError: see ``bind``.
    """
    return _bind(config, _ports(config), held, [], [])


def _ports(config: Config) -> dict[str, int]:
    return {name: intake.port for name, intake in config.intakes.items()}


def _bind(
    config: Config,
    ports: Mapping[str, int],
    held: Mapping[Place, socket.socket],
    problems: list[PortProblem],
    also: Sequence[socket.socket],
) -> Sockets:
    """Bind ports on all addresses; when there is any problem, close all that is bound, and ``also`` these."""
    bound: dict[str, list[socket.socket]] = {name: [] for name in ports}
    for address in config.listen.addresses:
        if address == "::1" and len(config.listen.addresses) > 1 and not _has_address(address):
            _log.warn("There is no {address} on this host: nothing listens there", address=address)
            continue
        for name, port in ports.items():
            place = address, port
            try:
                bound[name].append(_copy(held[place]) if place in held else _listen(*place))
            except OSError as error:
                reason = os.strerror(error.errno) if error.errno else str(error)
                problems.append(PortProblem(name, address, port, reason))
    if problems:
        for sock in (*also, *(sock for each in bound.values() for sock in each)):
            sock.close()
        raise PortsError(tuple(problems))
    return bound


def handed_over(given: Mapping[str, str]) -> Sockets:
    """Listening sockets of the service manager by their names; see sd_listen_fds(3).

    They stay open while the relay is restarted, so that no connection is refused meanwhile.

    Args:
        given: LISTEN_PID, LISTEN_FDS and LISTEN_FDNAMES, if they were in the environment.

    Raises:
        PortsError: one of them is no socket.
    """
    pid, count, names = (given.get(f"LISTEN_{name}", "") for name in ("PID", "FDS", "FDNAMES"))
    found: dict[str, list[socket.socket]] = {}
    if pid != str(os.getpid()) or not count.isdigit():
        return found  # they are another process's
    for place, name in enumerate([*names.split(":"), *[""] * int(count)][: int(count)]):
        try:
            sock = socket.socket(fileno=_FIRST + place)
        except OSError as error:
            reason = f"the service manager has handed over descriptor {_FIRST + place}: {error.strerror}"
            raise PortsError((PortProblem(name, "-", 0, reason),)) from error
        sock.set_inheritable(False)
        sock.setblocking(False)
        found.setdefault(name, []).append(sock)
    return found


def is_listening(sock: socket.socket) -> bool:
    """Whether it takes connections; one that was shut down does no longer."""
    return sock.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN) == 1


def by_place(sockets: Iterable[socket.socket]) -> dict[Place, socket.socket]:
    """By address and port."""
    return {sock.getsockname()[:2]: sock for sock in sockets}


def release(held: Mapping[Place, socket.socket], sockets: Sockets) -> None:
    """Shut down those that nobody listens on any more: the service manager, which stores them, then lets go of them.

    Args:
        held: of before.
        sockets: from ``bind``.
    """
    for place in held.keys() - by_place(sock for each in sockets.values() for sock in each).keys():
        if is_listening(held[place]):
            held[place].shutdown(socket.SHUT_RDWR)


def _told_apart(ports: Mapping[str, int], handed: Sockets) -> Sockets:
    """By name, also those that have only the name of their socket unit, which holds many ports."""
    names = {port: name for name, port in ports.items()}
    found: dict[str, list[socket.socket]] = {}
    for name, sockets in handed.items():
        for sock in sockets:
            is_nameless = name not in ports and _is_unit(name) and sock.family in _FAMILIES
            found.setdefault(names.get(sock.getsockname()[1], name) if is_nameless else name, []).append(sock)
    return found


def _is_unit(name: str) -> bool:
    """Whether it is what systemd calls sockets without FileDescriptorName=."""
    return name == "" or name.endswith(".socket")


def _problems(
    config: Config, ports: Mapping[str, int], name: str, sockets: Iterable[socket.socket]
) -> Iterator[PortProblem]:
    for sock in sockets:
        if sock.family not in _FAMILIES or sock.type != socket.SOCK_STREAM:
            yield PortProblem(name, "-", 0, "the service manager has handed over something else than a TCP socket")
            continue
        address, port = sock.getsockname()[:2]
        if name not in ports and _is_unit(name):
            reason = "the service manager has handed over a port that nothing is configured for"
        elif name not in ports:
            reason = f"the service manager has handed over a socket of this name; known: {', '.join(ports)}"
        elif not is_listening(sock):
            reason = "the service manager has handed over a socket that does not listen"
        elif not is_loopback(address) and not config.listen.allow_remote_plaintext:
            reason = "reachable from other machines, in plaintext; see listen.allow_remote_plaintext"
        elif port != ports[name]:
            reason = f"the service manager has handed over another port than the configured {ports[name]}"
        else:
            continue
        yield PortProblem(name, address, port, reason)


def _copy(held: socket.socket) -> socket.socket:
    copied = held.dup()
    copied.setblocking(False)  # Python's copy blocks, and with it the original
    return copied


def _has_address(address: str) -> bool:
    try:
        _listen(address, 0).close()
    except OSError as error:
        return error.errno not in (errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT)
    return True


def _listen(address: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    sock = socket.create_server((address, port), family=family, backlog=BACKLOG)
    sock.setblocking(False)
    return sock


async def stop_listening(ports: Sequence[IListeningPort]) -> None:
    """Close them, and return when that is done."""
    for port in ports:
        await maybeDeferred(port.stopListening)
