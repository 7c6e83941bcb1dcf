"""The script in a real Redis and the store in memory answer alike, whatever is asked in whatever order."""

from collections.abc import Iterator, Sequence
from random import Random

import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from capstan_gateway.limits.port import Charge, Quota, Rate, Rule, Slots
from support.limits import START_MS, charge
from support.redis_server import RedisServer, redis_server
from support.twin_limits import Twins

pytestmark = pytest.mark.redis

DAYS = tuple(START_MS + 20_000 * number for number in range(-1, 400))
MONTHS = tuple(START_MS + 90_000 * number for number in range(-1, 100))
RULES: tuple[tuple[Rule, ...], ...] = (
    (Rate(10, 1_000, 10), Rate(20, 1_000, 15), Rate(7, 1_000, 10)),
    (Rate(999_999_999_999, 366 * 86_400_000 - 1, 10**12), Rate(10**12, 60_000, 10**12)),
    (Quota(100, DAYS), Quota(60, DAYS), Quota(100, MONTHS)),
    (Slots(3), Slots(1)),
)
"""Buckets, each with the rules that it has in turn."""
LEASE = 3_000


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    """A Redis of these tests' own."""
    with redis_server(tmp_path_factory.mktemp("limits")) as server:
        yield server


AMOUNTS = st.one_of(st.integers(0, 12), st.integers(0, 4), st.sampled_from([0, 1, 10**11, 10**12, 2**60]))
IDS = st.sampled_from(["a", "b", "c", "d", "e"])
BUCKETS = st.tuples(st.integers(0, len(RULES) - 1), st.sampled_from([0, 0, 0, 0, 1, 2]), AMOUNTS)
CHARGES = st.lists(BUCKETS, min_size=1, max_size=4, unique_by=lambda bucket: bucket[0])
USED = st.lists(AMOUNTS, max_size=4)
STEP = st.one_of(
    st.tuples(st.just("reserve"), IDS, CHARGES, st.sampled_from([(0, 0), (0, 0), (1, 0), (0, 1)])),
    st.tuples(st.just("reserve"), IDS, CHARGES, st.sampled_from([(0, 0), (1, 0)])),
    st.tuples(st.just("extend"), IDS, st.integers(0, 2), USED),
    st.tuples(st.just("extend"), IDS, st.integers(0, 10), USED),
    st.tuples(st.just("settle"), IDS, USED, st.none()),
    st.tuples(st.just("renew"), st.lists(st.tuples(IDS, USED), max_size=4), st.none(), st.none()),
    st.tuples(st.just("wait"), st.sampled_from([1, 60, 400, 1_000, LEASE - 1, LEASE]), st.none(), st.none()),
    st.tuples(
        st.just("wait"), st.sampled_from([20_000, 31_000, 3_700_000, -1, -2_000, -100_000]), st.none(), st.none()
    ),
    st.tuples(st.just("flush"), st.none(), st.none(), st.none()),
)


class Steps(Twins):
    """What can be done, by name."""

    def __init__(self, server: RedisServer) -> None:
        super().__init__(server)
        self.charges: dict[str, list[Charge]] = {}

    def reserve(self, id: str, buckets: Sequence[tuple[int, int, int]], options: tuple[int, int]) -> None:
        """A reservation, which may be there already."""
        charges = [
            charge(RULES[place][turn % len(RULES[place])], amount, key=f"k{place}") for place, turn, amount in buckets
        ]
        keeps, force = options
        if self.both("reserve", id, charges, lease_ms=LEASE, keeps=bool(keeps), force=bool(force)).admitted:
            self.charges[id] = charges

    def extend(self, id: str, more: int, used: Sequence[int]) -> None:
        """More of the same."""
        charges = [Charge(one.bucket, one.amount + more) for one in self.charges.get(id, [charge(Slots(1))])]
        if self.both("extend", id, charges, used=used).admitted:
            self.charges[id] = charges

    def settle(self, id: str, used: Sequence[int], _: None) -> None:
        """The end of one, which may be none."""
        self.both("settle", "policy", id, used)

    def renew(self, used: Sequence[tuple[str, Sequence[int]]], _: None, __: None) -> None:
        """Some of them, or others, are alive."""
        self.both("renew", "policy", used, lease_ms=LEASE)

    def wait(self, millis: int, _: None, __: None) -> None:
        """The clock goes on, or back."""
        self.clock.step(millis)

    def flush(self, *_: None) -> None:
        """Redis forgets the scripts."""
        self.client.script_flush()


@settings(max_examples=150, phases=[Phase.reuse, Phase.generate])
@given(st.lists(STEP, min_size=5, max_size=40))
def test_lua_is_like_memory(server: RedisServer, steps: list[tuple[str, object, object, object]]) -> None:
    """Verdicts, what remains, when it is full and how long to wait are the same after every step."""
    twins = Steps(server)
    for name, *arguments in steps:
        getattr(twins, name)(*arguments)
    twins.look(charge(rules[0], 0, key=f"k{place}") for place, rules in enumerate(RULES))
    twins.client.close()


@settings(max_examples=15, phases=[Phase.reuse, Phase.generate])
@given(st.lists(st.tuples(st.integers(1, 9), st.integers(0, 5)), min_size=80, max_size=200), st.randoms())
def test_they_remember_alike(server: RedisServer, amounts: list[tuple[int, int]], random: Random) -> None:
    """Also of more changes without a pause than a bucket remembers, the same comes back in any order."""
    twins = Twins(server)
    rule = Rate(1_000, 60_000, 10_000)
    for number, (amount, _) in enumerate(amounts):
        twins.both("reserve", f"r{number}", [charge(rule, amount)])
        twins.clock.step(random.choice([0, 0, 0, 1, 40]))
    order = list(enumerate(amounts))
    random.shuffle(order)
    for number, (_, used) in order:
        twins.both("settle", "policy", f"r{number}", (used,))
        twins.clock.step(random.choice([0, 0, 0, 1, 40]))
        twins.both("reserve", f"look{number}", [charge(rule, 0)])
    twins.client.close()
