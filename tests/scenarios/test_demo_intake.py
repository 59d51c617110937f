"""The demo's intake process, asked by a direct TLS client."""

from __future__ import annotations

import contextlib
import hashlib
import http.client
import os
import socket
import ssl
import threading
from concurrent import futures
from pathlib import Path
from queue import SimpleQueue

from twisted.trial.unittest import SynchronousTestCase

from fipsrelay.demo import certificates
from fipsrelay.demo.peer import IntakeProcess

HOSTS = ("api.ddog-gov.com", "flare.ddog-gov.com", "metrics.agent.ddog-gov.com")


class _Connection(http.client.HTTPSConnection):
    """A client whose server name differs from the address it connects to, as with the relay's ``addresses:``."""

    def __init__(self, intake: IntakeProcess, context: ssl.SSLContext, name: str) -> None:
        super().__init__("127.0.0.1", intake.port, timeout=10)
        self._tls, self._name = context, name

    def connect(self) -> None:
        http.client.HTTPConnection.connect(self)
        self.sock = self._tls.wrap_socket(self.sock, server_hostname=self._name)


def shake_hands(port: int, context: ssl.SSLContext, done: SimpleQueue[int], over: threading.Event) -> None:
    """One connection after the other; each that came up is told."""
    while not over.is_set():
        with (
            contextlib.suppress(OSError),
            socket.create_connection(("127.0.0.1", port), 10) as sock,
            context.wrap_socket(sock, server_hostname=HOSTS[0]),
        ):
            done.put(port)


class DemoIntakeTests(SynchronousTestCase):
    def setUp(self) -> None:
        folder = Path(self.mktemp())
        folder.mkdir()
        self.folder = folder

    def start(self, *options: str, paths: certificates.Paths | None = None) -> IntakeProcess:
        self.paths = paths or certificates.write(self.folder, HOSTS)
        intake = IntakeProcess(self.paths, options=options)
        self.addCleanup(intake.stop)
        return intake

    def connect(self, intake: IntakeProcess, name: str = HOSTS[0]) -> http.client.HTTPSConnection:
        context = ssl.create_default_context(cafile=str(self.paths.authority))
        connection = _Connection(intake, context, name)
        self.addCleanup(connection.close)
        return connection

    def test_validate_over_keep_alive_is_recorded_without_its_query(self) -> None:
        intake = self.start()
        connection = self.connect(intake)
        for _ in range(2):
            connection.request("GET", "/api/v1/validate?api_key=secret", headers={"Host": HOSTS[0]})
            response = connection.getresponse()
            self.assertEqual((response.status, response.read()), (200, b'{"valid":true}'))
            self.assertIsNotNone(response.headers["Date"])
        first, second = intake.records()
        self.assertEqual(first, second)
        self.assertEqual(first["path"], "/api/v1/validate")
        self.assertEqual((first["sni"], first["host"], first["tls_version"]), (HOSTS[0], HOSTS[0], "TLSv1.3"))
        self.assertTrue(first["suite"] and first["group"], first)

    def test_chunked_and_sized_bodies_have_the_same_digest(self) -> None:
        intake = self.start()
        connection = self.connect(intake, HOSTS[2])
        body = os.urandom(300_000)
        for sent in (body, iter([body[:1], body[1:70_000], body[70_000:]])):
            connection.request("POST", "/api/v2/series", sent, {"Host": HOSTS[2]}, encode_chunked=sent is not body)
            self.assertEqual((connection.getresponse().read()), b'{"status":"ok"}')
        digest = hashlib.sha256(body).hexdigest()
        found = [(record["length"], record["sha256"]) for record in intake.records()]
        self.assertEqual(found, [(len(body), digest)] * 2)

    def test_head_flare_then_another_request(self) -> None:
        """The HEAD answer has no body, so the connection stays in step."""
        connection = self.connect(self.start(), HOSTS[1])
        connection.request("HEAD", "/support/flare", headers={"Host": HOSTS[1]})
        self.assertEqual((connection.getresponse().read()), b"")
        connection.request("POST", "/support/flare/1?api_key=x", b"zip", {"Host": HOSTS[1]})
        self.assertEqual(connection.getresponse().status, 202)

    def test_wrong_host_gets_404_and_is_recorded(self) -> None:
        intake = self.start()
        connection = self.connect(intake)
        connection.request("POST", "/api/v2/series", b"{}", {"Host": HOSTS[0]})
        self.assertEqual(connection.getresponse().status, 404)
        self.assertEqual([record["status"] for record in intake.records()], [404])

    def test_connection_close_is_obeyed(self) -> None:
        connection = self.connect(self.start())
        connection.request("GET", "/api/v1/validate", headers={"Host": HOSTS[0], "Connection": "close"})
        response = connection.getresponse()
        response.read()
        self.assertTrue(response.will_close)

    def test_tls_1_2_only_with_one_group(self) -> None:
        intake = self.start("--tls", "1.2", "--suites", "ECDHE-ECDSA-AES256-GCM-SHA384", "--groups", "P-384")
        connection = self.connect(intake)
        connection.request("GET", "/api/v1/validate", headers={"Host": HOSTS[0]})
        connection.getresponse().read()
        (record,) = intake.records()
        self.assertEqual(
            (record["tls_version"], record["suite"], record["group"].lower()),
            ("TLSv1.2", "ECDHE-ECDSA-AES256-GCM-SHA384", "secp384r1"),
        )

    def test_broken_certificates_are_refused_by_a_client_that_verifies(self) -> None:
        """What the relay's tests rely on: each of these is wrong in the way its switch says."""
        cases = {
            "expired": certificates.write(self.folder, HOSTS, expired=True, stem="expired"),
            "self-signed": certificates.write(self.folder, HOSTS, self_signed=True, stem="self"),
            "Hostname mismatch": certificates.write(self.folder, ["other.ddog-gov.com"], stem="other"),
        }
        for reason, paths in cases.items():
            connection = self.connect(self.start(paths=paths))
            with self.assertRaises(ssl.SSLCertVerificationError) as caught:
                connection.connect()
            self.assertIn(reason, str(caught.exception))

    def test_sigterm_ends_it_with_status_0(self) -> None:
        intake = IntakeProcess(certificates.write(self.folder, HOSTS))
        self.assertEqual(intake.stop(), 0)

    def test_sigterm_amid_handshakes(self) -> None:
        """Also when it comes to one of the threads of its connections."""
        paths = certificates.write(self.folder, HOSTS)
        context = ssl.create_default_context(cafile=str(paths.authority))
        for _ in range(10):
            intake = self.start(paths=paths)
            done: SimpleQueue[int] = SimpleQueue()
            over = threading.Event()
            with futures.ThreadPoolExecutor() as threads:
                for _ in range(4):
                    threads.submit(shake_hands, intake.port, context, done, over)
                try:
                    for _ in range(20):
                        done.get(timeout=10)
                    self.assertEqual(intake.stop(), 0)
                finally:
                    over.set()

    def test_it_ends_when_its_parent_closes_its_input(self) -> None:
        intake = IntakeProcess(certificates.write(self.folder, HOSTS))
        self.addCleanup(intake.stop)
        self.assertEqual(intake.close_input(), 0)
