"""What the benchmark's report makes of measurements."""

from __future__ import annotations

from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from benchmarks import report
from benchmarks.load import CELLS

TAKEN = {"relay": [30.0, 10.0, 20.0], "one": [15.0, 40.0, 20.0], "two": [60.0, 20.0, 10.0]}


class ReportTests(SynchronousTestCase):
    def found(self) -> dict[str, Any]:
        names = list(TAKEN)
        return {
            "machine": {"processor": "2 × Abacus", "kernel": "6.1", "congestion": "cubic", "date": "2026-11-27"},
            "versions": {"relay": "relay 1", "one": "one 2", "two": "two 3"},
            "rounds": 3,
            "seconds": 2,
            "cells": {"http-1k-32": TAKEN, "tcp-2m-4": TAKEN},
            "latency": {name: [(100, 900), (300, 700), (200, 800)] for name in names},
            "first_answer": {f"{name} {protocol}": [50.0, 70.0] for name in names for protocol in ("http", "tcp")},
            "growth": {"relay http": {"32": [20.0], "1000": [30.0]}, "relay tcp": {"32": [20.0], "1000": [50.0]}},
            "idle": {
                "connection": {"http": 10240, "tcp": 40960},
                "left": {"http": 512, "tcp": 2048},
                "memory": 40_000_000,
                "core": 0.0012,
            },
            "start": [0.5, 0.7, 0.6],
        }

    def test_ratio_to_the_best_of_each_round(self) -> None:
        """Not to the best of all rounds: the machine may have been another one by then."""
        self.assertEqual(report.ratios(TAKEN, ["one", "two"]), [2.0, 0.5, 2.0])
        self.assertEqual(report.ratios(TAKEN, ["one"]), [2.0, 0.25, 1.0])

    def test_spread(self) -> None:
        self.assertEqual(report.spread([3.0, 1.0, 2.25]), "2.2 (1.0-3.0)")

    def test_gigabytes(self) -> None:
        cell = CELLS["http-2m-4"]
        self.assertEqual(report.seconds_per_gigabyte(cell, [float(cell.size)]), [1000.0])

    def test_lines(self) -> None:
        lines = list(report.cell_lines(CELLS["tcp-2m-4"], TAKEN))
        self.assertIn("s/GB", lines[1])
        self.assertTrue(lines[-1].endswith("2.00 (0.50-2.00)"), lines[-1])
        self.assertNotIn("s/GB", "".join(report.cell_lines(CELLS["tcp-1k-1"], TAKEN)))

    def test_markdown(self) -> None:
        text = report.markdown(self.found())
        for part in (
            "2026-11-27, 2 × Abacus, Linux 6.1, cubic; relay 1; one 2; two 3. Medians (and ranges) of 3 rounds of 2 s.",
            "| | relay | one | two | relay / best |",
            "| http-1k-32 | 20.0 (10.0-30.0) | 20.0 (15.0-40.0) | 20.0 (10.0-60.0) | **2.00 (0.50-2.00)** |",
            "| p99, µs | 800 (700-900) |",
            "| relay http | 20.0 (20.0-20.0), 1.00 | 30.0 (30.0-30.0), 1.50 |",
            "| relay tcp | 20.0 (20.0-20.0), 1.00 | 50.0 (50.0-50.0), 2.50 |",
            "10.0 KB at http and 40.0 KB at tcp intakes",
            "0.5 KB and 2.0 KB of that",
            "40.0 MB resident, 0.12% of a core",
            "0.60 (0.50-0.70) s",
        ):
            self.assertIn(part, text)

    def test_what_is_written_by_hand_stays(self) -> None:
        document = f"before\n{report.BEGIN}\nold\n{report.END}\nafter\n"
        self.assertEqual(report.renewed(document, "new"), f"before\n{report.BEGIN}\nnew\n{report.END}\nafter\n")

    def test_document_without_a_place(self) -> None:
        self.assertRaises(ValueError, report.renewed, f"before {report.BEGIN}", "new")


class CellsTests(SynchronousTestCase):
    def test_mix(self) -> None:
        """Half 2 KB, four tenths 100 KB, a tenth 2 MB."""
        self.assertEqual(CELLS["http-mix"].size, (5 * 2048 + 4 * 102400 + 2 * 1024 * 1024) // 10)
