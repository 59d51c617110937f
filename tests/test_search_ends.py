"""Searches: how they end, whatever happens to callers, names and servers; and that nothing is left behind."""

from __future__ import annotations

from tests.searches import IN_ALL, OVERDUE, PAUSE, STAGGER, TIMEOUTS, A, B, C, Caller, Searches


class CancelTests(Searches):
    """A caller that is gone hears nothing more, and nothing is tried for it."""

    def assert_nothing_follows(self) -> None:
        before = len(self.tried)
        self.reactor.pump([0.5] * 50)
        self.assertEqual(len(self.tried), before)

    def test_at_any_time(self) -> None:
        def with_company() -> None:
            self.wait(STAGGER)

        def in_the_handshake() -> None:
            self.attempt(A).reach()

        def after_a_failure() -> None:
            self.attempt(A).fail()

        def in_a_pause() -> None:
            for address in (A, B, C):
                self.attempt(address).fail()
            self.assertEqual(self.running, [])

        for before in (lambda: None, with_company, in_the_handshake, after_a_failure, in_a_pause):
            with self.subTest(before=before.__name__):
                self.begin(A, B, C)
                self.search()
                before()
                self.leave()
                self.assertEqual([server.outstanding for server in self.cluster.servers], [0, 0, 0])
                self.assert_nothing_follows()

    def test_when_it_hears_of_a_retry(self) -> None:
        """Another server would be next, or the same one after a pause."""
        for addresses in ((A, B), (A,)):
            for at_once in ("", "connect"):
                with self.subTest(addresses=addresses, at_once=at_once):
                    self.means.fails[A] = at_once
                    self.begin(*addresses)
                    caller = self.search(react=lambda name: self.leave())
                    if not at_once:
                        self.attempt(A).fail("connect")
                    self.assertEqual(caller.heard, ["retrying connect"])
                    self.assert_nothing_follows()

    def test_when_it_hears_of_a_retry_while_another_runs(self) -> None:
        self.begin(A, B, C)
        self.search(react=lambda name: self.leave())
        self.wait(STAGGER)
        self.attempt(A).fail()
        self.assertEqual(self.running, [])
        self.assert_nothing_follows()

    def test_when_it_hears_the_outcome(self) -> None:
        """Callers that tidy up in any case do so; what they have got stays theirs."""
        self.begin(A)
        caller = self.search(react=lambda name: self.last.cancel())
        self.attempt(A).come_up()
        self.last.cancel()
        self.assertEqual((caller.heard, caller.stream.is_open, self.server(A).outstanding), (["connected"], True, 1))
        caller = self.search(retries=0, react=lambda name: self.last.cancel())
        self.attempt(A).fail()
        self.last.cancel()
        self.assertEqual((caller.heard, self.server(A).outstanding), (["refused connect-refused"], 1))

    def test_another_search_from_within(self) -> None:
        """As a caller does that sends its request again: it finds nothing that is still busy."""
        self.begin(A, B)
        self.down(A, B)
        self.wait(1)
        self.search(retries=0, react=lambda name: self.search())
        self.attempt(A).fail()
        self.attempt(B).come_up()
        self.assertEqual([caller.heard for caller in self.callers], [["refused connect-refused"], ["connected"]])


class TrialTests(Searches):
    """All servers are down."""

    def test_one_at_a_time(self) -> None:
        """The others fail at once, with what was last seen; the next one may when that one has ended."""
        self.begin(A, B)
        self.down(A, B)
        self.wait(1)
        caller = self.search(retries=0)
        for other in (self.search(), self.search()):
            self.assertEqual((self.tried, other.heard), ([A], ["refused no-server"]))
        error = other.error
        assert error is not None
        self.assertEqual((error.status, error.upstream, error.address), (503, "up", "intake.example:443"))
        self.assertEqual((error.step, error.detail), ("connect", "no server available; last seen: timeout"))
        self.attempt(A).fail()
        self.assertEqual(caller.heard, ["refused connect-refused"])
        self.search()
        self.attempt(B).come_up()

    def test_the_least_bad_first(self) -> None:
        """Without company, and each of them once; however long ago they were checked."""
        self.begin(A, B, C)
        self.down(C)
        self.down(A, failures=2)
        self.down(B, failures=1)
        self.wait(OVERDUE)
        caller = self.search()
        for address in (C, B, A):
            self.wait(0.5)
            self.assertEqual(self.running, [address])
            self.attempt(address).fail(address)
        self.assertEqual(caller.heard, [f"retrying {C}", f"retrying {B}", f"refused {A}"])

    def test_not_for_ever(self) -> None:
        self.begin(A, B)
        self.down(A, B)
        self.search()
        self.wait(IN_ALL)
        self.attempt(A).fail()
        self.assertEqual(self.tried, [A])

    def test_it_comes_up(self) -> None:
        """And with it the server, for everybody."""
        self.begin(A, B)
        self.down(A, B)
        self.search()
        self.attempt(A).come_up()
        self.assertTrue(self.server(A).health.up)
        others = [self.search(), self.search()]
        self.assertEqual(self.running, [A, A])
        for attempt in self.means.attempts[1:]:
            attempt.come_up()
        self.assertEqual([other.heard for other in others], [["connected"]] * 2)

    def test_another_server_comes_up_meanwhile(self) -> None:
        """Then only what is up counts, as for any other search."""
        self.begin(A, B, C)
        self.down(A, B, C)
        caller = self.search()
        self.up(C)
        self.attempt(A).fail()
        self.assertEqual(self.running, [C])
        self.attempt(C).fail()
        self.assert_waits(PAUSE, C)
        self.attempt(C).come_up()
        self.assertEqual(caller.heard, ["retrying connect-refused"] * 2 + ["connected"])

    def test_all_go_down_in_a_pause(self) -> None:
        """Of the search that has the trial already, because it tried a server that had not been checked for long."""
        self.begin(A, B)
        self.down(B)
        self.wait(OVERDUE)
        caller = self.search()
        self.attempt(B).fail()
        self.attempt(A).fail()
        self.down(A, failures=2)
        self.assert_waits(PAUSE, B)
        self.attempt(B).come_up()
        self.assertEqual(caller.heard[-1], "connected")

    def test_all_go_down_while_two_are_tried(self) -> None:
        """The one that still runs is enough; the next comes after it."""
        self.begin(A, B, C)
        self.down(B)
        self.wait(OVERDUE)
        caller = self.search()
        self.assert_waits(STAGGER, A)
        self.down(A, C)
        self.attempt(A).fail()
        self.assertEqual((self.running, caller.heard), ([B], []))
        self.attempt(B).fail()
        self.assertEqual(self.running, [C])
        self.attempt(C).come_up()

    def test_every_end_makes_room(self) -> None:
        def fail() -> None:
            self.attempt(A).fail()
            self.attempt(B).fail()

        def leave_at_the_retry() -> None:
            self.callers[-1].react = lambda name: self.leave()
            self.attempt(A).fail()

        def come_up() -> None:
            self.attempt(A).come_up()

        for end in (fail, leave_at_the_retry, come_up, self.leave):
            with self.subTest(end=end.__name__):
                self.begin(A, B)
                self.down(A, B)
                self.search()
                self.assertIs(self.cluster.trial, self.last)
                end()
                self.assertIsNone(self.cluster.trial)

    def test_all_go_down_while_it_is_under_way(self) -> None:
        """Those that had begun before end with what they found themselves."""
        self.begin(A, B, fall=1)
        first, second = self.search(), self.search()
        self.attempt(B).fail("two")
        self.means.attempts[0].fail("one")
        self.assertEqual((first.heard, second.heard), (["refused one"], ["retrying two"]))
        self.attempt(A).come_up()
        self.assertEqual(second.heard, ["retrying two", "connected"])


class NameTests(Searches):
    """No server is known yet."""

    def test_the_answer_is_waited_for(self) -> None:
        """By all, and tried at once."""
        self.begin()
        callers = [self.search() for _ in range(2)]
        self.wait(3)
        self.assertEqual((self.tried, len(self.questions)), ([], 1))
        self.answer(A, B)
        self.assertEqual(self.tried, [A, B])
        self.attempt(A).come_up()
        self.attempt(B).come_up()
        self.assertEqual([caller.heard for caller in callers], [["connected"]] * 2)

    def test_a_deadline_of_its_own_is_over_then(self) -> None:
        self.begin()
        caller = self.search()
        self.answer(A)
        self.attempt(A).reach()
        self.reactor.pump([0.5] * 15)
        self.attempt(A).come_up()
        self.assertEqual(caller.heard, ["connected"])

    def test_no_address(self) -> None:
        self.begin()
        caller = self.search()
        self.answer()
        self.assert_resolve_error(caller, "intake.example has no address (DNS)")

    def test_no_answer(self) -> None:
        """One that comes too late is used by the next."""
        self.begin()
        caller = self.search()
        self.reactor.pump([0.5] * 9)
        self.assertEqual(caller.heard, [])
        self.reactor.pump([0.5] * 2)
        self.assert_resolve_error(caller, "the name was not resolved in time")
        self.answer(A)
        self.assertEqual(self.tried, [])
        self.search()
        self.attempt(A).come_up()

    def test_an_address_comes_later(self) -> None:
        self.begin()
        self.search()
        self.answer()
        self.wait(1)
        caller = self.search()
        self.answer(A)
        self.attempt(A).come_up()
        self.assertEqual(caller.heard, ["connected"])

    def test_the_time_for_the_name_counts(self) -> None:
        self.begin()
        self.search()
        self.wait(TIMEOUTS.connect - 1)
        self.answer(A, B)
        self.attempt(A).reach()
        self.wait(IN_ALL - TIMEOUTS.connect + 1)
        self.attempt(A).fail()
        self.assertEqual(self.tried, [A])

    def test_left_meanwhile(self) -> None:
        self.begin()
        self.search()
        self.leave()
        self.answer(A)
        self.reactor.pump([0.5] * 20)
        self.assertEqual(self.tried, [])

    def test_closed(self) -> None:
        """A search that comes when the cluster has been closed hears of it."""
        for addresses in ((A,), ()):
            with self.subTest(addresses=addresses):
                self.begin(*addresses)
                if not addresses:
                    self.answer(A)
                self.cluster.close()
                caller = self.search()
                self.assert_resolve_error(caller, "intake.example has no address (DNS)")

    def assert_resolve_error(self, caller: Caller, detail: str) -> None:
        self.assertEqual(caller.heard, ["refused resolve"])
        error = caller.error
        assert error is not None
        self.assertEqual((error.status, error.step, error.detail), (503, "resolve", detail))
        self.assertEqual((error.upstream, error.address), ("up", "intake.example:443"))


class ChangeTests(Searches):
    """Servers come and go while they are tried."""

    def test_gone_and_up(self) -> None:
        """It is lent all the same, and closed when it comes back."""
        self.begin(A)
        caller = self.search()
        self.learn(B)
        stream = self.attempt(A).come_up()
        self.assertEqual((caller.heard, self.server(A).outstanding), (["connected"], 1))
        stream.keeper.give_back()
        self.assertEqual((stream.how, self.server(A).outstanding, self.server(A).free), ("closed", 0, []))

    def test_gone_and_failed(self) -> None:
        """The next try is of a new one."""
        self.begin(A)
        caller = self.search()
        self.learn(B)
        self.attempt(A).fail()
        self.attempt(B).come_up()
        self.assertEqual(caller.heard, ["retrying connect-refused", "connected"])
        self.assertEqual(self.server(A).health.failures, 0)

    def test_gone_in_the_pause(self) -> None:
        self.begin(A)
        self.search()
        self.attempt(A).fail()
        self.learn(B)
        self.assert_waits(PAUSE, B)
        self.attempt(B).come_up()

    def test_gone_before_its_turn(self) -> None:
        self.begin(A, B, C)
        self.search()
        self.learn(A, C)
        self.assert_waits(STAGGER, C)
        self.leave()

    def test_closed_in_the_pause(self) -> None:
        self.begin(A)
        caller = self.search()
        self.attempt(A).fail()
        self.cluster.close()
        self.wait(PAUSE)
        self.assertEqual(caller.heard, ["retrying connect-refused", "refused resolve"])

    def test_company_that_came_meanwhile(self) -> None:
        self.begin(A)
        self.search()
        self.learn(A, B)
        self.assert_waits(STAGGER, B)
        self.attempt(B).come_up()

    def test_what_a_server_keeps_is_closed_when_it_goes_down(self) -> None:
        """By a failure of a search, which goes on."""
        self.begin(A, B, fall=1)
        self.search()
        stream = self.attempt(A).come_up()
        stream.keeper.give_back()
        self.search()
        self.attempt(A).fail()
        self.assertEqual((stream.how, self.running), ("closed", [B]))
        self.attempt(B).come_up()
