"""Run every test and say how many passed: the last line is ``N passed, N failed``.

A skipped test counts as failed: what the suite needs is installed, never left out.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path
from typing import Any

from twisted.trial._dist.disttrial import DistTrialRunner
from twisted.trial.reporter import VerboseTextReporter
from twisted.trial.runner import TestLoader

# Most of the suite waits for programs that it has started. (What ``trial -j`` is made of has no public name.)
WORKERS = 2


class _Reporter(VerboseTextReporter):
    """Trial's list of results, with plain sums."""

    def failed(self) -> int:
        """Everything that is not a plain success or a failure that was expected."""
        kinds: tuple[Any, ...] = (self.failures, self.errors, self.unexpectedSuccesses, self.skips)
        return sum(map(len, kinds))


def main(arguments: list[str]) -> int:
    """Run the tests named (``tests.test_payloads``), or all of them."""
    loader: Any = TestLoader()
    suite = loader.loadByNames(arguments or ["tests"], recurse=True)
    with tempfile.TemporaryDirectory(prefix="fipsrelay-trial-") as folder:
        runner: Any = DistTrialRunner(_Reporter, WORKERS, [], workingDirectory=str(Path(folder) / "trial"))
        reporter: _Reporter = runner.run(suite)
    failed = reporter.failed()
    passed = reporter.successes + len(reporter.expectedFailures)
    sys.stderr.flush()
    print(f"{passed} passed, {failed} failed", flush=True)
    return 0 if passed and not failed else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
