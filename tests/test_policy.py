"""Each rule about a finished handshake, broken alone."""

from __future__ import annotations

from typing import Any

import attrs
from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from fipsrelay.config.model import Tls
from fipsrelay.crypto import policy

LEAF = policy.CertificateFacts("CN=leaf", "P-256", 256, "sha256")
MIDDLE = policy.CertificateFacts("CN=middle", "rsa", 3072, "sha384")
ANCHOR = policy.CertificateFacts("CN=anchor", "rsa", 2048, "sha1")
GOOD = policy.HandshakeFacts("TLSv1.3", "TLS_AES_256_GCM_SHA384", "P-256", False, (LEAF, MIDDLE, ANCHOR))
GOOD_12 = attrs.evolve(GOOD, version="TLSv1.2", suite="ECDHE-RSA-AES128-GCM-SHA256", extended_master_secret=True)


def partly(*good: Any, **respects: st.SearchStrategy[object]) -> st.SearchStrategy[Any]:
    """Good ones with some respects drawn anew: of those that are drawn whole hardly any would pass."""
    drawn = st.tuples(st.sampled_from(good), st.fixed_dictionaries({}, optional=respects))
    return drawn.map(lambda pair: attrs.evolve(pair[0], **pair[1]))


certificates = partly(
    LEAF,
    MIDDLE,
    key=st.sampled_from(["rsa", *policy.GROUPS, "secp256k1", "ed25519"]),
    key_bits=st.sampled_from([256, 1024, 2047, 2048, 4096]),
    signature_hash=st.sampled_from([None, "md5", "sha1", "sha224", *sorted(policy.CERTIFICATE_HASHES)]),
)
handshakes = partly(
    GOOD,
    GOOD_12,
    version=st.sampled_from(["SSLv3", "TLSv1.1", *policy.VERSIONS]),
    suite=st.sampled_from(["", "TLS_CHACHA20_POLY1305_SHA256", *policy.TLS12_SUITES, *policy.TLS13_SUITES]),
    group=st.sampled_from([None, "x25519", "X25519MLKEM768", *policy.GROUPS]),
    extended_master_secret=st.booleans(),
    chain=st.lists(certificates, max_size=3).map(tuple),
)


class DemandedTests(SynchronousTestCase):
    """``policy.demanded``."""

    def test_default(self) -> None:
        self.assertEqual(policy.demanded(Tls()), policy.SP800_52)
        self.assertEqual(policy.SP800_52.hybrid_groups, ())

    def test_only_1_3(self) -> None:
        found = policy.demanded(Tls(minimum_version="1.3", profile="cnsa"))
        self.assertEqual((found.versions, found.suites), (("TLSv1.3",), ("TLS_AES_256_GCM_SHA384",)))

    def test_hybrid_groups(self) -> None:
        """Preferred, and only with curves that the profile allows."""
        found = policy.demanded(Tls(hybrid_groups=True))
        self.assertEqual(found.groups, ("SecP256r1MLKEM768", "SecP384r1MLKEM1024", *policy.GROUPS))
        self.assertEqual(found.hybrid_groups, ("SecP256r1MLKEM768", "SecP384r1MLKEM1024"))
        cnsa = policy.demanded(Tls(hybrid_groups=True, profile="cnsa"))
        self.assertEqual(cnsa.groups, ("SecP384r1MLKEM1024", "P-384"))
        facts = attrs.evolve(GOOD, group="SecP256r1MLKEM768")
        self.assertEqual(policy.judge(facts, found), ())
        self.assertEqual(policy.judge(facts), ("group SecP256r1MLKEM768 is not approved",))


class JudgeTests(SynchronousTestCase):
    """``policy.judge``."""

    def assert_broken(self, facts: policy.HandshakeFacts, *rules: str) -> None:
        self.assertEqual(policy.judge(facts), rules)

    def chain(self, leaf: policy.CertificateFacts) -> policy.HandshakeFacts:
        return attrs.evolve(GOOD, chain=(leaf, ANCHOR))

    def test_good(self) -> None:
        self.assert_broken(GOOD)
        self.assert_broken(GOOD_12)

    def test_everything_allowed(self) -> None:
        for group in policy.GROUPS:
            for suite in policy.TLS12_SUITES:
                self.assert_broken(attrs.evolve(GOOD_12, suite=suite, group=group))
            for suite in policy.TLS13_SUITES:
                self.assert_broken(attrs.evolve(GOOD, suite=suite, group=group))

    def test_version(self) -> None:
        old = attrs.evolve(GOOD_12, version="TLSv1.1")
        self.assert_broken(old, "version TLSv1.1 is not allowed")
        only_13 = policy.demanded(Tls(minimum_version="1.3"))
        self.assertEqual(policy.judge(GOOD_12, only_13), ("version TLSv1.2 is not allowed",))
        self.assertEqual(policy.judge(GOOD, only_13), ())

    def test_suite(self) -> None:
        for facts, suite in (
            (GOOD, "TLS_CHACHA20_POLY1305_SHA256"),
            (GOOD_12, "ECDHE-RSA-CHACHA20-POLY1305"),
            (GOOD_12, "ECDHE-RSA-AES128-SHA256"),
            (GOOD_12, "AES128-GCM-SHA256"),
            # Of the other version.
            (GOOD_12, "TLS_AES_128_GCM_SHA256"),
            (GOOD, "ECDHE-RSA-AES128-GCM-SHA256"),
        ):
            self.assert_broken(attrs.evolve(facts, suite=suite), f"suite {suite} is not approved")

    def test_group(self) -> None:
        for group in ("x25519", "X25519MLKEM768", "SecP256r1MLKEM768", "secp256k1", "brainpoolP256r1", "ffdhe2048"):
            self.assert_broken(attrs.evolve(GOOD, group=group), f"group {group} is not approved")
        self.assert_broken(attrs.evolve(GOOD, group=None), "group unknown is not approved")

    def test_extended_master_secret(self) -> None:
        facts = attrs.evolve(GOOD_12, extended_master_secret=False)
        self.assert_broken(facts, "TLS 1.2 without extended master secret (RFC 7627)")

    def test_no_chain(self) -> None:
        self.assert_broken(attrs.evolve(GOOD, chain=()), "no verified certificate chain")

    def test_rsa_size(self) -> None:
        leaf = attrs.evolve(LEAF, key="rsa", key_bits=2047)
        self.assert_broken(self.chain(leaf), "certificate CN=leaf has an RSA key of 2047 bits")
        self.assert_broken(self.chain(attrs.evolve(leaf, key_bits=2048)))

    def test_other_keys(self) -> None:
        """A curve is known by its name: there are others of 256 bits."""
        for key, bits in (("ed25519", 0), ("dsa", 2048), ("secp256k1", 256), ("brainpoolP256r1", 256)):
            leaf = attrs.evolve(LEAF, key=key, key_bits=bits)
            self.assert_broken(self.chain(leaf), f"certificate CN=leaf has a {key} key")

    def test_signature_hash(self) -> None:
        for name in ("md5", "sha1", "sha224", None):
            leaf = attrs.evolve(LEAF, signature_hash=name)
            self.assert_broken(self.chain(leaf), f"certificate CN=leaf is signed with {name}")

    def test_only_the_anchors_own_signature_proves_nothing(self) -> None:
        middle = attrs.evolve(MIDDLE, signature_hash="sha1")
        facts = attrs.evolve(GOOD, chain=(LEAF, middle, ANCHOR))
        self.assert_broken(facts, "certificate CN=middle is signed with sha1")

    def test_the_anchors_key_counts(self) -> None:
        anchor = attrs.evolve(ANCHOR, key_bits=1024)
        facts = attrs.evolve(GOOD, chain=(LEAF, anchor))
        self.assert_broken(facts, "certificate CN=anchor has an RSA key of 1024 bits")

    def test_every_broken_rule_is_named(self) -> None:
        leaf = policy.CertificateFacts("CN=leaf", "rsa", 1024, "sha1")
        facts = policy.HandshakeFacts("TLSv1.2", "AES128-SHA", "x25519", False, (leaf, ANCHOR))
        self.assertEqual(len(policy.judge(facts)), 5)

    def test_pins(self) -> None:
        """One key of the chain is enough, whichever it is."""
        chain = [attrs.evolve(LEAF, key_sha256="aa"), attrs.evolve(ANCHOR, key_sha256="bb")]
        for pins in ((), ("aa",), ("bb",), ("cc", "aa")):
            self.assertIsNone(policy.judge_pins(chain, frozenset(pins)))
        wrong = policy.judge_pins(chain, frozenset({"cc"}))
        self.assertEqual(wrong, "no pinned key in the chain, which has aa, bb")
        self.assertIsNotNone(policy.judge_pins([], frozenset({""})))

    def test_cnsa(self) -> None:
        """AES-256, P-384, SHA-384 and RSA keys of 3072 bits only."""
        leaf = attrs.evolve(LEAF, key="P-384", key_bits=384, signature_hash="sha384")
        anchor = attrs.evolve(ANCHOR, key_bits=3072)
        good = attrs.evolve(GOOD, group="P-384", chain=(leaf, anchor))
        self.assertEqual(policy.judge(good, policy.CNSA), ())
        for change, words in (
            ({"suite": "TLS_AES_128_GCM_SHA256"}, "suite TLS_AES_128_GCM_SHA256 is not approved"),
            ({"group": "P-256"}, "group P-256 is not approved"),
            ({"group": "P-521"}, "group P-521 is not approved"),
            ({"chain": (LEAF, anchor)}, "certificate CN=leaf has a P-256 key"),
            ({"chain": (leaf, ANCHOR)}, "certificate CN=anchor has an RSA key of 2048 bits"),
            (
                {"chain": (attrs.evolve(leaf, signature_hash="sha256"), anchor)},
                "certificate CN=leaf is signed with sha256",
            ),
        ):
            broken = policy.judge(attrs.evolve(good, **change), policy.CNSA)
            self.assertIn(words, broken)
            self.assertNotIn(words, policy.judge(attrs.evolve(good, **change)))

    @settings(max_examples=300)
    @given(handshakes)
    def test_what_passes_is_allowed_in_every_respect(self, facts: policy.HandshakeFacts) -> None:
        if policy.judge(facts):
            return
        suites = {"TLSv1.2": policy.TLS12_SUITES, "TLSv1.3": policy.TLS13_SUITES}
        self.assertIn(facts.suite, suites[facts.version])
        self.assertIn(facts.group, policy.GROUPS)
        self.assertTrue(facts.extended_master_secret or facts.version == "TLSv1.3")
        self.assertTrue(facts.chain)
        for certificate in facts.chain:
            rsa = certificate.key == "rsa" and certificate.key_bits >= 2048
            self.assertTrue(rsa or certificate.key in policy.GROUPS)
        for certificate in facts.chain[:-1]:
            self.assertIn(certificate.signature_hash, policy.CERTIFICATE_HASHES)
