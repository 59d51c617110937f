"""The fuzz targets, from the kept corpus and for a bounded number of inputs; ``python -m tests.fuzz`` goes on."""

from __future__ import annotations

import importlib.util
import os
import shutil
import subprocess
import sys
from collections import Counter
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from tests.fuzz import exchange, framing
from tests.fuzz.guided import CORPUS, command

ATHERIS = importlib.util.find_spec("atheris") is not None
# Between the suite and libFuzzer: a process that is started has its parent's peak of memory for its own, and libFuzzer
# goes by that. A run takes ten seconds; one that does not end is killed, and leaves nothing behind.
_BOUND = ("timeout", "--foreground", "--signal=KILL", "240")
_TAIL = 40  # lines that are shown of a failure
_PLANTED_RUNS = 20_000  # none of the faults takes nearly as many


class Fuzzing(SynchronousTestCase):
    def fuzz(self, target: str, corpus: str, *options: str, only: str = "") -> tuple[int, str]:
        """Run a target on a copy of a corpus, or of one of its inputs; returns its status and what it said."""
        folder = Path(self.mktemp())
        folder.mkdir()
        copy = folder / "corpus"
        copy.mkdir()
        for path in (CORPUS / corpus).iterdir():
            if only in ("", path.name):
                shutil.copy(path, copy)
        done = subprocess.run(
            [*_BOUND, *command(f"tests.fuzz.{target}", "-seed=1", f"-artifact_prefix={folder}/", *options, str(copy))],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            # The same code as here, and the same search every time.
            env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), "PYTHONHASHSEED": "0"},
            check=False,
        )
        return done.returncode, done.stdout.decode("utf-8", "replace")


class TargetTests(Fuzzing):
    def check(self, name: str, runs: int) -> None:
        status, said = self.fuzz(f"{name}.check", name, f"-runs={runs}")
        tail = "\n".join(said.splitlines()[-_TAIL:])
        self.assertEqual(status, 0, tail)
        self.assertIn(f"Done {runs} runs" if ATHERIS else "inputs were checked once", tail)

    def test_framing(self) -> None:
        self.check("framing", 9000)

    def test_exchange(self) -> None:
        self.check("exchange", 4000)


class FaultTests(Fuzzing):
    """What is planted is found, and said."""

    def assert_found(self, fault: str, corpus: str, said: str, *options: str, only: str = "") -> None:
        status, found = self.fuzz(f"planted.{fault}", corpus, f"-runs={_PLANTED_RUNS}", *options, only=only)
        self.assertNotEqual(status, 0)
        self.assertIn(said, found)

    def test_a_second_reading(self) -> None:
        self.assert_found("nominated", "framing", "FailTest: Tuples differ")

    def test_what_no_input_shows_yet(self) -> None:
        """From one plain request: the search finds it. Without Atheris there is no search."""
        self.assert_found("stumbling", "framing", "IndexError", only="chunked" if ATHERIS else "")

    def test_an_endless_loop(self) -> None:
        self.assert_found("endless", "framing", "timeout" if ATHERIS else "Timeout", "-timeout=2")

    def test_an_unbounded_buffer(self) -> None:
        self.assert_found("greedy", "exchange", "AssertionError: kept by the exchange")

    def test_a_hang(self) -> None:
        self.assert_found("patient", "exchange", "AssertionError: a hang")

    def test_an_exception_that_was_caught(self) -> None:
        self.assert_found("faulty", "exchange", "ZeroDivisionError")


class CorpusTests(SynchronousTestCase):
    """The corpus reaches what there is: a search that starts elsewhere may never get there."""

    def test_framing(self) -> None:
        ends = {framing.check(path.read_bytes()) for path in (CORPUS / "framing").iterdir()}
        refusals = {"bad-head", "bad-chunk", "bad-method", "bad-target", "bad-version", "bad-expect", "head-too-large"}
        self.assertEqual(ends, refusals | {None})

    def test_exchange(self) -> None:
        errors: Counter[str] = Counter()
        requests: Counter[int] = Counter()
        for path in (CORPUS / "exchange").iterdir():
            world = exchange.check(path.read_bytes())
            errors += world.port.counters.errors
            requests += world.port.counters.requests
        codes = {
            *("agent-closed", "agent-timeout", "answer-timeout", "body-timeout", "head-timeout", "tls-to-plaintext"),
            *("bad-chunk", "bad-expect", "bad-head", "head-too-large"),
            *("connect-refused", "upstream-closed", "upstream-http"),
        }
        self.assertEqual(codes - set(errors), set())
        self.assertEqual({200, 204, 304, 400, 408, 417, 431, 502, 503, 504} - set(requests), set())
