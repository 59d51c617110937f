"""One attempt to reach one server: connect, shake hands, verify, judge. What comes out may carry payload."""

from __future__ import annotations

import errno
import os
import socket
from typing import Any, Protocol

import attrs
from OpenSSL import SSL

from fipsrelay.config.model import Timeouts
from fipsrelay.crypto import context as crypto
from fipsrelay.crypto import stapling
from fipsrelay.crypto.policy import HandshakeFacts, Policy, judge, judge_pins
from fipsrelay.errors import FipsrelayError, UpstreamError
from fipsrelay.upstream.names import Names
from fipsrelay.upstream.reserve import Reserve
from fipsrelay.upstream.tunnel import Tunnel
from fipsrelay.wire.deadlines import NEVER, Deadlines
from fipsrelay.wire.streams import Buffers, label
from fipsrelay.wire.tls import TlsStream


@attrs.frozen
class Means:
    """What every connection of this process is made with.

    Attributes:
        reactor: Twisted's.
        buffers: the reactor's.
        deadlines: who watches the time.
        context: OpenSSL context with the policy.
        policy: what handshakes are judged by.
        timeouts: seconds.
        names: of hosts.
        reserve: what can be closed for a new connection.
    """

    reactor: Any
    buffers: Buffers
    deadlines: Deadlines
    context: SSL.Context
    policy: Policy
    timeouts: Timeouts
    names: Names
    reserve: Reserve = attrs.field(factory=Reserve)

    def attempt(self, place: Place, upstream: str, user: AttemptUser) -> Attempt:
        """A way to one server; ``start`` it."""
        return Attempt(place, upstream, self, user)


@attrs.frozen
class Gateway:
    """A forward proxy to go through.

    Attributes:
        host: name or IP address.
        port: TCP port.
        authorization: the value of Proxy-Authorization, or None.
    """

    host: str
    port: int
    authorization: bytes | None = attrs.field(default=None, repr=False)

    def __str__(self) -> str:
        return label(self.host, self.port)


@attrs.frozen
class Place:
    """Where a server is.

    Attributes:
        host: verified in the certificate, sent as SNI.
        port: TCP port.
        address: an IP address; the host again where a gateway looks it up.
        gateway: to go through, or None.
        pins: of public keys, one of which must stand in the chain; empty for any. See ``config.model.Upstream``.
    """

    host: str
    port: int
    address: str
    gateway: Gateway | None = None
    pins: frozenset[str] = frozenset()

    def __str__(self) -> str:
        return label(self.address, self.port)


class AttemptUser(Protocol):
    """Who wants a connection. After ``attempt_reached``, or without it, exactly one of the other two is called."""

    def attempt_reached(self, attempt: Attempt) -> None:
        """TCP is up, through the gateway if there is one."""

    def attempt_ready(self, attempt: Attempt, stream: TlsStream) -> None:
        """Verified and judged; not reading yet."""

    def attempt_failed(self, attempt: Attempt, error: UpstreamError) -> None:
        """It came to nothing."""


class Attempt:
    """Tries to reach one server.

    Args:
        place: where it is.
        upstream: a name, for what is said about failures.
        means: how connections are made.
        user: who hears of the outcome.

    Attributes:
        began: when it was started.
        facts: what its handshake came to, once that is finished.
    """

    def __init__(self, place: Place, upstream: str, means: Means, user: AttemptUser) -> None:
        self.deadline = NEVER
        self.began = means.deadlines.now()
        self.facts: HandshakeFacts | None = None
        self._place = place
        self._upstream = upstream
        self._means = means
        self._user: AttemptUser | None = user
        self._step = "connect"
        self._stream: TlsStream | None = None
        self._tunnel: Tunnel | None = None
        self._others: list[str] = []  # addresses of the gateway that have not been tried

    def start(self) -> None:
        """Begin; the user may hear before this returns."""
        self._means.deadlines.watch(self)
        self.deadline = self.began + self._means.timeouts.connect
        gateway = self._place.gateway
        if gateway is None:
            self._connect(self._place.address)
        else:
            self._step = "proxy"
            self._means.names.find(gateway.host).addCallback(self._gateway_found)

    def cancel(self) -> None:
        """Nobody waits any more; the user hears nothing more."""
        self._user = None
        self._end()

    # -- deadlines

    def expired(self) -> None:
        """The step has taken too long."""
        if self._step == "proxy":
            self._fail("proxy-timeout", 503, f"the proxy {self._place.gateway} did not answer in time")
        elif self._step == "connect":
            self._fail("connect-timeout", 503, "Layer4 timeout")
        else:
            self._fail("tls-timeout", 502, "Layer6 timeout")

    # -- the gateway

    def _gateway_found(self, addresses: tuple[str, ...]) -> None:
        if self._user is None:
            return
        if addresses:
            self._others = list(addresses[1:])
            self._connect(addresses[0])
        else:
            self._fail("proxy-resolve", 503, f"the proxy {self._place.gateway} has no address (DNS)")

    def tunnel_connected(self) -> None:
        """The gateway may still say no, but it will say so at its other addresses too."""
        self._others.clear()

    def tunnel_ready(self, sock: socket.socket) -> None:
        """The gateway has opened the way: TLS begins on the same socket."""
        self._tunnel = None
        self._step = "handshake"
        self._shake(sock)

    def tunnel_refused(self, status: int, reason: str) -> None:
        """The gateway has said no, with this status."""
        self._tunnel = None
        code = "proxy-auth" if status == 407 else "proxy-refused"
        self._fail(code, 503, f"the proxy {self._place.gateway} answered CONNECT with {status} {reason}".rstrip())

    def tunnel_lost(self, reason: Exception | None) -> None:
        """The gateway did not answer at this address: the next one is tried."""
        self._tunnel = None
        if self._others:
            self._connect(self._others.pop(0))
            return
        self._fail("proxy-connect", 503, f"the proxy {self._place.gateway}: {describe(reason)}")

    # -- the stream

    def stream_connected(self) -> None:
        """TCP is there, and the handshake may take its own time."""
        self._step = "handshake"
        self.deadline = self._means.deadlines.now() + self._means.timeouts.handshake
        if self._user is not None:
            self._user.attempt_reached(self)

    def stream_ready(self) -> None:
        """The handshake is finished: judge it, before anybody may send."""
        stream = self._stream
        assert stream is not None
        connection = stream.connection
        try:
            self.facts = crypto.examine(connection)
        except ValueError as error:
            self._fail("certificate", 502, _layer6(f"certificate cannot be read: {error}"))
            return
        self._step = "identity"
        problem = crypto.identity_error(connection, self._place.host)
        if problem:
            self._fail("identity", 502, _layer6(problem))
            return
        self._step = "policy"
        broken = judge(self.facts, self._means.policy)
        if broken:
            self._fail("policy", 502, _layer6("; ".join(broken)))
            return
        problem = judge_pins(self.facts.chain, self._place.pins)
        if problem:
            self._fail("pin", 502, _layer6(problem))
            return
        problem = stapling.check(connection, self._means.policy) if self._means.policy.stapled else None
        if problem:
            self._fail("ocsp", 502, _layer6(problem))
            return
        user, self._user = self._user, None
        self._stream = None
        self._end()
        assert user is not None  # one that cancels ends the stream
        user.attempt_ready(self, stream)

    def stream_lost(self, reason: Exception | None) -> None:
        """No connection, or no handshake."""
        stream, self._stream = self._stream, None
        if self._step == "connect":
            number = reason.errno if isinstance(reason, OSError) else None
            code = "connect-refused" if number == errno.ECONNREFUSED else "connect"
            self._fail(code, 503, f'Layer4 connection problem, info: "{describe(reason)}"')
            return
        why = crypto.verification_error(stream.connection) if stream is not None else None
        if why:
            self._fail("certificate", 502, _layer6(f"certificate refused, {why}"))
        else:
            self._fail("tls", 502, _layer6(describe(reason)))

    # -- steps

    def _connect(self, address: str) -> None:
        try:
            sock = self._means.reserve.socket(socket.AF_INET6 if ":" in address else socket.AF_INET)
        except OSError as error:
            self._fail("local", 503, f"no socket: {describe(error)}")
            return
        sock.setblocking(False)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        gateway = self._place.gateway
        number = sock.connect_ex((address, gateway.port if gateway else self._place.port))
        if number not in (0, errno.EINPROGRESS):
            sock.close()
            reason = OSError(number, os.strerror(number))
            self.tunnel_lost(reason) if gateway else self.stream_lost(reason)
        elif gateway:
            means, target = self._means, str(self._place).encode("ascii")
            self._tunnel = Tunnel(sock, means.reactor, means.buffers, target, gateway.authorization, self)
            self._tunnel.start()
        else:
            self._shake(sock)

    def _shake(self, sock: socket.socket) -> None:
        means = self._means
        self._stream = TlsStream(sock, means.reactor, means.buffers, means.context, self._place.host.encode("ascii"))
        if means.policy.stapled:
            self._stream.connection.request_ocsp()
        self._stream.start(self)

    def _fail(self, code: str, status: int, detail: str) -> None:
        error = UpstreamError(code, status, self._upstream, str(self._place), self._step, detail)
        user, self._user = self._user, None
        self._end()
        if user is not None:
            user.attempt_failed(self, error)

    def _end(self) -> None:
        self.deadline = NEVER
        self._means.deadlines.forget(self)
        for half in (self._tunnel, self._stream):
            if half is not None:
                half.abort()
        self._tunnel = self._stream = None


def _layer6(what: str) -> str:
    return f'Layer6 invalid response, info: "{what}"'


def describe(reason: Exception | None) -> str:
    """One line for what OpenSSL or the kernel said."""
    if isinstance(reason, SSL.SysCallError) or reason is None:
        return "the connection was closed"
    if isinstance(reason, SSL.Error) and reason.args and isinstance(reason.args[0], list) and reason.args[0]:
        return "; ".join(str(entry[-1]) for entry in reason.args[0])  # the cause comes first
    if isinstance(reason, OSError) and reason.errno:
        return os.strerror(reason.errno)
    if isinstance(reason, FipsrelayError):
        return str(reason)
    return type(reason).__name__
