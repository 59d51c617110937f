"""What looking at the relay, and reading its configuration again, costs the requests that it relays.

* 100 scrapes a second, of the page and of the metrics in turn, with 16 intakes: their share of a core, when there is
  nothing else and beside requests, and how much slower these are. Rounds with and without take turns; the medians of
  their latencies count, of many short ones, because a shared machine's other guests come and go. In rounds without, the
  same scraper asks itself: it shares a core with wrk and nginx.
* A reload every 200 ms between two configurations, with nothing changed for the upstream that is asked: the same, and
  no request may fail.

Needs what ``speed`` needs of Debian's packages.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import os
import signal
import statistics
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml

from benchmarks.latency import Latency, Relay, disturbing, load, place, print_changes
from benchmarks.peers import HOST, start_sink
from benchmarks.processes import BenchmarkError

INTAKES = 16
LOOKS = 100  # a second
CONTENT = 25_000  # bytes: page and metrics, on the average
FULL = {"connections": 32, "think": 0}  # what fills the relay's core
RELOAD = 0.2  # seconds from one to the next


def main(options: argparse.Namespace) -> None:
    """Measure and print; raises BenchmarkError when something is missing or failed."""
    with place(HOST) as (folder, paths, stack):
        nginx = start_sink(folder, paths)
        stack.callback(nginx.stop)
        upstreams = {
            f"intake{number}": {"host": HOST, "port": nginx.ports["sink"], "addresses": ["127.0.0.1"]}
            for number in range(INTAKES)
        }
        document = {"upstreams": upstreams}
        relay = Relay("relay", folder, paths, document)
        stack.callback(relay.stop)
        load(relay.ports["intake0"], 1, folder)
        _measure_share(relay)
        print(f"{options.rounds} rounds of {options.seconds} s with and without it")
        file = folder / "relay.yaml"
        itself = (_look,)
        for what, without, work, how in (
            ("nothing", itself, itself, {}),
            ("looks", itself, (_look, relay.page), {}),
            ("nothing, full", itself, itself, FULL),
            ("looks, full", itself, (_look, relay.page), FULL),
            ("reloads", (), (_reload, relay.pid, str(file)), {}),
        ):
            alone: list[Latency] = []
            beside: list[Latency] = []
            shares: list[float] = []
            for _ in range(options.rounds):
                for each, taken in ((without, alone), (work, beside)):
                    with contextlib.ExitStack() as disturbed:
                        if each:
                            disturbed.enter_context(disturbing(each[0], 19, *each[1:]))
                        time.sleep(0.5)
                        cpu = relay.cpu()
                        taken.append(load(relay.ports["intake0"], options.seconds, folder, **how))
                        shares.append((relay.cpu() - cpu) / options.seconds)
                # What the requests beside it would have taken by themselves is not its own.
                shares[-2:] = [shares[-1] - shares[-2] * beside[-1].requests / alone[-1].requests]
            print_changes(what, alone, beside)
            print(f"  {what:<14} took {statistics.mean(shares):.1%} of a core")  # whose time comes in ticks of 1 %
        count = (folder / "relay.log").read_text().count("The configuration was read again")
        print(f"  {count} reloads, and no request failed")
        if not count:
            raise BenchmarkError("the configuration was never read again")


def _measure_share(relay: Relay) -> None:
    """Of a core, without any other work."""
    shares, seconds = [], 4
    for _ in range(3):
        before, began = relay.cpu(), time.monotonic()
        time.sleep(seconds)
        idle = (relay.cpu() - before) / (time.monotonic() - began)
        with disturbing(_look, 0, relay.page):
            time.sleep(1)
            before, began = relay.cpu(), time.monotonic()
            time.sleep(seconds)
            shares.append((relay.cpu() - before) / (time.monotonic() - began) - idle)
    print(f"{LOOKS} looks a second and nothing else: {_percent(shares)} of a core")


def _percent(shares: Sequence[float]) -> str:
    return f"{statistics.median(shares):.1%} ({min(shares):.1%}-{max(shares):.1%})"


async def _look(page: int | None = None) -> None:
    """At the page and the metrics in turn, or at itself, on connections that are kept, at a steady rate."""
    if page is None:
        server = await asyncio.start_server(_answer, "127.0.0.1", 0)
        page = server.sockets[0].getsockname()[1]
    connections: list[Any] = [await asyncio.open_connection("127.0.0.1", page) for _ in range(4)]
    requests = [
        f"GET {path} HTTP/1.1\r\nHost: localhost\r\nAccept: {accept}\r\n\r\n".encode()
        for path, accept in (("/", "text/html"), ("/metrics", "*/*"))
    ]
    loop = asyncio.get_running_loop()
    due = loop.time()
    for number in range(1 << 30):
        reader, writer = connections[number % len(connections)]
        writer.write(requests[number % 2])
        head = await reader.readuntil(b"\r\n\r\n")
        if not head.startswith(b"HTTP/1.1 200 "):
            raise BenchmarkError(f"the page answered {head!r}")
        await reader.readexactly(int(head.lower().partition(b"content-length: ")[2].split(b"\r\n")[0]))
        due += 1 / LOOKS
        if loop.time() > due + 1:
            raise BenchmarkError(f"this machine is too slow for {LOOKS} looks a second")
        await asyncio.sleep(max(0, due - loop.time()))


async def _answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while await reader.readuntil(b"\r\n\r\n"):
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % CONTENT + bytes(CONTENT))


async def _reload(pid: int, file: str) -> None:
    """Another upstream beside the one that is asked comes and goes."""
    path = Path(file)
    document = yaml.safe_load(path.read_text())
    changed = {
        **document,
        "upstreams": {**document["upstreams"], "more": {**document["upstreams"]["intake0"], "port": 9}},
    }
    texts = [json.dumps(each) for each in (document, changed)]  # which is YAML, without aliases
    for number in range(1 << 30):
        temporary = path.with_suffix(".new")
        temporary.write_text(texts[number % 2])
        temporary.replace(path)
        os.kill(pid, signal.SIGHUP)
        await asyncio.sleep(RELOAD)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=40, help="with and without")
    parser.add_argument("--seconds", type=int, default=1, help="length of one round")
    try:
        main(parser.parse_args())
    except BenchmarkError as error:
        sys.exit(f"benchmark: {error}")
