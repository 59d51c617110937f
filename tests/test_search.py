"""Searches: which servers are tried, in which order, how often and how long."""

from __future__ import annotations

from typing import cast

from fipsrelay.errors import UpstreamError
from fipsrelay.upstream.search import RETRIES
from tests.searches import A6, B6, IN_ALL, OVERDUE, PAUSE, STAGGER, TICK, A, B, C, D, E, Searches


class FirstTests(Searches):
    """The first try."""

    def test_comes_up(self) -> None:
        """The connection is lent: it counts until it comes back, and then it can be taken."""
        self.begin(A)
        caller = self.search()
        stream = self.attempt(A).come_up()
        self.assertIs(caller.stream, stream)
        self.assertEqual((caller.heard, stream.name, self.server(A).outstanding), (["connected"], f"{A}:443", 1))
        stream.keeper.give_back()
        self.assertEqual(self.server(A).outstanding, 0)
        self.assertIs(self.cluster.take(), stream)
        self.assertEqual(self.server(A).health.checked, 0)

    def test_barred(self) -> None:
        """Nobody is tried, and no name looked up."""
        self.begin(A)
        self.cluster.bar("FIPS check so-and-so failed")
        error = self.search().error
        assert error is not None
        self.assertEqual((error.code, error.status, error.step), ("fips", 503, "policy"))
        self.assertEqual((error.detail, self.tried), ("FIPS check so-and-so failed", []))

    def test_fewest_outstanding(self) -> None:
        """Connections that are being made count as well."""
        self.begin(A, B, C)
        callers = [self.search() for _ in range(4)]
        self.assertEqual(self.tried, [A, B, C, A])
        for attempt in self.means.attempts:
            attempt.come_up()
        self.assertEqual([caller.heard for caller in callers], [["connected"]] * 4)
        self.assertEqual([server.outstanding for server in self.cluster.servers], [2, 1, 1])

    def test_servers_take_turns(self) -> None:
        self.begin(A, B, C)
        self.cluster.turn = 4
        self.search()
        self.assertEqual(self.tried, [B])
        self.leave()

    def test_only_those_that_are_up(self) -> None:
        self.begin(A, B)
        self.down(A)
        self.search()
        self.assertEqual(self.tried, [B])
        self.leave()

    def test_overdue(self) -> None:
        """A server that nobody has checked for long gets one request, not all of them."""
        self.begin(A, B, C)
        self.down(B, C)
        self.wait(OVERDUE)
        callers = [self.search() for _ in range(3)]
        self.assertEqual(self.tried, [B, A, A])
        self.attempt(B).come_up()
        self.assertEqual(callers[0].heard, ["connected"])
        self.assertEqual([server.health.up for server in self.cluster.servers], [True, True, False])
        callers.append(self.search(retries=0))
        self.assertEqual(self.tried[3:], [C])
        for attempt in self.means.attempts[1:]:
            attempt.come_up()

    def test_overdue_in_vain(self) -> None:
        """The request goes on to a server that is up; it had company, as others have."""
        self.begin(A, B)
        self.down(B)
        self.wait(OVERDUE)
        caller = self.search()
        self.assert_waits(STAGGER, A)
        self.attempt(B).fail()
        self.attempt(A).come_up()
        self.assertEqual((self.tried, caller.heard), ([B, A], ["connected"]))
        self.search()
        self.assertEqual(self.running, [A])
        self.leave()


class RetryTests(Searches):
    """What follows a failure."""

    def test_another_server_at_once(self) -> None:
        """And the families by turns."""
        self.begin(A6, B6, A, B)
        caller = self.search()
        for address in (A6, A, B6):
            self.attempt(address).fail("tls")
        self.assertEqual(self.tried, [A6, A, B6, B])
        self.attempt(B).come_up()
        self.assertEqual(caller.heard, ["retrying tls"] * 3 + ["connected"])

    def test_servers_take_turns(self) -> None:
        self.begin(A, B, C)
        self.cluster.turn = 1
        self.search()
        self.attempt(B).fail()
        self.assertEqual(self.tried, [B, C])
        self.leave()

    def test_three_times(self) -> None:
        """The last failure is the one that is told."""
        self.begin(A, B, C, D, E)
        caller = self.search()
        for code, address in (("one", A), ("two", B), ("three", C), ("four", D)):
            self.attempt(address).fail(code)
        self.assertEqual(self.tried, [A, B, C, D])
        self.assertEqual(caller.heard, ["retrying one", "retrying two", "retrying three", "refused four"])
        self.assertEqual(cast(UpstreamError, caller.error).address, f"{D}:443")

    def test_as_often_as_the_caller_allows(self) -> None:
        for retries in range(3):
            with self.subTest(retries=retries):
                self.begin(A, B, C, D)
                self.means.attempts.clear()
                caller = self.search(retries)
                while self.running:
                    self.attempt(self.running[0]).fail()
                self.assertEqual(len(self.tried), 1 + retries)
                self.assertEqual(caller.heard, ["retrying connect-refused"] * retries + ["refused connect-refused"])

    def test_a_proxy_that_refuses_is_asked_once(self) -> None:
        for code in ("proxy-auth", "proxy-refused", "tls"):
            self.begin(A)
            caller = self.search()
            self.attempt(A).fail(code)
            self.assertEqual(caller.heard, [f"refused {code}"])

    def test_the_same_server_after_a_pause(self) -> None:
        """It restarts, perhaps. Up to a second is quick."""
        self.begin(A)
        caller = self.search()
        for _ in range(RETRIES):
            self.wait(PAUSE - TICK)
            self.attempt(A).fail()
            self.assert_waits(PAUSE, A)
        self.attempt(A).fail()
        self.assertEqual(caller.heard, ["retrying connect-refused"] * 3 + ["refused connect-refused"])

    def test_the_same_servers_after_a_pause(self) -> None:
        self.begin(A, B)
        self.search()
        self.attempt(A).fail()
        self.attempt(B).fail()
        self.assert_waits(PAUSE, A)
        self.attempt(A).fail()
        self.assertEqual(self.running, [B])
        self.attempt(B).come_up()

    def test_not_the_same_server_after_a_slow_failure(self) -> None:
        self.begin(A)
        caller = self.search()
        self.wait(PAUSE)
        self.attempt(A).fail("connect-timeout")
        self.assertEqual((self.tried, caller.heard), ([A], ["refused connect-timeout"]))

    def test_not_again_after_a_slow_failure(self) -> None:
        self.begin(A)
        caller = self.search()
        self.attempt(A).fail()
        self.assert_waits(PAUSE, A)
        self.wait(PAUSE)
        self.attempt(A).fail("connect-timeout")
        self.assertEqual(caller.heard, ["retrying connect-refused", "refused connect-timeout"])

    def test_not_the_same_server_after_a_failure_of_tls(self) -> None:
        """What it refuses now it refuses in a second too."""
        self.begin(A)
        caller = self.search()
        self.attempt(A).fail("tls")
        self.assertEqual((self.tried, caller.heard), ([A], ["refused tls"]))

    def test_the_same_servers_but_for_slow_ones(self) -> None:
        """One that did not answer in time will not do so a second later."""
        self.begin(A, B)
        self.search()
        self.attempt(A).reach()
        self.wait(5)
        self.attempt(A).fail("tls-timeout")
        self.attempt(B).fail()
        self.assert_waits(PAUSE, B)
        self.attempt(B).fail()
        self.assert_waits(PAUSE, B)
        self.attempt(B).come_up()

    def test_the_pause_ends_with_nobody_up(self) -> None:
        """Then this is the one search that tries a server all the same."""
        self.begin(A)
        caller = self.search()
        self.attempt(A).fail()
        self.down(A)
        self.assert_waits(PAUSE, A)
        self.assertEqual(self.search().heard, ["refused no-server"])
        self.attempt(A).come_up()
        self.assertEqual(caller.heard[1:], ["connected"])

    def test_the_pause_ends_with_only_a_slow_one_up(self) -> None:
        self.begin(A, B)
        self.search()
        self.wait(PAUSE)
        self.attempt(A).fail()
        self.attempt(B).fail()
        self.down(B)
        self.assert_waits(PAUSE, A)
        self.attempt(A).come_up()

    def test_nothing_begins_late(self) -> None:
        """Neither at once, nor beside another, nor after a pause."""
        self.begin(A, B, C)
        caller = self.search()
        self.attempt(A).reach()
        self.wait(IN_ALL - TICK)
        self.attempt(A).fail("slow")
        self.wait(STAGGER)
        self.assertEqual(self.running, [B])
        self.attempt(B).fail("last")
        self.assertEqual(caller.heard, ["retrying slow", "refused last"])
        self.begin(A)
        caller = self.search()
        self.reactor.advance(0)
        self.assertEqual(caller.heard, [])
        self.leave()

    def test_no_pause_that_ends_late(self) -> None:
        self.begin(A, B)
        caller = self.search()
        self.attempt(A).reach()
        self.wait(IN_ALL - PAUSE)
        self.attempt(A).fail("slow")
        self.attempt(B).fail("quick")
        self.assertEqual((self.tried, caller.heard), ([A, B], ["retrying slow", "refused quick"]))

    def test_failures_inside_start(self) -> None:
        """As when the kernel knows no way: nothing is told twice, and the caller may hear before ``start`` returns."""
        self.begin(A, B, C, D, E)
        self.means.fails.update(dict.fromkeys((A, B, C), "connect"))
        caller = self.search()
        self.assertEqual((self.tried, self.running), ([A, B, C, D], [D]))
        self.attempt(D).fail("last")
        self.assertEqual(caller.heard, ["retrying connect"] * 3 + ["refused last"])
        self.means.fails.update(dict.fromkeys((D, E), "connect"))
        self.assertEqual(self.search().heard, ["retrying connect"] * 3 + ["refused connect"])
        self.assertEqual(len(self.tried), 8)

    def test_failures_of_this_host(self) -> None:
        """They say nothing about the servers."""
        self.begin(A, B, fall=1)
        self.means.fails.update({A: "local", B: "connect"})
        self.search(retries=1)
        self.assertEqual([server.health.up for server in self.cluster.servers], [True, False])

    def test_down_while_it_is_tried(self) -> None:
        """By its own failure, or by another's."""
        self.begin(A, B, C, fall=1)
        caller = self.search()
        self.down(B)
        self.attempt(A).fail()
        self.assertEqual(self.running, [C])
        self.attempt(C).fail("last")
        self.assertEqual(caller.heard, ["retrying connect-refused", "refused last"])


class CompanyTests(Searches):
    """Happy Eyeballs: one that does not accept is not waited for alone."""

    def test_until_one_accepts(self) -> None:
        self.begin(A6, B6, A, B)
        self.search()
        self.assert_waits(STAGGER, A)
        self.assert_waits(STAGGER, B6)
        self.attempt(A).reach()
        self.assertEqual(self.running, [A])
        self.wait(STAGGER)
        self.assertEqual(self.tried, [A6, A, B6])
        self.attempt(A).come_up()

    def test_accepted_in_time(self) -> None:
        self.begin(A, B)
        self.search()
        self.reactor.advance(STAGGER - TICK)
        self.attempt(A).reach()
        self.wait(3)
        self.assertEqual(self.tried, [A])
        self.attempt(A).come_up()

    def test_up_without_a_word_before(self) -> None:
        """The others end as well."""
        self.begin(A, B)
        caller = self.search()
        self.wait(STAGGER)
        stream = self.attempt(A).come_up()
        self.assertEqual((self.running, self.server(B).outstanding), ([], 0))
        self.assertIs(caller.stream, stream)

    def test_those_that_came_second(self) -> None:
        """Nothing is known of them, so that they may be tried again; and nothing is held against them."""
        self.begin(A, B, fall=1)
        caller = self.search()
        self.wait(STAGGER)
        self.attempt(B).reach()
        self.attempt(B).fail("tls")
        self.assertEqual((self.tried, caller.heard), ([A, B, A], ["retrying tls"]))
        self.assertTrue(self.server(A).health.up)
        self.attempt(A).come_up()

    def test_failure_calls_the_next_at_once(self) -> None:
        """Whichever of those that run it is; the next one after that comes with its usual delay."""
        for failing in (A, B):
            with self.subTest(failing=failing):
                self.means.attempts.clear()
                self.begin(A, B, C, D)
                self.search()
                self.wait(STAGGER)
                self.wait(STAGGER / 2)
                self.attempt(failing).fail()
                self.assertEqual(self.tried, [A, B, C])
                self.assert_waits(STAGGER, D)
                self.leave()

    def test_failure_while_another_runs(self) -> None:
        """With nobody left to try, that one is waited for; the caller hears nothing."""
        self.begin(A, B)
        caller = self.search()
        self.wait(STAGGER)
        self.attempt(B).fail()
        self.wait(PAUSE * 2)
        self.assertEqual((self.tried, caller.heard), ([A, B], []))
        self.attempt(A).fail("last")
        self.assertEqual(caller.heard[-1], "retrying last")
        self.assert_waits(PAUSE, B)
        self.attempt(B).come_up()

    def test_it_counts_as_a_retry(self) -> None:
        self.begin(A, B, C, D, E)
        caller = self.search()
        for _ in range(5):
            self.wait(STAGGER)
        self.assertEqual(self.running, [A, B, C, D])
        for address in (B, D, A):
            self.attempt(address).fail()
        self.assertEqual(caller.heard, [])
        self.attempt(C).fail("last")
        self.assertEqual((self.tried, caller.heard), ([A, B, C, D], ["refused last"]))

    def test_none_where_no_retry_is_allowed(self) -> None:
        self.begin(A, B)
        self.search(retries=0)
        self.wait(3)
        self.assertEqual(self.tried, [A])
        self.attempt(A).come_up()

    def test_company_fails_inside_start(self) -> None:
        self.begin(A, B, C)
        self.means.fails[B] = "connect"
        caller = self.search()
        self.wait(STAGGER)
        self.assertEqual((self.tried, caller.heard), ([A, B, C], ["retrying connect"]))
        self.attempt(A).come_up()

    def test_a_server_that_has_just_come_or_gone(self) -> None:
        """What counts is who is there when the time has come."""
        self.begin(A, B)
        self.search()
        self.down(B)
        self.wait(STAGGER)
        self.assertEqual(self.tried, [A])
        self.leave()
