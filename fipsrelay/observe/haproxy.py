"""The document of ``status`` as HAProxy's CSV, for checks that are made for HAProxy. Pure.

Columns are those of HAProxy's management guide, §9.1, with its names and in its order, as far as anything is known for
one of them; what is not known is left empty, as HAProxy does.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator, Mapping
from typing import Any

Document = Mapping[str, Any]
COLUMNS = (
    *("pxname", "svname", "qcur", "qmax", "scur", "smax", "slim", "stot", "bin", "bout", "dreq", "dresp", "ereq"),
    *("econ", "eresp", "wretr", "wredis", "status", "weight", "act", "bck", "chkfail", "chkdown", "lastchg"),
    *("downtime", "qlimit", "pid", "iid", "sid", "throttle", "lbtot", "tracked", "type", "rate", "rate_lim"),
    *("rate_max", "check_status", "check_code", "check_duration", "hrsp_1xx", "hrsp_2xx", "hrsp_3xx", "hrsp_4xx"),
    *("hrsp_5xx", "hrsp_other", "hanafail", "req_rate", "req_rate_max", "req_tot", "cli_abrt", "srv_abrt"),
    *("comp_in", "comp_out", "comp_byp", "comp_rsp", "lastsess", "last_chk", "last_agt", "qtime", "ctime", "rtime"),
    *("ttime", "agent_status", "agent_code", "agent_duration", "check_desc", "agent_desc", "check_rise"),
    *("check_fall", "check_health", "agent_rise", "agent_fall", "agent_health", "addr", "cookie", "mode"),
)
_FRONTEND, _BACKEND, _SERVER = 0, 1, 2  # of the column type
_CHECKS = {
    "Layer4 timeout": "L4TOUT",
    "Layer4 connection problem": "L4CON",
    "Layer6 timeout": "L6TOUT",
    "Layer6 invalid response": "L6RSP",
}


def render(document: Document) -> str:
    """The text, with the mark and the comma by which HAProxy's readers know it."""
    output = io.StringIO()
    output.write(f"# {','.join(COLUMNS)},\n")
    writer = csv.DictWriter(output, (*COLUMNS, ""), restval="", lineterminator="\n")
    for number, row in enumerate(_frontends(document), 1):
        writer.writerow({**row, "pid": 1, "iid": number})
    for number, rows in enumerate(_backends(document), 1 + len(document["intakes"])):
        for place, row in enumerate(rows, 1):
            last = row["type"] == _BACKEND
            writer.writerow({**row, "pid": 1, "iid": number, "sid": 0 if last else place})
    return output.getvalue()


def _frontends(document: Document) -> Iterator[dict[str, Any]]:
    for intake in document["intakes"]:
        row = {
            "pxname": intake["name"],
            "svname": "FRONTEND",
            "scur": intake["open_connections"],
            "slim": document["connections"]["limit"],
            "stot": intake["connections"],
            "bin": intake["bytes_in"],
            "bout": intake["bytes_out"],
            "status": "STOP" if document["state"] == "draining" else "OPEN",
            "sid": 0,
            "type": _FRONTEND,
            "mode": intake["protocol"],
        }
        if intake["protocol"] == "http":
            answers = {int(status): count for status, count in intake["answers"].items()}
            for first in range(1, 6):
                row[f"hrsp_{first}xx"] = sum(n for status, n in answers.items() if status // 100 == first)
            row["hrsp_other"] = 0
            row["req_rate"] = round(intake["rates"]["requests"])
            row["req_tot"] = sum(answers.values())
        yield row


def _backends(document: Document) -> Iterator[list[dict[str, Any]]]:
    for destination in document["destinations"]:
        servers = destination["servers"]
        usable = [server for server in servers if server["state"] != "DOWN"]
        for upstream in destination["upstreams"]:
            summary = {
                "pxname": upstream,
                "svname": "BACKEND",
                "scur": sum(server["outstanding"] for server in servers),
                "status": "UP" if usable else "DOWN",
                "weight": len(usable),
                "act": len(usable),
                "bck": 0,
                "type": _BACKEND,
            }
            yield [*(_server(upstream, server) for server in servers), summary]


def _server(upstream: str, server: Document) -> dict[str, Any]:
    failure = server["failure"] or ""
    row = {
        "pxname": upstream,
        "svname": server["name"],
        "scur": server["outstanding"],
        "status": "no check" if server["state"] == "not checked" else server["state"],
        "weight": 1,
        "act": 1,
        "bck": 0,
        "lastchg": int(server["seconds"]),
        "type": _SERVER,
        "addr": server["address"],
        "last_chk": failure.replace("\n", " "),
    }
    if server["state"] != "not checked":
        words = failure.partition(",")[0]
        row["check_status"] = _CHECKS.get(words, "UNK") if failure else "L6OK"
        row["check_desc"] = words or "Layer6 check passed"
    return row
