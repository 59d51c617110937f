"""The state as HAProxy's CSV."""

from __future__ import annotations

import csv

from twisted.trial.unittest import SynchronousTestCase

from fipsrelay.observe import haproxy
from tests.documents import NASTY, Relay


class CsvTests(SynchronousTestCase):
    def rows(self, state: str = "ready") -> dict[tuple[str, str], dict[str, str]]:
        """Read as HAProxy's is: by the names of the first line, without its mark."""
        text = haproxy.render(Relay().document(state))
        self.assertTrue(text.startswith("# pxname,svname,"))
        rows = csv.DictReader(text[2:].splitlines())
        return {(row["pxname"], row["svname"]): row for row in rows}

    def assert_row(self, row: dict[str, str], **wanted: str) -> None:
        self.assertEqual({name: row[name] for name in wanted}, wanted)

    def test_intakes(self) -> None:
        rows = self.rows()
        self.assert_row(
            rows["metrics", "FRONTEND"],
            type="0",
            status="OPEN",
            scur="2",
            slim="4096",
            stot="7",
            bin="12345",
            bout="678",
            hrsp_2xx="4",
            hrsp_4xx="0",
            hrsp_5xx="1",
            req_tot="5",
            mode="http",
            qcur="",
        )
        self.assert_row(rows["raw", "FRONTEND"], mode="tcp", bin="1000", req_tot="")
        self.assert_row(self.rows("draining")["raw", "FRONTEND"], status="STOP")

    def test_servers(self) -> None:
        rows = self.rows()
        failure = f'Layer4 timeout, info: "{NASTY}"'
        down = rows["too", "mothership1"]
        self.assert_row(down, type="2", status="DOWN", scur="1", lastchg="10", addr="192.0.2.1:443", last_chk=failure)
        self.assert_row(down, check_status="L4TOUT", check_desc="Layer4 timeout")
        self.assert_row(rows["up", "mothership2"], status="UP", check_status="L6OK", check_desc="Layer6 check passed")
        self.assert_row(rows["up", "mothership3"], status="no check", check_status="")
        self.assert_row(rows["up", "BACKEND"], type="1", status="UP", act="2", scur="1")
        self.assert_row(rows["new", "BACKEND"], status="DOWN", act="0")
        self.assertEqual(len(rows), 3 + 2 * 4 + 1)
        self.assertEqual(len({(row["iid"], row["sid"]) for row in rows.values()}), len(rows))
