"""What upstreams that do not work cost those that do, and what the relay costs while it idles.

Two questions:

* How much slower are requests to a good intake while others wait for one that drops what is sent to it, or that shakes
  hands and never answers? Rounds with and without that traffic take turns; the medians of their latencies count.
  Each of its requests to the second kind costs the relay a handshake, which others wait for.
* What do the checks of 16 upstreams with three addresses each cost while there is no traffic, and how many connections
  does each address see?

Needs what ``speed`` needs of Debian's packages.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import socket
import ssl
import statistics
import sys
import time
from collections.abc import Iterable, Mapping, Sequence
from itertools import pairwise
from pathlib import Path

from benchmarks.latency import Relay, disturbing, load, place, print_changes
from benchmarks.peers import HOST, start_sink
from benchmarks.processes import BenchmarkError, Proxy
from fipsrelay.demo import certificates
from fipsrelay.demo.peer import free_ports

REQUEST = f"POST /api/v2/series HTTP/1.1\r\nHost: {HOST}\r\nContent-Length: 2\r\nConnection: close\r\n\r\n{{}}".encode()
WAITING = 16  # connections that always wait for the bad one, beside a steady stream of others
UPSTREAMS, ADDRESSES = 16, 3
INTERVAL = 10.0  # of the checks: the default
# Three checks that fail by a timeout of five seconds, the first within two seconds.
SETTLED = 35.0


class Intakes:
    """Listeners that accept, shake hands if they have a certificate, and say nothing.

    Args:
        addresses: to listen on.
        port: of all.
        paths: of their certificate, or None for no TLS.

    Attributes:
        accepted: by address, when each connection came, in seconds of the event loop.
    """

    def __init__(self, addresses: Iterable[str], port: int, paths: certificates.Paths | None) -> None:
        self.accepted: dict[str, list[float]] = {}
        self._context: ssl.SSLContext | None = None
        if paths is not None:
            self._context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            self._context.load_cert_chain(paths.certificate, paths.key)
        self._sockets = [socket.create_server((address, port), backlog=128) for address in addresses]
        self._tasks = [asyncio.create_task(self._accept(listener)) for listener in self._sockets]

    async def _accept(self, listener: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        times = self.accepted[listener.getsockname()[0]] = []
        listener.setblocking(False)
        while True:
            connection, _ = await loop.sock_accept(listener)
            times.append(loop.time())
            self._tasks.append(asyncio.create_task(self._keep(connection)))

    async def _keep(self, connection: socket.socket) -> None:
        with contextlib.suppress(OSError):
            loop = asyncio.get_running_loop()
            await loop.connect_accepted_socket(asyncio.Protocol, connection, ssl=self._context)

    def close(self) -> None:
        """Listen no more; what was accepted ends with the event loop."""
        for each in self._sockets:
            each.close()


def main(options: argparse.Namespace) -> None:
    """Measure and print; raises BenchmarkError when something is missing or failed."""
    with place(HOST, *map(_host, range(UPSTREAMS))) as (folder, paths, stack):
        if options.rounds:
            _measure_holes(folder, paths, stack, options)
        if options.idle:
            asyncio.run(_measure_idle(folder, paths, stack, options.idle))


# -- bad upstreams beside a good one


def _measure_holes(
    folder: Path, paths: certificates.Paths, stack: contextlib.ExitStack, options: argparse.Namespace
) -> None:
    nginx = start_sink(folder, paths)
    stack.callback(nginx.stop)
    (silent,) = free_ports(1)
    stack.enter_context(disturbing(_be_silent, 19, silent, paths))
    ports = {"good": nginx.ports["sink"], "drops": _full_port(stack), "silent": silent}
    document = {
        "upstreams": {name: {"host": HOST, "port": port, "addresses": ["127.0.0.1"]} for name, port in ports.items()},
        # Requests to a server that is down are refused at once; here they are to wait.
        "probes": {"fall": 100},
    }
    relay = Relay("holes", folder, paths, document)
    stack.callback(relay.stop)
    load(relay.ports["good"], 1, folder)
    print(f"{options.rounds} rounds of {options.seconds} s with and without {options.rate} bad requests a second")
    for bad in ("nothing", "drops", "silent"):
        _compare(bad, relay, folder, options)
    _check_state(folder / "holes.log", 0)


def _compare(bad: str, relay: Proxy, folder: Path, options: argparse.Namespace) -> None:
    """``nothing`` disturbs nobody: what moves then is the machine."""
    alone, beside = [], []
    for _ in range(options.rounds):
        alone.append(load(relay.ports["good"], options.seconds, folder))
        with contextlib.ExitStack() as disturbed:
            if bad in relay.ports:
                disturbed.enter_context(disturbing(_ask_in_vain, 19, relay.ports[bad], options.rate))
            time.sleep(1)
            beside.append(load(relay.ports["good"], options.seconds, folder))
    print_changes(bad, alone, beside)


async def _be_silent(port: int, paths: certificates.Paths) -> None:
    Intakes(["127.0.0.1"], port, paths)
    await asyncio.Event().wait()


async def _ask_in_vain(port: int, rate: int) -> None:
    """Connections that always wait, and others that come one after the other and wait too."""
    tasks = [asyncio.create_task(_wait_again_and_again(port)) for _ in range(WAITING)]
    while True:
        tasks.append(asyncio.create_task(_ask(port)))
        await asyncio.sleep(1 / rate)
        for task in [task for task in tasks if task.done()]:
            tasks.remove(task)
            task.result()  # raises what it failed with


async def _wait_again_and_again(port: int) -> None:
    while True:
        await _ask(port)


async def _ask(port: int) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(REQUEST)
    await reader.read()
    writer.close()


def _full_port(stack: contextlib.ExitStack) -> int:
    """The port of a listener whose queue is full, so that the kernel drops further requests to connect."""
    listener = stack.enter_context(socket.create_server(("127.0.0.1", 0), backlog=0))
    for _ in range(4):
        filling = stack.enter_context(socket.socket())
        filling.setblocking(False)
        filling.connect_ex(listener.getsockname())
    port: int = listener.getsockname()[1]
    return port


# -- idle


async def _measure_idle(folder: Path, paths: certificates.Paths, stack: contextlib.ExitStack, seconds: int) -> None:
    kinds: dict[str, Intakes | None] = {"unchecked": None, "refused": None, "silent": None, "working": None}
    relays = {}
    for number, kind in enumerate(kinds):
        addresses = [f"127.1.{number}.{last}" for last in range(1, UPSTREAMS * ADDRESSES + 1)]
        (port,) = free_ports(1)
        if kind in ("silent", "working"):
            intakes = kinds[kind] = Intakes(addresses, port, paths if kind == "working" else None)
            stack.callback(intakes.close)
        upstreams = {
            f"upstream{each}": {"host": _host(each), "port": port, "addresses": addresses[each::UPSTREAMS]}
            for each in range(UPSTREAMS)
        }
        document = {"upstreams": upstreams, "probes": {"enabled": kind != "unchecked"}}
        relays[kind] = await asyncio.to_thread(Relay, kind, folder, paths, document)
        stack.callback(relays[kind].stop)
    await asyncio.sleep(SETTLED)
    before = {kind: relay.cpu() for kind, relay in relays.items()}
    began = asyncio.get_running_loop().time()
    await asyncio.sleep(seconds)
    after = {kind: relay.cpu() for kind, relay in relays.items()}
    print(f"idle: {UPSTREAMS} upstreams of {ADDRESSES} addresses, {seconds} s")
    print("             CPU of a core   connections per address and interval, and the shortest time between two")
    for kind, listening in kinds.items():
        _check_state(folder / f"{kind}.log", 0 if kind in ("unchecked", "working") else UPSTREAMS)
        counted = _counted(listening.accepted, began, seconds) if listening else "-"
        print(f"  {kind:<11}{(after[kind] - before[kind]) / seconds:13.2%}   {counted}", flush=True)


def _counted(accepted: Mapping[str, Sequence[float]], began: float, seconds: int) -> str:
    shares = [
        sum(began <= when < began + seconds for when in times) * INTERVAL / seconds for times in accepted.values()
    ]
    pauses = [later - earlier for times in accepted.values() for earlier, later in pairwise(times)]
    return f"{statistics.mean(shares):.2f}, {min(pauses):.1f} s" if pauses else "none"


def _check_state(log: Path, down: int) -> None:
    """The figures mean something only if the servers are what they should be for the relay."""
    found = log.read_text(errors="replace").count("has no server available!")
    if found != down:
        raise BenchmarkError(f"{found} upstreams are down and not {down}; see {log}")


def _host(number: int) -> str:
    return f"intake{number}.ddog-gov.com"


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=10, help="with and without bad traffic; 0 leaves them out")
    parser.add_argument("--seconds", type=int, default=4, help="length of one round")
    parser.add_argument("--rate", type=int, default=20, help="requests a second to the bad intake")
    parser.add_argument("--idle", type=int, default=60, help="seconds of idling; 0 leaves it out")
    try:
        main(parser.parse_args())
    except BenchmarkError as error:
        sys.exit(f"benchmark: {error}")
