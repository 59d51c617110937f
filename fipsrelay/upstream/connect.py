"""One attempt to reach an upstream: resolve, connect, handshake, verify, judge. What comes out may carry payload."""

from __future__ import annotations

import errno
import os
import socket
from typing import Any, Protocol

import attrs
from OpenSSL import SSL

from fipsrelay.config.model import Timeouts, Tls, Upstream
from fipsrelay.crypto import context as crypto
from fipsrelay.crypto.policy import judge
from fipsrelay.errors import UpstreamError
from fipsrelay.upstream.names import Names
from fipsrelay.wire.deadlines import NEVER, Deadlines
from fipsrelay.wire.streams import ReadBuffer
from fipsrelay.wire.tls import TlsStream


@attrs.frozen
class Means:
    """What every connection of this process is made with.

    Attributes:
        reactor: Twisted's.
        buffer: the reactor's read buffer.
        deadlines: who watches the time.
        context: OpenSSL context with the policy.
        tls: what the operator demands.
        timeouts: seconds.
        names: of hosts.
    """

    reactor: Any
    buffer: ReadBuffer
    deadlines: Deadlines
    context: SSL.Context
    tls: Tls
    timeouts: Timeouts
    names: Names


class Caller(Protocol):
    """Who asked for a connection; exactly one of the two is called."""

    def connected(self, stream: TlsStream) -> None:
        """Verified and judged; not reading yet."""

    def refused(self, error: UpstreamError) -> None:
        """No address of the upstream could be used; ``error`` is the last one's."""


class Attempt:
    """Tries an upstream's addresses one after the other."""

    def __init__(self, upstream: Upstream, means: Means, caller: Caller) -> None:
        self.deadline = NEVER
        self._upstream = upstream
        self._means = means
        self._caller: Caller | None = caller
        self._addresses: list[str] = []
        self._address = f"{upstream.host}:{upstream.port}"
        self._step = "resolve"
        self._stream: TlsStream | None = None
        self._error: UpstreamError | None = None

    def start(self) -> None:
        """Begin; the caller may hear before this returns."""
        self._means.deadlines.watch(self)
        if self._upstream.addresses:
            self._resolved(self._upstream.addresses)
        else:
            self.deadline = self._means.deadlines.now() + self._means.timeouts.connect
            self._means.names.find(self._upstream.host).addCallback(self._resolved)

    def cancel(self) -> None:
        """The caller is gone; it hears nothing more."""
        self._caller = None
        self._end()

    # -- deadlines and stream callbacks

    def expired(self) -> None:
        if self._step == "resolve":
            self._fail("resolve", 503, "the name was not resolved in time")
        elif self._step == "connect":
            timeout = int(self._means.timeouts.connect * 1000)
            self._fail("connect-timeout", 503, f"Layer4 timeout, check duration: {timeout}ms")
        else:
            self._fail("tls-timeout", 502, "Layer6 timeout: the TLS handshake did not finish in time")

    def stream_connected(self) -> None:
        self._step = "handshake"
        self.deadline = self._means.deadlines.now() + self._means.timeouts.handshake

    def stream_ready(self) -> None:
        stream = self._stream
        assert stream is not None
        connection = stream.connection
        self._step = "identity"
        problem = crypto.identity_error(connection, self._upstream.host)
        if problem:
            self._fail("identity", 502, problem)
            return
        self._step = "policy"
        broken = judge(crypto.examine(connection), self._means.tls.minimum_version)
        if broken:
            self._fail("policy", 502, "; ".join(broken))
            return
        caller, self._caller = self._caller, None
        self._stream = None
        self._end()
        if caller is not None:
            caller.connected(stream)
        else:
            stream.close()

    def stream_lost(self, reason: Exception | None) -> None:
        stream, self._stream = self._stream, None
        if self._step == "connect":
            number = reason.errno if isinstance(reason, OSError) else None
            code = "connect-refused" if number == errno.ECONNREFUSED else "connect"
            text = os.strerror(number) if number else str(reason)
            self._fail(code, 503, f'Layer4 connection problem, info: "{text}"')
            return
        why = crypto.verification_error(stream.connection) if stream is not None else None
        if why:
            self._fail("certificate", 502, f"Layer6 invalid response: certificate refused, {why}")
        else:
            self._fail("tls", 502, f"Layer6 invalid response: {describe(reason)}")

    # -- steps

    def _resolved(self, addresses: tuple[str, ...]) -> None:
        if self._caller is None:
            return
        self._addresses = list(addresses)
        if not self._addresses:
            self._fail("resolve", 503, f"{self._upstream.host} has no address (DNS)")
            return
        self._next()

    def _next(self) -> None:
        address = self._addresses.pop(0)
        family = socket.AF_INET6 if ":" in address else socket.AF_INET
        self._address = f"[{address}]:{self._upstream.port}" if ":" in address else f"{address}:{self._upstream.port}"
        self._step = "connect"
        try:
            sock = socket.socket(family, socket.SOCK_STREAM)
        except OSError as error:
            self.stream_lost(error)
            return
        sock.setblocking(False)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        number = sock.connect_ex((address, self._upstream.port))
        if number not in (0, errno.EINPROGRESS):
            sock.close()
            self.stream_lost(OSError(number, os.strerror(number)))
            return
        means = self._means
        self._stream = TlsStream(sock, means.reactor, means.buffer, means.context, self._upstream.host.encode("ascii"))
        self.deadline = means.deadlines.now() + means.timeouts.connect
        self._stream.start(self)

    def _fail(self, code: str, status: int, detail: str) -> None:
        self.deadline = NEVER
        if self._stream is not None:
            self._stream.abort()
            self._stream = None
        self._error = UpstreamError(code, status, self._upstream.name, self._address, self._step, detail)
        if self._addresses:
            self._next()
            return
        caller, self._caller = self._caller, None
        self._end()
        if caller is not None:
            caller.refused(self._error)

    def _end(self) -> None:
        self.deadline = NEVER
        self._means.deadlines.forget(self)
        if self._stream is not None:
            self._stream.abort()
            self._stream = None


def describe(reason: Exception | None) -> str:
    """One line for what OpenSSL or the kernel said."""
    if isinstance(reason, SSL.SysCallError) or reason is None:
        return "the connection was closed"
    if isinstance(reason, SSL.Error) and reason.args and isinstance(reason.args[0], list) and reason.args[0]:
        return "; ".join(str(entry[-1]) for entry in reason.args[0])  # the cause comes first
    if isinstance(reason, OSError) and reason.errno:
        return os.strerror(reason.errno)
    return type(reason).__name__
