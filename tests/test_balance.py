"""Which server: by load, by what is free, by turns, by family, and the least bad one when all are down."""

from __future__ import annotations

from collections import Counter

import attrs
from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from fipsrelay.upstream.balance import least_bad, least_busy, next_best
from fipsrelay.upstream.health import Health


@attrs.define(eq=False)
class Candidate:
    outstanding: int = 0
    free: tuple[int, ...] = ()
    ipv6: bool = False
    health: Health = attrs.field(factory=lambda: Health(3, 1, 0))


def some(*outstanding: int) -> list[Candidate]:
    return [Candidate(number) for number in outstanding]


def known(failures: int, checked: float | None) -> Candidate:
    return Candidate(health=Health(3, 1, 0, up=False, failures=failures, checked=checked))


pools = st.lists(
    st.builds(
        Candidate,
        outstanding=st.integers(0, 3),
        free=st.lists(st.integers(), max_size=2).map(tuple),
        ipv6=st.booleans(),
    ),
    min_size=1,
    max_size=6,
)


class LeastBusyTests(SynchronousTestCase):
    def test_fewest_outstanding(self) -> None:
        servers = some(2, 1, 3)
        self.assertEqual([least_busy(servers, turn) for turn in range(4)], [servers[1]] * 4)

    def test_free_among_equals(self) -> None:
        """It does not matter how many are free."""
        servers = some(1, 1, 1, 1)
        servers[1].free = (0,)
        servers[3].free = (0,) * 5
        self.assertEqual([least_busy(servers, turn) for turn in range(4)], [servers[at] for at in (1, 1, 3, 3)])

    def test_load_counts_more_than_what_is_free(self) -> None:
        """Or all requests would stay with the server that was first."""
        servers = some(1, 0)
        servers[0].free = (0,) * 5
        self.assertIs(least_busy(servers, 0), servers[1])

    def test_turns(self) -> None:
        servers = some(0, 0, 0)
        self.assertEqual([least_busy(servers, turn) for turn in range(5, 11)], [*servers[2:], *servers, *servers[:2]])

    @settings(max_examples=200, deadline=None)
    @given(pools, st.integers(0, 10**12))
    def test_nobody_is_better(self, servers: list[Candidate], turn: int) -> None:
        """And over a round each of the best gets something."""
        chosen = Counter(id(least_busy(servers, turn + step)) for step in range(len(servers)))
        best = min((server.outstanding, not server.free) for server in servers)
        expected = {id(server) for server in servers if (server.outstanding, not server.free) == best}
        self.assertEqual(set(chosen), expected)


class NextBestTests(SynchronousTestCase):
    def test_other_family_first(self) -> None:
        """Even if it is busier."""
        servers = some(0, 5, 3)
        servers[1].ipv6 = servers[2].ipv6 = True
        self.assertIs(next_best(servers, 0, False), servers[2])
        self.assertIs(next_best(servers, 0, True), servers[0])

    def test_no_other_family(self) -> None:
        servers = some(1, 0)
        self.assertIs(next_best(servers, 0, False), servers[1])

    @settings(max_examples=200, deadline=None)
    @given(pools, st.integers(0, 100), st.booleans())
    def test_family(self, servers: list[Candidate], turn: int, ipv6: bool) -> None:
        chosen = next_best(servers, turn, ipv6)
        self.assertEqual(chosen.ipv6 != ipv6, any(server.ipv6 != ipv6 for server in servers))
        self.assertIs(chosen, least_busy([server for server in servers if server.ipv6 == chosen.ipv6], turn))


class LeastBadTests(SynchronousTestCase):
    def test_fewest_failures(self) -> None:
        servers = [known(5, 1), known(4, 9), known(6, 0)]
        self.assertIs(least_bad(servers), servers[1])

    def test_then_not_checked_for_longest(self) -> None:
        """So that each gets its turn."""
        servers = [known(4, 7), known(4, 5), known(4, 9)]
        self.assertIs(least_bad(servers), servers[1])

    def test_never_checked(self) -> None:
        servers = [known(0, -5), known(0, None)]
        self.assertIs(least_bad(servers), servers[1])
