"""Asks a forward proxy for a tunnel (CONNECT, RFC 9110 §9.3.6). What then runs inside it is none of its business.

Nothing here logs, and no text that it makes holds the credentials.
"""

from __future__ import annotations

import re
import socket
from base64 import b64encode
from typing import Any, Protocol

from fipsrelay import __version__
from fipsrelay.errors import MessageError
from fipsrelay.wire.heads import HeadReader
from fipsrelay.wire.streams import Buffers, PlainStream

_HEAD_SIZE = 16 * 1024
_REASON = 60
# Only the first line counts here. What else a proxy says may be as odd as proxies are, and goes no further.
_STATUS_LINE = re.compile(rb"HTTP/1\.[01] ([1-9][0-9]{2})(?: ([^\r\n]*))?\r\n")


class TunnelUser(Protocol):
    """Who wants a tunnel. Exactly one of the last three is called, unless ``abort`` came first."""

    def tunnel_connected(self) -> None:
        """TCP to the proxy is up and the request is out. Left out when an answer comes sooner."""

    def tunnel_ready(self, sock: socket.socket) -> None:
        """What is sent and received on ``sock`` from now on is the target's."""

    def tunnel_refused(self, status: int, reason: str) -> None:
        """The proxy said no; ``reason`` is its phrase in at most 60 characters of printable ASCII, or empty."""

    def tunnel_lost(self, reason: Exception | None) -> None:
        """No answer: None when the proxy closed, OSError, or MessageError for one that cannot be used."""


def authorization(user: str, password: str) -> bytes:
    """The value of Proxy-Authorization for Basic authentication (RFC 7617, in UTF-8); no colon in ``user``."""
    return b"Basic " + b64encode(f"{user}:{password}".encode())


class Tunnel:
    """One request to a proxy. It has no deadline of its own.

    Args:
        sock: non-blocking, whose ``connect`` to the proxy has been begun; ours until ``tunnel_ready``.
        reactor, buffers: as in ``wire.streams``.
        target: ``host:port``.
        credentials: the value of Proxy-Authorization, or None.
        user: is told.
    """

    def __init__(
        self,
        sock: socket.socket,
        reactor: Any,
        buffers: Buffers,
        target: bytes,
        credentials: bytes | None,
        user: TunnelUser,
    ) -> None:
        self._stream = PlainStream(sock, reactor, buffers)
        self._stream.user = self
        self._user = user
        self._answer = HeadReader(_HEAD_SIZE)
        # Host is demanded by RFC 9112 §3.2, User-Agent is for the proxy's log. HTTP/1.1 needs no Proxy-Connection.
        lines = [
            b"CONNECT %b HTTP/1.1" % target,
            b"Host: %b" % target,
            b"User-Agent: fipsrelay/%b" % __version__.encode(),
        ]
        if credentials is not None:
            lines.append(b"Proxy-Authorization: %b" % credentials)
        self._request = b"\r\n".join((*lines, b"", b""))

    def start(self) -> None:
        """Send the request as soon as the connection is up; the user may hear before this returns."""
        if self._stream.write(self._request):
            self.stream_drained()

    def abort(self) -> None:
        """Nobody waits any more; the user hears nothing more."""
        self._stream.abort()

    # -- the stream

    def stream_drained(self) -> None:
        """The question has been sent: wait for the answer."""
        self._stream.resume()
        self._user.tunnel_connected()

    def stream_data(self, view: memoryview) -> None:
        """Read the answer's head; nothing may follow it."""
        position = 0
        while position < len(view) and self._stream.is_open:
            try:
                head, position = self._answer.feed(view, position)
            except MessageError as error:
                self._lose(error)
                return
            if head is not None:
                self._answered(head, position == len(view))

    def stream_eof(self) -> None:
        """The proxy will say no more."""
        self._lose(_broken("it ends within its head") if self._answer.begun else None)

    def stream_lost(self, reason: Exception | None) -> None:
        """The proxy is gone."""
        self._user.tunnel_lost(reason)

    # -- inside

    def _answered(self, head: bytes, is_all: bool) -> None:
        match = _STATUS_LINE.match(head)
        if match is None:
            self._lose(_broken("it is not HTTP/1.1"))
            return
        status = int(match[1])
        if status < 200:
            return  # an interim answer (RFC 9110 §15.2); the final one follows
        if status >= 300:
            self._stream.abort()
            self._user.tunnel_refused(status, _printable(match[2] or b""))
        elif not is_all:
            # There is no body, whatever the header lines say (RFC 9110 §9.3.6), and a TLS server is silent until it
            # has our ClientHello: these bytes are not the target's, and must not be taken for its own.
            self._lose(_broken("bytes follow its head"))
        elif self._stream.unsent:
            self._lose(_broken("it came before the whole request was out"))
        else:
            self._user.tunnel_ready(self._stream.detach())

    def _lose(self, reason: Exception | None) -> None:
        self._stream.abort()
        self._user.tunnel_lost(reason)


def _broken(what: str) -> MessageError:
    return MessageError("bad-head", 400, f"the answer to CONNECT cannot be used: {what}")


def _printable(reason: bytes) -> str:
    text = "".join(chr(byte) if 0x20 <= byte < 0x7F else "?" for byte in reason)
    return text.strip()[:_REASON]
