"""Health: what takes a server down and what brings it up again."""

from __future__ import annotations

from itertools import combinations, pairwise

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from fipsrelay.upstream.health import Health

# When a try began and when it failed, in the order of the latter.
tries = st.lists(st.tuples(st.integers(0, 12), st.integers(0, 5)), max_size=8).map(
    lambda drawn: sorted(((began, began + took) for began, took in drawn), key=lambda each: each[1])
)


class HealthTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.now = 100.0
        self.health = Health(3, 1, self.now)

    def passed(self) -> bool:
        self.now += 1
        return self.health.passed(self.now)

    def failed(self, reason: str = "why") -> bool:
        """A try that ended at once."""
        self.now += 1
        return self.health.failed(self.now, reason, self.now)

    def take_down(self) -> None:
        self.assertEqual([self.failed() for _ in range(self.health.fall)][-1], True)

    def test_unknown_is_up(self) -> None:
        health = self.health
        self.assertEqual(
            (health.up, health.since, health.checked, health.failures, health.reason), (True, 100, None, 0, "")
        )

    def test_fall(self) -> None:
        """In a row; it is told once, and counting goes on."""
        self.assertEqual([self.failed() for _ in range(5)], [False, False, True, False, False])
        self.assertEqual((self.health.up, self.health.failures), (False, 5))

    def test_a_success_between_failures(self) -> None:
        self.failed()
        self.failed()
        self.assertFalse(self.passed())
        self.assertEqual(self.health.failures, 0)
        self.assertEqual([self.failed() for _ in range(3)], [False, False, True])

    def test_rise(self) -> None:
        """In a row, and successes before it went down do not count."""
        self.health.rise = 3
        for _ in range(5):
            self.assertFalse(self.passed())
        self.take_down()
        self.assertEqual([self.passed(), self.passed(), self.failed()], [False] * 3)
        self.assertEqual([self.passed() for _ in range(4)], [False, False, True, False])
        self.assertTrue(self.health.up)

    def test_one_is_enough(self) -> None:
        self.health.fall = 1
        self.assertEqual([self.failed(), self.passed(), self.failed(), self.passed()], [True] * 4)

    def test_what_is_remembered(self) -> None:
        """The reason of the last failure, when something was last heard, and when the state began."""
        self.failed("one")
        self.failed("two")
        self.assertEqual((self.health.reason, self.health.checked, self.health.since), ("two", 102, 100))
        self.failed("three")
        self.failed("four")
        self.assertEqual((self.health.reason, self.health.checked, self.health.since), ("four", 104, 103))
        self.passed()
        self.passed()
        self.assertEqual((self.health.reason, self.health.checked, self.health.since), ("", 106, 105))


class SideBySideTests(SynchronousTestCase):
    """Tries that overlap, or follow each other within a second, are one piece of evidence."""

    def test_burst(self) -> None:
        """All that a restart refuses counts once; it is remembered, though."""
        health = Health(3, 1, 0)
        for number in range(20):
            self.assertFalse(health.failed(10 + number / 100, str(number), 10 + number / 100))
        self.assertEqual((health.up, health.failures, health.reason, health.checked), (True, 1, "19", 10.19))

    def test_burst_while_down(self) -> None:
        """It does not make the server look worse than others that are down."""
        health = Health(1, 1, 0)
        for _ in range(20):
            health.failed(10, "why", 9)
        self.assertEqual((health.up, health.failures), (False, 1))

    def test_burst_ends_a_row_of_successes(self) -> None:
        health = Health(1, 2, 0)
        health.failed(10, "why", 9)
        self.assertFalse(health.passed(11))
        health.failed(12, "why", 9)
        self.assertEqual(health.failures, 0)
        self.assertFalse(health.passed(13))
        self.assertTrue(health.passed(14))

    def test_a_steady_stream(self) -> None:
        """Ten tries a second, each of which takes five seconds: there is no gap in them, and it must go down."""
        health = Health(3, 1, 0)
        turns = [tenth / 10 for tenth in range(50, 200) if health.failed(tenth / 10, "why", (tenth - 50) / 10)]
        self.assertEqual(turns, [17])

    @settings(max_examples=300, deadline=None)
    @given(tries)
    def test_as_many_as_were_apart(self, drawn: list[tuple[int, int]]) -> None:
        """Failures in a row are the most tries of which no two belong together, however they are chosen."""
        health = Health(4, 1, 0)
        turns = [health.failed(known, "why", began) for began, known in drawn]
        most = next(count for count in range(len(drawn), -1, -1) if any(map(_apart, combinations(drawn, count))))
        self.assertEqual((health.failures, health.up, sum(turns)), (most, most < 4, int(most >= 4)))

    @settings(max_examples=300, deadline=None)
    @given(st.integers(1, 3), st.integers(1, 3), st.lists(st.none() | st.integers(0, 3), max_size=30))
    def test_any_order(self, fall: int, rise: int, heard: list[int | None]) -> None:
        """It turns exactly when it says so, and never with fewer in a row than it takes.

        Args:
            fall, rise: of the server.
            heard: None is a success, a number a failure after so many seconds.
        """
        health = Health(fall, rise, 0)
        passed = failed = 0
        for now, took in enumerate(heard, 1):
            up = health.up
            if took is None:
                turned = health.passed(now)
                passed, failed = passed + 1, 0
            else:
                turned = health.failed(now, "why", now - took)
                passed, failed = 0, failed + 1
            self.assertEqual(turned, up != health.up)
            self.assertEqual(health.checked, now)
            self.assertLessEqual(health.failures, failed)
            if turned:
                self.assertEqual(health.since, now)
                self.assertGreaterEqual(passed if health.up else failed, rise if health.up else fall)


def _apart(chosen: tuple[tuple[int, int], ...]) -> bool:
    """Whether each began a second after the one before had failed."""
    return all(first[1] + 1 <= second[0] for first, second in pairwise(chosen))
