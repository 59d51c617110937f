"""The demo: the relay as users start it, between Agent-like requests and an embedded TLS intake.

``python -m fipsrelay.demo.run --once`` sends every payload once, compares what arrived with what was sent, and stops.
Without ``--once`` it then sends a trickle until Ctrl-C, so that the statistics page has something to show.
Only the relay's process needs the FIPS module; this one and the intake are the world around it.
"""

from __future__ import annotations

import argparse
import hashlib
import http.client
import os
import signal
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import FrameType
from typing import Any

import attrs
import yaml

from fipsrelay.config.load import load_file
from fipsrelay.config.model import Config
from fipsrelay.demo import certificates
from fipsrelay.demo.payloads import SITE, Payload, payloads
from fipsrelay.demo.peer import IntakeProcess, RelayError, RelayProcess

REQUEST_TIMEOUT = 60.0
_DIGITS = 12  # of each sha256 that the table shows; all of them are compared


class DemoError(Exception):
    """The demo cannot go on; the text is for the person at the terminal."""


@attrs.frozen
class Outcome:
    """What became of one payload.

    Attributes:
        payload: as sent.
        port: where it was sent.
        host: the Host field that its intake must see.
        status: of the answer; 0 when none came.
        record: the intake's record of it, or None.
    """

    payload: Payload
    port: int
    host: str
    status: int
    record: Mapping[str, Any] | None

    @property
    def same(self) -> bool:
        """Whether the right intake got the same bytes and its answer came back."""
        payload, record = self.payload, self.record
        return (
            record is not None
            and self.status == payload.expected_status == record["status"]
            and record["host"] == self.host
            and record["sni"] == payload.expected_host
            and record["method"] == payload.method
            and record["path"] == payload.path.partition("?")[0]
            and record["length"] == len(payload.body)
            and record["sha256"] == hashlib.sha256(payload.body).hexdigest()
        )


def main(argv: Sequence[str] | None = None) -> int:
    """Run the demo.

    Returns:
        Exit status 0 when every payload arrived unchanged and every process ended well, or when it was interrupted
        before that could be told; else 1.
    """
    parser = argparse.ArgumentParser(prog="python -m fipsrelay.demo.run", description=__doc__)
    parser.add_argument("--once", action="store_true", help="send every payload once, then stop")
    parser.add_argument(
        "--port-range-start",
        type=int,
        default=int(os.environ.get("DD_FIPS_PORT_RANGE_START") or 9803),
        help="port of the statistics page; the intakes follow (default: DD_FIPS_PORT_RANGE_START or 9803)",
    )
    options = parser.parse_args(argv)
    signal.signal(signal.SIGTERM, _interrupt)
    try:
        return demonstrate(options.port_range_start, once=options.once)
    except (DemoError, RelayError) as error:
        print(f"demo: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 0


def demonstrate(port_range_start: int, *, once: bool) -> int:
    """The demo between its preparations and its cleaning up; both processes have ended when this returns."""
    with tempfile.TemporaryDirectory(prefix="fipsrelay-demo-") as name:
        folder = Path(name)
        preset = _preset(folder, port_range_start)
        hosts = sorted({upstream.host for upstream in preset.upstreams.values()})
        paths = certificates.write(folder, hosts)
        try:
            intake = IntakeProcess(paths)
        except RuntimeError as error:
            raise DemoError(str(error)) from error
        relay = None
        try:
            relay = RelayProcess(_write_config(folder, preset, paths.authority, intake.port))
            failed = _exercise(relay, intake, preset, once=once)
        finally:
            # Also on Ctrl-C: nothing of the demo outlives it.
            relay_status = relay.stop() if relay else 0
            intake_status = intake.stop()
        for what, status in (("relay", relay_status), ("intake", intake_status)):
            print(f"{what}: exit status {status}")
        if relay_status and relay:
            print(relay.output, file=sys.stderr)
    return 1 if failed or relay_status or intake_status else 0


def _exercise(relay: RelayProcess, intake: IntakeProcess, config: Config, *, once: bool) -> int:
    """Send, compare, show. Returns how many payloads did not arrive as they were sent."""
    start = config.listen.port_range_start
    relay.wait_for()
    facts = (line.partition("FIPS ")[2] for line in relay.output.splitlines())
    print("The relay's FIPS module:", *filter(None, facts), sep="\n  ", end="\n\n")
    sent = payloads(config.site)
    outcomes = send_all(sent, start, config.listen.addresses, intake)
    _print_table(outcomes)
    failed = sum(not outcome.same for outcome in outcomes)
    print(f"\n{len(outcomes) - failed} of {len(outcomes)} payloads arrived as they were sent")
    print(f"statistics page: http://127.0.0.1:{start}/", flush=True)
    if not once:
        _trickle(relay, sent, start, config.listen.addresses)
    return failed


def send_all(sent: Sequence[Payload], start: int, addresses: Sequence[str], intake: IntakeProcess) -> list[Outcome]:
    """Send payloads one after the other, over the listening addresses in turn, and match them with the records."""
    outcomes = []
    seen = len(intake.records())
    for number, payload in enumerate(sent):
        port = start + payload.intake_offset
        status = send(payload, addresses[number % len(addresses)], port)
        records = intake.records()
        # One request at a time, so its record is the only new one; two would mean that it was repeated.
        record = records[seen] if len(records) == seen + 1 else None
        outcomes.append(Outcome(payload, port, f"{payload.expected_host}:{intake.port}", status, record))
        seen = len(records)
    return outcomes


def send(payload: Payload, address: str, port: int) -> int:
    """Send one payload as an Agent does, and return the answer's status; 0 when no answer came."""
    connection = http.client.HTTPConnection(address, port, timeout=REQUEST_TIMEOUT)
    headers = {"Host": f"localhost:{port}", **dict(payload.headers)}
    try:
        body = iter(payload.chunks) if payload.chunked else payload.body or None
        connection.request(payload.method, payload.path, body, headers, encode_chunked=payload.chunked)
        response = connection.getresponse()
        response.read()
    except (OSError, http.client.HTTPException):
        return 0
    finally:
        connection.close()
    return response.status


def _trickle(relay: RelayProcess, sent: Sequence[Payload], start: int, addresses: Sequence[str]) -> None:
    print("sending one request a second; Ctrl-C stops", flush=True)
    small = [payload for payload in sent if len(payload.body) < 1_000_000]
    number = 0
    try:
        while True:
            payload = small[number % len(small)]
            send(payload, addresses[number % len(addresses)], start + payload.intake_offset)
            relay.check_alive()
            number += 1
            time.sleep(1)  # what was promised above
    except KeyboardInterrupt:
        print(f"\nstopping after {number} more requests", flush=True)


def _preset(folder: Path, port_range_start: int) -> Config:
    """The preset as the relay will read it: the source of names, hosts and ports."""
    file = folder / "preset.yaml"
    file.write_text(yaml.safe_dump({"preset": "datadog", "listen": {"port_range_start": port_range_start}}))
    return load_file(str(file), os.environ)


def _write_config(folder: Path, preset: Config, authority: Path, intake_port: int) -> Path:
    file = folder / "fipsrelay.yaml"
    document = {
        "preset": "datadog",
        "site": SITE,
        "listen": {"port_range_start": preset.listen.port_range_start},
        # A module made for the demo has no CMVP certificate; a real installation keeps `refuse`.
        "fips": {"unlisted_module": "warn"},
        "tls": {"trust": str(authority)},
        "upstreams": {name: {"addresses": ["127.0.0.1"], "port": intake_port} for name in preset.upstreams},
    }
    file.write_text(yaml.safe_dump(document, sort_keys=False))
    return file


def _print_table(outcomes: Sequence[Outcome]) -> None:
    rows = [("port", "product", "request", "bytes", "sent", "arrived", "same", "status", "TLS", "suite", "group")]
    for outcome in outcomes:
        payload, record = outcome.payload, outcome.record or {}
        rows.append(
            (
                str(outcome.port),
                payload.product,
                f"{payload.method} {payload.path.partition('?')[0]}",
                str(len(payload.body)),
                hashlib.sha256(payload.body).hexdigest()[:_DIGITS],
                record.get("sha256", "-")[:_DIGITS],
                "yes" if outcome.same else "NO",
                str(outcome.status or "none"),
                record.get("tls_version", "-"),
                record.get("suite", "-"),
                record.get("group", "-"),
            )
        )
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        print("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())


def _interrupt(_number: int, _frame: FrameType | None) -> None:
    raise KeyboardInterrupt


if __name__ == "__main__":
    sys.exit(main())
