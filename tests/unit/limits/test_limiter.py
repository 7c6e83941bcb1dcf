"""A gateway's limiter while its store is there, slow, away, and back again."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

import pytest

from capstan_gateway.limits.divided import most_of
from capstan_gateway.limits.port import (
    LEASE_MS,
    Bucket,
    Charge,
    Outcome,
    Quota,
    Rate,
    Reservation,
    Rule,
    Slots,
    StoreDown,
    Verdict,
)
from capstan_gateway.limits.taken import FromShares
from support.limiters import START_MS, Fleet, Gateway
from support.virtualtime import run_virtually

HOUR = Quota(1000, (START_MS - 1, START_MS + 10_000_000, START_MS + 20_000_000))


def charge(rule: Rule, amount: int = 1, key: str = "key") -> list[Charge]:
    """What one request takes."""
    return [Charge(Bucket("policy", key, rule), amount)]


def with_fleet(work: Callable[[Fleet, Gateway], Awaitable[None]], *, gateways: int = 1, shares: bool = False) -> None:
    """Do this with a gateway of so many."""

    async def main() -> None:
        fleet = Fleet(1, gateways=gateways, shares=shares)
        gateway = fleet.start()
        await asyncio.sleep(0.1)
        await work(fleet, gateway)
        await gateway.end()

    run_virtually(main())


async def held(gateway: Gateway, charges: list[Charge], *, local: bool = True) -> Reservation:
    """Take this; it has to be admitted."""
    found = await gateway.ask(charges, local=local)
    assert found is not None
    assert not isinstance(found, Verdict)
    return found


async def refused(gateway: Gateway, charges: list[Charge], *, local: bool = True) -> Verdict:
    """Ask for this; it has to be refused."""
    found = await gateway.ask(charges, local=local)
    assert isinstance(found, Verdict)
    return found


def test_what_is_used_stays_charged() -> None:
    """A reservation is settled to what was used, in the background, once; an extension is all or nothing."""

    async def work(fleet: Fleet, gateway: Gateway) -> None:
        reservation = await held(gateway, charge(HOUR, 100))
        assert (await reservation.extend([50], used=[90])).admitted
        assert (await reservation.extend([5000], used=[90])).outcome is Outcome.NEVER
        assert await fleet.left(charge(HOUR, 0)) == 850
        reservation.settle([120])
        reservation.settle([1])
        await asyncio.sleep(0.1)
        assert await fleet.left(charge(HOUR, 0)) == 880

    with_fleet(work)


def test_an_outage_is_told_in_one_line(caplog: pytest.LogCaptureFixture) -> None:
    """Whatever could not be written meanwhile; and in none is a traceback."""

    async def work(fleet: Fleet, gateway: Gateway) -> None:
        before = [await held(gateway, charge(HOUR)) for _ in range(3)]
        gateway.wire.away = True
        for one in before:
            one.settle([1])
        await asyncio.sleep(5)
        assert not gateway.limiter.up

    with_fleet(work)
    (line,) = [record for record in caplog.records if record.levelname == "WARNING"]
    assert line.getMessage() == "limits are decided without their store"
    assert line.exc_info is None


def test_an_outage_is_met_once() -> None:
    """The first call that has no answer is the last one that waits for it, until the background has had one."""

    async def work(fleet: Fleet, gateway: Gateway) -> None:
        gateway.wire.away = True
        assert await gateway.ask(charge(HOUR), local=False) is None
        calls = gateway.wire.calls
        for _ in range(100):
            assert await gateway.ask(charge(HOUR), local=False) is None
        assert gateway.wire.calls == calls
        assert not gateway.limiter.up
        gateway.wire.away = False
        await asyncio.sleep(5)
        assert gateway.limiter.up
        await held(gateway, charge(HOUR), local=False)

    with_fleet(work)


@pytest.mark.parametrize(
    ("rule", "admitted"),
    [(Quota(100, HOUR.starts_ms), 25), (Rate(100, 3_600_000, 100), 25), (Slots(100), 25), (Slots(2), 1),
     (Rate(2, 3_600_000, 2), 1)],
)  # fmt: skip
def test_a_part_of_the_limit(rule: Rule, admitted: int) -> None:
    """While the store is away each gateway admits its part of the limit, and at least one."""

    async def work(fleet: Fleet, gateway: Gateway) -> None:
        gateway.wire.away = True
        found = [await gateway.ask(charge(rule), local=True) for _ in range(110)]
        assert sum(one is not None and not isinstance(one, Verdict) for one in found) == admitted
        with pytest.raises(StoreDown):
            await gateway.limiter.reserve(charge(rule), local=False)

    with_fleet(work, gateways=4)


def test_an_outage_is_no_new_beginning() -> None:
    """What is known to be spent is spent in memory as well; what never fits is said to never fit; what fits the limit
    and not the part is admitted once."""

    async def work(fleet: Fleet, gateway: Gateway) -> None:
        reservation = await held(gateway, charge(HOUR, 960))
        gateway.wire.away = True
        assert await gateway.ask(charge(HOUR, 1), local=True) is not None
        assert (await refused(gateway, charge(HOUR, 11))).outcome is Outcome.SPENT
        assert (await refused(gateway, charge(HOUR, 1001))).outcome is Outcome.NEVER
        big = charge(HOUR, 600, key="other")
        await held(gateway, big)
        assert (await refused(gateway, big)).outcome is Outcome.SPENT
        reservation.settle([960])

    with_fleet(work, gateways=4)


def test_back_again() -> None:
    """What was used during an outage is charged once when the store is back, together with what still runs, before
    anybody is decided by the store again; what was lost on the way is not charged."""

    async def work(fleet: Fleet, gateway: Gateway) -> None:
        before = await held(gateway, charge(HOUR, 10))
        gateway.wire.loses = True
        lost = await held(gateway, charge(HOUR, 20))
        gateway.wire.away, gateway.wire.loses = True, False
        ended = await held(gateway, charge(HOUR, 30))
        ended.settle([25])
        running = await held(gateway, charge(HOUR, 40))
        before.settle([7])
        lost.settle([20])
        gateway.wire.away = False
        await asyncio.sleep(5)
        assert gateway.limiter.up
        assert await fleet.left(charge(HOUR, 0)) == 1000 - 7 - 20 - 25 - 40
        assert (await running.extend([5], used=[40])).admitted
        running.settle([44])
        await asyncio.sleep(40)
        assert await fleet.left(charge(HOUR, 0)) == 1000 - 7 - 20 - 25 - 44

    with_fleet(work)


@pytest.mark.parametrize("rule", [Slots(20), Quota(20, (0, START_MS * 2))])
def test_an_outage_that_is_longer_than_leases(rule: Rule) -> None:
    """What still runs is taken before the store is asked again, though its leases have ended meanwhile."""

    async def work(fleet: Fleet, gateway: Gateway) -> None:
        for _ in range(20):
            await held(gateway, charge(rule), local=False)
        gateway.wire.away = True
        await gateway.ask(charge(rule))
        await asyncio.sleep(1.5 * LEASE_MS / 1000)
        gateway.wire.away = False
        async with asyncio.timeout(30):
            while not gateway.limiter.up:  # noqa: ASYNC110 - in virtual time
                await asyncio.sleep(0.001)
        await refused(gateway, charge(rule), local=False)

    with_fleet(work)


def test_away_again_while_it_comes_back() -> None:
    """Counts in memory stay as long as they are in use."""

    async def work(fleet: Fleet, gateway: Gateway) -> None:
        gateway.wire.away = True
        await held(gateway, charge(HOUR, 900))
        limiter, tell = gateway.limiter, gateway.limiter._tell
        gateway.wire.away = False

        async def tells() -> None:
            if limiter.up:
                limiter._go_down(StoreDown("away"))
                gateway.wire.away = True
                return
            await tell()

        limiter._tell = tells  # type: ignore[method-assign]
        held_in_memory = limiter._away._store
        await asyncio.sleep(5)
        assert not limiter.up
        assert limiter._away._store is held_in_memory
        limiter._tell = tell  # type: ignore[method-assign]
        gateway.wire.away = False
        await asyncio.sleep(5)
        assert limiter.up

    with_fleet(work)


def test_what_ends_while_it_comes_back_has_no_slot_when_it_is_away_again() -> None:
    """Though the store was up in that moment, and is told of the end later."""

    async def work(fleet: Fleet, gateway: Gateway) -> None:
        limiter, tell, rule = gateway.limiter, gateway.limiter._tell, Slots(2)
        running = await held(gateway, charge(rule))
        gateway.wire.away = True
        other = await held(gateway, charge(rule))
        other.settle([0])
        gateway.wire.away = False

        async def tells() -> None:
            if limiter.up:
                running.settle([0])
                gateway.wire.away = True
                limiter._go_down(StoreDown("away"))
                return
            await tell()

        limiter._tell = tells  # type: ignore[method-assign]
        await asyncio.sleep(5)
        assert not limiter.up
        for _ in range(2):
            await held(gateway, charge(rule))
        await refused(gateway, charge(rule))
        limiter._tell = tell  # type: ignore[method-assign]

    with_fleet(work)


def test_a_store_that_was_emptied_in_a_moment() -> None:
    """A Redis that restarts without its data holds again what runs before it admits anybody."""

    async def work(fleet: Fleet, gateway: Gateway) -> None:
        running = [await held(gateway, charge(Slots(2)), local=False) for _ in range(2)]
        gateway.wire.away = True
        await gateway.ask(charge(Slots(2)))
        await asyncio.sleep(3)
        fleet.store._groups.clear()
        fleet.store._ends = type(fleet.store._ends)()
        gateway.wire.away = False
        async with asyncio.timeout(30):
            while not gateway.limiter.up:  # noqa: ASYNC110 - in virtual time
                await asyncio.sleep(0.001)
        await refused(gateway, charge(Slots(2)), local=False)
        for one in running:
            one.settle([0])

    with_fleet(work)


@pytest.mark.parametrize("away", [False, True])
def test_what_a_request_takes_more_of_is_no_admission(*, away: bool) -> None:
    """It is not counted as one, and no share is as large as what one stream takes at a time."""
    big = Quota(100_000, HOUR.starts_ms)

    async def work(fleet: Fleet, gateway: Gateway) -> None:
        limiter = gateway.limiter
        for _ in range(20):
            (await held(gateway, charge(big))).settle([1])
            await asyncio.sleep(0.02)
        reservation = limiter.take(charge(big))
        assert reservation is not None
        for share in limiter.book:
            limiter.book.retire(share)
        gateway.wire.away = away
        before = limiter.tally.from_store + limiter.tally.in_memory
        assert (await reservation.extend([500], used=[1])).admitted
        assert limiter.tally.from_store + limiter.tally.in_memory == before
        assert [share for share in limiter.book if share.amount > 1] == []
        reservation.settle([400])

    with_fleet(work, shares=True)


def test_back_again_by_halves() -> None:
    """Answers that get lost while the store is told what it has missed charge nothing twice."""

    async def work(fleet: Fleet, gateway: Gateway) -> None:
        gateway.wire.away = True
        for number in range(200):
            (await held(gateway, charge(HOUR, 1, key=f"k{number}"))).settle([1])
        running = await held(gateway, charge(HOUR, 3))
        for _ in range(20):
            gateway.wire.away, gateway.wire.loses = False, True
            await asyncio.sleep(0.5)
        gateway.wire.loses = False
        await asyncio.sleep(6)
        assert gateway.limiter.up
        assert {await fleet.left(charge(HOUR, 0, key=f"k{number}")) for number in range(200)} == {999}
        assert await fleet.left(charge(HOUR, 0)) == 997
        running.settle([3])

    with_fleet(work)


def test_what_the_store_could_not_be_told() -> None:
    """What was used during an outage is told again until the store has taken it."""

    async def work(fleet: Fleet, gateway: Gateway) -> None:
        gateway.wire.away = True
        (await held(gateway, charge(HOUR, 30))).settle([30])
        reserve, fails = gateway.wire.reserve, 3

        async def fail(id: str, charges: Sequence[Charge], **options: Any) -> Verdict:
            nonlocal fails
            fails -= 1
            if fails >= 0:
                raise StoreDown("not yet")
            return await reserve(id, charges, **options)

        gateway.wire.reserve = fail  # type: ignore[method-assign]
        gateway.wire.away = False
        await asyncio.sleep(10)
        assert gateway.limiter.up
        assert await fleet.left(charge(HOUR, 0)) == 1000 - 30

    with_fleet(work)


def test_what_ends_while_an_outage_does_is_told() -> None:
    """What was begun and used while the store was being told of an outage does not wait for the next one."""

    async def work(fleet: Fleet, gateway: Gateway) -> None:
        gateway.wire.away = True
        before = await held(gateway, charge(HOUR, 10))
        reserve, later = gateway.wire.reserve, list[Any]()

        async def meanwhile(id: str, charges: Sequence[Charge], **options: Any) -> Verdict:
            if options.get("force") and not later:
                later.append(await held(gateway, charge(HOUR, 40)))
            elif options.get("force") and gateway.limiter.up and len(later) == 1:
                later.append(later[0].settle([40]))
            return await reserve(id, charges, **options)

        gateway.wire.reserve = meanwhile  # type: ignore[method-assign]
        gateway.wire.away = False
        await asyncio.sleep(60)
        assert gateway.limiter.up
        assert len(later) == 2
        before.settle([10])
        await asyncio.sleep(40)
        assert await fleet.left(charge(HOUR, 0)) == 1000 - 10 - 40

    with_fleet(work)


def test_a_rate_forgives_with_time() -> None:
    """What was used long ago under a rate is in no bucket any more when the store is back."""
    rule = Rate(60, 60_000, 60)

    async def work(fleet: Fleet, gateway: Gateway) -> None:
        gateway.wire.away = True
        for _ in range(300):
            (await held(gateway, charge(rule))).settle([1])
            await asyncio.sleep(1.1)
        gateway.wire.away = False
        await asyncio.sleep(3)
        assert gateway.limiter.up
        assert await fleet.left(charge(rule, 0)) > 50

    with_fleet(work)


def test_streams_go_on_in_memory() -> None:
    """What the store knows goes on by this gateway's part while it is away, and is settled once, wherever it was."""

    async def work(fleet: Fleet, gateway: Gateway) -> None:
        reservation = await held(gateway, charge(HOUR, 10))
        strict = await held(gateway, charge(HOUR, 10), local=False)
        gateway.wire.away = True
        assert (await reservation.extend([10], used=[10])).admitted
        assert (await reservation.extend([10], used=[20])).admitted
        assert not (await reservation.extend([970], used=[30])).admitted
        with pytest.raises(StoreDown):
            await strict.extend([10], used=[10])
        gateway.wire.away = False
        await asyncio.sleep(5)
        assert (await reservation.extend([10], used=[30])).admitted
        reservation.settle([35])
        strict.settle([10])
        await asyncio.sleep(40)
        assert await fleet.left(charge(HOUR, 0)) == 1000 - 35 - 10

    with_fleet(work)


def test_an_emptied_store() -> None:
    """A stream whose store has forgotten everything goes on, and all that it has is charged anew."""

    async def work(fleet: Fleet, gateway: Gateway) -> None:
        reservation = await held(gateway, charge(HOUR, 10))
        fleet.store._groups.clear()
        fleet.store._ends = type(fleet.store._ends)()
        assert (await reservation.extend([10], used=[10])).admitted
        assert await fleet.left(charge(HOUR, 0)) == 980
        reservation.settle([12])
        await asyncio.sleep(0.1)
        assert await fleet.left(charge(HOUR, 0)) == 988

    with_fleet(work)


def test_leases_are_kept() -> None:
    """What runs for minutes is not given back; one operation renews all of a group."""

    async def work(fleet: Fleet, gateway: Gateway) -> None:
        reservations = [await held(gateway, charge(Slots(50))) for _ in range(50)]
        calls = gateway.wire.calls
        await asyncio.sleep(300)
        assert await fleet.left(charge(Slots(50), 0)) == 0
        assert gateway.wire.calls - calls < 110
        for reservation in reservations:
            reservation.settle([0])
        await asyncio.sleep(0.1)
        assert await fleet.left(charge(Slots(50), 0)) == 50

    with_fleet(work)


def test_cancelled_while_it_was_asked() -> None:
    """A request that goes away while the store is asked holds nothing."""

    async def work(fleet: Fleet, gateway: Gateway) -> None:
        asked = asyncio.create_task(gateway.limiter.reserve(charge(HOUR, 100), local=False))
        await asyncio.sleep(0.0005)
        asked.cancel()
        await asyncio.gather(asked, return_exceptions=True)
        await asyncio.sleep(0.1)
        assert await fleet.left(charge(HOUR, 0)) == 1000
        assert gateway.limiter.open == 0

    with_fleet(work)


def test_a_stream_from_shares() -> None:
    """What was decided in memory may take more there, and then of the store; it is settled wherever it was."""
    big = Quota(100_000, HOUR.starts_ms)

    async def work(fleet: Fleet, gateway: Gateway) -> None:
        for _ in range(20):
            (await held(gateway, charge(big))).settle([1])
            await asyncio.sleep(0.02)
        assert gateway.limiter.book.count == 1
        reservation = gateway.limiter.take(charge(big))
        assert reservation is not None
        assert (await reservation.extend([3], used=[1])).admitted
        assert (await reservation.extend([5000], used=[4])).admitted
        assert (await reservation.extend([200_000], used=[5004])).outcome is Outcome.NEVER
        reservation.settle([4000])
        await asyncio.sleep(10)
        assert await fleet.left(charge(big, 0)) == 100_000 - 20 - 4000

    with_fleet(work, shares=True)


def test_a_changed_rule_has_no_old_share() -> None:
    """A share of a rule that has changed is given back, and the new rule is asked for."""

    async def work(fleet: Fleet, gateway: Gateway) -> None:
        for _ in range(20):
            (await held(gateway, charge(Quota(100_000, HOUR.starts_ms)))).settle([1])
            await asyncio.sleep(0.02)
        assert gateway.limiter.take(charge(Quota(10, HOUR.starts_ms))) is None
        assert (await refused(gateway, charge(Quota(10, HOUR.starts_ms)))).outcome is Outcome.SPENT
        await asyncio.sleep(0.3)
        assert gateway.limiter.book.count == 0

    with_fleet(work, shares=True)


def test_a_period_ends_with_its_shares() -> None:
    """Of a period that is over no share is used in the next one."""
    soon = Quota(100_000, (START_MS - 1, START_MS + 1_003_000, START_MS + 20_000_000))

    async def work(fleet: Fleet, gateway: Gateway) -> None:
        loop = asyncio.get_running_loop()
        while loop.time() < 1002.95:
            (await held(gateway, charge(soon))).settle([1])
            await asyncio.sleep(0.01)
        assert gateway.limiter.take(charge(soon)) is None
        await asyncio.sleep(0.1)
        (await held(gateway, charge(soon))).settle([1])
        await asyncio.sleep(5)
        assert await fleet.left(charge(soon, 0)) == 100_000 - 1

    with_fleet(work, shares=True)


@pytest.mark.parametrize("rule", [Slots(800), HOUR])
def test_one_long_request_keeps_no_share(rule: Rule) -> None:
    """Of a share that is not used any more all goes back but what the one request has that still runs of it."""

    async def work(fleet: Fleet, gateway: Gateway) -> None:
        taken = []
        for _ in range(100):
            taken.append(await held(gateway, charge(rule)))
            await asyncio.sleep(0.01)
        long = next(one for one in reversed(taken) if isinstance(one, FromShares))
        for one in taken:
            if one is not long:
                one.settle([0])
        await asyncio.sleep(4)
        assert await fleet.left(charge(rule, 0)) == most_of(rule) - 1
        long.settle([1])
        await asyncio.sleep(1)
        assert await fleet.left(charge(rule, 0)) == most_of(rule) - (rule is HOUR)

    with_fleet(work, shares=True)


def test_a_long_request_lives_as_long_as_it_runs() -> None:
    """What was moved from a share is renewed, and what was used beyond what was taken is charged in the end."""

    async def work(fleet: Fleet, gateway: Gateway) -> None:
        taken = []
        for _ in range(100):
            taken.append(await held(gateway, charge(HOUR)))
            await asyncio.sleep(0.01)
        long = next(one for one in reversed(taken) if isinstance(one, FromShares))
        for one in taken:
            if one is not long:
                one.settle([1])
        await asyncio.sleep(100)
        assert await fleet.left(charge(HOUR, 0)) == 900
        long.settle([51])
        await asyncio.sleep(1)
        assert await fleet.left(charge(HOUR, 0)) == 850

    with_fleet(work, shares=True)


@pytest.mark.parametrize("shares", [False, True])
@pytest.mark.parametrize("emptied", [False, True])
@pytest.mark.parametrize("rule", [Slots(200), Quota(200, HOUR.starts_ms)])
def test_what_outlives_a_long_outage_is_held_before_anybody_is_admitted(
    rule: Rule, *, emptied: bool, shares: bool
) -> None:
    """All of a limit is in use; the store is away for longer than a lease, or has forgotten everything meanwhile: when
    it is back it admits nobody more, not for a moment."""

    async def work(fleet: Fleet, gateway: Gateway) -> None:
        running = []
        for _ in range(400):
            found = await gateway.ask(charge(rule))
            running += [found] if found is not None and not isinstance(found, Verdict) else []
            await asyncio.sleep(0.005)
        assert len(running) == 200
        gateway.wire.away = True
        gateway.limiter.hurry()
        await asyncio.sleep(45)
        if emptied:
            fleet.store._groups.clear()
            fleet.store._ends = type(fleet.store._ends)()
        gateway.wire.away = False
        for _ in range(2000):
            assert isinstance(await gateway.ask(charge(rule)), Verdict | None)
            await asyncio.sleep(0.001)
        assert gateway.limiter.up
        for one in running:
            one.settle([0])
        await asyncio.sleep(5)
        assert await fleet.left(charge(rule, 0)) == 200

    with_fleet(work, shares=shares)


async def fill(fleet: Fleet, gateway: Gateway, rule: Rule, *, local: bool) -> list[Reservation]:
    """Take as much as there is, for a second."""
    found = []
    for _ in range(200):
        one = await gateway.ask(charge(rule), local=local)
        found += [one] if one is not None and not isinstance(one, Verdict) else []
        await asyncio.sleep(0.005)
    return found


@pytest.mark.parametrize("local", [False, True])
def test_slots_of_shares_are_counted_during_an_outage(*, local: bool) -> None:
    """What runs from shares has its slots in memory too, and what ends gives its slot back there: never more than the
    limit run at once, and not less than that are admitted once shares are not used any more."""
    rule = Slots(200)

    async def work(fleet: Fleet, gateway: Gateway) -> None:
        running = await fill(fleet, gateway, rule, local=local)
        for one in running[150:]:
            one.settle([0])
        running = running[:150]
        assert any(isinstance(one, FromShares) for one in running)
        gateway.wire.away = True
        gateway.limiter.hurry()
        await asyncio.sleep(0.2)
        for _ in range(3):
            running += await fill(fleet, gateway, rule, local=local)
            assert len(running) <= 200
            for one in running[:100]:
                one.settle([0])
            running = running[100:]
        await asyncio.sleep(30)
        running += await fill(fleet, gateway, rule, local=local)
        assert not local or len(running) == 200
        gateway.wire.away = False
        for _ in range(10):
            running += await fill(fleet, gateway, rule, local=local)
            assert len(running) <= 200
        for one in running:
            one.settle([0])
        await asyncio.sleep(5)
        assert await fleet.left(charge(rule, 0)) == 200

    with_fleet(work, shares=True)
