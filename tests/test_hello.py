"""What the first bytes of a connection tell of TLS."""

from __future__ import annotations

import ssl

from twisted.trial.unittest import SynchronousTestCase

from fipsrelay.relay.hello import HANDSHAKE, is_hello


class HelloTests(SynchronousTestCase):
    def test_of_a_real_client(self) -> None:
        for version in (ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3):
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
            context.maximum_version = version
            outgoing = ssl.MemoryBIO()
            client = context.wrap_bio(ssl.MemoryBIO(), outgoing, server_hostname="localhost")
            self.assertRaises(ssl.SSLWantReadError, client.do_handshake)
            hello = outgoing.read()
            self.assertTrue(is_hello(memoryview(hello)))
            self.assertEqual(hello[0], HANDSHAKE)

    def test_of_others(self) -> None:
        for data in (
            b"",
            b"\x16\x03\x01\x02\x00",
            b"\x17\x03\x03\x00\x10\x01\x00",  # a record of data
            b"\x16\x03\x03\x00\x10\x02\x00",  # a ServerHello
            b"\x16\x02\x01\x02\x00\x01\x00",
            b"POST / HTTP/1.1\r\n",
        ):
            self.assertFalse(is_hello(memoryview(data)), data)
