"""Who counts a prompt for a decision: what one source does not tell, or not in time, harms no other request."""

import asyncio
import threading
from collections.abc import Callable, Mapping
from types import SimpleNamespace
from typing import Any

import pytest

from capstan_gateway.identity.principal import Principal
from capstan_gateway.life.threads import Threads
from capstan_gateway.pipeline.limits import exact
from capstan_gateway.pipeline.limits.exact import ExactCounts
from capstan_gateway.tokens.ratios import PromptRatios
from support.wait import eventually

SECONDS = 60.0
"""That a count may take: no busy machine takes so long, and no test waits for it."""


class Counter:
    """A tokenizer that waits until it may."""

    kind = "file"
    version = "v"

    def __init__(self) -> None:
        self.may = threading.Event()

    def count(self, _: Mapping[str, Any]) -> int:
        """Give 10."""
        self.may.wait()
        return 10


class World:
    """One model with a tokenizer and an engine, and who has counted."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, engine: Callable[..., Any], *, queued: int = 8) -> None:
        monkeypatch.setattr(exact, "ask_engine", engine)
        self.counter = Counter()
        self.counting = Threads("counting", queued=queued)
        self.by: list[str] = []
        endpoints = SimpleNamespace(states=(1,), held=None, lacks=lambda *_: False)
        self.model: Any = SimpleNamespace(
            id="m",
            upstream_name="m",
            plan=None,
            external=False,
            endpoints=endpoints,
            layers=(),
            isolates=False,
        )
        self.deps: Any = SimpleNamespace(
            loop_time=lambda: asyncio.get_running_loop().time(), counters=SimpleNamespace(of=lambda _: self.counter),
            counting=self.counting, executor=Threads("documents"),
        )  # fmt: skip
        self.counts = ExactCounts(self.deps, seconds=SECONDS, on_count=self.by.append)

    async def count(self, text: str, *, tenant: str = "a") -> int | None:
        """Count a prompt that is open."""
        request = SimpleNamespace(
            came=10, untranslatable=None, form=None, document={"messages": [{"role": "user", "content": text}]},
            route=SimpleNamespace(tasks=frozenset()),
        )  # fmt: skip
        ask: Any = SimpleNamespace(request=request, model=self.model, principal=Principal(tenant=tenant))
        return await self.counts.count(ask, self.model, 1000, PromptRatios(), lambda *_: True)


async def tells(*_: Any) -> int:
    """Count as an engine."""
    return 7


async def hangs(*_: Any) -> int:
    """Do not answer, until all the time has passed that there is."""
    let_pass()
    await asyncio.Event().wait()
    return 7


def let_pass() -> None:
    """Have the loop's clock say that all the time has passed that a count may take."""
    loop = asyncio.get_running_loop()
    now = loop.time
    loop.time = lambda: now() + SECONDS  # type: ignore[method-assign]


async def test_a_late_tokenizer_is_late_for_one_request(monkeypatch: pytest.MonkeyPatch) -> None:
    """The next one's prompt is counted: one client's large prompt takes exact counts from nobody else."""
    world = World(monkeypatch, tells)
    large = asyncio.create_task(world.count("large"))
    await eventually(lambda: world.counting._unfinished, what="the thread's work")
    let_pass()
    assert await large is None
    world.counter.may.set()
    await eventually(lambda: not world.counting._unfinished, what="the thread")
    assert (await world.count("small"), world.by) == (10, ["nobody", "file"])


async def test_where_the_thread_is_full_the_engine_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    """The first that can tell does, and the engine is not worse than nobody."""
    world = World(monkeypatch, tells, queued=0)
    first = asyncio.create_task(world.counting.run(world.counter.count, {}))
    await asyncio.sleep(0)
    assert (await world.count("a"), world.by) == (7, ["engine"])
    world.counter.may.set()
    assert await first == 10


async def test_an_engine_that_hangs_takes_no_tokenizer_away(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is not asked again for a while; who counts here goes on."""
    world = World(monkeypatch, hangs)
    world.counter.count = lambda _: None  # type: ignore[method-assign, assignment, return-value]
    assert await world.count("a") is None
    assert list(world.counts._paused) == ["m"]
    world.counter.count = lambda _: 10  # type: ignore[method-assign, assignment]
    assert (await world.count("b"), world.by) == (10, ["nobody", "file"])


async def test_a_prompt_whose_blocks_are_looked_for_is_made_into_tokens_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its count is that of the tokens that are kept for that; where they cannot be made it is counted as ever."""
    world = World(monkeypatch, tells)
    world.counter.may.set()
    made: list[Any] = [(1, 2, 3), None]

    async def made_here(*_: Any) -> Any:
        return made.pop(0)

    world.model.endpoints.held = object()
    world.deps.prompts = SimpleNamespace(made_here=made_here)
    assert [await world.count("one"), await world.count("two")] == [3, 10]
    assert world.by == ["file", "file"]


@pytest.mark.parametrize(("isolates", "by"), [(False, "cache"), (True, "file")])
async def test_a_count_is_found_again_by_its_tenant(monkeypatch: pytest.MonkeyPatch, isolates: bool, by: str) -> None:
    """Of a model that keeps tenants apart: how soon a prompt is decided tells no other tenant that it was asked."""
    world = World(monkeypatch, tells)
    world.counter.may.set()
    world.model.isolates = isolates
    for tenant in "aab":
        assert await world.count("hello", tenant=tenant) == 10
    assert world.by == ["file", "cache", by]
