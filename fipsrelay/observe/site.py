"""What the first port serves: the state of the relay in several formats, read-only, to this host's own clients."""

from __future__ import annotations

import ipaddress
import json
import socket
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from http import HTTPStatus
from typing import Any

from twisted.application.service import Service
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IListeningPort, IProtocolFactory
from twisted.web.resource import IResource, Resource
from twisted.web.server import Request, Site

from fipsrelay.observe import haproxy, page, text
from fipsrelay.observe.metrics import Metrics
from fipsrelay.relay.sockets import PAGE, stop_listening

Document = Mapping[str, Any]
Text = tuple[str, bytes]  # content type and content
_SHARE = 1000  # of the time that passes, one part may go into making the same text anew
_PLAIN = "text/plain; charset=utf-8"
_HEADERS = {
    "Cache-Control": "no-store",
    "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Server": "fipsrelay",
    "X-Content-Type-Options": "nosniff",
}
# Of what browsers show; for the rest, each costs more than it is worth.
_PAGE_HEADERS = {
    **_HEADERS,
    "Content-Security-Policy": page.POLICY,
    "Cross-Origin-Opener-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
}
_HTML = "text/html; charset=utf-8"


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


class _Leaf(Resource):
    """Answers with a text, and perhaps another status than 200."""

    isLeaf = True

    def __init__(self, make: Callable[[Request], Text], status: Callable[[], int] = lambda: HTTPStatus.OK) -> None:
        super().__init__()
        self._make = make
        self._status = status

    def render_GET(self, request: Request) -> bytes:
        kind, content = self._make(request)
        status = self._status()
        request.setResponseCode(status, HTTPStatus(status).phrase.encode())
        request.setHeader("Content-Type", kind)
        for name, value in (_PAGE_HEADERS if kind == _HTML else _HEADERS).items():
            request.setHeader(name, value)
        return content


def _says(status: int, words: str) -> _Leaf:
    return _Leaf(lambda _: (_PLAIN, f"{words}\n".encode()), lambda: status)


class _Root(Resource):
    def __init__(self, leaves: Mapping[str, Resource]) -> None:
        super().__init__()
        self._leaves = leaves
        paths = ", ".join(f"/{name}" for name in leaves)
        self._unknown = _says(HTTPStatus.NOT_FOUND, f"there is nothing here; see {paths}")

    def getChild(self, path: bytes, request: Request) -> Resource:
        # HAProxy's readers append what they want to the path: /;csv;norefresh
        name = b"/".join((path, *(request.postpath or ()))).decode("latin-1")
        words = name.split(";")
        return self._leaves.get(";csv" if "csv" in words[1:] else name, self._unknown)


class StatusSite(Site):
    """The web site of the statistics page.

    Args:
        document: gives the document of ``status``.
        report: gives the one of ``evidence``.
        state: one word for what the relay does, ``ready`` when it takes connections.
        seconds: a clock.
    """

    noisy = False

    def __init__(
        self,
        document: Callable[[], Document],
        report: Callable[[], Document],
        state: Callable[[], str],
        seconds: Callable[[], float],
    ) -> None:
        metrics = Metrics(document)
        kinds: dict[str, Kept] = {}

        browsers = Kept(lambda: (_HTML, page.render(document())), seconds)

        def first(request: Request) -> Text:
            """The page, and its text for those who do not ask for HTML, as curl does."""
            return browsers() if "text/html" in _accept(request) else (_PLAIN, text.render(document()).encode())

        def scraped(request: Request) -> Text:
            accept = _accept(request)
            kind = metrics.kind(accept)
            if kind not in kinds:
                kinds[kind] = Kept(lambda: (kind, metrics.render(accept)), seconds)
            return kinds[kind]()

        def ready() -> int:
            return HTTPStatus.OK if state() == "ready" else HTTPStatus.SERVICE_UNAVAILABLE

        super().__init__(
            _Root(
                {
                    "": _Leaf(first),
                    "status": _Leaf(lambda _: _json(document())),
                    "metrics": _Leaf(scraped),
                    ";csv": _Leaf(lambda _: (_PLAIN, haproxy.render(document()).encode())),
                    "healthz": _says(HTTPStatus.OK, "alive"),
                    "readyz": _Leaf(lambda _: (_PLAIN, f"{state()}\n".encode()), ready),
                    "evidence.json": _Leaf(lambda _: _json(report())),
                }
            )
        )
        self._misdirected = _says(HTTPStatus.MISDIRECTED_REQUEST, "this is served for names of this host only")

    def getResourceFor(self, request: Request) -> IResource:
        """Nothing for a name that some page in a browser has made to lead here (DNS rebinding)."""
        if is_own_name(request.getHeader("host") or "localhost"):
            resource: IResource = super().getResourceFor(request)
            return resource
        return self._misdirected

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


def _json(document: Document) -> Text:
    return "application/json", json.dumps(document).encode()


class Page(Service):
    """The statistics page."""

    def __init__(self, factory: IProtocolFactory, sockets: Sequence[socket.socket], reactor: Any) -> None:
        self.setName(PAGE)
        self._factory = factory
        self._sockets = sockets
        self._reactor = reactor
        self._ports: list[IListeningPort] = []

    def startService(self) -> None:
        super().startService()
        for sock in self._sockets:
            self._ports.append(self._reactor.adoptStreamPort(sock.fileno(), sock.family, self._factory))
            sock.close()

    def stopService(self) -> Deferred[None]:
        super().stopService()
        return Deferred.fromCoroutine(stop_listening(self._ports))
