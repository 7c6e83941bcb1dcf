"""When a worker asks Redis for entries."""

import asyncio
from random import Random
from typing import Any

import pytest

from capstan_contract.queue import scripts
from capstan_contract.queue.calls import Call, Queue, Taken
from capstan_contract.queue.names import queue_prefix
from capstan_worker.errors import QueueAway
from capstan_worker.queue.intake import SAFETY_SECONDS, Intake, Working
from capstan_worker.queue.load import EngineMeter
from support.queue_worker import ScriptedEngine
from support.virtualtime import run_virtually

PLACES = 8


class _Link:
    """A Redis in which so many entries of an urgent class, and so many of class batch, wait."""

    def __init__(self, urgent: int, batch: int) -> None:
        self.answers = True
        self.urgent, self.batch = urgent, batch
        self.takes: list[float] = []
        """When it was asked for entries."""

    async def run(self, call: Call) -> Any:
        """Give entries, or how many wait."""
        if call.script == scripts.RING:
            return self.urgent + self.batch
        assert call.script == scripts.TAKE
        self.takes.append(asyncio.get_running_loop().time())
        _, _, most, spare = (int(word) if isinstance(word, int) else 0 for word in call.arguments)
        urgent = min(most, self.urgent)
        batch = max(min(most - urgent, spare - urgent, self.batch), 0)
        self.urgent, self.batch = self.urgent - urgent, self.batch - batch
        return [[b"e", 1, 1, 1000, 0, b"{}", b""]] * urgent + [[b"b", 1, 3, 1000, 0, b"{}", b""]] * batch

    async def hear(self, key: str, seconds: float) -> bytes | None:
        """Hear nothing."""
        await asyncio.sleep(seconds)
        return None

    async def aclose(self) -> None:
        """Do nothing."""


class _Deaf(_Link):
    """One whose connection is lost together with what it has heard."""

    async def hear(self, key: str, seconds: float) -> bytes | None:
        """Lose the bell of an entry that has come."""
        await asyncio.sleep(1.0)
        self.urgent += 1
        raise QueueAway("away")


def test_an_end_while_it_asks_is_answered_at_once() -> None:
    """Where an entry ends while the worker takes others, and more wait than it has taken, it asks anew at once, though
    it had left nothing before."""

    async def run() -> float:
        running, asks = 1, 0

        async def start(_: Taken) -> None:
            nonlocal running
            running += 1

        class Slow(_Link):
            async def run(self, call: Call) -> Any:
                nonlocal running, asks
                asks += 1
                if asks == 2:
                    running -= 1
                    intake.wake()
                return await super().run(call)

            async def hear(self, key: str, seconds: float) -> bytes | None:
                return b""

        engine, link = ScriptedEngine(places=PLACES), Slow(0, 0)
        intake = _intake(engine, link, start, running=lambda: running)
        await intake.take_step()
        assert intake.room == PLACES - 1
        link.urgent = PLACES
        await intake.bell_step()
        await intake.take_step()
        began = asyncio.get_running_loop().time()
        await intake.take_step()
        assert link.urgent == 0
        return asyncio.get_running_loop().time() - began

    assert run_virtually(run()) == 0.0


def test_room_that_an_end_makes_is_told() -> None:
    """Also where nothing is asked, as nothing waits, an end leaves one place more; never more than there are."""

    async def run() -> None:
        intake = _intake(ScriptedEngine(places=PLACES, others=1), _Link(0, 0), None, running=lambda: 0)
        await intake.take_step()
        assert intake.room == PLACES - 1
        for _ in range(3):
            intake.wake()
        assert intake.room == PLACES

    run_virtually(run())


def test_a_bell_that_was_lost_with_its_connection_is_answered() -> None:
    """A worker whose Redis breaks off while it listens asks at once what has come, as the bell is nobody else's."""

    async def run() -> float:
        started: list[Taken] = []

        async def start(one: Taken) -> None:
            started.append(one)

        engine, link = ScriptedEngine(places=PLACES), _Deaf(0, 0)
        intake = _intake(engine, link, start, running=lambda: len(started))
        await intake.take_step()
        with pytest.raises(QueueAway):
            await intake.bell_step()
        before = asyncio.get_running_loop().time()
        await intake.take_step()
        assert len(started) == 1
        return asyncio.get_running_loop().time() - before

    assert run_virtually(run()) == 0.0


def _intake(engine: ScriptedEngine, link: _Link, start: Any, *, running: Any) -> Intake:
    """Make the intake of a worker."""
    working = Working(
        start=start, running=running, laden=lambda: False, hung=lambda: False, has=tuple, is_ready=lambda: None
    )
    meter, calls = EngineMeter(engine, places=PLACES), Queue(queue_prefix("default/chat"))
    return Intake(engine, link, meter, calls, "w", working, spare_percent=25, rng=Random(7))  # noqa: S311


def _asked_after_an_end(urgent: int, batch: int, *, others: int = 0) -> list[float]:
    """Let a worker take what there is room for, and an entry end a second later; give when it asked from then on."""

    async def run() -> list[float]:
        running = 0

        async def start(_: object) -> None:
            nonlocal running
            running += 1

        engine, link = ScriptedEngine(places=PLACES, others=others), _Link(urgent, batch)
        intake = _intake(engine, link, start, running=lambda: running)

        async def repeat(step: Any) -> None:
            while True:
                await step()

        tasks = [asyncio.create_task(repeat(step)) for step in (intake.take_step, intake.bell_step)]
        # Behind the look for room that a full worker takes after a quarter of a second.
        await asyncio.sleep(1.1)
        ended, before = asyncio.get_running_loop().time(), len(link.takes)
        running -= 1
        intake.wake()
        await asyncio.sleep(SAFETY_SECONDS + 1.0)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        return [round(one - ended, 3) for one in link.takes[before:]]

    return run_virtually(run())


@pytest.mark.parametrize(
    ("urgent", "batch", "others"),
    [(PLACES, 0, 0), (PLACES + 3, 0, 0), (0, PLACES, 0), (PLACES - 3, 5, 0), (1, 1, PLACES - 3)],
)
def test_room_that_an_end_makes_is_used_at_once(urgent: int, batch: int, others: int) -> None:
    """Where a worker had no room for any entry, also of class batch, it asks as soon as one of its own has ended."""
    assert _asked_after_an_end(urgent, batch, others=others)[0] == 0.0


@pytest.mark.parametrize(("urgent", "batch"), [(0, 0), (1, 0), (2, 3)])
def test_a_worker_that_has_left_nothing_waits_for_the_bell(urgent: int, batch: int) -> None:
    """Where it had room to spare for more than there was, an end tells nothing new: it asks again for safety alone."""
    asked = _asked_after_an_end(urgent, batch)
    assert asked
    assert asked[0] > 0.25
