"""The state as plain text."""

# ruff: noqa: E501 - tables are as wide as they are

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from fipsrelay import __version__
from fipsrelay.observe import text
from tests.documents import NASTY, Relay


class TextTests(SynchronousTestCase):
    maxDiff = None

    def test_render(self) -> None:
        document = Relay().document()
        self.assertEqual(
            text.render(document).splitlines(),
            [
                f"fipsrelay {__version__}, ready, up 61 s, process {document['program']['pid']}",
                "module: /fips.so",
                f"sha256: {'ab' * 32}",
                "provider: Provider 3.1.2 (build build), in OpenSSL 3",
                "certificate: #1",
                "warning: Look.",
                f"configuration: {'cd' * 32}",
                "connections: 2 of 4096",
                "",
                "intake   open  connections  bytes in  bytes out  req/s  p50     p99     answers      errors            retries",
                "metrics  2     7            12345     678        0      1.8 ms  3.12 s  202:4 503:1  connect:12 tls:1  connect:2",
                "logs     0     0            0         0          0      -       -       -            -                 -",
                "raw      0     0            1000      0          -      -       -       -            -                 -",
                "",
                "server           address            state        for   outstanding  free  last failure",
                f'up/mothership1   192.0.2.1:443      DOWN         10 s  1            0     Layer4 timeout, info: "{NASTY}"',
                "up/mothership2   [2001:db8::1]:443  UP           50 s  0            1     -",
                "up/mothership3   192.0.2.3:443      not checked  50 s  0            0     -",
                f'too/mothership1  192.0.2.1:443      DOWN         10 s  1            0     Layer4 timeout, info: "{NASTY}"',
                "too/mothership2  [2001:db8::1]:443  UP           50 s  0            1     -",
                "too/mothership3  192.0.2.3:443      not checked  50 s  0            0     -",
                "new              new.example.com    no address   -     -            -     -",
                "new.example.com has not resolved for 30 s",
                "",
                "handshakes by Provider 3.1.2  version  suite  group  count",
                "up.example.com:443            TLSv1.2  AES    P-256  1",
                "up.example.com:443            TLSv1.3  AES    P-256  12",
                "agents of logs                TLSv1.2  AES    P-384  2",
                "",
                "handshakes refused  reason                            count",
                f"up.example.com:443  tls: {NASTY}  3",
            ],
        )

    def test_lost(self) -> None:
        lines = text.render(Relay().document("lost", "FIPS check x failed")).splitlines()
        self.assertIn(", lost, ", lines[0])
        self.assertEqual(lines[1], "LOST: FIPS check x failed")

    def test_duration(self) -> None:
        for seconds, words in (
            (None, "-"),
            (0.00085, "850 us"),
            (0.00123, "1.23 ms"),
            (0.5, "500 ms"),
            (12.345, "12.3 s"),
        ):
            self.assertEqual(text.duration(seconds), words)
