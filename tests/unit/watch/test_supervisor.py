"""Watches that end begin again, each by itself."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Literal

from capstan_operator.api.kinds import LLM_MODELS
from capstan_operator.backoff import Backoff
from capstan_operator.kube.errors import Forbidden
from capstan_operator.metrics import Metrics
from capstan_operator.watch.supervisor import Rhythm, WatchSupervisor
from fakes.kube import FakeKube
from support.wait import eventually

QUICK = Rhythm(backoff=Backoff(first=0.01, factor=1.0, most=0.01), settled=0.05)


class World:
    """Namespaces, and watches in them that end when they are told to."""

    def __init__(self, *namespaces: str, rhythm: Rhythm = QUICK) -> None:
        self.kube = FakeKube(LLM_MODELS)
        self.begun: Counter[str | None] = Counter()
        self.running: set[str | None] = set()
        self.broken: set[str | None] = set()
        """Namespaces whose watches end as soon as they begin."""
        self.events: list[tuple[str, str, str]] = []
        self.ends: dict[str | None, asyncio.Event] = {}
        self.metrics = Metrics()
        self.supervisor = WatchSupervisor(
            self.kube, namespaces=namespaces, watch=self.watch, tell=self.tell, metrics=self.metrics, rhythm=rhythm
        )

    async def watch(self, namespace: str | None) -> None:
        """Watch until the namespace is broken."""
        self.begun[namespace] += 1
        if namespace in self.broken:
            raise PermissionError("may not watch")
        self.running.add(namespace)
        try:
            await self.ends.setdefault(namespace, asyncio.Event()).wait()
            raise ConnectionError("lost")
        finally:
            self.running.discard(namespace)
            self.ends.pop(namespace, None)

    def tell(self, type_: Literal["Normal", "Warning"], reason: str, note: str, /) -> None:
        """Keep an Event."""
        self.events.append((type_, reason, note))


@asynccontextmanager
async def running(world: World) -> AsyncIterator[None]:
    """Run the supervisor; it must not end."""
    task = asyncio.create_task(world.supervisor.run())
    try:
        yield
        assert not task.done()
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
    assert not world.running


async def test_a_watch_that_ends_begins_again_and_no_other_one_notices() -> None:
    """An error of the watch in one namespace is told, counted, and mended; the other namespace stays watched."""
    world = World("a", "b")
    async with running(world):
        await eventually(lambda: world.running == {"a", "b"})
        world.ends["a"].set()
        await eventually(lambda: world.begun["a"] == 2 and world.running == {"a", "b"})
        await eventually(lambda: not world.supervisor.unwatched, what="the watch to be trusted again")
        assert world.begun["b"] == 1
    assert [reason for _, reason, _ in world.events] == ["WatchFailed", "WatchRestored"]
    assert "the namespace 'a'" in world.events[0][2]
    assert b'watch_failures_total{error="ConnectionError"} 1.0' in world.metrics.render()


async def test_a_namespace_that_cannot_be_listed_is_left_out_until_it_can() -> None:
    """Where LLMModels may not be listed no watch is tried; when they may, the namespace is watched again."""
    world = World("a", "gone")
    world.kube.faults["list", LLM_MODELS.plural, "gone", ""] = Forbidden("no such right", status=403)
    async with running(world):
        await eventually(lambda: world.kube.calls["list", LLM_MODELS.plural] > 5)
        assert world.running == {"a"}
        assert world.begun["gone"] == 0
        assert world.supervisor.notes() == ["the namespace 'gone' is not watched: no such right"]
        assert [reason for _, reason, _ in world.events] == ["WatchFailed"]
        world.kube.faults.clear()
        await eventually(lambda: not world.supervisor.unwatched)
        assert world.running == {"a", "gone"}


async def test_a_watch_that_ends_at_once_again_and_again_is_told_once() -> None:
    """Where lists are allowed and watches are not, nothing flaps: one Event, a namespace that counts as unwatched."""
    world = World(rhythm=Rhythm(backoff=Backoff(first=0.001, factor=1.0, most=0.001), settled=3600.0))
    world.broken.add(None)
    async with running(world):
        await eventually(lambda: world.begun[None] > 10)
        assert len(world.supervisor.unwatched) == 1
        assert world.supervisor.notes() == ["the cluster is not watched: may not watch"]
    assert [reason for _, reason, _ in world.events] == ["WatchFailed"]


async def test_a_watch_that_keeps_failing_backs_off() -> None:
    """Each failure in a row doubles the wait, so that a namespace that is gone costs next to nothing."""
    waits = Backoff(first=0.001, factor=1e6, most=3600.0)
    world = World(rhythm=Rhythm(backoff=waits, settled=3600.0))
    world.broken.add(None)
    async with running(world):
        await eventually(lambda: world.begun[None] == 2)
        for _ in range(20):
            await asyncio.sleep(0.01)
        assert world.begun[None] == 2
