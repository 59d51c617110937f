"""Tests of ``fipsrelay.config.check``."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import attrs
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from fipsrelay.config import check
from fipsrelay.config.load import load_text


class CommandTests(SynchronousTestCase):
    """``fipsrelay check`` as a process."""

    def check(self, text: str, *options: str, **environ: str) -> subprocess.CompletedProcess[str]:
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        Path(folder.name, "proxy.yaml").write_text(text)
        command = [sys.executable, "-m", "fipsrelay", "check", "-c", "proxy.yaml", *options]
        own = {name: value for name, value in os.environ.items() if not name.startswith("DD_")}
        return subprocess.run(command, cwd=folder.name, env=own | environ, capture_output=True, text=True, check=False)

    def test_right(self) -> None:
        done = self.check("preset: datadog\n")
        self.assertEqual((done.returncode, done.stderr), (0, ""))
        summary = "14 intakes on 127.0.0.1, ::1, ports 9804 to 9818, site ddog-gov.com"
        self.assertEqual(done.stdout, f"proxy.yaml: OK, {summary}\n")

    def test_wrong(self) -> None:
        done = self.check("preset: datadog\nsite: 1\nlisten: {port: 1}\n", "--expand")
        self.assertEqual((done.returncode, done.stdout), (2, ""))
        first, second = done.stderr.splitlines()
        self.assertTrue(first.startswith("proxy.yaml:2: site: found '1'"), first)
        self.assertTrue(second.startswith("proxy.yaml:3: listen.port: unknown key"), second)

    def test_environment(self) -> None:
        done = self.check("preset: datadog\n", DD_FIPS_PORT_RANGE_START="100", DD_FIPS_LOCAL_ADDRESS="127.0.0.1")
        self.assertIn("on 127.0.0.1, ports 101 to 115,", done.stdout)
        done = self.check("preset: datadog\n", DD_FIPS_PORT_RANGE_START="x")
        self.assertEqual(done.returncode, 2)
        self.assertTrue(done.stderr.startswith("environment: DD_FIPS_PORT_RANGE_START: "), done.stderr)

    def test_expand(self) -> None:
        done = self.check("preset: datadog\n", "--expand", DD_FIPS_PORT_RANGE_START="100")
        self.assertEqual((done.returncode, done.stderr), (0, ""))
        expected = load_text("preset: datadog\nlisten: {port_range_start: 100}\n", "f.yaml")
        self.assertEqual(load_text(done.stdout, "f.yaml"), expected)

    def test_password(self) -> None:
        text = "preset: datadog\negress: {proxy: 'http://user:tweety@proxy.example:3128'}\n"
        for options in ([], ["--expand"]):
            done = self.check(text, *options)
            self.assertEqual((done.returncode, done.stderr), (0, ""))
            self.assertNotIn("tweety", done.stdout)
        self.assertIn("\n  proxy: http://user:***@proxy.example:3128\n", done.stdout)


_NAMES = st.from_regex(r"[a-z0-9]([a-z._-]{0,6}[a-z])?", fullmatch=True)
_SECONDS = st.floats(0.001, 3600) | st.integers(1, 3600) | st.sampled_from(["500ms", "1.5m", "1h", "3s"])
_SHORT_PATHS = st.from_regex(r"/[a-z]{1,3}(/[%0-9]{1,2})?", fullmatch=True)

_RETRIES = st.fixed_dictionaries({}, optional={"replay": st.booleans(), "replay_size": st.integers(0, 2**24)})
_NAME_SERVERS = st.lists(st.sampled_from(["192.0.2.53", "192.0.2.53:5353", "2001:DB8::53", "[2001:db8::53]:5353"]))
_EXEMPT = st.lists(st.sampled_from(["*", "Example.com", ".example.com", "192.0.2.1", "10.0.0.0/8", "2001:DB8::/32"]))
_EGRESS = st.one_of(
    st.fixed_dictionaries({}, optional={"no_proxy": _EXEMPT}),
    st.fixed_dictionaries(
        {"proxy": st.sampled_from(["http://Proxy:3128", "http://us%40er:tw%65ety@[2001:DB8::1]:3128/"])},
        optional={"no_proxy": _EXEMPT},
    ),
    st.just({"proxy": "http://user@192.0.2.1:3128", "password_file": "/run/secrets/proxy"}),
)


_DIGESTS = st.lists(st.from_regex(r"[0-9A-F]{64}", fullmatch=True), max_size=2)
_LOCAL_TLS = st.fixed_dictionaries({"certificate": st.just("/etc/intake.pem"), "key": st.just("/etc/intake.key")})
_CERTIFICATES = st.fixed_dictionaries(
    {
        "number": st.integers(1, 9999),
        "name": st.just("OpenSSL FIPS Provider"),
        "version": st.sampled_from(["3.1.2", 3.5]),
        "build_info": st.just("3.1.2-x"),
        "standard": st.sampled_from(["FIPS 140-2", "FIPS 140-3"]),
        "source": st.just("https://example.com/certificate#9"),
    },
    optional={"sunset": st.just("2030-01-31"), "checked": st.just("2026-10-01")},
)


@st.composite
def documents(draw: st.DrawFn) -> dict[str, Any]:
    """Configuration files that are right, in every section."""
    hosts = st.sampled_from(["a.{site}", "{site}", "B.Example.ORG"])
    addresses = st.lists(st.ip_addresses().filter(_is_usual).map(str), max_size=2)
    names = draw(st.lists(_NAMES, min_size=1, max_size=4, unique=True))
    upstream = st.sampled_from(names)
    upstreams = {
        name: draw(
            st.fixed_dictionaries(
                {"host": hosts},
                optional={
                    "port": st.integers(1, 65535),
                    "addresses": addresses,
                    "retries": _RETRIES,
                    "pins": _DIGESTS,
                },
            )
        )
        for name in names
    }
    routes = st.lists(
        st.fixed_dictionaries({"path_prefix": _SHORT_PATHS, "upstream": upstream}),
        max_size=3,
        unique_by=lambda route: route["path_prefix"],
    )
    intakes = {}
    for offset, name in enumerate(draw(st.lists(_NAMES, min_size=1, max_size=4, unique=True))):
        place = {"offset": 100 + offset} if draw(st.booleans()) else {"port": 1 + offset}
        intakes[name] = {**place, "upstream": draw(upstream)}
        intakes[name] |= draw(st.just({"protocol": "tcp"}) | st.fixed_dictionaries({"routes": routes}))
        intakes[name] |= draw(st.fixed_dictionaries({}, optional={"tls": _LOCAL_TLS}))
    return {
        **draw(st.fixed_dictionaries({}, optional={"preset": st.just("datadog")})),
        "site": draw(st.just("ddog-gov.com") | st.just("example.com")),
        "listen": draw(
            st.fixed_dictionaries(
                {"port_range_start": st.integers(1000, 60000)},
                optional={
                    "addresses": st.just(["localhost"]) | st.just(["0.0.0.0"]),
                    "allow_remote_plaintext": st.just(True),
                },
            ).filter(lambda listen: listen.get("addresses") != ["0.0.0.0"] or "allow_remote_plaintext" in listen)
        ),
        "fips": {
            "sha256": draw(st.none() | st.from_regex(r"[0-9A-F]{64}", fullmatch=True)),
            "certificates": draw(st.lists(_CERTIFICATES, max_size=2)),
        },
        "tls": draw(
            st.fixed_dictionaries(
                {},
                optional={
                    "minimum_version": st.sampled_from([1.2, "1.3"]),
                    "profile": st.sampled_from(["sp800-52", "cnsa"]),
                    "hybrid_groups": st.booleans(),
                    "trust": st.just("/etc/bundle.pem"),
                    "crl": st.just("/etc/crl.pem"),
                    "ocsp_stapling": st.sampled_from(["ignore", "require"]),
                },
            )
        ),
        "resolver": draw(st.fixed_dictionaries({}, optional={"nameservers": _NAME_SERVERS})),
        "egress": draw(_EGRESS),
        "probes": draw(st.fixed_dictionaries({}, optional={"enabled": st.booleans(), "fall": st.integers(1, 100)})),
        "upstreams": {name: entry | {"outside_site": True} for name, entry in upstreams.items()},
        "intakes": intakes,
        "timeouts": draw(st.fixed_dictionaries({}, optional={"connect": _SECONDS, "drain": _SECONDS | st.just(0)})),
        "limits": draw(st.fixed_dictionaries({}, optional={"connections": st.integers(1, 9999)})),
        "log": draw(
            st.fixed_dictionaries(
                {},
                optional={
                    "level": st.sampled_from(["debug", "critical"]),
                    "format": st.sampled_from(["json", "journald"]),
                    "socket": st.just("/run/log.sock"),
                },
            )
        ),
    }


def _is_usual(address: Any) -> bool:
    return not (address.is_unspecified or address.is_multicast)


class ExpandedTests(SynchronousTestCase):
    """``expanded``."""

    @settings(derandomize=True, database=None, deadline=None)
    @given(documents())
    def test_round_trip(self, document: dict[str, Any]) -> None:
        """But for the password."""
        config = load_text(yaml.safe_dump(document), "f.yaml")
        text = check.expanded(config)
        self.assertNotIn("tweety", text)
        proxy = config.egress.proxy
        if proxy is not None and proxy.password:
            self.assertEqual(proxy.password, "tweety")
            config = attrs.evolve(config, egress=attrs.evolve(config.egress, proxy=attrs.evolve(proxy, password="***")))
        self.assertEqual(load_text(text, "expanded.yaml"), config)
        self.assertNotIn("preset", yaml.safe_load(text))
