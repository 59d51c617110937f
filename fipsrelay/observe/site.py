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
from twisted.internet.interfaces import IAddress, IProtocolFactory, IReactorTime
from twisted.internet.tcp import Port
from twisted.logger import Logger
from twisted.web.http import HTTPFactory, Request, datetimeToString
from twisted.web.iweb import INonQueuedRequestFactory
from zope.interface import provider

from fipsrelay.observe import haproxy, page, text
from fipsrelay.observe.metrics import Metrics
from fipsrelay.relay.sockets import PAGE, stop_listening

Document = Mapping[str, Any]
Text = tuple[str, bytes]  # content type and content
Answer = tuple[HTTPStatus, str, bytes]  # status, content type and content
_SHARE = 1000  # of the time that passes, one part may go into making the same text anew
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


def _says(status: HTTPStatus, words: str) -> Answer:
    return status, _PLAIN, f"{words}\n".encode()


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
        self._text: Text = ("", b"")

    def __call__(self) -> Text:
        """The text."""
        began = self._seconds()
        if began >= self._until:
            self._text = self._make()
            ended = self._seconds()
            self._until = ended + _SHARE * (ended - began)
        return self._text


@provider(INonQueuedRequestFactory)
class _Look(Request):
    """A request for the page or something beside it, which the site that it came to answers.

    Of twisted.web this uses what reads requests and writes answers, and not its tree of resources: one level of names
    needs none, and scrapes cost half without it.
    """

    def gotLength(self, length: int | None) -> None:
        """Room for no body, however long: nothing here takes one."""
        self.content = io.BytesIO()

    def handleContentChunk(self, data: bytes) -> None:
        """Drop it."""

    def process(self) -> None:
        try:
            status, kind, content = self.channel.factory.answer(self)
        except Exception:
            _log.failure("no answer could be made for {path!r}", path=self.path)
            status, kind, content = _BROKEN
        self.setResponseCode(status, status.phrase.encode())
        put = self.responseHeaders.setRawHeaders
        for name, value in (_PAGE_HEADERS if kind == _HTML else _HEADERS).items():
            put(name, [value])
        if status == HTTPStatus.METHOD_NOT_ALLOWED:
            put(b"Allow", [b", ".join(_METHODS)])
        put(b"Content-Type", [kind.encode()])
        put(b"Content-Length", [b"%d" % len(content)])
        put(b"Date", [datetimeToString()])
        self.write(content)
        self.finish()


class StatusSite(HTTPFactory):
    """The web site of the statistics page.

    Args:
        document: gives the document of ``status``.
        report: gives the one of ``evidence``.
        state: one word for what the relay does, ``ready`` when it takes connections.
        reactor: its clock.
    """

    noisy = False

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

        def first(request: Request) -> Text:
            """The page, and its text for those who do not ask for HTML, as curl does."""
            return browsers() if "text/html" in _accept(request) else (_PLAIN, text.render(document()).encode())

        def scraped(request: Request) -> Text:
            accept = _accept(request)
            kind = metrics.kind(accept)
            if kind not in kinds:
                kinds[kind] = Kept(lambda: (kind, metrics.render(accept)), reactor.seconds)
            return kinds[kind]()

        def ready(_: Request) -> Answer:
            now = state()
            return _says(HTTPStatus.OK if now == "ready" else HTTPStatus.SERVICE_UNAVAILABLE, now)

        alive = _says(HTTPStatus.OK, "alive")
        self._answers: dict[str, Callable[[Request], Answer]] = {
            "": _found(first),
            "status": _found(lambda _: _json(document())),
            "metrics": _found(scraped),
            ";csv": _found(lambda _: (_PLAIN, haproxy.render(document()).encode())),
            "healthz": lambda _: alive,
            "readyz": ready,
            "evidence.json": _found(lambda _: _json(report())),
        }
        self._unknown = _says(
            HTTPStatus.NOT_FOUND, f"there is nothing here; see {', '.join(f'/{name}' for name in self._answers)}"
        )

    def buildProtocol(self, addr: IAddress | None) -> Any:
        """A channel whose requests are answered here, without twisted.web's resources."""
        channel: Any = super().buildProtocol(addr)
        channel.requestFactory = _Look
        return channel

    def answer(self, request: Request) -> Answer:
        """What the request gets."""
        if not is_own_name(request.getHeader("host") or "localhost"):
            # Some page in a browser has made its own name lead here (DNS rebinding).
            return _MISDIRECTED
        if request.method not in _METHODS:
            return _READ_ONLY
        name = unquote_to_bytes(request.path).decode("latin-1").removeprefix("/")
        # HAProxy's readers append what they want to the path: /;csv;norefresh
        make = self._answers.get(";csv" if "csv" in name.split(";")[1:] else name)
        return make(request) if make else self._unknown

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


def _found(make: Callable[[Request], Text]) -> Callable[[Request], Answer]:
    return lambda request: (HTTPStatus.OK, *make(request))


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
