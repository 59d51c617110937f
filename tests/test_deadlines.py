"""Deadlines: one sweep for all."""

from __future__ import annotations

from collections.abc import Callable

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from fipsrelay.wire.deadlines import NEVER, Deadlines


class Watched:
    """Writes down what its deadline is whenever it is late."""

    def __init__(self, deadline: float, react: Callable[[], object] = lambda: None) -> None:
        self.deadline = deadline
        self.late: list[float] = []
        self._react = react

    def expired(self) -> None:
        self.late.append(self.deadline)
        self._react()


class DeadlineTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.clock = Clock()
        self.deadlines = Deadlines(self.clock, 0.5)
        self.deadlines.start()

    def watch(self, deadline: float, react: Callable[[], object] = lambda: None) -> Watched:
        watched = Watched(deadline, react)
        self.deadlines.watch(watched)
        return watched

    def test_at_the_next_sweep_and_once(self) -> None:
        """The deadline has been taken away before the call, which may set another."""
        early, late, never = self.watch(1.2), self.watch(5), self.watch(NEVER)
        self.clock.pump([0.5, 0.5])
        self.assertEqual(early.late, [])
        self.clock.pump([0.5] * 4)
        self.assertEqual((early.late, late.late, never.late), ([NEVER], [], []))
        early.deadline = 4
        self.clock.pump([0.5] * 20)
        self.assertEqual((early.late, late.late, never.late), ([NEVER, NEVER], [NEVER], []))

    def test_moved(self) -> None:
        """Whoever is alive moves its deadline; that costs nothing."""
        watched = self.watch(1)
        for _ in range(20):
            self.clock.advance(0.5)
            watched.deadline = self.deadlines.now() + 1
        self.assertEqual(watched.late, [])

    def test_moved_by_another(self) -> None:
        """Two that are late in the same sweep: the first may end the other."""
        both: list[Watched] = []

        def end_others() -> None:
            for each in both:
                each.deadline = NEVER

        both += [self.watch(1, end_others), self.watch(1, end_others)]
        self.clock.pump([0.5] * 4)
        self.assertEqual(sum(len(each.late) for each in both), 1)

    def test_forgotten(self) -> None:
        watched = self.watch(1)
        self.deadlines.forget(watched)
        self.deadlines.forget(watched)
        self.clock.pump([0.5] * 4)
        self.assertEqual(watched.late, [])

    def test_watching_and_forgetting_during_a_sweep(self) -> None:
        later: list[Watched] = []

        def forget_and_watch() -> None:
            self.deadlines.forget(first)
            later.append(self.watch(2))

        first = self.watch(1, forget_and_watch)
        self.clock.pump([0.5] * 6)
        self.assertEqual((len(first.late), len(later[0].late)), (1, 1))

    def test_a_failure_stops_nothing(self) -> None:
        """It is logged, and everybody else is still watched: in this sweep and in the next."""
        failing = self.watch(1, lambda: 1 // 0)
        same, next_one = self.watch(1), self.watch(2)
        self.clock.pump([0.5] * 6)
        self.assertEqual((len(failing.late), len(same.late), len(next_one.late)), (1, 1, 1))
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)

    def test_stopped(self) -> None:
        watched = self.watch(1)
        self.deadlines.stop()
        self.deadlines.stop()
        self.clock.pump([0.5] * 4)
        self.assertEqual((watched.late, self.clock.getDelayedCalls()), ([], []))
