"""Strikes a world that is under load, again and again, and says what became of the requests."""

import asyncio
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from support.fault_kinds import FAULTS, Fault
from support.fault_load import End, Load, Verdict, judge
from support.fault_world import DIRECT, QUEUED, World, world
from support.wait import eventually

SETTLED: Final = 6
"""So many answers of each model say that all is well again."""
CALM_SECONDS: Final = 3.0
"""Of load at least between two faults."""


@dataclass
class Outcome:
    """Of one kind of fault."""

    verdict: Verdict
    left: list[str]
    """Keys of requests in Redis, when all were over."""

    @property
    def failed(self) -> bool:
        """Whether something is as it must never be."""
        found = self.verdict
        return bool(found.lost or found.duplicated or found.ran_on or self.left or not found.ends[End.ANSWERED])


async def run_fault(name: str, folder: Path, *, times: int, rate: float) -> Outcome:
    """Strike so many times; give what became of all requests together."""
    fault = FAULTS[name]
    async with world(folder, clocks=fault.clocks) as made:
        return await strike(made, fault, times=times, rate=rate)


async def strike(made: World, fault: Fault, *, times: int, rate: float) -> Outcome:
    """Do it to a world that runs."""
    async with Load(made.gateways, rate=rate) as load:
        await well(load)
        for turn in range(times):
            await fault.strike(made, turn)
            await well(load)
    return await settle(made, load)


async def settle(made: World, load: Load) -> Outcome:
    """When all requests are over, wait until nothing of them is left; say what became of them."""
    # What a gateway has left that was killed is dropped a while later.
    left = await _left(made)
    return Outcome(judge(load.requests, made.ledger.read()), left)


async def well(load: Load) -> None:
    """Wait until requests that are sent from now on are answered, by the queue and directly."""
    since = time.monotonic()

    def answered(model: str) -> int:
        return sum(1 for one in load.requests if one.sent_at > since and one.end is End.ANSWERED and one.model == model)

    await asyncio.sleep(CALM_SECONDS)
    for model in (QUEUED, DIRECT):
        await eventually(lambda model=model: answered(model) >= SETTLED, every=0.1, what=f"answers of {model}")


async def _left(made: World) -> list[str]:
    try:
        await eventually(lambda: asyncio.to_thread(lambda: not made.left()), every=0.5, what="an empty queue")
    except AssertionError:
        return made.left()
    return []
