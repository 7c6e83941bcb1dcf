"""A revision that is tried has a queue of its own: what its workers take is its share, and nothing is left in it."""

import asyncio
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from capstan_contract.config import Canary, Dispatch, ModelEntry, ModelQueue, StaticBackend
from capstan_contract.names import CANARY, STABLE, canary_id
from fakes.openai_upstream import FakeUpstream
from support.gateway import RunningGateway, entry
from support.queue_taker import Job, completion, queue_worker
from support.queued import QUEUED, gateway_of
from support.redis_server import RedisServer
from support.wait import eventually

pytestmark = pytest.mark.redis
MODEL = "test/chat"
ASKED: Any = {"model": "chat", "messages": [{"role": "user", "content": "hello"}]}


def model(stable: str, canary: str, weight: float, queue: ModelQueue = QUEUED) -> ModelEntry:
    """Give a model of two revisions, at these addresses; an empty one is none."""
    tried = Canary(id="r2-1", revision="r2", weight=weight, backend=StaticBackend(urls=(canary,) if canary else ()))
    return entry("chat", stable, queue=queue, revision="r1", canary=tried)


async def who(gateway: RunningGateway, count: int) -> Counter[str]:
    """Ask so often at once, and count which revisions answer."""
    async with gateway.client() as client:
        asking = (client.chat.completions.with_raw_response.create(**ASKED) for _ in range(count))
        return Counter([raw.headers["x-capstan-track"] for raw in await asyncio.gather(*asking)])


async def answer(job: Job) -> None:
    """Answer."""
    await job.answer(completion("there"))


@pytest.mark.parametrize("dispatch", [Dispatch.QUEUE, Dispatch.AUTO])
async def test_the_share_is_the_same_whichever_way_requests_go(
    store: RedisServer, tmp_path: Path, dispatch: Dispatch
) -> None:
    """Workers of the canary take from its queue, and those of the stable revision from theirs: by weight."""
    queue = ModelQueue(dispatch=dispatch, places=1)
    async with (
        FakeUpstream() as stable,
        FakeUpstream() as canary,
        gateway_of(store, tmp_path, model(stable.url, canary.url, 50, queue)) as gateway,
        queue_worker(store.port, answer, model=MODEL),
        queue_worker(store.port, answer, model=canary_id(MODEL)),
    ):
        asked = await who(gateway, 40)
        assert abs(asked[CANARY] - 20) <= 5
        if dispatch is Dispatch.QUEUE:
            assert not stable.requests
            assert not canary.requests
            assert set(gateway.gateway.queues.lines) == {MODEL, canary_id(MODEL)}  # type: ignore[union-attr]
        await gateway.configure(model(stable.url, canary.url, 0, queue))
        assert await who(gateway, 20) == {STABLE: 20}


async def test_what_waits_for_workers_that_are_gone_is_answered_by_the_stable_revision(
    store: RedisServer, tmp_path: Path
) -> None:
    """The canary is taken away, pods and all, while requests wait in its queue: none of them fails."""
    async with (
        FakeUpstream() as stable,
        FakeUpstream() as canary,
        gateway_of(store, tmp_path, model(stable.url, canary.url, 100)) as gateway,
        queue_worker(store.port, answer, model=MODEL),
    ):
        asking = asyncio.create_task(who(gateway, 5))
        waiting = store.client()
        await eventually(lambda: len(list(waiting.scan_iter("*entry:*"))) == 5, what="entries that wait")
        await gateway.configure(model(stable.url, "", 0))
        assert await asking == {STABLE: 5}
        await eventually(lambda: not list(waiting.scan_iter("*entry:*")), what="an empty queue")
        assert not canary.requests


async def test_what_is_asked_of_a_model_is_asked_of_both_revisions(store: RedisServer, tmp_path: Path) -> None:
    """Whoever scales the stable pods sees all requests, or those could not take them back."""
    go = asyncio.Event()

    async def wait(job: Job) -> None:
        await go.wait()
        await answer(job)

    async with (
        FakeUpstream() as stable,
        FakeUpstream() as canary,
        gateway_of(store, tmp_path, model(stable.url, canary.url, 100)) as gateway,
        queue_worker(store.port, wait, model=canary_id(MODEL)),
    ):
        asking = asyncio.create_task(who(gateway, 3))

        def demand() -> int:
            report = gateway.gateway.demand.report()
            assert set(report.models) == {MODEL}
            return report.models[MODEL].inFlight

        await eventually(lambda: demand() == 3, what="three requests in flight")
        go.set()
        assert await asking == {CANARY: 3}
        assert gateway.gateway.demand.report().models[MODEL].arrived == 3
