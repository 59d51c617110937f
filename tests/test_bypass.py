"""Tests of ``fipsrelay.config.bypass``."""

from __future__ import annotations

from ipaddress import IPv4Network, IPv6Network, ip_address

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from fipsrelay.config.bypass import bypasses

_LABELS = st.sampled_from(["a", "b", "ab", "example", "com", "10"])
_NAMES = st.lists(_LABELS, min_size=1, max_size=4).map(lambda labels: ".".join([*labels, "com"]))
_NETWORKS = st.sampled_from(["192.0.2.0/24", "192.0.2.7", "10.0.0.0/8", "2001:db8::/32", "2001:db8::1", "0.0.0.0/0"])
_ADDRESSES = st.sampled_from(
    ["192.0.2.7", "192.0.2.8", "10.1.1.1", "198.51.100.1", "2001:db8::1", "2001:db9::1", "::1"]
)
HOST = "intake.example.com"


class BypassTests(SynchronousTestCase):
    def test_nothing(self) -> None:
        self.assertFalse(bypasses((), HOST, ()))
        self.assertFalse(bypasses((), HOST, ("192.0.2.1",)))

    def test_everything(self) -> None:
        self.assertTrue(bypasses(("192.0.2.1", "*"), HOST, ()))

    def test_names(self) -> None:
        for entry in (HOST, f".{HOST}", "example.com", ".example.com", "com"):
            self.assertTrue(bypasses(("other.example", entry), HOST, ()), entry)
        for entry in ("ample.com", ".ample.com", f"a.{HOST}", "intake", "example", "intake.example"):
            self.assertFalse(bypasses((entry,), HOST, ()), entry)

    def test_addresses(self) -> None:
        """All of them must lie inside, be it in different entries; what DNS gives does not count."""
        entries = ("192.0.2.0/24", "198.51.100.1", "2001:db8::/32")
        for addresses in (["192.0.2.255"], ["198.51.100.1"], ["192.0.2.1", "198.51.100.1", "2001:db8::5"]):
            self.assertTrue(bypasses(entries, HOST, tuple(addresses)), addresses)
        for addresses in ([], ["192.0.3.0"], ["198.51.100.2"], ["192.0.2.1", "2001:db9::"], ["::ffff:192.0.2.1"]):
            self.assertFalse(bypasses(entries, HOST, tuple(addresses)), addresses)

    def test_a_name_counts_whatever_the_addresses(self) -> None:
        self.assertTrue(bypasses(("example.com", "10.0.0.0/8"), HOST, ("192.0.2.1",)))

    @settings(derandomize=True, database=None, deadline=None)
    @given(st.lists(_NAMES | _NAMES.map(".{}".format)), _NAMES)
    def test_any_names(self, entries: list[str], host: str) -> None:
        """The labels of an entry are the last ones of the host."""
        labels = host.split(".")
        wanted = [entry.removeprefix(".").split(".") for entry in entries]
        self.assertEqual(bypasses(tuple(entries), host, ()), any(labels[-len(each) :] == each for each in wanted))

    @settings(derandomize=True, database=None, deadline=None)
    @given(st.lists(_NETWORKS), st.lists(_ADDRESSES))
    def test_any_addresses(self, entries: list[str], addresses: list[str]) -> None:
        """Bit by bit."""
        inside = [any(_covers(entry, address) for entry in entries) for address in addresses]
        self.assertEqual(bypasses(tuple(entries), HOST, tuple(addresses)), inside != [] and all(inside))


def _covers(entry: str, address: str) -> bool:
    network = IPv6Network(entry) if ":" in entry else IPv4Network(entry)
    other = ip_address(address)
    shift = network.max_prefixlen - network.prefixlen
    return network.version == other.version and int(other) >> shift == int(network.network_address) >> shift
