"""Who counts where there is no Redis."""

import asyncio
from random import Random

import pytest

from capstan_gateway.life.lifecycle import Lifecycle
from capstan_gateway.limits import room
from capstan_gateway.limits.limiter import StoreLimiter
from capstan_gateway.limits.port import Bucket, Charge, Rate, Reservation, Slots, Verdict
from capstan_gateway.limits.room import make_counting
from capstan_gateway.settings import Settings
from capstan_gateway.telemetry.metrics import Metrics
from support.virtualtime import run_virtually

MINUTES_MS = 6_000_000_000
REQUESTS = [Charge(Bucket("policy", "key", Rate(500, MINUTES_MS, 500)), 1)]
SLOTS = [Charge(Bucket("policy", "slots", Slots(1)), 1)]


async def ask(limiter: StoreLimiter, charges: list[Charge]) -> Reservation | None:
    """Take as a request does: from a share, else of the counts."""
    held = limiter.take(charges)
    if held is None:
        found = await limiter.reserve(charges, local=True)
        held = None if isinstance(found, Verdict) else found
    return held


def counting(metrics: Metrics) -> tuple[StoreLimiter, Lifecycle]:
    """Give what counts in a gateway of its own, and what keeps it going."""
    made, life = make_counting(Settings(insecure_no_auth=True), metrics=metrics, rng=Random(1)), Lifecycle()  # noqa: S311 - jitter
    made.live_in(life)
    assert isinstance(made.limiter, StoreLimiter)
    return made.limiter, life


def test_a_gateway_of_its_own_admits_exactly_the_limit_and_mostly_from_shares() -> None:
    """What is taken ahead of need is never more than there is, and none of it is lost at the limit."""

    async def main() -> None:
        metrics = Metrics()
        limiter, _ = counting(metrics)
        running = asyncio.create_task(limiter.run())
        admitted = 0
        for _ in range(900):
            held = await ask(limiter, REQUESTS)
            await asyncio.sleep(0.02)
            if held is not None:
                admitted += 1
                held.settle([1])
        assert admitted == 500
        metrics.render()
        assert metrics.limit_admissions.at("shares").value > 300
        assert metrics.limit_admissions.at("shares").value + metrics.limit_admissions.at("memory").value == 500
        running.cancel()

    run_virtually(main())


def test_no_slot_lies_idle_in_a_share_while_others_are_in_use() -> None:
    """Of slots that long requests hold all can be had, though a part of them was taken ahead of need."""

    async def main() -> None:
        limiter, _ = counting(Metrics())
        running = asyncio.create_task(limiter.run())
        many, admitted = [Charge(Bucket("policy", "slots", Slots(100)), 1)], 0
        for _ in range(200):
            admitted += await ask(limiter, many) is not None
            await asyncio.sleep(0.02)
        assert limiter.tally.from_shares > 0
        assert admitted == 100
        running.cancel()

    run_virtually(main())


def test_a_clock_that_steps_frees_nothing_that_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    """A laptop that slept for some minutes has no slots that it had not before."""
    ahead = 0
    monkeypatch.setattr(room, "unix_ms", lambda: 1_796_000_000_000 + ahead)

    async def main() -> None:
        nonlocal ahead
        limiter, _ = counting(Metrics())
        assert await ask(limiter, SLOTS) is not None
        ahead = 300_000
        assert await ask(limiter, SLOTS) is None

    run_virtually(main())


def test_what_has_ended_is_free_at_once() -> None:
    """A client that asks again in the same moment in which its answer ended finds the slot free."""

    async def main() -> None:
        limiter, _ = counting(Metrics())
        for _ in range(5):
            held = await ask(limiter, SLOTS)
            assert held is not None
            assert await ask(limiter, SLOTS) is None
            held.settle([0])

    run_virtually(main())
