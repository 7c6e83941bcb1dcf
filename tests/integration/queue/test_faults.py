"""Faults under load: `bench/faults.py` in short, each fault once, one after the other in one world."""

from pathlib import Path

import pytest

from support.fault_kinds import FAULTS
from support.fault_load import End, Load
from support.fault_rounds import settle, well
from support.fault_world import world

pytestmark = pytest.mark.redis

RATE = 4.0
SHORT = (
    "worker-killed", "gateway-killed", "redis-killed", "redis-full", "gateway-refused", "worker-parted", "clock-redis",
    "engine-hung", "engine-killed", "redis-emptied",
)  # fmt: skip


async def test_whatever_breaks_nothing_is_lost_or_answered_twice(tmp_path: Path) -> None:
    """Whatever is killed, parted, full or set wrong: every client has a whole answer, or is told in time that it has
    none; nobody is answered twice, engines begin with nothing that was answered, and nothing is left in Redis."""
    async with world(tmp_path, clocks=True) as made:
        async with Load(made.gateways, rate=RATE) as load:
            await well(load)
            for name in SHORT:
                load.phase = name
                await FAULTS[name].strike(made, 0)
                await well(load)
        outcome = await settle(made, load)
    found = outcome.verdict
    assert (found.lost, found.duplicated, found.ran_on, outcome.left) == ([], [], [], [])
    assert found.queued > 0
    assert found.ends[End.ANSWERED] > sum(found.ends.values()) / 2, found.details
