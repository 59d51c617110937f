"""Tests of ``fipsrelay.config.values``."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from fipsrelay.config import values
from fipsrelay.config.nodes import Node, parse
from fipsrelay.errors import ConfigError, Problem


def node(text: str) -> Node:
    """A scalar."""
    return Node(text, "f.yaml", 1, "key")


class ReaderTests(SynchronousTestCase):
    """Readers of single values."""

    def accepts(self, read: Callable[[Node], Any], expected: dict[str, Any]) -> None:
        for text, value in expected.items():
            self.assertEqual(read(node(text)), value, text)

    def refuses(self, read: Callable[[Node], Any], *texts: str) -> None:
        for text in texts:
            error = self.assertRaises(ConfigError, read, node(text))
            [problem] = error.problems
            self.assertTrue(problem.message.startswith("found '"), text)
            self.assertIn("; allowed: ", problem.message)
        for text in ("", "{}", "[]"):
            self.assertRaises(ConfigError, read, parse(text, "f.yaml", []))

    def test_whole(self) -> None:
        self.accepts(values.whole(1, 10), {"1": 1, "10": 10})
        self.refuses(values.whole(1, 10), "0", "11", "-1", "+1", "1.0", "01", "1e1", "0x1", "1_0", "", " 1", "1\n", "١")
        self.refuses(values.whole(1, 10), "9" * 5000)

    def test_seconds(self) -> None:
        expected = {
            "5": 5.0,
            "0.25": 0.25,
            "5s": 5.0,
            "500ms": 0.5,
            "1.5m": 90.0,
            "1h": 3600.0,
            "5 s": 5.0,
            "1ms": 0.001,
        }
        self.accepts(values.seconds(), expected)
        self.refuses(
            values.seconds(), "0", "-1", "5000", "2h", "0.5ms", "5d", "5S", ".inf", "inf", "nan", "1e3", "s", "5  s", ""
        )

    def test_seconds_within_other_bounds(self) -> None:
        self.accepts(values.seconds(0, 7200), {"0": 0.0, "2h": 7200.0})
        self.refuses(values.seconds(0, 7200), "7201", "121m")

    def test_flag(self) -> None:
        self.accepts(values.flag, {"true": True, "false": False, "True": True, "FALSE": False})
        self.refuses(values.flag, "yes", "on", "1", "")

    def test_one_of(self) -> None:
        self.accepts(values.one_of("1.2", "1.3"), {"1.2": "1.2", "1.3": "1.3"})
        self.refuses(values.one_of("1.2", "1.3"), "1.1", "1.20", "")

    def test_known(self) -> None:
        read = values.known("upstream", ["metrics", "traces"])
        self.accepts(read, {"metrics": "metrics"})
        error = self.assertRaises(ConfigError, read, node("metric"))
        self.assertIn("unknown upstream 'metric' (did you mean 'metrics'?); defined: metrics, traces", str(error))
        error = self.assertRaises(ConfigError, values.known("upstream", []), node("metric"))
        self.assertIn("unknown upstream 'metric'; defined: none", str(error))
        self.assertRaises(ConfigError, read, Node((), "f.yaml", 1, "key"))

    def test_address(self) -> None:
        self.accepts(values.address, {"192.0.2.1": "192.0.2.1", "2001:DB8:0::1": "2001:db8::1"})
        self.refuses(
            values.address, "localhost", "0.0.0.0", "::", "224.0.0.1", "ff02::1", "fe80::1%eth0", "1.2.3", "[::1]", ""
        )

    def test_endpoint(self) -> None:
        for text, expected in {
            "a": ("a", ""),
            "a:1": ("a", "1"),
            "192.0.2.1:0123": ("192.0.2.1", "0123"),
            "[::1]": ("::1", ""),
            "[::1]:53": ("::1", "53"),
            "": ("", ""),
            ":1": ("", ""),
            "a:": ("", ""),
            "::1": ("", ""),
            "[a]:1": ("", ""),
            "[::1": ("", ""),
            "[::1]1": ("", ""),
            "a:1:2": ("", ""),
            "a:1\n": ("", ""),
        }.items():
            self.assertEqual(values.endpoint(text), expected, text)

    def test_joined(self) -> None:
        for host, text in {"a.example": "a.example:1", "192.0.2.1": "192.0.2.1:1", "::1": "[::1]:1"}.items():
            self.assertEqual(values.joined(host, 1), text)
            self.assertEqual(values.endpoint(text), (host, "1"))

    def test_nameserver(self) -> None:
        expected = {
            "192.0.2.53": ("192.0.2.53", 53),
            "192.0.2.54:5353": ("192.0.2.54", 5353),
            "2001:DB8::1": ("2001:db8::1", 53),
            "[2001:db8::1]": ("2001:db8::1", 53),
            "[2001:db8::1]:65535": ("2001:db8::1", 65535),
        }
        self.accepts(values.nameserver, expected)
        self.refuses(
            values.nameserver, "dns.example", "dns.example:53", "localhost", "", "0.0.0.0", "[::]:53", "ff02::1"
        )
        self.refuses(values.nameserver, "192.0.2.1:0", "192.0.2.1:65536", "192.0.2.1:", "192.0.2.1:053", "[192.0.2.1]")
        self.refuses(values.nameserver, "fe80::1%eth0", "[fe80::1%eth0]:53", "[::1]53", "::1]:53", "udp://192.0.2.1")

    def test_machine(self) -> None:
        expected = {"Proxy": "proxy", "a.example": "a.example", "192.0.2.1": "192.0.2.1", "2001:DB8::1": "2001:db8::1"}
        self.accepts(values.machine, expected)
        self.refuses(values.machine, "", "a_b", "a..b", "127.1", "0.0.0.0", "::", "ff02::1", "[::1]", "a:1")

    def test_exempt(self) -> None:
        expected = {
            "*": "*",
            "Example.com": "example.com",
            ".example.com": ".example.com",
            "localhost": "localhost",
            "192.0.2.1": "192.0.2.1",
            "192.0.2.0/24": "192.0.2.0/24",
            "10.0.0.0/255.0.0.0": "10.0.0.0/8",
            "2001:DB8:0::/32": "2001:db8::/32",
            "2001:DB8::1": "2001:db8::1",
        }
        self.accepts(values.exempt, expected)
        self.refuses(
            values.exempt, "", "*.example.com", "..example.com", ".", "**", "example.com:443", "http://a", "a/b"
        )
        self.refuses(values.exempt, "192.0.2.1/24", "192.0.2.0/33", "/24", "192.0.2", "[::1]", "fe80::%eth0/64", "a b")

    def test_local_addresses(self) -> None:
        self.accepts(
            values.local_addresses, {"localhost": ("127.0.0.1", "::1"), "0.0.0.0": ("0.0.0.0",), "::1": ("::1",)}
        )
        self.refuses(values.local_addresses, "localhost.", "example.com", "fe80::1%lo", "127.1", "")

    def test_listen_addresses(self) -> None:
        def read(text: str) -> tuple[str, ...]:
            return values.listen_addresses(parse(text, "f.yaml", []))

        self.assertEqual(read("[localhost, 127.0.0.2]"), ("127.0.0.1", "::1", "127.0.0.2"))
        for text in (
            "[]",
            "[localhost, 127.0.0.1]",
            "['::1', '0:0::1']",
            "localhost",
            "[localhost, [localhost]]",
            "{}",
        ):
            self.assertRaises(ConfigError, read, text)

    def test_is_loopback(self) -> None:
        for text in ("127.0.0.1", "127.9.9.9", "::1"):
            self.assertTrue(values.is_loopback(text))
        for text in ("0.0.0.0", "::", "10.0.0.1", "::2"):
            self.assertFalse(values.is_loopback(text))

    def test_host(self) -> None:
        read = values.host("example.com")
        self.accepts(read, {"a.{site}": "a.example.com", "{site}": "example.com", "A-1.Example.ORG": "a-1.example.org"})
        self.accepts(read, {"intake": "intake", "xn--bcher-kva.example": "xn--bcher-kva.example", "1.2a": "1.2a"})
        longest = ".".join(["a" * 63] * 3 + ["b" * 61])
        self.accepts(read, {longest: longest})
        self.refuses(
            read, longest + "b", "a" * 64, "192.0.2.1", "::1", "a.", ".a", "a..b", "-a", "a-", "a_b", "bücher.example"
        )
        self.refuses(read, "https://a", "a:443", "a/b", "a b", "a\n", "{other}.example", "")

    def test_site(self) -> None:
        self.accepts(values.site, {"us2.DDOG-gov.com": "us2.ddog-gov.com"})
        self.refuses(values.site, "com", "", "*.example.com", "192.0.2.1", "example.com.")

    def test_file_or(self) -> None:
        self.accepts(values.file_or("auto"), {"auto": "auto", "/usr/lib/fips.so": "/usr/lib/fips.so", "/a b": "/a b"})
        self.refuses(
            values.file_or("auto"), "fips.so", "./fips.so", "~/fips.so", "", "/", "/folder/", "/a\nb", "/a\0", "system"
        )

    def test_file(self) -> None:
        self.accepts(values.file, {"/run/secrets/proxy": "/run/secrets/proxy"})
        self.refuses(values.file, "secrets", "./a", "", "/", "/folder/", "/a\nb")

    def test_private(self) -> None:
        read = values.private(values.port, "a port")
        self.assertEqual(read(node("1")), 1)
        error = self.assertRaises(ConfigError, read, node("tweety"))
        self.assertEqual(str(error), "f.yaml:1: key: found something else (not shown); allowed: a port")
        self.assertTrue(error.__suppress_context__)

    def test_date(self) -> None:
        self.accepts(values.date, {"2026-09-21": "2026-09-21", "2028-02-29": "2028-02-29"})
        self.refuses(values.date, "2026-9-21", "20260921", "2026-W01-1", "2026-02-29", "2026-13-01", "soon", "")

    def test_sha256(self) -> None:
        self.accepts(values.sha256, {"0" * 63 + "A": "0" * 63 + "a", "1" * 64: "1" * 64})
        self.refuses(values.sha256, "0" * 63, "0" * 65, "g" * 64, "", "0" * 64 + "\n")

    def test_path_prefix(self) -> None:
        self.accepts(values.path_prefix, {"/": "/", "/api/v2/logs": "/api/v2/logs", "/a%20b": "/a%20b"})
        self.refuses(values.path_prefix, "api", "", "/a?b", "/a#b", "/a b", "/é", "/a\n", "*")

    def test_word(self) -> None:
        self.accepts(values.word, {"a": "a"})
        self.assertRaises(ConfigError, values.word, Node((), "f.yaml", 1, "key"))


class CombinationTests(SynchronousTestCase):
    """Readers of several values."""

    readers = {"port": values.port, "addresses": values.each(values.address)}

    def read(self, text: str, *required: str) -> tuple[dict[str, Any], list[str]]:
        problems: list[Problem] = []
        found = values.settings(parse(text, "f.yaml", []), self.readers, problems, required)
        return found, [str(problem) for problem in problems]

    def test_all_right(self) -> None:
        found, problems = self.read("{port: 1, addresses: [192.0.2.1]}", "port")
        self.assertEqual(found, {"port": 1, "addresses": ("192.0.2.1",)})
        self.assertEqual(problems, [])

    def test_every_problem(self) -> None:
        found, problems = self.read("prt: 1\naddresses: [x, 192.0.2.1, y]\nsite: a\n", "port")
        self.assertEqual(found, {})
        self.assertEqual(len(problems), 5)
        self.assertEqual(problems[0], "f.yaml:1: missing: port")
        self.assertEqual(problems[1], "f.yaml:1: prt: unknown key (did you mean 'port'?); allowed: port, addresses")
        self.assertIn("f.yaml:2: addresses[0]: found 'x'", problems[2])
        self.assertIn("f.yaml:2: addresses[2]: found 'y'", problems[3])
        self.assertEqual(problems[4], "f.yaml:3: site: unknown key; allowed: port, addresses")

    def test_nothing_is_not_written(self) -> None:
        self.assertEqual(self.read("{port: , addresses: null}"), ({}, []))
        self.assertEqual(self.read("{port: }", "port")[1], ["f.yaml:1: missing: port"])

    def test_not_a_mapping(self) -> None:
        self.assertEqual(self.read("[1]", "port")[1], ["f.yaml:1: found a list; allowed: a mapping (KEY: VALUE)"])

    def test_record(self) -> None:
        read: Callable[[Node], dict[str, Any]] = values.record(dict, self.readers, required=["port"])
        self.assertEqual(read(parse("{port: 1}", "f.yaml", [])), {"port": 1})
        error = self.assertRaises(ConfigError, read, parse("{addresses: [x], prt: 1}", "f.yaml", []))
        self.assertEqual([problem.path for problem in error.problems], ["", "addresses[0]", "prt"])

    def test_mapping(self) -> None:
        read = parse("{a: 1}", "f.yaml", [])
        self.assertIs(values.mapping(read), read)
        self.assertRaises(ConfigError, values.mapping, parse("[1]", "f.yaml", []))
