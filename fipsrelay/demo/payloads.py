"""One realistic payload for every product and path, as an Agent would send it. Deterministic for a seed."""

from __future__ import annotations

import gzip
import json
import random
import zlib
from collections.abc import Callable, Iterable, Iterator

import attrs
import zstandard

SITE = "ddog-gov.com"
SEED = 7

#: Thirty-two hexadecimal digits that no account has; recognisable, so that tests can look for it in logs.
FAKE_KEY = "facade00facade00facade00facade00"

FLARE_SIZE = 20_000_000
TRACES_SIZE = 3_000_000
PROFILE_SIZE = 1_500_000
_CHUNK = 65_536


@attrs.frozen
class Payload:
    """One request of an Agent.

    Attributes:
        intake_offset: port offset from ``port_range_start``.
        product: a word for tables.
        method: HTTP method.
        path: request target, with its query where the Agent puts one.
        headers: in order, without Host and without framing headers.
        chunks: the body in the pieces it is sent in.
        chunked: whether it goes out in chunked transfer coding instead of with a Content-Length.
        expected_host: the upstream that must receive it.
        expected_status: what the demo intake answers there.
    """

    intake_offset: int
    product: str
    method: str
    path: str
    headers: tuple[tuple[str, str], ...]
    chunks: tuple[bytes, ...] = attrs.field(repr=lambda chunks: f"<{sum(map(len, chunks))} bytes>")
    chunked: bool
    expected_host: str
    expected_status: int

    @property
    def body(self) -> bytes:
        """The whole body, without transfer coding."""
        return b"".join(self.chunks)


def payloads(site: str = SITE, seed: int = SEED) -> tuple[Payload, ...]:
    """All payloads, in the order of their ports."""
    return tuple(sorted(_all(site, random.Random(seed)), key=lambda payload: payload.intake_offset))


def _all(site: str, rng: random.Random) -> Iterator[Payload]:
    def make(
        offset: int,
        product: str,
        prefix: str,
        path: str,
        body: bytes | tuple[bytes, ...] = b"",
        *,
        method: str = "POST",
        kind: str = "application/json",
        encoding: str = "",
        chunked: bool = False,
        status: int = 202,
    ) -> Payload:
        chunks = body if isinstance(body, tuple) else (body,) if body else ()
        if encoding:
            chunks = (_ENCODERS[encoding](b"".join(chunks)),)
        headers = [("User-Agent", "datadog-agent/7.78.0"), ("DD-API-KEY", FAKE_KEY), ("DD-Agent-Version", "7.78.0")]
        if method == "POST":
            headers.append(("Content-Type", kind))
        if encoding:
            headers.append(("Content-Encoding", encoding))
        return Payload(offset, product, method, path, tuple(headers), chunks, chunked, prefix + site, status)

    protobuf = "application/x-protobuf"
    core = "metrics.agent."
    # 9804, by path: what `datadog-agent diagnose` and the core forwarder send.
    yield make(1, "key check", "api.", f"/api/v1/validate?api_key={FAKE_KEY}", method="GET", status=200)
    yield make(1, "key check", "api.", f"/api/v2/validate?api_key={FAKE_KEY}", method="GET", status=200)
    yield make(1, "key check", "api.", "/api/v2/intake-key", b"{}")
    yield make(1, "series v1", core, "/api/v1/series", _series(rng, 40), encoding="deflate")
    yield make(1, "series v2", core, "/api/v2/series", _binary(rng, 480_000), kind=protobuf, encoding="zstd")
    yield make(
        1, "series v3", core, "/api/intake/metrics/v3/series", _binary(rng, 90_000), kind=protobuf, encoding="zstd"
    )
    yield make(1, "sketches", core, "/api/beta/sketches", _binary(rng, 60_000), kind=protobuf, encoding="zstd")
    yield make(1, "check runs", core, "/api/v1/check_run", _series(rng, 12), encoding="zstd")
    yield make(1, "host metadata", core, "/api/v1/metadata", _series(rng, 20), encoding="gzip")
    yield make(1, "events", core, "/intake/", _series(rng, 200), encoding="deflate")
    yield make(1, "diagnose", core, "/api/v1/series", b"{}")
    yield make(1, "probe", core, "/probe", method="GET", status=202)
    yield make(1, "flare", "flare.", "/support/flare", method="HEAD", status=200)
    flare, flare_type = _multipart(rng, "flare_file", "datadog-agent.zip", FLARE_SIZE)
    flare_path = f"/support/flare/1234567?api_key={FAKE_KEY}"
    yield make(1, "flare", "flare.", flare_path, flare, kind=flare_type, chunked=True)
    for track, own in _TRACKS_ON_CORE:
        yield make(1, track, own, f"/api/v2/{track}", _binary(rng, 20_000), kind=protobuf, encoding="zstd")
    # The products' own ports.
    trace = "trace.agent."
    yield make(2, "traces", trace, "/_health", method="GET", status=200)
    yield make(2, "traces", trace, "/api/v0.2/traces", rng.randbytes(TRACES_SIZE), kind=protobuf)
    yield make(2, "traces", trace, "/api/v0.2/traces", _binary(rng, 200_000), kind=protobuf, encoding="zstd")
    yield make(
        2, "trace stats", trace, "/api/v0.2/stats", _binary(rng, 50_000), kind="application/msgpack", encoding="gzip"
    )
    yield make(
        2,
        "pipeline stats",
        trace,
        "/api/v0.1/pipeline_stats",
        _binary(rng, 9_000),
        kind="application/msgpack",
        encoding="gzip",
    )
    profile, profile_type = _multipart(rng, "cpu.pprof", "cpu.pprof", PROFILE_SIZE)
    yield make(3, "profile", "intake.profile.", "/api/v2/profile", profile, kind=profile_type, chunked=True)
    for track in ("collector", "container", "connections", "discovery"):
        yield make(4, "processes", "process.", f"/api/v1/{track}", _framed(rng, 40_000), kind=protobuf)
    logs = "agent-http-intake.logs."
    yield make(5, "logs", logs, "/api/v2/logs", _logs(rng, 900), encoding="zstd")
    yield make(5, "logs", logs, "/api/v2/logs", _logs(rng, 300), encoding="gzip")
    yield make(5, "logs", logs, "/v1/input", _logs(rng, 3))
    for track in ("dbmmetrics", "dbmactivity", "dbmmetadata", "dbmhealth", "dbmcolumnstatistics"):
        yield make(6, "database", "dbm-metrics-intake.", f"/api/v2/{track}", _series(rng, 60), encoding="gzip")
    for offset, product, prefix, path in _SINGLE:
        yield make(offset, product, prefix, path, _series(rng, 30), encoding=rng.choice(("gzip", "zstd")))
    for path in ("/api/v2/orch", "/api/v2/orchmanif", "/api/v1/orchestrator"):
        yield make(12, "orchestrator", "orchestrator.", path, _framed(rng, 70_000), kind=protobuf)


#: Tracks that one Agent version sends to the core port, with the intake that each belongs to.
_TRACKS_ON_CORE = (
    ("contlcycle", "contlcycle-intake."),
    ("contimage", "contimage-intake."),
    ("sbom", "sbom-intake."),
    ("netpath", "netpath-intake."),
    ("apmtelemetry", "instrumentation-telemetry-intake."),
)

_SINGLE = (
    (7, "database samples", "dbm-metrics-intake.", "/api/v2/databasequery"),
    (8, "network devices", "ndm-intake.", "/api/v2/ndm"),
    (9, "SNMP traps", "snmp-traps-intake.", "/api/v2/ndmtraps"),
    (10, "telemetry", "instrumentation-telemetry-intake.", "/api/v2/apmtelemetry"),
    (13, "runtime security", "runtime-security-http-intake.logs.", "/api/v2/secruntime"),
    (13, "runtime security", "runtime-security-http-intake.logs.", "/api/v2/secinfo"),
    (14, "compliance", "cspm-intake.", "/api/v2/compliance"),
    (15, "NetFlow", "ndmflow-intake.", "/api/v2/ndmflow"),
)


def _zstd(data: bytes) -> bytes:
    compressed: bytes = zstandard.compress(data)
    return compressed


def _gzip(data: bytes) -> bytes:
    # The time of day in a gzip head would make each run's bytes differ.
    return gzip.compress(data, mtime=0)


_ENCODERS: dict[str, Callable[[bytes], bytes]] = {"gzip": _gzip, "zstd": _zstd, "deflate": zlib.compress}


def _series(rng: random.Random, count: int) -> bytes:
    series = [
        {
            "metric": f"system.{rng.choice(('cpu', 'mem', 'disk', 'net'))}.{rng.choice(('used', 'idle', 'total'))}",
            "points": [[1_790_000_000 + 15 * number, rng.random() * 100]],
            "tags": [f"shard:{rng.randrange(99)}", "env:demo"],
            "host": f"host-{rng.randrange(9)}",
            "type": "gauge",
        }
        for number in range(count)
    ]
    return json.dumps({"series": series}).encode()


def _logs(rng: random.Random, count: int) -> bytes:
    lines = [
        {
            "message": f"GET /cart/{rng.getrandbits(40):x} took {rng.randrange(900)} ms – naïve café",
            "status": rng.choice(("info", "warn", "error")),
            "timestamp": 1_790_000_000_000 + number,
            "hostname": "host-1",
            "service": "shop",
            "ddsource": "python",
            "ddtags": "env:demo",
        }
        for number in range(count)
    ]
    return json.dumps(lines, ensure_ascii=False).encode()


def _binary(rng: random.Random, size: int) -> bytes:
    """Bytes that compress about as protobuf metrics do: random values between repeated field tags."""
    values = rng.randbytes(size // 4)
    return b"".join(b"\x0a\x12\x09" + values[index : index + 1] for index in range(len(values)))


def _framed(rng: random.Random, size: int) -> bytes:
    """A process-agent message: 8-byte head (version 3, encoding, type), then a body that is compressed in itself."""
    return bytes((3, 2, rng.randrange(12, 60), 0, 0, 0, 0, 0)) + _zstd(_binary(rng, size))


def _multipart(rng: random.Random, field: str, file_name: str, size: int) -> tuple[tuple[bytes, ...], str]:
    """A multipart form with one file, in the uneven pieces of a producer that streams; and its Content-Type."""
    boundary = f"{rng.getrandbits(160):040x}"
    head = (
        f'--{boundary}\r\nContent-Disposition: form-data; name="email"\r\n\r\noperator@example.com\r\n'
        f'--{boundary}\r\nContent-Disposition: form-data; name="{field}"; filename="{file_name}"\r\n'
        "Content-Type: application/octet-stream\r\n\r\n"
    )
    tail = f"\r\n--{boundary}--\r\n"
    pieces = (head.encode(), *_pieces(rng, size), tail.encode())
    return pieces, f"multipart/form-data; boundary={boundary}"


def _pieces(rng: random.Random, size: int) -> Iterable[bytes]:
    while size:
        length = min(size, rng.randrange(1, 2 * _CHUNK))
        size -= length
        yield rng.randbytes(length)
