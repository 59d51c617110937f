"""What slow and greedy clients cost a normal one, and what each of them costs the relay in memory.

Rounds with and without a crowd take turns; the medians of the normal client's latencies count. The crowds drip heads or
bodies, a byte a second each, read their answers as slowly, do nothing, or never read and never stop sending
(``stuck``); one client sends chunks of a byte without a pause. All are there before a round begins: how they arrive is
not measured. Nothing times out here. Each crowd meets a relay of its own.

Needs what ``speed`` needs of Debian's packages.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import http.client
import itertools
import re
import resource
import socket
import ssl
import statistics
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import attrs

from benchmarks.latency import Latency, Relay, disturbing, load, place, print_changes
from benchmarks.peers import HOST, start_sink
from benchmarks.processes import BenchmarkError
from fipsrelay.demo import certificates
from fipsrelay.demo.peer import free_ports

HEAD = f"POST /drip HTTP/1.1\r\nHost: {HOST}\r\n".encode()
BODY = HEAD + b"Content-Length: 1000000000\r\n\r\n"
CHUNKS = HEAD + b"Transfer-Encoding: chunked\r\n\r\n"
STUCK = BODY.replace(b"/drip", b"/stuck")
READ = f"GET /answer HTTP/1.1\r\nHost: {HOST}\r\n\r\n".encode()
# Of an answer: more would fill the kernel's memory for TCP, with a thousand of them.
ANSWER = 512 * 1024
BLOCK = bytes(64 * 1024)
BATCHES = 1000  # a second, in which a crowd takes its turns: all at once is not how clients come
ARRIVAL = 60.0  # seconds that a crowd may take
SETTLED = 3  # seconds without a change of the relay's memory: handshakes are over, buffers are full
LONG = 3600  # seconds: no timeout ends a crowd


class CrowdedRelay(Relay):
    """The relay with an intake for the normal client and one for the crowd."""

    def __init__(self, folder: Path, paths: certificates.Paths, good: int, crowd: int) -> None:
        ports = {"good": good, "crowd": crowd}
        document = {
            "timeouts": dict.fromkeys(("handshake", "request_head", "body", "answer", "agent_keep_alive"), LONG),
            "upstreams": {
                name: {"host": HOST, "port": port, "addresses": ["127.0.0.1"]} for name, port in ports.items()
            },
        }
        super().__init__("relay", folder, paths, document)

    def crowd(self) -> tuple[int, int]:
        """Open connections of the crowd, at this side and at the upstream's."""
        connection = http.client.HTTPConnection("127.0.0.1", self.page, timeout=ARRIVAL)
        with contextlib.closing(connection):
            connection.request("GET", "/")
            page = connection.getresponse().read().decode()
        agents = re.search(r"^crowd +(\d+) ", page, re.MULTILINE)
        upstream = re.search(r"^crowd/.* s +(\d+) +\d+ ", page, re.MULTILINE)
        if agents is None or upstream is None:
            raise BenchmarkError(f"the statistics page has changed:\n{page}")
        return int(agents[1]), int(upstream[1])


@attrs.frozen
class Crowd:
    """Slow clients.

    Attributes:
        name: what they do.
        count: how many.
        upstreams: whether each keeps an upstream connection while it is there.
        work: called with the port and their number, in a process of its own.
    """

    name: str
    count: int
    upstreams: bool
    work: Callable[..., Any]


def main(options: argparse.Namespace) -> None:
    """Measure and print; raises BenchmarkError when something is missing or failed."""
    most = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    with place(HOST) as (folder, paths, stack):
        nginx = start_sink(folder, paths)
        stack.callback(nginx.stop)
        (port,) = free_ports(1)
        stack.enter_context(disturbing(_intake, 10, port, paths))
        print(f"{options.rounds} rounds of {options.seconds} s with and without a crowd; latencies in µs")
        for crowd in CROWDS:
            if crowd.name in options.crowds:
                # What a relay once had it uses again: the next crowd would look smaller.
                relay = CrowdedRelay(folder, paths, nginx.ports["sink"], port)
                try:
                    _compare(crowd, relay, folder, options)
                finally:
                    relay.stop()


def _compare(crowd: Crowd, relay: CrowdedRelay, folder: Path, options: argparse.Namespace) -> None:
    load(relay.ports["good"], 1, folder)
    alone: list[Latency] = []
    beside: list[Latency] = []
    sizes, loads = [], []
    for _ in range(options.rounds):
        alone.append(load(relay.ports["good"], options.seconds, folder))
        before = relay.memory()
        with disturbing(crowd.work, 19, relay.ports["crowd"], crowd.count):
            _wait_for(relay, crowd.count, crowd.count if crowd.upstreams else None)
            sizes.append(_settled(relay) - before)
            cpu = relay.cpu()
            time.sleep(SETTLED)
            loads.append((relay.cpu() - cpu) / SETTLED)
            beside.append(load(relay.ports["good"], options.seconds, folder))
        _wait_for(relay, 0, 0)
    size = f"{max(sizes) / crowd.count / 1024:.1f} KB each" if crowd.count else "-"
    print(f"{crowd.count} {crowd.name}: {size}, {statistics.median(loads):.1%} of a core without other traffic")
    print_changes(crowd.name, alone, beside)


def _settled(relay: CrowdedRelay) -> int:
    """Its memory, when that has not changed for a while."""
    sizes = [relay.memory()]
    while len(sizes) <= SETTLED or sizes[-1] - sizes[-1 - SETTLED] > 64 * 1024:
        if len(sizes) > ARRIVAL:
            raise BenchmarkError(f"the relay's memory grows and grows: {sizes}")
        time.sleep(1)
        sizes.append(relay.memory())
    return sizes[-1]


def _wait_for(relay: CrowdedRelay, agents: int, upstreams: int | None) -> None:
    """Until the crowd has so many connections; at the upstream's side, if that matters."""
    end = time.monotonic() + ARRIVAL
    while (found := relay.crowd()) != (agents, found[1] if upstreams is None else upstreams):
        if time.monotonic() > end:
            raise BenchmarkError(f"connections of the crowd: {found}, not {(agents, upstreams)}")
        time.sleep(0.2)


# -- the crowds


async def _nobody(port: int, count: int) -> None:
    """For what the machine does by itself."""
    await asyncio.Event().wait()


async def _idle(port: int, count: int) -> None:
    _kept = _connect(port, count, b"")
    await asyncio.Event().wait()


async def _drip_heads(port: int, count: int) -> None:
    await _take_turns(_connect(port, count, HEAD + b"X: "), lambda sock: sock.send(b"x"))


async def _drip_bodies(port: int, count: int) -> None:
    await _take_turns(_connect(port, count, BODY), lambda sock: sock.send(b"x"))


async def _read_slowly(port: int, count: int) -> None:
    await _take_turns(_connect(port, count, READ), lambda sock: sock.recv(1024, socket.MSG_DONTWAIT))


async def _only_send(port: int, count: int) -> None:
    await _take_turns(_connect(port, count, STUCK), lambda sock: sock.send(BLOCK, socket.MSG_DONTWAIT))


async def _send_tiny_chunks(port: int, count: int) -> None:
    """A byte each, as fast as the relay takes them."""
    loop = asyncio.get_running_loop()
    sockets = _connect(port, count, CHUNKS)
    for sock in sockets:
        sock.setblocking(False)
    while True:
        await asyncio.gather(*(loop.sock_sendall(sock, b"1\r\nx\r\n" * 10_000) for sock in sockets))


def _connect(port: int, count: int, start: bytes) -> list[socket.socket]:
    sockets = []
    for _ in range(count):
        sock = socket.socket()
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        sock.connect(("127.0.0.1", port))
        sock.sendall(start)
        sockets.append(sock)
    return sockets


async def _take_turns(sockets: Sequence[socket.socket], turn: Callable[[socket.socket], object]) -> None:
    """Each once a second."""
    loop = asyncio.get_running_loop()
    began = loop.time()
    size = -(-len(sockets) // BATCHES)
    for number, batch in enumerate(_batches(sockets, size)):
        for sock in batch:
            with contextlib.suppress(BlockingIOError):
                turn(sock)
        await asyncio.sleep(began + number * size / len(sockets) - loop.time())


def _batches(sockets: Sequence[socket.socket], size: int) -> Iterator[list[socket.socket]]:
    turns = itertools.cycle(sockets)
    while True:
        yield list(itertools.islice(turns, size))


# -- the crowd's intake


async def _intake(port: int, paths: certificates.Paths) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(paths.certificate, paths.key)
    server = await asyncio.start_server(_serve, "127.0.0.1", port, ssl=context, backlog=1024)
    await server.serve_forever()


async def _serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Send answers of a size, read a body that does not end, or answer without an end and read nothing more."""
    with contextlib.suppress(OSError, asyncio.IncompleteReadError), contextlib.closing(writer):
        while True:
            head = await reader.readuntil(b"\r\n\r\n")
            if b"/drip" in head:
                while await reader.read(65536):
                    pass
                return
            size = ANSWER if b"/answer" in head else LONG << 30
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % size)
            for _ in range(size // len(BLOCK)):
                if writer.is_closing():
                    return
                writer.write(BLOCK)
                await writer.drain()


CROWDS = (
    Crowd("absent", 0, False, _nobody),
    Crowd("idle", 3000, False, _idle),
    Crowd("heads", 1000, False, _drip_heads),
    Crowd("bodies", 1000, True, _drip_bodies),
    Crowd("readers", 1000, False, _read_slowly),
    Crowd("stuck", 50, True, _only_send),
    Crowd("tiny chunks", 1, True, _send_tiny_chunks),
)


if __name__ == "__main__":
    names = ",".join(crowd.name for crowd in CROWDS)
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5, help="with and without each crowd")
    parser.add_argument("--seconds", type=int, default=4, help="length of one round")
    parser.add_argument("--crowds", type=lambda text: text.split(","), default=names.split(","), help=f"of {names}")
    try:
        main(parser.parse_args())
    except BenchmarkError as error:
        sys.exit(f"benchmark: {error}")
