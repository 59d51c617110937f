"""Clusters: who belongs to them, who is taken, and who is checked."""

from __future__ import annotations

from typing import Any, cast

import attrs
from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.logger import capturedLogs, formatEvent

from fipsrelay.config import model
from fipsrelay.upstream.cluster import Cluster
from fipsrelay.upstream.connect import Gateway
from tests.doubles import FakeStream
from tests.searches import A6, B6, HOST, A, B, C, D, Played, Searches, failure

GATEWAY = Gateway("proxy.example", 3128)


class Clusters(Searches):
    """A cluster whose checks the test plays; one upstream leads there, unless a test says more."""

    def make(
        self,
        *addresses: str,
        upstreams: tuple[str, ...] = ("up",),
        checked: bool = False,
        fall: int = 1,
        rise: int = 1,
        gateway: Gateway | None = None,
    ) -> Cluster:
        probes = model.Probes(enabled=checked, fall=fall, rise=rise)
        self.cluster = Cluster(HOST, 443, addresses, gateway, self.means, probes, lambda: 0.5)
        self.cluster.upstreams += upstreams
        self.cluster.start()
        self.servers += self.cluster.servers
        return self.cluster

    def answer_once(self, *addresses: str) -> None:
        """DNS, once."""
        self.cluster.learn(addresses)
        self.note_servers()

    def lend(self, address: str) -> Any:
        """A connection that a request uses."""
        server = self.server(address)
        server.outstanding += 1
        stream: Any = FakeStream()
        server.adopt(stream)
        return stream

    def free(self, address: str) -> Any:
        stream = self.lend(address)
        stream.keeper.give_back()
        return stream

    def attempt_of(self, address: str, began: float = 0) -> Any:
        return Played(self.server(address).place, cast(Any, None), began)

    @property
    def members(self) -> dict[str, int]:
        """Numbers by address, in the servers' order."""
        return {server.place.address: server.number for server in self.cluster.servers}

    @property
    def usable(self) -> list[str]:
        return [server.place.address for server in self.cluster.usable]

    def logged(self, call: Any, *arguments: Any) -> list[str]:
        with capturedLogs() as events:
            call(*arguments)
        return [f"{event['log_level'].name}: {formatEvent(event)}" for event in events]

    def tearDown(self) -> None:
        """Closing leaves nothing anywhere."""
        self.names.stop()
        self.cluster.close()
        self.assertEqual((self.cluster.servers, self.cluster.usable), ([], []))
        self.assertEqual(self.deadlines._watched, set())
        super().tearDown()


class MemberTests(Clusters):
    def test_numbers(self) -> None:
        """In the order of the first answer; later orders change nothing."""
        self.make()
        for addresses in ((A, B, C), (C, A, B), (B, C, A)):
            self.answer_once(*addresses)
            self.assertEqual(self.members, {A: 1, B: 2, C: 3})

    def test_lowest_free_number(self) -> None:
        self.make()
        self.learn(A, B, C)
        self.learn(A, C)
        self.answer_once(A, C, D)
        self.assertEqual(self.members, {A: 1, C: 3, D: 2})

    def test_all_are_new(self) -> None:
        """The old ones stay until they are missed twice, and so do their numbers."""
        self.make()
        self.answer_once(A, B)
        self.answer_once(C, D)
        self.assertEqual(self.members, {A: 1, B: 2, C: 3, D: 4})
        self.answer_once(C, D)
        self.assertEqual(self.members, {C: 3, D: 4})
        self.assertEqual(self.usable, [C, D])

    def test_missing_once(self) -> None:
        """Counted anew when it was seen again."""
        self.make()
        self.answer_once(A, B)
        for _ in range(5):
            self.answer_once(A)
            self.answer_once(A, B)
        self.answer_once(A)
        self.assertEqual(self.members, {A: 1, B: 2})
        self.answer_once(A)
        self.assertEqual(self.members, {A: 1})

    def test_back_again(self) -> None:
        """What was known of it is no longer true; connections of before do not come back."""
        self.make()
        self.learn(A, B)
        self.down(B)
        lent = self.lend(B)
        self.learn(A)
        self.answer_once(A, B)
        self.assertEqual((self.members, self.usable), ({A: 1, B: 2}, [A, B]))
        lent.keeper.give_back()
        self.assertEqual((lent.how, self.server(B).free, self.server(B).outstanding), ("closed", [], 0))

    def test_the_same_twice(self) -> None:
        """It is one server."""
        self.make()
        self.answer_once(A, A, B)
        self.assertEqual(self.members, {A: 1, B: 2})
        self.cluster.close()
        self.make(A, A)
        self.assertEqual(self.members, {A: 1})

    def test_order_of_the_resolver(self) -> None:
        """RFC 6724 is its business; that the families take turns is the search's."""
        self.make(A6, B6, A, B, C)
        self.assertEqual(list(self.members), [A6, B6, A, B, C])

    def test_resolved(self) -> None:
        """Nothing until DNS answers, and then whatever it says."""
        self.make()
        found = self.cluster.find()
        self.assertEqual(self.members, {})
        self.answer(A, B)
        self.assertEqual((self.members, self.successResultOf(found)), ({A: 1, B: 2}, (A, B)))
        self.reactor.advance(30)
        self.answer(A, B, C)
        self.assertEqual(self.members, {A: 1, B: 2, C: 3})

    def test_fixed(self) -> None:
        self.make(A, B)
        self.assertEqual((self.members, self.questions), ({A: 1, B: 2}, []))
        self.assertEqual(self.successResultOf(self.cluster.find()), (A, B))

    def test_behind_a_gateway(self) -> None:
        """It looks the name up; addresses of the configuration are asked of it as they are."""
        for addresses in ((), (A, B)):
            self.make(*addresses, gateway=GATEWAY)
            self.assertEqual((list(self.members), self.questions), (list(addresses or (HOST,)), []))
            self.assertEqual([server.place.gateway for server in self.cluster.servers], [GATEWAY] * len(self.members))
            self.cluster.close()

    @settings(max_examples=100, deadline=None)
    @given(st.lists(st.lists(st.sampled_from((A6, B6, A, B)), min_size=1), max_size=12))
    def test_any_answers(self, answers: list[list[str]]) -> None:
        """Members are those of the last two answers; each keeps its number, and none is given twice."""
        self.setUp()
        self.make()
        before: dict[str, int] = {}
        for last, answer in zip([[], *answers], answers, strict=False):
            self.answer_once(*answer)
            members = self.members
            self.assertEqual(set(members), {*last, *answer})
            self.assertEqual(len(members), len(self.cluster.servers))
            self.assertEqual(len(set(members.values())), len(members))
            for address, number in members.items():
                if address in before:
                    self.assertEqual(number, before[address])
                else:
                    self.assertLessEqual(number, len({*before, *answer}))
            before = members
        self.tearDown()


class TakeTests(Clusters):
    def test_none(self) -> None:
        self.make()
        self.assertIsNone(self.cluster.take())
        self.learn(A)
        self.assertIsNone(self.cluster.take())

    def test_by_turns(self) -> None:
        self.make(A, B, C)
        streams = [self.free(address) for address in (A, B, C) for _ in range(2)]
        taken: list[Any] = [self.cluster.take() for _ in range(6)]
        self.assertEqual({id(stream) for stream in taken}, {id(stream) for stream in streams})
        for part in (taken[:3], taken[3:]):
            self.assertEqual({stream.name for stream in part}, {f"{address}:443" for address in (A, B, C)})
        for stream in taken:
            stream.close()

    def test_by_turns_one_after_the_other(self) -> None:
        """Also when none is outstanding."""
        self.make(A, B, C)
        for address in (A, B, C):
            self.free(address)
        taken = []
        for _ in range(6):
            stream: Any = self.cluster.take()
            taken.append(stream.name)
            stream.keeper.give_back()
        self.assertEqual(taken[:3], taken[3:])
        self.assertEqual(set(taken), {f"{address}:443" for address in (A, B, C)})

    def test_fewest_outstanding(self) -> None:
        """None rather than one of a busier server: a connection is made then, and the load evens out."""
        self.make(A, B)
        free, busy = self.free(A), self.lend(A)
        self.assertIsNone(self.cluster.take())
        busy.close()
        self.assertIs(self.cluster.take(), free)
        free.close()

    def test_not_of_those_that_are_down(self) -> None:
        """Even if a late answer has left something free there."""
        self.make(A, B, rise=2)
        lent = self.lend(A)
        self.down(A)
        lent.keeper.give_back()
        self.assertEqual(len(self.server(A).free), 1)
        self.assertEqual([self.cluster.take() for _ in range(3)], [None] * 3)


class BarTests(Clusters):
    def test_bar(self) -> None:
        """Nothing is sent there any more, whatever DNS says later; what is lent is not taken back."""
        self.make()
        self.answer_once(A, B)
        free, lent = self.free(A), self.lend(B)
        self.cluster.bar("lost")
        self.assertEqual((self.cluster.barred, free.how), ("lost", "closed"))
        self.answer_once(A, C)
        self.assertEqual((self.cluster.servers, self.cluster.take()), ([], None))
        lent.keeper.give_back()
        self.assertEqual(lent.how, "closed")


class AwayTests(Clusters):
    """``Cluster.is_away``."""

    def fail_once(self, address: str) -> None:
        self.cluster.failed(self.server(address), self.attempt_of(address), failure("connect-refused"))

    def test_servers(self) -> None:
        self.make(A, B, checked=True)
        self.fail_once(A)
        self.assertFalse(self.cluster.is_away)
        self.fail_once(B)
        self.assertTrue(self.cluster.is_away)
        self.cluster.passed(self.server(A), self.attempt_of(A))
        self.assertFalse(self.cluster.is_away)

    def test_without_checks(self) -> None:
        """Then nothing but a request finds out that it is there again."""
        self.make(A)
        self.fail_once(A)
        self.assertEqual((self.usable, self.cluster.is_away), ([], False))

    def test_name(self) -> None:
        """One that has not been answered yet may be there."""
        self.make()
        self.assertFalse(self.cluster.is_away)
        self.answer()
        self.assertTrue(self.cluster.is_away)
        self.reactor.advance(30.0)
        self.answer(A)
        self.assertFalse(self.cluster.is_away)

    def test_barred(self) -> None:
        self.make(A)
        self.cluster.bar("lost")
        self.assertTrue(self.cluster.is_away)


class LeaveTests(Clusters):
    """What the configuration no longer knows."""

    def test_leave(self) -> None:
        """Free connections close, lent ones when they come back; nothing is checked; searches still find servers."""
        self.make(A, B, checked=True)
        free, lent = self.free(A), self.lend(B)
        self.cluster.leave()
        self.assertEqual((free.how, lent.how), ("closed", None))
        lent.keeper.give_back()
        self.assertEqual(lent.how, "closed")
        self.assertEqual(self.usable, [A, B])
        started = len(self.means.attempts)
        self.reactor.pump([1.0] * 30)
        self.assertEqual(len(self.means.attempts), started)
        self.cluster.close()
        self.assertEqual(self.usable, [])

    def test_names(self) -> None:
        """Its name is asked for no more, and an answer that was on its way makes no server."""
        self.make()
        self.answer(A)
        self.reactor.advance(30.0)
        self.assertEqual(len(self.questions), 2)
        self.cluster.leave()
        self.questions[-1].callback((A, B))
        self.assertEqual(self.usable, [A])
        self.reactor.pump([30.0] * 3)
        self.assertEqual(len(self.questions), 2)
        self.cluster.close()


class HandshakeTests(Clusters):
    """They are counted whoever made them, also with a server that has left meanwhile."""

    def test_finished(self) -> None:
        self.make(A, B)
        attempts = [self.attempt_of(address) for address in (A, A, B)]
        attempts[2].facts = attrs.evolve(attempts[2].facts, version="TLSv1.2", group=None)
        for attempt in attempts:
            self.cluster.passed(self.server(attempt.place.address), attempt)
        suite = "TLS_AES_256_GCM_SHA384"
        handshakes = self.cluster.handshakes
        self.assertEqual(handshakes.finished, {("TLSv1.3", suite, "P-256"): 2, ("TLSv1.2", suite, "unknown"): 1})
        self.assertEqual((handshakes.newest, handshakes.refused), (attempts[2].facts, {}))

    def test_refused(self) -> None:
        """By code; what failed before TLS is no handshake."""
        self.make(A)
        for code, step in (
            ("certificate", "handshake"),
            ("policy", "policy"),
            ("identity", "identity"),
            ("policy", "policy"),
            ("connect-refused", "connect"),
            ("proxy-auth", "proxy"),
        ):
            detail = f'Layer6 invalid response, info: "no {code}"' if code != "identity" else "Layer6 timeout"
            error = attrs.evolve(failure(code), step=step, detail=detail)
            self.cluster.failed(self.server(A), self.attempt_of(A), error)
        self.assertEqual(
            self.cluster.handshakes.refused,
            {"certificate: no certificate": 1, "policy: no policy": 2, "identity: Layer6 timeout": 1},
        )

    def test_reasons_have_a_bound(self) -> None:
        self.make(A)
        for number in range(1000):
            error = attrs.evolve(failure("policy"), step="policy", detail=f"certificate {number} is bad")
            self.cluster.failed(self.server(A), self.attempt_of(A), error)
        refused = self.cluster.handshakes.refused
        self.assertEqual((sum(refused.values()), refused["policy: others"]), (1000, 950))


class OverdueTests(Clusters):
    def test_overdue(self) -> None:
        """Down, and not heard of for an interval."""
        self.make(A, B, C)
        self.down(A)
        self.reactor.advance(5)
        self.down(B)
        self.reactor.advance(5)
        self.assertEqual(self.cluster.overdue(), [])
        self.reactor.advance(1)
        self.assertEqual(self.cluster.overdue(), [self.server(A)])
        self.reactor.advance(5)
        self.assertEqual(self.cluster.overdue(), [self.server(A), self.server(B)])
        self.down(A)
        self.assertEqual(self.cluster.overdue(), [self.server(B)])
        self.up(B)
        self.reactor.advance(1000)
        self.assertEqual(self.cluster.overdue(), [self.server(A)])

    def test_answers_count(self) -> None:
        self.make(A, rise=2)
        lent = self.lend(A)
        self.down(A)
        self.reactor.advance(21)
        lent.keeper.give_back()
        self.assertEqual((self.usable, self.cluster.overdue()), ([], []))


class CheckTests(Clusters):
    """Checks of a cluster's servers."""

    def test_one_a_server_and_interval(self) -> None:
        """However many upstreams share them, also while all are down and slow to fail."""
        self.make(A, B, A6, checked=True, upstreams=("one", "two"))
        for _ in range(4 * 300):
            self.reactor.advance(0.25)
            for attempt in self.means.attempts:
                if attempt.runs and self.reactor.seconds() - attempt.began >= 5:
                    attempt.fail()
        self.assertEqual([self.tried.count(address) for address in (A, B, A6)], [30, 30, 30])
        self.assertEqual(self.usable, [])

    def test_no_request_has_to(self) -> None:
        self.make(A, B, checked=True)
        self.down(A)
        self.reactor.advance(1000)
        self.assertEqual(self.cluster.overdue(), [])

    def test_outcome(self) -> None:
        self.make(A, B, checked=True)
        self.reactor.advance(1)
        self.assertEqual(self.running, [A, B])
        self.attempt(A).fail()
        self.assertEqual(self.usable, [B])
        self.attempt(B).come_up()
        self.reactor.advance(10)
        self.attempt(A).come_up()
        self.assertEqual(self.usable, [A, B])
        self.assertEqual((self.server(A).free, self.server(A).outstanding), ([], 0))

    def test_not_checked(self) -> None:
        self.make(A, B)
        self.reactor.pump([1] * 100)
        self.assertEqual(self.tried, [])

    def test_server_that_has_gone(self) -> None:
        """Its check is cut off, and is the last one."""
        self.make(checked=True)
        self.learn(A, B)
        self.reactor.advance(1)
        self.assertEqual(self.running, [A, B])
        self.learn(A)
        self.assertEqual(self.running, [A])
        self.attempt(A).come_up()
        self.reactor.pump([1] * 30)
        self.assertEqual(self.tried.count(B), 1)

    def test_closed(self) -> None:
        """Nothing is checked, learnt or said any more."""
        self.make(A, B, checked=True)
        stream, lent = self.free(A), self.lend(A)
        self.reactor.advance(1)
        self.assertEqual(self.logged(self.cluster.close), [])
        self.assertEqual((stream.how, lent.how, self.running), ("closed", None, []))
        lent.keeper.give_back()
        self.assertEqual((lent.how, self.cluster.take()), ("closed", None))

    def test_closed_before_dns_has_answered(self) -> None:
        self.make(checked=True)
        self.names.stop()
        self.cluster.close()
        self.answer(A)
        self.assertEqual((self.members, self.reactor.getDelayedCalls()[1:]), ({}, []))
