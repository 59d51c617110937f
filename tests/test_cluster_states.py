"""Servers of a cluster that go down, come up, move and go: who can be used, and what the log says, word for word."""

from __future__ import annotations

from tests.searches import A6, A, B, C, failure
from tests.test_cluster import Clusters

DOWN = "Server {}/mothership{} is DOWN, reason: {}. {} active and 0 backup servers left."
UP = "Server {}/mothership{} is UP, reason: {}. {} active and 0 backup servers online."
NONE = "backend '{}' has no server available!"
AGAIN = "backend '{}' has a server available again."
MEMBER = "Server {}/mothership{} is {}:443"
DRAINED = (
    "Server {}/mothership{} is going DOWN for maintenance, {}:443 is no longer an address of intake.example. "
    "{} active and 0 backup servers left."
)
PASSED = "Layer6 check passed, check duration: 0ms"
TIMEOUT = "timeout, check duration: 0ms"


class StateTests(Clusters):
    """Who can be used, and what is said of it."""

    def test_down_and_up(self) -> None:
        """Said for each upstream, word for word as HAProxy does."""
        names = ("datadog-api", "datadog-logs")
        self.make(A, B, upstreams=names)
        began = self.attempt_of(A), self.attempt_of(B)
        self.reactor.advance(2)
        lines = self.logged(self.cluster.failed, self.server(B), began[1], failure("Layer4 timeout"))
        reason = "Layer4 timeout, check duration: 2000ms"
        self.assertEqual(lines, [f"warn: {DOWN.format(name, 2, reason, 1)}" for name in names])
        self.assertEqual(self.usable, [A])
        lines = self.logged(self.cluster.failed, self.server(A), began[0], failure("Layer4 timeout"))
        self.assertEqual(
            lines,
            [
                "warn: Server datadog-api/mothership1 is DOWN, reason: Layer4 timeout, check duration: 2000ms. "
                "0 active and 0 backup servers left.",
                "error: backend 'datadog-api' has no server available!",
                "warn: Server datadog-logs/mothership1 is DOWN, reason: Layer4 timeout, check duration: 2000ms. "
                "0 active and 0 backup servers left.",
                "error: backend 'datadog-logs' has no server available!",
            ],
        )
        self.assertEqual(self.usable, [])
        attempt = self.attempt_of(B, 2)
        self.reactor.advance(0.0126)
        lines = self.logged(self.cluster.passed, self.server(B), attempt)
        reason = "Layer6 check passed, check duration: 13ms"
        up = [(UP.format(name, 2, reason, 1), AGAIN.format(name)) for name in names]
        self.assertEqual(lines, [f"info: {line}" for pair in up for line in pair])
        self.assertEqual(self.usable, [B])
        lines = self.logged(self.up, A)
        self.assertEqual(lines, [f"info: {UP.format(name, 1, PASSED, 2)}" for name in names])
        self.assertEqual(self.usable, [A, B])

    def test_what_changes_nothing_is_not_said(self) -> None:
        self.make(A, B, fall=3, rise=2)
        for _ in range(2):
            self.assertEqual(self.logged(self.refuse, A), [])
        self.assertEqual(self.logged(self.up, A), [])
        for _ in range(2):
            self.assertEqual(self.logged(self.refuse, A), [])
        self.assertEqual((self.usable, len(self.logged(self.refuse, A))), ([A, B], 1))
        for _ in range(5):
            self.assertEqual(self.logged(self.refuse, A), [])
        self.assertEqual(self.logged(self.up, A), [])
        self.assertEqual((self.usable, len(self.logged(self.up, A)), self.usable), ([B], 1, [A, B]))

    def refuse(self, address: str, code: str = "timeout") -> None:
        self.reactor.advance(1)  # what fails in the same second is not counted
        self.cluster.failed(self.server(address), self.attempt_of(address, self.reactor.seconds()), failure(code))

    def test_tries_side_by_side(self) -> None:
        """They count once; the next one that began after that takes the server down."""
        self.make(A, fall=2)
        tries = [self.attempt_of(A, began) for began in (0, 1, 2, 6)]
        self.reactor.advance(5)
        for attempt in tries[:3]:
            self.assertEqual(self.logged(self.cluster.failed, self.server(A), attempt, failure("one")), [])
        self.reactor.advance(2.5)
        (line, _) = self.logged(self.cluster.failed, self.server(A), tries[3], failure("two"))
        self.assertEqual(line, f"warn: {DOWN.format('up', 1, 'two, check duration: 1500ms', 0)}")

    def test_fault_of_this_host(self) -> None:
        """No socket to be had says nothing of a server."""
        self.make(A)
        for _ in range(5):
            self.assertEqual(self.logged(self.refuse, A, "local"), [])
        self.assertEqual((self.usable, self.server(A).health.failures, self.server(A).health.checked), ([A], 0, None))

    def test_reason_is_no_format(self) -> None:
        """A certificate may hold anything."""
        self.make(A)
        (line, _) = self.logged(self.refuse, A, '{upstream.__class__} 100% "{}"')
        self.assertIn('reason: {upstream.__class__} 100% "{}", check duration: 0ms.', line)

    def test_down_closes_what_is_free(self) -> None:
        """A request may be lost on a connection to a server that is no longer there."""
        self.make(A, B)
        others, (first, second) = self.free(B), (self.lend(A), self.free(A))
        self.down(A)
        self.assertEqual((first.how, second.how, others.how), (None, "closed", None))
        first.close()

    def test_answer_while_down(self) -> None:
        """The server works, whatever the checks say."""
        self.make(A, B)
        lent = self.lend(A), self.lend(A)
        self.down(A, B)
        lines = self.logged(lent[0].keeper.give_back)
        self.assertEqual(
            lines, [f"info: {UP.format('up', 1, 'a request was answered', 1)}", f"info: {AGAIN.format('up')}"]
        )
        self.assertEqual(self.logged(lent[1].keeper.give_back), [])
        self.assertIs(self.cluster.take(), lent[1])
        lent[1].close()

    def test_answer_between_failures(self) -> None:
        """It ends their row."""
        self.make(A, fall=2)
        for _ in range(3):
            lent = self.lend(A)
            self.assertEqual(self.logged(self.refuse, A), [])
            self.assertEqual(self.logged(lent.keeper.give_back), [])

    def test_members_are_said(self) -> None:
        self.make(upstreams=("one", "two"))
        lines = self.logged(self.answer_once, A, A6)
        expected = [
            MEMBER.format(name, number, place) for number, place in ((1, A), (2, f"[{A6}]")) for name in ("one", "two")
        ]
        self.assertEqual(lines, [f"info: {line}" for line in expected])
        self.assertEqual(self.logged(self.answer_once, A6, A), [])

    def test_drained(self) -> None:
        self.make(upstreams=("one", "two"))
        self.learn(A, B)
        stream, lent = self.free(B), self.lend(B)
        self.assertEqual(self.logged(self.answer_once, A), [])
        lines = self.logged(self.answer_once, A)
        self.assertEqual(lines, [f"info: {DRAINED.format(name, 2, B, 1)}" for name in ("one", "two")])
        self.assertEqual((stream.how, lent.how, self.usable), ("closed", None, [A]))
        for tell in (self.down, self.up):
            self.assertEqual(self.logged(tell, B), [])
        self.assertEqual((self.logged(lent.keeper.give_back), lent.how, self.usable), ([], "closed", [A]))

    def test_retired_server_that_was_down(self) -> None:
        """That it works after all is no news."""
        self.make()
        self.learn(A, B, C)
        lent = self.lend(B)
        self.down(B, C)
        self.learn(A)
        self.assertEqual((self.logged(lent.keeper.give_back), self.logged(self.up, C), self.usable), ([], [], [A]))

    def test_drained_and_none_is_left(self) -> None:
        """That must be found by those who search for it, too, and only once."""
        self.make()
        self.learn(A, B, C)
        self.down(A, B)
        self.answer_once(A, B)
        lines = self.logged(self.answer_once, A, B)
        self.assertEqual(lines, [f"info: {DRAINED.format('up', 3, C, 0)}", f"error: {NONE.format('up')}"])
        self.answer_once(A)
        self.assertEqual(self.logged(self.answer_once, A), [f"info: {DRAINED.format('up', 2, B, 0)}"])
        lines = self.logged(self.up, A)
        self.assertEqual(lines, [f"info: {UP.format('up', 1, PASSED, 1)}", f"info: {AGAIN.format('up')}"])

    def test_moved_while_all_are_down(self) -> None:
        """A new address counts as up."""
        self.make()
        self.learn(A)
        self.down(A)
        lines = self.logged(self.answer_once, B, C)
        self.assertEqual(
            lines,
            [
                f"info: {MEMBER.format('up', 2, B)}",
                f"info: {AGAIN.format('up')}",
                f"info: {MEMBER.format('up', 3, C)}",
            ],
        )
        self.assertEqual(self.usable, [B, C])
