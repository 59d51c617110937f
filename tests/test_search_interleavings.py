"""Searches under every order of events that hypothesis can think of: failures, successes, cancels, names and time."""

from __future__ import annotations

from collections import Counter
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from fipsrelay.errors import UpstreamError
from fipsrelay.upstream.search import RETRIES, Search
from tests.doubles import FakeStream
from tests.searches import A6, B6, IN_ALL, A, B, Caller, Played, Searches

ADDRESSES = (A6, B6, A, B)
CODES = ("connect-refused", "tls", "local")
STEP = 0.25

numbers = st.integers(0, 11)
subsets = st.lists(st.sampled_from(ADDRESSES), unique=True)
some = st.lists(st.sampled_from(ADDRESSES), min_size=1, unique=True)
asks = st.tuples(st.just("ask"), st.integers(0, RETRIES))
attempts = st.tuples(st.sampled_from(("reach", "come_up", *CODES)), numbers)
waits = st.tuples(st.just("pass_time"), st.sampled_from((1, 1, 2, 4, 4, 8, 18, 90)))
events = st.one_of(
    asks,
    asks,
    attempts,
    attempts,
    waits,
    st.tuples(st.sampled_from(("quit", "quit_at_retry", "finish")), numbers),
    st.tuples(st.sampled_from(("hear_names", "fail_all", "fail_at_once")), subsets),
    st.tuples(st.just("resolve_to"), some),
    st.tuples(st.just("close"), st.just(0)),
)


class Asker(Caller):
    """A caller with its search.

    Attributes:
        began: when.
        retries: that it allows.
        made: the attempts.
        quits_at_retry: it will.
    """

    def __init__(self, began: float, retries: int) -> None:
        super().__init__()
        self.search: Search
        self.began = began
        self.retries = retries
        self.made: list[Played] = []
        self.quits_at_retry = False

    def retrying(self, error: UpstreamError) -> None:
        super().retrying(error)
        if self.quits_at_retry:
            self.quit()

    @property
    def over(self) -> bool:
        return self.left or (bool(self.heard) and not self.heard[-1].startswith("retrying"))

    def quit(self) -> None:
        if not self.over:
            self.left = True
        self.search.cancel()


class InterleavingTests(Searches):
    """Any number of searches of one cluster, whose servers fail, go and come."""

    @settings(max_examples=600, deadline=None)
    @given(subsets, subsets, st.integers(1, 3), st.lists(events, min_size=10, max_size=60))
    def test_any_order(self, addresses: list[str], down: list[str], fall: int, played: list[tuple[str, Any]]) -> None:
        self.setUp()
        self.means.made.append(self.check_attempt)
        self.askers: dict[Search, Asker] = {}
        self.lent: list[tuple[str, FakeStream]] = []
        self.trials: list[Played] = []  # of servers that were down
        self.begin(*addresses, fall=fall)
        self.down(*set(down) & set(addresses))
        for name, how in played:
            self.break_off(name, how) if name in CODES else getattr(self, name)(how)
            self.check()
        self.end()
        self.tearDown()

    # -- events

    def ask(self, retries: int) -> None:
        asker = Asker(self.deadlines.now(), retries)
        asker.search = Search(self.cluster, "up", self.means, asker, retries)
        self.askers[asker.search] = asker
        self.callers.append(asker)
        asker.search.start()

    def chosen(self, number: int) -> list[Played]:
        """One that is under way, if there is any."""
        running = [attempt for attempt in self.means.attempts if attempt.runs]
        return running and [running[number % len(running)]]

    def waiting(self, number: int) -> list[Asker]:
        """One that has no outcome yet, if there is any."""
        waiting = [asker for asker in self.askers.values() if not asker.over]
        return waiting and [waiting[number % len(waiting)]]

    def quit(self, number: int) -> None:
        for asker in self.waiting(number):
            asker.quit()

    def quit_at_retry(self, number: int) -> None:
        for asker in self.waiting(number):
            asker.quits_at_retry = True

    def reach(self, number: int) -> None:
        for attempt in self.chosen(number):
            if attempt.state == "running":
                attempt.reach()

    def come_up(self, number: int) -> None:
        for attempt in self.chosen(number):
            self.lent.append((attempt.place.address, attempt.come_up()))

    def break_off(self, code: str, number: int) -> None:
        for attempt in self.chosen(number):
            attempt.fail(code)

    def fail_all(self, addresses: list[str]) -> None:
        for attempt in self.means.attempts:
            if attempt.runs and attempt.place.address in addresses:
                attempt.fail()

    def finish(self, number: int) -> None:
        """A connection that was lent comes back or breaks."""
        if self.lent:
            _, stream = self.lent.pop(number % len(self.lent))
            stream.keeper.give_back() if number % 2 else stream.close()

    def pass_time(self, steps: int) -> None:
        self.reactor.pump([STEP] * steps)

    def hear_names(self, addresses: list[str]) -> None:
        """DNS answers whoever asked, with nothing perhaps."""
        for question in self.questions:
            if not question.called:
                question.callback(tuple(addresses))

    def resolve_to(self, addresses: list[str]) -> None:
        """DNS answers once more."""
        self.cluster.learn(addresses)

    def fail_at_once(self, addresses: list[str]) -> None:
        self.means.fails.clear()
        self.means.fails.update(dict.fromkeys(addresses, "connect"))

    def close(self, nothing: int) -> None:
        self.names.stop()
        self.cluster.close()

    # -- what must be true

    def check_attempt(self, attempt: Played) -> None:
        """Of each one, when it is made."""
        asker = self.askers[attempt.user]
        beside = [other for other in asker.made if other.runs]
        asker.made.append(attempt)
        assert not asker.over
        assert len(asker.made) <= 1 + asker.retries
        assert attempt.began - asker.began < IN_ALL
        [server] = [server for server in self.cluster.servers if server.place is attempt.place]
        if not server.health.up:
            assert self.cluster.trial is asker.search
            assert all(other.user is asker.search for other in self.trials if other.runs)
            self.trials.append(attempt)
        assert not beside or self.cluster.usable
        assert all(other.state == "running" for other in beside)

    def check(self) -> None:
        """After each event."""
        self.servers += [server for server in self.cluster.servers if server not in self.servers]
        counted: Counter[str] = Counter()
        for server in self.servers:
            counted[server.place.address] += server.outstanding
        assert counted == Counter(self.running) + Counter(address for address, _ in self.lent), counted
        for asker in self.askers.values():
            running = [attempt.state for attempt in asker.made if attempt.runs]
            assert "reached" not in running or len(running) == 1
            assert len(asker.heard) <= 1 + asker.retries
            if asker.over:
                assert not running
                assert self.cluster.trial is not asker.search

    def end(self) -> None:
        """Every search comes to an end when nothing succeeds any more."""
        for _ in range(20):
            while attempts := self.chosen(0):
                attempts[0].fail()
            self.pass_time(4)
            self.hear_names([])
        assert all(asker.over for asker in self.askers.values())
        while self.lent:
            self.finish(0)
