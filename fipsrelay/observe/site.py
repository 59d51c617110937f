"""What the first port serves: the state of the relay in several formats, read-only, to this host's own clients."""

from __future__ import annotations

import io
import ipaddress
import json
import socket
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from http import HTTPStatus
from typing import Any
from urllib.parse import unquote_to_bytes

from twisted.application.service import Service
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IProtocolFactory, IReactorTime
from twisted.internet.tcp import Port
from twisted.logger import Logger
from twisted.web.http import HTTPChannel, HTTPFactory, Request, datetimeToString
from twisted.web.iweb import INonQueuedRequestFactory
from zope.interface import provider

from fipsrelay.observe import haproxy, page, text
from fipsrelay.observe.metrics import Metrics
from fipsrelay.relay.sockets import PAGE, stop_listening

Document = Mapping[str, Any]
Text = tuple[str, bytes]  # content type and content
Answer = tuple[HTTPStatus, str, bytes]  # status, content type and content
_SHARE = 1000  # of the time that passes, one part may go into making the same text anew
_SPELLINGS = 64  # of requests that are known by their bytes, and at most so many bytes of each
_LONGEST = 2048
_END = b"\r\n\r\n"  # of a request's head
_PLAIN = "text/plain; charset=utf-8"
_HEADERS = {
    b"Cache-Control": b"no-store",
    b"Content-Security-Policy": b"default-src 'none'; frame-ancestors 'none'",
    b"Cross-Origin-Resource-Policy": b"same-origin",
    b"Server": b"fipsrelay",
    b"X-Content-Type-Options": b"nosniff",
}
# Of what browsers show; for the rest, each costs more than it is worth.
_PAGE_HEADERS = {
    **_HEADERS,
    b"Content-Security-Policy": page.POLICY.encode(),
    b"Cross-Origin-Opener-Policy": b"same-origin",
    b"Referrer-Policy": b"no-referrer",
}
_HTML = "text/html; charset=utf-8"
_METHODS = (b"GET", b"HEAD")
_log = Logger()


def _says(status: HTTPStatus, words: str) -> Callable[[], Answer]:
    answer = status, _PLAIN, f"{words}\n".encode()
    return lambda: answer


_ALIVE = _says(HTTPStatus.OK, "alive")
_READ_ONLY = _says(HTTPStatus.METHOD_NOT_ALLOWED, "there is nothing to change here")
_MISDIRECTED = _says(HTTPStatus.MISDIRECTED_REQUEST, "this is served for names of this host only")
_BROKEN = _says(HTTPStatus.INTERNAL_SERVER_ERROR, "no answer could be made; the relay's log says why")


class Kept:
    """Makes a text when it is asked for, and gives it again for a while that is 1000 times as long as that took.

    So no number of scrapers can take more than a thousandth of the relay's time with it, and few requests have to wait
    for one that does.

    Args:
        make: makes it.
        seconds: a clock.
    """

    def __init__(self, make: Callable[[], Text], seconds: Callable[[], float]) -> None:
        self._make = make
        self._seconds = seconds
        self._until = float("-inf")
        self._answer: Answer = (HTTPStatus.OK, "", b"")

    def __call__(self) -> Answer:
        """With the text."""
        began = self._seconds()
        if began >= self._until:
            self._answer = (HTTPStatus.OK, *self._make())
            ended = self._seconds()
            self._until = ended + _SHARE * (ended - began)
        return self._answer


def _made(make: Callable[[], Answer]) -> Answer:
    try:
        return make()
    except Exception:
        _log.failure("no answer could be made")
        return _BROKEN()


def _fields(status: HTTPStatus, kind: str, content: bytes) -> dict[bytes, bytes]:
    """The header fields of an answer."""
    fields = {
        **(_PAGE_HEADERS if kind == _HTML else _HEADERS),
        b"Content-Type": kind.encode(),
        b"Content-Length": b"%d" % len(content),
        b"Date": datetimeToString(),
    }
    if status == HTTPStatus.METHOD_NOT_ALLOWED:
        fields[b"Allow"] = b", ".join(_METHODS)
    return fields


@provider(INonQueuedRequestFactory)
class _Look(Request):
    """A request for the page or something beside it, which the site that it came to answers.

    Of twisted.web this uses what reads requests and writes answers, and not its tree of resources: one level of names
    needs none, and scrapes cost half without it.
    """

    channel: _Channel

    def gotLength(self, length: int | None) -> None:
        """Room for no body, however long: nothing here takes one."""
        self.content = io.BytesIO()

    def handleContentChunk(self, data: bytes) -> None:
        """Drop it."""

    def process(self) -> None:
        status, kind, content = _made(self._answer)
        self.setResponseCode(status, status.phrase.encode())
        for name, value in _fields(status, kind, content).items():
            self.responseHeaders.setRawHeaders(name, [value])
        self.write(content)
        self.finish()

    def _answer(self) -> Answer:
        make = self.channel.factory.find(self)
        if isinstance(make, Kept) and self.method == b"GET":
            self.channel.remember(make)
        return make()


class _Channel(HTTPChannel):
    """A connection to the page.

    A scraper's request is the same, byte for byte, each time. Where the answer to it is kept, it is known by its bytes
    and not read again, which would take five times as long; all others are twisted.web's.
    """

    requestFactory = _Look
    factory: StatusSite
    transport: Any
    _between = True  # whether the next byte begins a request
    _head = b""  # all that has come, if that can be one request's head and nothing else

    def dataReceived(self, data: bytes) -> None:
        """Requests, or parts of them."""
        make = self.factory.known.get(data) if self._between else None
        if make:
            self.resetTimeout()
            self._write(*_made(make))
            return
        is_head = self._between and data.find(_END) == len(data) - len(_END)
        self._head = data if is_head else b""
        super().dataReceived(data)
        self._between = not self.requests and data.endswith(_END)

    def _write(self, status: HTTPStatus, kind: str, content: bytes) -> None:
        lines = [b"%b: %b\r\n" % field for field in _fields(status, kind, content).items()]
        start = b"HTTP/1.1 %d %b\r\n" % (status, status.phrase.encode())
        self.transport.write(b"".join((start, *lines, b"\r\n", content)))

    def remember(self, make: Kept) -> None:
        """Answer with it whenever the request that is being answered comes again, on any connection."""
        if self.persistent and 0 < len(self._head) <= _LONGEST:
            known = self.factory.known
            if len(known) == _SPELLINGS:
                known.clear()
            known[self._head] = make


class StatusSite(HTTPFactory):
    """The web site of the statistics page.

    Args:
        document: gives the document of ``status``.
        report: gives the one of ``evidence``.
        state: one word for what the relay does, ``ready`` when it takes connections.
        reactor: its clock.

    Attributes:
        known: what answers requests, by their bytes.
    """

    noisy = False
    protocol: Any = _Channel

    def __init__(
        self,
        document: Callable[[], Document],
        report: Callable[[], Document],
        state: Callable[[], str],
        reactor: IReactorTime,
    ) -> None:
        super().__init__(reactor=reactor)
        metrics = Metrics(document)
        kinds: dict[str, Kept] = {}
        browsers = Kept(lambda: (_HTML, page.render(document())), reactor.seconds)
        others = _found(lambda: (_PLAIN, text.render(document()).encode()))

        def first(request: Request) -> Callable[[], Answer]:
            """The page, and its text for those who do not ask for HTML, as curl does."""
            return browsers if "text/html" in _accept(request) else others

        def scraped(request: Request) -> Callable[[], Answer]:
            accept = _accept(request)
            kind = metrics.kind(accept)
            if kind not in kinds:
                kinds[kind] = Kept(lambda: (kind, metrics.render(accept)), reactor.seconds)
            return kinds[kind]

        def ready() -> Answer:
            now = state()
            return _says(HTTPStatus.OK if now == "ready" else HTTPStatus.SERVICE_UNAVAILABLE, now)()

        self._pages: dict[str, Callable[[Request], Callable[[], Answer]]] = {
            "": first,
            "status": lambda _: _found(lambda: _json(document())),
            "metrics": scraped,
            ";csv": lambda _: _found(lambda: (_PLAIN, haproxy.render(document()).encode())),
            "healthz": lambda _: _ALIVE,
            "readyz": lambda _: ready,
            "evidence.json": lambda _: _found(lambda: _json(report())),
        }
        self._unknown = _says(
            HTTPStatus.NOT_FOUND, f"there is nothing here; see {', '.join(f'/{name}' for name in self._pages)}"
        )
        self.known: dict[bytes, Kept] = {}

    def find(self, request: Request) -> Callable[[], Answer]:
        """What makes the answer that the request gets."""
        if not is_own_name(request.getHeader("host") or "localhost"):
            # Some page in a browser has made its own name lead here (DNS rebinding).
            return _MISDIRECTED
        if request.method not in _METHODS:
            return _READ_ONLY
        name = unquote_to_bytes(request.path).decode("latin-1").removeprefix("/")
        # HAProxy's readers append what they want to the path: /;csv;norefresh
        choose = self._pages.get(";csv" if "csv" in name.split(";")[1:] else name)
        return choose(request) if choose else self._unknown

    def log(self, request: object) -> None:
        """A look at the page is no news."""


@lru_cache(16)
def is_own_name(host: str) -> bool:
    """Whether a Host field names this host by what nobody else can make a name of: ``localhost`` or an address."""
    name = host[1:].partition("]")[0] if host.startswith("[") else host.partition(":")[0]
    if name.rstrip(".").lower() == "localhost":
        return True
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True


def _accept(request: Request) -> str:
    return request.getHeader("accept") or ""


def _found(make: Callable[[], Text]) -> Callable[[], Answer]:
    return lambda: (HTTPStatus.OK, *make())


def _json(document: Document) -> Text:
    return "application/json", json.dumps(document).encode()


class Page(Service):
    """The statistics page."""

    def __init__(self, factory: IProtocolFactory, sockets: Sequence[socket.socket], reactor: Any) -> None:
        self.setName(PAGE)
        self._factory = factory
        self._sockets = sockets
        self._reactor = reactor
        self._ports: list[Port] = []

    def startService(self) -> None:
        """Answer on the sockets; the reactor has copies of them then."""
        super().startService()
        for sock in self._sockets:
            self._ports.append(self._reactor.adoptStreamPort(sock.fileno(), sock.family, self._factory))
            sock.close()

    def sockets(self) -> list[socket.socket]:
        """What it listens on."""
        return [port.socket for port in self._ports]

    def stopService(self) -> Deferred[None]:
        """Take no more connections; fires when the sockets are closed."""
        super().stopService()
        return Deferred.fromCoroutine(stop_listening(self._ports))
