"""A server under every order of events that hypothesis can think of: what counts as outstanding, and what is free."""

from __future__ import annotations

from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from tests.doubles import FakeStream
from tests.test_server import KEEP_ALIVE, SWEEP, Servers

HAPPENINGS = ("give", "eof", "lose")  # what a peer does on a free connection
numbers = st.integers(0, 5)
events = st.one_of(
    st.tuples(st.sampled_from(("begin", "come_up", "give_up", "take", "retire", "close_free")), st.just(0)),
    st.tuples(st.sampled_from(("finish", "close_lent", "lose_lent", "disturb")), numbers),
    st.tuples(st.sampled_from(HAPPENINGS), numbers),
    st.tuples(st.just("pass_time"), st.sampled_from((1, 20, KEEP_ALIVE, KEEP_ALIVE + 1))),
)


class InterleavingTests(Servers):
    """Beside a model: who has what, and since when."""

    @settings(max_examples=300, deadline=None)
    @given(st.lists(events, max_size=60))
    def test_any_order(self, played: list[tuple[str, int]]) -> None:
        self.setUp()
        self.making = 0
        self.lent: list[Any] = []
        self.idle: dict[Any, float] = {}
        for name, how in played:
            self.happen(name, how) if name in HAPPENINGS else getattr(self, name)(how)
            self.check()
        for stream in self.lent:
            stream.close()
        self.assertEqual(self.server.outstanding, self.making)

    def check(self) -> None:
        self.assert_counts(self.making + len(self.lent), *self.idle)
        for keeper in self.server.free:
            stream: Any = keeper.stream
            self.assertTrue(stream.is_open and stream.reading)
            self.assertIs(stream.user, keeper)
            self.assertIs(stream.keeper, keeper)
            self.assertLess(self.reactor.seconds() - self.idle[stream], KEEP_ALIVE + SWEEP)
        self.assertTrue(all(stream.is_open for stream in self.lent))

    # -- events

    def begin(self, nothing: int) -> None:
        """Someone makes a connection."""
        self.making += 1
        self.server.outstanding += 1

    def come_up(self, nothing: int) -> None:
        """One of those, or one more."""
        if not self.making:
            self.begin(nothing)
        self.making -= 1
        stream: Any = FakeStream()
        self.server.adopt(stream)
        self.lent.append(stream)

    def give_up(self, nothing: int) -> None:
        if self.making:
            self.making -= 1
            self.server.outstanding -= 1

    def take(self, nothing: int) -> None:
        """The youngest on which nothing has happened; those that are younger are closed."""
        stream: Any = self.server.take()
        while self.idle:
            youngest, _ = self.idle.popitem()
            if youngest.quiet:
                self.assertIs(stream, youngest)
                stream.user = object()
                self.lent.append(stream)
                return
            self.assertEqual(youngest.how, "closed")
        self.assertIsNone(stream)

    def finish(self, number: int) -> None:
        for stream in self.lent[number : number + 1]:
            self.lent.remove(stream)
            stream.pause()
            stream.keeper.give_back()
            if self.server.retired:
                self.assertEqual(stream.how, "closed")
            else:
                self.idle[stream] = self.reactor.seconds()

    def close_lent(self, number: int) -> None:
        for stream in self.lent[number : number + 1]:
            self.lent.remove(stream)
            stream.close()

    def lose_lent(self, number: int) -> None:
        for stream in self.lent[number : number + 1]:
            self.lent.remove(stream)
            stream.user = None
            stream.lose()

    def disturb(self, number: int) -> None:
        """Something has arrived of which the reactor will tell later."""
        for stream in list(self.idle)[number : number + 1]:
            stream.quiet = False

    def happen(self, name: str, number: int) -> None:
        for stream in list(self.idle)[number : number + 1]:
            del self.idle[stream]
            stream.give(b"x") if name == "give" else getattr(stream, name)()
            self.assertFalse(stream.is_open)

    def pass_time(self, seconds: int) -> None:
        self.wait(seconds)
        for stream, since in list(self.idle.items()):
            if self.reactor.seconds() - since >= KEEP_ALIVE:
                self.assertEqual(stream.how, "closed")
                del self.idle[stream]
            else:
                self.assertIsNone(stream.how)

    def close_free(self, nothing: int) -> None:
        self.server.close_free()
        self.idle.clear()

    def retire(self, nothing: int) -> None:
        """More than once is fine."""
        self.server.retire()
        self.idle.clear()
