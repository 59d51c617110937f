"""What a ClientHello offers: those of real clients, and bytes that are none."""

from __future__ import annotations

import contextlib
import ssl

import attrs
from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from fipsrelay.config.model import Tls
from fipsrelay.crypto.offer import Offer, differences, read
from fipsrelay.crypto.policy import CNSA, SP800_52, demanded

GOOD = Offer(
    versions=(0x0304, 0x0303),
    suites=(0x1302, 0x1301, 0xC02C, 0xC030, 0xC02B, 0xC02F),
    groups=(23, 24, 25),
    signatures=(0x0403, 0x0503, 0x0603, 0x0804, 0x0805, 0x0806, 0x0401, 0x0501, 0x0601),
    compressions=(0,),
    extensions=(10, 13, 43, 51),
)


def hello(version: ssl.TLSVersion = ssl.TLSVersion.TLSv1_3) -> bytes:
    """What Python's own library sends when it may use everything up to a version."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.maximum_version = version
    outgoing = ssl.MemoryBIO()
    client = context.wrap_bio(ssl.MemoryBIO(), outgoing, server_hostname="localhost")
    try:
        client.do_handshake()
    except ssl.SSLWantReadError:
        return outgoing.read()
    raise AssertionError("a handshake alone")


def fragmented(data: bytes, size: int) -> bytes:
    """The same message in records of so many bytes."""
    message = data[5:]
    pieces = [message[at : at + size] for at in range(0, len(message), size)]
    return b"".join(data[:3] + len(piece).to_bytes(2, "big") + piece for piece in pieces)


def record(body: bytes) -> bytes:
    """A ClientHello of this body, in one record."""
    message = b"\1" + len(body).to_bytes(3, "big") + body
    return b"\x16\3\1" + len(message).to_bytes(2, "big") + message


class ReadTests(SynchronousTestCase):
    def test_of_a_real_client(self) -> None:
        offer = read(hello())
        self.assertEqual(offer.versions[:2], (0x0304, 0x0303))
        self.assertIn(0x1303, offer.suites)
        self.assertNotIn(0x00FF, offer.suites)
        self.assertIn(29, offer.groups)
        self.assertIn(0x0403, offer.signatures)
        self.assertEqual(offer.compressions, (0,))
        self.assertIn(0, offer.extensions)
        self.assertIn("0x1303", offer.named()["suites"])
        self.assertIn("P-256", offer.named()["groups"])

    def test_without_the_field_of_versions(self) -> None:
        offer = read(hello(ssl.TLSVersion.TLSv1_2))
        self.assertEqual(offer.versions, (0x0303,))
        self.assertNotIn(0x1301, offer.suites)

    def test_in_several_records(self) -> None:
        data = hello()
        for size in (1, 3, 100, len(data)):
            self.assertEqual(read(fragmented(data, size)), read(data))

    def test_without_extensions(self) -> None:
        """As SSLv3 knew none."""
        body = b"\3\0" + bytes(32) + b"\0" + b"\0\2\0\5" + b"\1\0"
        self.assertEqual(read(record(body)), Offer((0x0300,), (5,), (), (), (0,), ()))

    def test_cut_anywhere(self) -> None:
        data = hello()
        for end in range(len(data)):
            self.assertRaises(ValueError, read, data[:end])

    def test_cut_inside(self) -> None:
        """Where only the inner lengths tell of it; before its extensions it is whole."""
        body = hello()[9:]
        found = []
        for end in range(len(body)):
            with contextlib.suppress(ValueError):
                found.append(read(record(body[:end])).extensions)
        self.assertEqual(found, [()])

    def test_others(self) -> None:
        data = hello()
        for other in (b"POST / HTTP/1.1\r\n", b"\x15\3\1\0\2\2\x28", data + data, data[:5] + b"\2" + data[6:]):
            self.assertRaises(ValueError, read, other)

    @given(st.binary(max_size=80))
    def test_nothing_but_value_errors(self, noise: bytes) -> None:
        with contextlib.suppress(ValueError):
            read(record(noise))


class DifferenceTests(SynchronousTestCase):
    def test_none(self) -> None:
        self.assertEqual(differences(GOOD, SP800_52), ())

    def test_too_much_and_too_little(self) -> None:
        for change, words in (
            ({"versions": (0x0304, 0x0303, 0x0302)}, "versions include 0x0302"),
            ({"versions": (0x0304,)}, "versions lack TLSv1.2"),
            ({"suites": (*GOOD.suites, 0x1303)}, "suites include 0x1303"),
            ({"suites": GOOD.suites[1:]}, "suites lack TLS_AES_256_GCM_SHA384"),
            ({"groups": (29, *GOOD.groups)}, "groups include 0x001D"),
            ({"groups": GOOD.groups[:2]}, "groups lack P-521"),
            ({"signatures": (*GOOD.signatures, 0x0203)}, "signature_algorithms include 0x0203"),
            ({"signatures": GOOD.signatures[1:]}, "signature_algorithms lack ECDSA+SHA256"),
            ({"compressions": (1, 0)}, "compression is offered"),
        ):
            self.assertEqual(differences(attrs.evolve(GOOD, **change), SP800_52), (words,))

    def test_other_policies(self) -> None:
        only_13 = attrs.evolve(GOOD, versions=(0x0304,), suites=GOOD.suites[:2])
        self.assertEqual(differences(only_13, demanded(Tls(minimum_version="1.3"))), ())
        self.assertEqual(len(differences(GOOD, CNSA)), 11)
        hybrid = attrs.evolve(GOOD, groups=(0x11EB, 0x11ED, *GOOD.groups))
        self.assertEqual(differences(hybrid, demanded(Tls(hybrid_groups=True))), ())
