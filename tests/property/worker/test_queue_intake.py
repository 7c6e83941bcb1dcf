"""Nothing that waits is overlooked, and nobody looks all the time, whatever comes, ends, or is not heard."""

import asyncio
from collections.abc import Awaitable, Callable
from random import Random
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from capstan_contract.queue import scripts
from capstan_contract.queue.calls import Call, Queue, Taken
from capstan_contract.queue.names import PriorityClass, queue_prefix
from capstan_worker.errors import QueueAway
from capstan_worker.queue.intake import SAFETY_SECONDS, Intake, Working
from capstan_worker.queue.room import room_for, spare_room
from support.queue_worker import ScriptedEngine
from support.virtualtime import run_virtually

PLACES = 4
STEPS = st.lists(
    st.sampled_from(["urgent", "batch", "silent", "end", "direct", "direct ends", "away", "back"]), max_size=30
)


class World:
    """A Redis with one queue, an engine with a few places, and whoever else uses it."""

    def __init__(self) -> None:
        self.waiting: list[PriorityClass] = []
        self.running = 0
        self.direct = 0
        self.bells = 0
        self.calls = 0
        self.is_away = False
        self.rung = asyncio.Event()
        self.number = 0

    answers = True

    async def run(self, call: Call) -> Any:
        """Take, or pass a bell on."""
        self.calls += 1
        await asyncio.sleep(0.001)
        if self.is_away:
            raise QueueAway("away")
        if call.script == scripts.RING:
            if self.waiting:
                self.ring()
            return len(self.waiting)
        assert call.script in (scripts.TAKE, scripts.HAS)
        if call.script == scripts.HAS:
            return []
        most, spare = int(call.arguments[2]), int(call.arguments[3])
        chosen: list[PriorityClass] = []
        for one in sorted(self.waiting):
            if len(chosen) < (min(spare, most) if one == PriorityClass.BATCH else most):
                chosen.append(one)
                self.waiting.remove(one)
        if not self.waiting:
            self.bells = 0
        self.number += len(chosen)
        return [[f"{self.number}", 1, int(one), 60_000, 0, b"", b""] for one in chosen]

    async def hear(self, _key: str, seconds: float) -> bytes | None:
        """Wait for the bell."""
        self.calls += 1
        try:
            async with asyncio.timeout(seconds):
                while not self.bells:
                    self.rung.clear()
                    await self.rung.wait()
        except TimeoutError:
            return None
        if self.is_away:
            raise QueueAway("away")
        self.bells -= 1
        return b""

    async def aclose(self) -> None:
        """Nothing is open."""

    def ring(self) -> None:
        """Let one hear."""
        self.bells = min(self.bells + 1, 128)
        self.rung.set()

    async def start(self, _taken: Taken) -> None:
        """An entry is at the engine, which must have had room."""
        self.running += 1

    places = PLACES

    async def room(self, mine: int) -> int:
        """See `load.Meter`."""
        return room_for(PLACES, mine, told=max(PLACES - self.running - self.direct, 0))

    async def pulse(self) -> float | None:
        """Nobody asks."""
        return None

    def overlooked(self) -> bool:
        """Whether something waits that the worker should have."""
        room = max(PLACES - self.running - self.direct, 0)
        urgent = any(one < PriorityClass.BATCH for one in self.waiting)
        return (urgent and room > 0) or (bool(self.waiting) and spare_room(room, PLACES, 25) > 0)


async def _forever(step: Callable[[], Awaitable[None]]) -> None:
    while True:
        try:
            await step()
        except QueueAway:
            await asyncio.sleep(0.5)


async def _live(steps: list[str]) -> None:
    world = World()
    working = Working(
        start=world.start, running=lambda: world.running, laden=lambda: False, hung=lambda: False, has=set,
        is_ready=lambda: None,
    )  # fmt: skip
    intake = Intake(
        ScriptedEngine(),
        world,
        world,
        Queue(queue_prefix("a/b")),
        "w",
        working,
        spare_percent=25,
        rng=Random(3),  # noqa: S311
    )
    tasks = [asyncio.create_task(_forever(step)) for step in (intake.take_step, intake.bell_step)]
    for step in steps:
        match step:
            case "urgent" | "batch" | "silent":
                world.waiting.append(PriorityClass.BATCH if step == "batch" else PriorityClass.DEFAULT)
                if step != "silent":
                    world.ring()
            case "end" if world.running:
                world.running -= 1
                intake.wake()
            case "direct":
                world.direct += 1
            case "direct ends":
                world.direct = max(world.direct - 1, 0)
            case "away" | "back":
                world.is_away = step == "away"
        before = world.calls
        await asyncio.sleep(0.3)
        assert world.calls - before < 60, "it looks all the time"
    world.is_away = False
    await asyncio.sleep(2 * SAFETY_SECONDS)
    assert not world.overlooked(), (world.waiting, world.running, world.direct)
    assert world.running + world.direct <= PLACES + sum(step == "direct" for step in steps)
    while world.running:
        world.running -= 1
        intake.wake()
        await asyncio.sleep(0.3)
        assert not world.overlooked() or world.direct, (world.waiting, world.running)
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


@given(STEPS)
@settings(max_examples=60, deadline=None)
def test_whatever_happens_what_waits_is_taken_and_nobody_spins(steps: list[str]) -> None:
    """Entries that ring and that do not, ends, direct requests that come and go unseen, a Redis that is away: in the
    end nothing waits that there is room for, and in between the worker asks a bounded number of times."""
    run_virtually(_live(steps))
