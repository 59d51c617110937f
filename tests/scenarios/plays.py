"""What an intake is to do with a request: written by its client, played by ``echo``, known to both. Pure.

Every byte of a body says whose it is, so that one that goes astray is found, wherever it ends up.
"""

from __future__ import annotations

import hashlib
import json
import random
from collections.abc import Iterator
from typing import NamedTuple

BODILESS = (204, 304)
SMALL = 8000  # bytes of a body that fits one TLS record and one segment, with everything around it
CUTS = ("fin", "notify", "reset")  # ways to end a connection
# What must reach nobody: it follows an answer that is complete.
STRAY = b"HTTP/1.1 200 OK\r\nClient: stray\r\nContent-Length: 5\r\n\r\nstray"
BROKEN_HEADS = (
    b"HTTP/1.1 OK\r\n\r\n",
    b"HTTP/2 200 OK\r\n\r\n",
    b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nxx",
    b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    b"HTTP/1.1 200 OK\r\nClient : 0-0\r\nContent-Length: 0\r\n\r\n",
    b"stray\r\n\r\n",
)


class Damage(Exception):
    """What arrived is not what a client sent."""


class Play(NamedTuple):
    """What is to happen to one request, or to one raw conversation.

    Attributes:
        client, number: whose it is, and which of that client's.
        size: bytes of the request's body, or of the upload.
        length: bytes of the answer's body, or of the download.
        status: of the answer.
        form: of the answer's body: ``length``, ``chunked`` or ``close``; of a conversation: ``up`` and then down,
            ``down`` and then up, or ``echo``.
        early: bytes of the body that are read before the answer; -1 for all.
        interim: status of an interim answer, or 0.
        pauses: how often the intake pauses before and in its answer.
        end: what becomes of the connection: ``keep``, ``close`` (announced), ``leave`` (not announced, together with
            the answer) or ``late`` (not announced, a little later).
        fault: ``fin``, ``notify``, ``reset`` or ``stall`` after ``at`` bytes of the answer; ``head`` or ``chunk`` for
            one that is broken there; ``stray`` for bytes after it; or nothing.
        at: see ``fault``.
        bare: neither head says whose it is, only the bodies do: like the heads of all others.
    """

    client: int
    number: int
    size: int = 0
    length: int = 0
    status: int = 200
    form: str = "length"
    early: int = -1
    interim: int = 0
    pauses: int = 0
    end: str = "keep"
    fault: str = ""
    at: int = 0
    bare: bool = False

    @property
    def line(self) -> bytes:
        """To be read by ``played``."""
        return json.dumps(self, separators=(",", ":")).encode()

    @property
    def owner(self) -> bytes:
        """What stands in the field ``Client``."""
        return b"%d-%d" % (self.client, self.number)


def played(line: bytes) -> Play:
    """Raises Damage when it is none."""
    try:
        return Play(*json.loads(line))
    except (ValueError, TypeError) as error:
        raise Damage(f"no play: {line[:200]!r}") from error


def content(kind: str, play: Play, size: int) -> bytes:
    """``size`` bytes of one message: they say whose they are, and look like those of no other."""
    label = b"%b %b %d\n" % (kind.encode(), play.owner, size)
    return (label + hashlib.shake_128(label).digest(max(0, size - len(label))))[:size]


def answer_lines(play: Play, target: bytes, digest: bytes) -> list[bytes]:
    """The header lines of an answer, but for framing and Connection."""
    if play.bare:
        return []
    lines = [b"Client: " + play.owner, b"Target: " + target]
    return lines if play.early >= 0 else [*lines, b"Digest: " + digest]


def status_line(status: int) -> bytes:
    return b"HTTP/1.1 %d Fine" % status


def trailer(play: Play) -> bytes:
    return b"Client: " + play.owner


def answer(play: Play, method: bytes, target: bytes, digest: bytes) -> bytes:
    """The whole answer, an interim one before it included."""
    lines = [status_line(play.status), *answer_lines(play, target, digest)]
    body = content("answer", play, play.length)
    if play.form == "length":
        lines.append(b"Content-Length: %d" % play.length)
    elif play.form == "chunked":
        lines.append(b"Transfer-Encoding: chunked")
        body = b"".join(chunks(body, play)) + b"0\r\n%b\r\n\r\n" % trailer(play)
    if play.end == "close" or play.form == "close":
        lines.append(b"Connection: close")
    if method == b"HEAD" or play.status in BODILESS:
        body = b""
    interim = b"%b\r\nClient: %b\r\n\r\n" % (status_line(play.interim), play.owner) if play.interim else b""
    head = interim + b"\r\n".join(lines) + b"\r\n\r\n"
    if play.fault == "head":
        return interim + BROKEN_HEADS[play.at % len(BROKEN_HEADS)]
    return head + b"zz\r\n" if play.fault == "chunk" else head + body


def chunks(body: bytes, play: Play) -> Iterator[bytes]:
    """Framed pieces of uneven sizes."""
    start, size = 0, 1 + play.number % 100
    while piece := body[start : start + size]:
        yield b"%x\r\n%b\r\n" % (len(piece), piece)
        start += size
        size = size * 3 % 100_003


class Mix(NamedTuple):
    """What a client's requests are like. Rates are from 0 to 1.

    Attributes:
        sizes: bounds of bodies, each as likely as the others.
        client_faults: of batches in which the client does something wrong.
        faults: of the intake, and how often it has one.
        fault_rate: see there.
        ends: of the intake's connections.
        slow: rate of requests in which somebody pauses.
    """

    sizes: tuple[int, ...]
    client_faults: float
    faults: tuple[str, ...]
    fault_rate: float
    ends: tuple[str, ...]
    slow: float


class Request(NamedTuple):
    """One request, ready to be sent.

    Attributes:
        play: what the intake will do.
        method: of it.
        target: of it.
        http10: whether it is HTTP/1.0.
        message: all its bytes.
        digest: of its body, as the intake sends it back.
    """

    play: Play
    method: bytes
    target: bytes
    http10: bool
    message: bytes
    digest: bytes


def draw_play(rng: random.Random, client: int, number: int, mix: Mix, method: bytes) -> Play:
    """What the intake is to do with a client's next request; combinations that would race are left out."""
    size = 0 if method in (b"GET", b"HEAD") and rng.random() < 0.9 else rng.randint(0, rng.choice(mix.sizes))
    length = rng.randint(0, rng.choice(mix.sizes))
    play = Play(client, number, size, length, form=rng.choice(("length", "length", "chunked", "close")))
    if rng.random() < 0.25:
        return play._replace(bare=True)
    play = play._replace(
        status=rng.choice((200, 202, 404, 500, 204, 304)) if rng.random() < 0.3 else 200,
        interim=rng.choice((102, 103)) if rng.random() < 0.1 else 0,
        pauses=rng.randint(1, 3) if rng.random() < mix.slow else 0,
    )
    if play.status in BODILESS:
        play = play._replace(form="length")
    if rng.random() < mix.fault_rate:
        return draw_fault(rng, play, mix, method)
    if size and rng.random() < 0.15:
        return play._replace(early=rng.randint(0, size), end=rng.choice(("keep", "close")))
    end = rng.choice(mix.ends)
    if end != "keep" and (play.form == "close" or length > SMALL):  # it has to arrive before the end does
        end = "close"
    return play._replace(end=end)


def draw_fault(rng: random.Random, play: Play, mix: Mix, method: bytes) -> Play:
    """A fault of the intake at some place."""
    fault = rng.choice(mix.faults)
    early = rng.randint(0, play.size) if rng.random() < 0.5 else -1
    bodiless = method == b"HEAD" or play.status in BODILESS
    if fault == "notify" and play.form == "close":
        fault = "fin"  # close_notify would be the end of this body
    if fault == "stray" and (play.form == "close" or (play.length > SMALL and not bodiless)):
        fault = "reset"  # strays have to come in the answer's record
    if fault == "chunk" and bodiless:
        fault = "head"
    if fault == "chunk":
        return play._replace(fault=fault, form="chunked")
    if fault == "head":
        return play._replace(fault=fault, at=rng.randrange(len(BROKEN_HEADS)))
    if fault == "stray":
        return play._replace(fault=fault)
    play = play._replace(fault=fault, early=early)
    whole = len(answer(play, method, b"/0-0/", b"d" * 64))  # at least: it must not become a complete one
    return play._replace(at=rng.randrange(whole if rng.random() < 0.5 else min(whole, 150)))


def draw_request(rng: random.Random, client: int, number: int, mix: Mix, last: bool) -> Request:
    """A client's next request; HTTP/1.0 and Connection: close only in the last one of a batch."""
    method = rng.choice((b"POST", b"POST", b"POST", b"PUT", b"GET", b"HEAD"))
    play = draw_play(rng, client, number, mix, method)
    body = content("request", play, play.size)
    http10 = last and rng.random() < 0.05
    lines = [b"Host: localhost"]
    target = b"/%b/%b" % (play.owner, b"x" * rng.choice((0, 10, 100)))
    if play.bare:
        method, target = b"POST", b"/bare"
        sent = play.line + b"\n" + body
    else:
        sent = body
        lines += [b"Play: " + play.line, b"Client: " + play.owner]
    if sent and not http10 and rng.random() < 0.3:
        lines.append(b"Transfer-Encoding: chunked")
        sent = b"".join(chunks(sent, play)) + b"0\r\n\r\n"
    elif sent or method in (b"POST", b"PUT"):
        lines.append(b"Content-Length: %d" % len(sent))
    if last and rng.random() < 0.05:
        lines.append(rng.choice((b"Connection: close", b"Connection: keep-alive")))
    first = b"%b %b HTTP/1.%d\r\n" % (method, target, not http10)
    message = first + b"\r\n".join(lines) + b"\r\n\r\n" + sent
    return Request(play, method, target, http10, message, hashlib.sha256(body).hexdigest().encode())
