"""Targets with a fault each, which the suite wants found: a target that cannot fail says nothing."""

from __future__ import annotations

from fipsrelay.relay.exchange import Exchange
from fipsrelay.wire.http1 import RequestHead, parse_request
from tests.fuzz import exchange, framing


def nominated(data: bytes) -> None:
    """Connection takes Content-Length away: what the relay reads as a body, the upstream reads as a request."""

    def parse(head_bytes: bytes, header_lines: int) -> RequestHead:
        head = parse_request(head_bytes, header_lines)
        options = head_bytes.lower().partition(b"\r\nconnection:")[2].partition(b"\r")[0]
        if b"content-length" in options:
            head._drop({b"content-length"})
        return head

    framing.check(data, parse)


def stumbling(data: bytes) -> None:
    """Something else than MessageError comes of a head that few would think of."""

    def parse(head_bytes: bytes, header_lines: int) -> RequestHead:
        if b" HTTP/1.0\r\n" in head_bytes and b"chunked" in head_bytes:
            raise IndexError
        return parse_request(head_bytes, header_lines)

    framing.check(data, parse)


def endless(data: bytes) -> None:
    """Reading does not come to an end."""

    def parse(head_bytes: bytes, header_lines: int) -> RequestHead:
        while head_bytes.count(b"Content-Length") > 1:
            pass
        return parse_request(head_bytes, header_lines)

    framing.check(data, parse)


class Greedy(Exchange):
    """Does not stop the agent while nobody takes what it sends."""

    def _hold(self, view: memoryview, position: int) -> None:
        self._ahead += view[position:]


def greedy(data: bytes) -> None:
    """What an agent sends ahead is kept without a bound."""
    exchange.check(data, Greedy)


class Patient(Exchange):
    """Waits for ever for an answer."""

    def expired(self) -> None:
        if self._request is None:
            super().expired()


def patient(data: bytes) -> None:
    """A request hangs."""
    exchange.check(data, Patient)


class Faulty(Exchange):
    """Stumbles where an exception would be caught and logged."""

    def expired(self) -> None:
        self._finish()
        raise ZeroDivisionError


def faulty(data: bytes) -> None:
    """An exception that does not come out."""
    exchange.check(data, Faulty)
