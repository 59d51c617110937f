"""Names: when they are asked for, and which addresses count, with a resolver that the test plays and its own clock."""

from __future__ import annotations

from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.logger import capturedLogs
from twisted.trial.unittest import SynchronousTestCase

from fipsrelay.upstream.names import Names, is_address

HOST = "intake.example"
OTHER = "other.example"
REFRESH = 30.0


class NamesTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.clock = Clock()
        self.chance = 0.5
        self.asked: list[str] = []
        self.questions: list[Deferred[tuple[str, ...]]] = []
        self.told: list[tuple[str, ...]] = []
        self.names = Names(self.clock, self.resolve, REFRESH, lambda: self.chance)

    def resolve(self, host: str) -> Deferred[tuple[str, ...]]:
        self.asked.append(host)
        self.questions.append(Deferred())
        return self.questions[-1]

    def follow(self, host: str = HOST) -> None:
        self.names.follow(host, self.told.append)

    def answer(self, *addresses: str) -> None:
        """To the last question."""
        self.questions[-1].callback(addresses)

    def found(self) -> tuple[str, ...]:
        return self.successResultOf(self.names.find(HOST))

    def test_first_answer_is_waited_for(self) -> None:
        """By everyone, with one question."""
        waiting: list[Deferred[tuple[str, ...]]] = [self.names.find(HOST) for _ in range(3)]
        self.assertEqual(self.asked, [HOST])
        for each in waiting:
            self.assertNoResult(each)
        self.answer("192.0.2.1", "192.0.2.2")
        for each in waiting:
            self.assertEqual(self.successResultOf(each), ("192.0.2.1", "192.0.2.2"))

    def test_forgotten(self) -> None:
        """A name that nobody follows any more is not asked for; one that somebody else follows is."""
        other: list[tuple[str, ...]] = []
        self.names.follow(HOST, other.append)
        self.follow()
        self.answer("192.0.2.1")
        self.names.forget(HOST, self.told.append)
        self.clock.advance(REFRESH)
        self.answer("192.0.2.2")
        self.assertEqual((self.told, other), ([("192.0.2.1",)], [("192.0.2.1",), ("192.0.2.2",)]))
        self.clock.advance(REFRESH)
        self.assertEqual(len(self.asked), 3)
        self.names.forget(HOST, other.append)
        self.answer("192.0.2.3")  # what was on its way
        self.clock.advance(10 * REFRESH)
        self.assertEqual((len(self.asked), len(other)), (3, 2))
        self.assertEqual((self.names.failing(), self.clock.getDelayedCalls()), ({}, []))

    def test_later_ones_are_not(self) -> None:
        self.follow()
        self.answer("192.0.2.1")
        self.clock.advance(REFRESH)
        self.assertEqual(self.asked, [HOST] * 2)
        self.assertEqual(self.found(), ("192.0.2.1",))
        self.assertEqual(self.asked, [HOST] * 2)
        self.answer("192.0.2.9")
        self.assertEqual(self.found(), ("192.0.2.9",))

    def test_what_nobody_follows_is_asked_once(self) -> None:
        self.names.find(HOST)
        self.answer("192.0.2.1")
        self.assertEqual(self.clock.getDelayedCalls(), [])
        self.assertEqual(self.found(), ("192.0.2.1",))
        self.assertEqual(self.asked, [HOST])

    def test_last_good_answer_is_kept(self) -> None:
        self.follow()
        self.answer("192.0.2.1")
        for _ in range(5):
            self.clock.advance(REFRESH)
            self.answer()
            self.assertEqual(self.found(), ("192.0.2.1",))
        self.assertEqual(len(self.asked), 6)

    def test_start_without_dns(self) -> None:
        """Requests are told so at once, ask again once a second, and the first good answer ends it."""
        self.follow()
        self.answer()
        self.clock.advance(0.9)
        self.assertEqual((self.found(), len(self.asked)), ((), 1))
        self.clock.advance(0.1)
        first = self.names.find(HOST)
        self.assertEqual(len(self.asked), 2)
        self.answer()
        self.assertEqual(self.successResultOf(first), ())
        self.clock.advance(1)
        second = self.names.find(HOST)
        self.answer("192.0.2.1")
        self.assertEqual(self.successResultOf(second), ("192.0.2.1",))

    def test_failing(self) -> None:
        """Since the first bad answer in a row."""
        self.follow()
        self.answer("192.0.2.1")
        self.assertEqual(self.names.failing(), {})
        for _ in range(2):
            self.clock.advance(REFRESH)
            self.answer()
            self.assertEqual(self.names.failing(), {HOST: REFRESH})
        self.clock.advance(REFRESH)
        self.answer("192.0.2.1")
        self.assertEqual(self.names.failing(), {})

    def test_stopped(self) -> None:
        """Nobody is told of an answer that comes after that."""
        self.follow()
        self.names.stop()
        self.answer("192.0.2.1")
        self.assertEqual((self.told, self.clock.getDelayedCalls()), ([], []))

    def test_followers_hear_every_good_answer(self) -> None:
        """Also one that is as before, and one that a request asked for; not that there was none."""
        self.follow()
        self.answer()
        self.clock.advance(1)
        self.names.find(HOST)
        self.answer("192.0.2.1")
        for addresses in ((), ("192.0.2.1",), ("192.0.2.2", "2001:db8::1"), ()):
            self.clock.advance(REFRESH)
            self.answer(*addresses)
        self.assertEqual(self.told, [("192.0.2.1",), ("192.0.2.1",), ("192.0.2.2", "2001:db8::1")])

    def test_followers_of_one_name(self) -> None:
        """Share its questions; one that comes later asks anew."""
        others: list[tuple[str, ...]] = []
        self.follow()
        self.names.follow(HOST, others.append)
        self.assertEqual(self.asked, [HOST])
        self.answer("192.0.2.1")
        self.assertEqual((self.told, others), ([("192.0.2.1",)],) * 2)
        late: list[tuple[str, ...]] = []
        self.names.follow(HOST, late.append)
        self.assertEqual(self.asked, [HOST] * 2)
        self.answer("192.0.2.2")
        self.assertEqual((self.told, others), ([("192.0.2.1",), ("192.0.2.2",)],) * 2)
        self.assertEqual(late, [("192.0.2.2",)])
        self.assertEqual(len(self.clock.getDelayedCalls()), 1)

    def test_spread(self) -> None:
        for chance, wait in ((0.0, 27.0), (0.5, 30.0), (1.0, 33.0)):
            self.setUp()
            self.chance = chance
            self.follow()
            self.answer("192.0.2.1")
            [call] = self.clock.getDelayedCalls()
            self.assertAlmostEqual(call.getTime(), wait)

    def test_one_timer_a_name(self) -> None:
        """However many requests asked in between."""
        self.follow()
        self.answer()
        for _ in range(3):
            self.clock.advance(1)
            self.names.find(HOST)
            self.answer()
        self.assertEqual(len(self.clock.getDelayedCalls()), 1)

    def test_a_question_without_answer_is_not_repeated(self) -> None:
        self.follow()
        self.clock.advance(10 * REFRESH)
        self.names.find(HOST)
        self.assertEqual(self.asked, [HOST])

    def test_names_are_apart(self) -> None:
        self.follow()
        self.names.follow(OTHER, lambda addresses: None)
        self.answer("192.0.2.7")
        self.assertNoResult(self.names.find(HOST))
        self.assertEqual(self.successResultOf(self.names.find(OTHER)), ("192.0.2.7",))
        self.assertEqual(self.told, [])

    def test_addresses_stand_for_themselves(self) -> None:
        for address in ("192.0.2.1", "2001:db8::1"):
            self.assertEqual(self.successResultOf(self.names.find(address)), (address,))
        self.assertEqual(self.asked, [])
        self.assertEqual(
            [is_address(host) for host in ("192.0.2.1", "::1", "a.example", "1.2")], [True, True, False, False]
        )

    def test_log(self) -> None:
        """Changes are told, once each; the order of addresses is none."""
        answers = [(), (), ("192.0.2.1", "192.0.2.2"), ("192.0.2.2", "192.0.2.1"), (), (), ("192.0.2.2", "192.0.2.1")]
        answers += [("192.0.2.3", "192.0.2.2")] * 2
        with capturedLogs() as events:
            self.follow()
            for addresses in answers:
                self.answer(*addresses)
                self.clock.advance(REFRESH)
        formats = [event["log_format"].split(";")[0] for event in events]
        fails, resolves = "{host} does not resolve", "{host} resolves to {addresses}"
        self.assertEqual(formats, [fails, resolves, fails, resolves, resolves])
        self.assertEqual(
            [events[0]["known"], events[2]["known"]], ["nothing, for it never did", "192.0.2.2, 192.0.2.1"]
        )

    def test_stop(self) -> None:
        self.follow()
        self.names.follow(OTHER, self.told.append)
        self.answer("192.0.2.1")
        self.names.stop()
        self.assertEqual(self.clock.getDelayedCalls(), [])
        self.questions[0].callback(())
        self.assertEqual(self.clock.getDelayedCalls(), [])
