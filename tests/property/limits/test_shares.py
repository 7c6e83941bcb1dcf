"""Shares on several gateways: never more than the limit, whatever dies, and nothing is lost for ever."""

import asyncio

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from capstan_gateway.limits.divided import most_of
from capstan_gateway.limits.port import Bucket, Charge, Quota, Rate, Slots
from support.limiters import START_MS, Fleet, Gateway
from support.virtualtime import run_virtually

STEPS = st.lists(
    st.tuples(
        st.sampled_from([0.0, 0.001, 0.05, 0.4, 1.1, 4.0, 40.0]),
        st.integers(0, 2),
        st.sampled_from(["burst", "burst", "burst", "crash", "away", "back", "loses"]),
        st.integers(1, 150),
        st.integers(1, 3),
    ),
    min_size=1,
    max_size=8,
)


def charge(rule: Rate | Quota | Slots, amount: int) -> list[Charge]:
    """What one request takes."""
    return [Charge(Bucket("policy", "key", rule), amount)]


async def act(fleet: Fleet, gateways: list[Gateway], rule: Rate | Quota | Slots, steps: list, seconds: float) -> None:
    """Do what the steps say."""
    for pause, which, action, count, amount in steps:
        await asyncio.sleep(pause)
        at = which % len(gateways)
        wire = gateways[at].wire
        if action == "crash":
            gateways[at].crash()
            gateways[at] = fleet.start()
        elif action == "burst":
            for start in range(0, count, 50):
                some = range(start, min(start + 50, count))
                await asyncio.gather(
                    *(fleet.request(gateways[at], charge(rule, amount), used=amount, seconds=seconds) for _ in some)
                )
        else:
            wire.away, wire.loses = action == "away", action == "loses"


@given(st.integers(1, 3), STEPS, st.integers(0, 9), st.sampled_from([(600, 60_000), (1000, 1000), (5000, 3_600_000)]))
@settings(max_examples=20, deadline=None)
def test_a_rate_is_never_exceeded(count: int, steps: list, seed: int, pace: tuple[int, int]) -> None:
    """Of a token bucket no more is had in any time than it gives, with shares, crashes and outages; and it fills up."""
    rule = Rate(pace[0], pace[1], 600)

    async def main() -> None:
        fleet = Fleet(seed, gateways=count)
        gateways = [fleet.start() for _ in range(count)]
        await act(fleet, gateways, rule, steps, 0.3)
        assert fleet.most_beyond(rule) <= fleet.unheard
        for gateway in gateways:
            gateway.wire.away = gateway.wire.loses = False
        await asyncio.sleep(60)
        await fleet.left(charge(rule, 0))  # Somebody comes by: leases that are over end, and the bucket fills.
        await asyncio.sleep(600 * pace[1] / pace[0] / 1000 + 1)
        assert await fleet.left(charge(rule, 0)) == 600
        for gateway in gateways:
            await gateway.end()

    run_virtually(main())


@given(st.integers(1, 3), STEPS, st.integers(0, 9))
@settings(max_examples=20, deadline=None)
def test_a_quota_is_never_exceeded(count: int, steps: list, seed: int) -> None:
    """Of a period no more is had than its limit, and what shares did not use is had by others in the end."""
    rule = Quota(900, (START_MS - 1, START_MS + 10_000_000, START_MS + 20_000_000))

    async def main() -> None:
        fleet = Fleet(seed, gateways=count)
        gateways = [fleet.start() for _ in range(count)]
        await act(fleet, gateways, rule, steps, 0.3)
        used = sum(one.amount for one in fleet.admitted) - fleet.unheard
        assert used <= 900
        for gateway in gateways:
            gateway.wire.away = gateway.wire.loses = False
        await asyncio.sleep(60)
        left = await fleet.left(charge(rule, 0))
        if any(step[2] == "crash" for step in steps):
            assert left <= 900 - sum(one.amount for one in fleet.admitted) + fleet.unheard
        else:
            assert left == 900 - used
        for gateway in gateways:
            await gateway.end()

    run_virtually(main())


@given(st.integers(1, 3), STEPS, st.integers(0, 9))
@settings(max_examples=20, deadline=None)
def test_slots_are_never_exceeded(count: int, steps: list, seed: int) -> None:
    """No more run at once than there are slots, as long as the store hears of them; all come back in the end."""
    rule = Slots(500)
    steps = [step for step in steps if step[2] in ("burst", "crash")]

    async def main() -> None:
        fleet = Fleet(seed, gateways=count)
        gateways = [fleet.start() for _ in range(count)]
        await act(fleet, gateways, rule, steps, 0.3)
        assert fleet.most_at_once() <= 500
        await asyncio.sleep(60)
        assert await fleet.left(charge(rule, 0)) == 500
        for gateway in gateways:
            await gateway.end()

    run_virtually(main())


@given(STEPS, st.integers(0, 9), st.booleans(), st.sampled_from([0.3, 3.0, 100.0]))
@settings(max_examples=30, deadline=None)
def test_slots_outlive_outages(steps: list, seed: int, local: bool, seconds: float) -> None:
    """Of a gateway of its own no more run at once than there are slots, whenever the store goes away and comes back,
    for however long; and all come back in the end."""
    rule = Slots(200)
    steps = [step for step in steps if step[2] != "crash"]

    async def main() -> None:
        fleet = Fleet(seed, local=local)
        gateway = fleet.start()
        for number, step in enumerate(steps):
            bursts = [(0.4, 0, "burst", 40, 1), (0.4, 0, "burst", 40, 1)]
            await act(
                fleet, [gateway], rule, [*bursts, step, (0.05, 0, "burst", 200, 1)], seconds if number % 2 else 100.0
            )
            assert fleet.most_at_once() <= 200
        gateway.wire.away = gateway.wire.loses = False
        for _ in range(20):
            await act(fleet, [gateway], rule, [(0.4, 0, "burst", 50, 1)], 100.0)
        assert fleet.most_at_once() <= 200
        await asyncio.sleep(200)
        assert await fleet.left(charge(rule, 0)) == 200
        await gateway.end()

    run_virtually(main())


@given(st.integers(1, 3), STEPS, st.integers(0, 9), st.sampled_from(["slots", "quota"]))
@settings(max_examples=20, deadline=None)
def test_what_runs_long_keeps_no_more_than_it_has(count: int, steps: list, seed: int, kind: str) -> None:
    """Some requests run on: in the end others have all of the limit but what these have taken, and no more of it."""
    period = (START_MS - 1, START_MS + 10_000_000, START_MS + 20_000_000)
    rule = Slots(500) if kind == "slots" else Quota(900, period)
    steps = [step for step in steps if step[2] == "burst"]

    async def main() -> None:
        fleet = Fleet(seed, gateways=count)
        gateways = [fleet.start() for _ in range(count)]
        for number, step in enumerate(steps):
            await act(fleet, gateways, rule, [step], 1000.0 if number % 2 else 0.3)
            await act(fleet, gateways, rule, [(0.0, step[1], "burst", 1, 1)], 1000.0)
        await asyncio.sleep(20)
        gone = [one for one in fleet.admitted if one in fleet.running or kind == "quota"]
        assert await fleet.left(charge(rule, 0)) == most_of(rule) - sum(one.amount for one in gone)
        await asyncio.sleep(1000)
        gone = fleet.admitted if kind == "quota" else []
        assert await fleet.left(charge(rule, 0)) == most_of(rule) - sum(one.amount for one in gone)
        for gateway in gateways:
            await gateway.end()

    run_virtually(main())


@pytest.mark.parametrize("gateways", [1, 3])
def test_shares_are_used(gateways: int) -> None:
    """Far from the limit nearly all requests are decided in memory."""
    rule = Rate(60_000, 60_000, 60_000)

    async def main() -> None:
        fleet = Fleet(1, gateways=gateways)
        members = [fleet.start() for _ in range(gateways)]
        for _ in range(2000):
            for gateway in members:
                assert await fleet.request(gateway, charge(rule, 1), used=1, seconds=0.05)
            await asyncio.sleep(0.002)
        for gateway in members:
            assert gateway.limiter.tally.from_shares > 1900
            assert gateway.wire.calls < 400
            await gateway.end()

    run_virtually(main())


def test_a_small_limit_has_no_shares() -> None:
    """A limit of 50 is decided one by one at the store: exactly 50 are admitted, by whomever they come."""
    rule = Rate(50, 3_600_000, 50)

    async def main() -> None:
        fleet = Fleet(1, gateways=4)
        members = [fleet.start() for _ in range(4)]
        asked = (fleet.request(members[n % 4], charge(rule, 1), used=1, seconds=5.0) for n in range(200))
        assert sum(await asyncio.gather(*asked)) == 50
        assert all(gateway.limiter.tally.from_shares == 0 for gateway in members)
        for gateway in members:
            await gateway.end()

    run_virtually(main())


def test_idle_shares_come_back() -> None:
    """What a gateway has taken ahead and does not use goes back while it lives, before any lease is over."""
    rule = Quota(100_000, (START_MS - 1, START_MS + 10_000_000, START_MS + 20_000_000))

    async def main() -> None:
        fleet = Fleet(1)
        gateway = fleet.start()
        for _ in range(300):
            await fleet.request(gateway, charge(rule, 1), used=1, seconds=0.01)
            await asyncio.sleep(0.005)
        assert gateway.limiter.book.count == 1
        await asyncio.sleep(4)
        assert gateway.limiter.book.count == 0
        assert await fleet.left(charge(rule, 0)) == 100_000 - 300
        await gateway.end()

    run_virtually(main())
