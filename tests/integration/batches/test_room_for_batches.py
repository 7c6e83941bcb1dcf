"""When lines of batches are asked, and what happens when a gateway, Redis or the files go away meanwhile."""

import asyncio
import shutil
import threading
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any, ClassVar

import pytest

from capstan_gateway.batches import order, runner, work
from capstan_gateway.batches.names import Names
from capstan_gateway.batches.runner import MOST_HELD
from capstan_gateway.batches.work import MOST_TAKEN, Work
from capstan_gateway.identity.principal import EVERYBODY
from fakes.openai_upstream import FakeUpstream
from support.batches import Engine, begun, ended, gateway_on, line, results
from support.gateway import entry
from support.keys import key_entry, key_text
from support.queue_taker import Job, completion, queue_worker
from support.queued import QUEUED
from support.redis_server import RedisServer, redis_server
from support.wait import eventually

pytestmark = pytest.mark.redis
WIDE: Any = {"batch_spare_requests": 100}
TALK: Any = [{"role": "user", "content": "x"}]


@pytest.fixture
def engine() -> Engine:
    """An engine."""
    return Engine()


@pytest.fixture
async def upstream(engine: Engine) -> AsyncIterator[FakeUpstream]:
    """It, behind HTTP."""
    async with FakeUpstream(engine.respond) as fake:
        yield fake


@pytest.fixture
def server(tmp_path: Path) -> Iterator[RedisServer]:
    """A Redis of the test's own."""
    with redis_server(tmp_path) as running:
        yield running


class Seen(Work):
    """Work on a batch that can be looked at."""

    all: ClassVar[list["Seen"]] = []
    looks = 0
    """How often it was seen whether what is being asked may go on."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self.all.append(self)

    @property
    def _grace(self) -> float:
        self.looks += 1
        return super()._grace


@pytest.fixture
def works(monkeypatch: pytest.MonkeyPatch) -> list[Seen]:
    """All work on batches that a test's gateways do."""
    monkeypatch.setattr(runner, "Work", Seen)
    monkeypatch.setattr(Seen, "all", [])
    return Seen.all


async def test_lines_wait_behind_all_others(tmp_path: Path, server: RedisServer, upstream: FakeUpstream) -> None:
    """In a queue lines are of class batch, whatever they say themselves; requests of clients are not."""

    async def answer(job: Job) -> None:
        await job.answer(completion("there"))

    async with gateway_on(tmp_path, server, upstream) as gateway, gateway.client() as client:
        await gateway.configure(entry("m", upstream.url, queue=QUEUED))
        body = {"model": "m", "service_tier": "priority", "messages": [{"role": "user", "content": "hello"}]}
        batch = await begun(client, line(1, body=body), line(2, body=body))
        wait = {"model": "m"}
        await eventually(
            lambda: gateway.metric("gateway_queue_waiting", **wait, **{"class": "batch"}) == 2, what="two lines"
        )
        asking = asyncio.create_task(
            client.chat.completions.create(model="m", messages=[{"role": "user", "content": "x"}])
        )
        await eventually(
            lambda: gateway.metric("gateway_queue_waiting", **wait, **{"class": "default"}) == 1, what="a client"
        )
        async with queue_worker(server.port, answer, model="test/m"):
            await asking
            assert (await ended(client, batch.id)).request_counts.completed == 2


async def test_only_spare_room_is_taken(
    tmp_path: Path, server: RedisServer, upstream: FakeUpstream, engine: Engine
) -> None:
    """A model without a queue has as many lines in flight as are spare, and fewer where clients have some."""
    async with (
        gateway_on(tmp_path, server, upstream, batch_spare_requests=3, probe_seconds=0.0) as gateway,
        gateway.client() as client,
    ):
        engine.gate.clear()
        asking = [asyncio.create_task(client.chat.completions.create(model="m", messages=TALK)) for _ in range(2)]
        await eventually(lambda: len(engine.asked) == 2, what="two clients")
        batch = await begun(client, *(line(one) for one in range(12)))
        await eventually(lambda: len(engine.asked) == 3, what="the first line")
        await asyncio.sleep(0.5)
        assert len(engine.asked) == 3
        engine.gate.set()
        await asyncio.gather(*asking)
        over = await ended(client, batch.id)
        assert over.request_counts.completed == 12
        assert engine.most_at_once == 3


async def test_a_gateway_that_ends_hands_on(
    tmp_path: Path, server: RedisServer, upstream: FakeUpstream, engine: Engine, works: list[Seen]
) -> None:
    """A gateway that drains brings to an end what it asks and hands on the rest: no line is asked twice."""
    folders = tmp_path / "one", tmp_path / "two"
    for folder in folders:
        folder.mkdir()
    place = {"files_url": f"file://{tmp_path}/files"}
    async with (
        gateway_on(folders[0], server, upstream, **place) as first,
        gateway_on(folders[1], server, upstream, **place) as second,
        second.client() as client,
    ):
        second.gateway.drain()
        engine.gate.clear()
        batch = await begun(client, *(line(one) for one in range(60)))
        await eventually(lambda: len(engine.asked) >= 8, what="requests of the first")
        assert first.metric("gateway_batches_running") == 1
        second.gateway.requests.draining = False
        first.gateway.drain()
        await eventually(lambda: works[0].is_stopping, what="the first to notice")
        engine.gate.set()
        over = await ended(client, batch.id)
        assert over.status == "completed"
        assert len(await results(client, over.output_file_id)) == 60
        assert sorted(engine.asked) == sorted({*engine.asked})
        await eventually(lambda: second.metric("gateway_batches_total", status="completed") == 1, what="the count")


async def test_a_tenant_with_many_batches_leaves_room_for_another(
    tmp_path: Path,
    server: RedisServer,
    upstream: FakeUpstream,
    engine: Engine,
    works: list[Seen],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Where one tenant's batches have all places of a gateway, another tenant's gets one of them; what is being asked
    of the one that leaves it comes to its end all the same, however long that takes."""
    monkeypatch.setattr(work, "DRAIN_SECONDS", 0.1)
    async with gateway_on(tmp_path, server, upstream, insecure_no_auth=False, **WIDE) as gateway:
        keys = key_entry("one", tenant="acme"), key_entry("two", tenant="other")
        await gateway.configure(entry("m", upstream.url), keys=keys)
        engine.gate.clear()
        async with gateway.client(api_key=key_text("one")) as one, gateway.client(api_key=key_text("two")) as two:
            batches = [await begun(one, line(number)) for number in range(MOST_HELD + 1)]
            await eventually(lambda: len(engine.asked) == MOST_HELD, what="all places taken")
            batch = await begun(two, line(99, "of the other one"))
            await eventually(lambda: "of the other one" in engine.asked, what="the other tenant's turn")
            await eventually(lambda: any(one.looks > 2 for one in works), what="a look at what goes on")
            engine.gate.set()
            assert (await ended(two, batch.id)).status == "completed"
            for each in batches:
                assert (await ended(one, each.id)).status == "completed"
        assert sorted(engine.asked) == sorted({*engine.asked})


async def test_a_batch_that_waits_is_cancelled_at_once(
    tmp_path: Path, server: RedisServer, upstream: FakeUpstream, engine: Engine
) -> None:
    """A batch that nobody works on yet, because all places are taken, is cancelled all the same."""
    async with gateway_on(tmp_path, server, upstream, **WIDE) as gateway, gateway.client() as client:
        engine.gate.clear()
        for number in range(MOST_HELD):
            await begun(client, line(number))
        await eventually(lambda: len(engine.asked) == MOST_HELD, what="all places taken")
        batch = await begun(client, line(99))
        await client.batches.cancel(batch.id)
        assert (await ended(client, batch.id)).status == "cancelled"
        engine.gate.set()


async def test_to_cancel_goes_before_all_else(tmp_path: Path, server: RedisServer, upstream: FakeUpstream) -> None:
    """A batch that was cancelled, and whose time is over as well, is cancelled: what was not asked is in no file."""
    async with gateway_on(tmp_path, server, upstream) as gateway, gateway.client() as client:
        gateway.gateway.drain()
        batch = await begun(client, line(1))
        await client.batches.cancel(batch.id)
        room = gateway.gateway.batches
        assert room is not None
        room.batches.wall = lambda: batch.expires_at + 1.0
        gateway.gateway.requests.draining = False
        over = await ended(client, batch.id)
        assert (over.status, over.error_file_id) == ("cancelled", None)


async def test_a_batch_without_room_leaves_its_place(
    tmp_path: Path, server: RedisServer, upstream: FakeUpstream, engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Batches that wait for their limits to let them on hold nobody up for whom there is room."""
    for module in (order, runner):
        monkeypatch.setattr(module, "PATIENCE_SECONDS", 0.2)
    async with gateway_on(tmp_path, server, upstream, **WIDE) as gateway, gateway.client() as client:
        engine.fails["over its limit"] = [429] * 10_000
        for number in range(MOST_HELD):
            await begun(client, line(number, "over its limit"))
        await eventually(lambda: len(engine.asked) >= MOST_HELD, what="all places taken")
        batch = await begun(client, line(99))
        assert (await ended(client, batch.id)).request_counts.completed == 1


async def test_lines_that_wait_are_held_by_the_budget(
    tmp_path: Path, server: RedisServer, upstream: FakeUpstream, engine: Engine
) -> None:
    """Large lines are taken from the process' memory budget from when they are read, and given back when they end."""
    async with (
        gateway_on(tmp_path, server, upstream, batch_spare_requests=1) as gateway,
        gateway.client() as client,
    ):
        engine.gate.clear()
        batch = await begun(client, *(line(one, "x" * 200_000) for one in range(12)))
        await eventually(lambda: len(engine.asked) == 1, what="the first line")
        memory = gateway.gateway.memory
        await eventually(lambda: 12 * 200_000 < memory.held < 8_000_000, what="memory for the lines that wait")
        await client.batches.cancel(batch.id)
        await ended(client, batch.id)
        await eventually(lambda: memory.held == 0, what="all of it given back")


async def test_lines_that_are_too_long_by_now(
    tmp_path: Path, server: RedisServer, upstream: FakeUpstream, engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A batch that was checked by a gateway which takes longer lines fails, and gives what is done."""
    monkeypatch.setattr(work, "DRAIN_SECONDS", 0.1)
    (tmp_path / "other").mkdir()
    place = {"files_url": f"file://{tmp_path}/files"}
    async with (
        gateway_on(tmp_path, server, upstream, **place) as first,
        gateway_on(tmp_path / "other", server, upstream, **place, max_body_bytes=100_000) as second,
        first.client() as client,
    ):
        second.gateway.drain()
        engine.gate.clear()
        batch = await begun(client, line(1), line(2, "x" * 200_000))
        await eventually(lambda: len(engine.asked) == 2, what="both lines")
        first.gateway.drain()
        second.gateway.requests.draining = False
        async with asyncio.timeout(60):
            while first.metric("gateway_batches_running"):  # noqa: ASYNC110
                await asyncio.sleep(0.1)
        over = await ended(client, batch.id)
        assert over.status == "failed"
        assert [fault.code for fault in over.errors.data] == ["line_too_long"]


async def test_redis_that_does_not_answer_holds_a_batch_up(
    tmp_path: Path, server: RedisServer, upstream: FakeUpstream, engine: Engine
) -> None:
    """While Redis is away a batch waits; afterwards it is completed, with each line once."""
    async with gateway_on(tmp_path, server, upstream, redis_seconds=2.0) as gateway, gateway.client() as client:
        room = gateway.gateway.batches
        assert room is not None
        room.batches.lease_seconds = 2.0
        engine.gate.clear()
        batch = await begun(client, *(line(one) for one in range(40)))
        await eventually(lambda: len(engine.asked) >= 8, what="some requests")
        server.pause()
        try:
            engine.gate.set()
            await eventually(lambda: gateway.metric("gateway_batches_running") == 0, what="the end of work")
        finally:
            server.go_on()
        over = await ended(client, batch.id)
        assert over.status == "completed"
        assert len(await results(client, over.output_file_id)) == 40


async def test_a_batch_that_nobody_can_do_ends(
    tmp_path: Path, server: RedisServer, upstream: FakeUpstream, engine: Engine
) -> None:
    """A batch at which everybody has failed again and again fails, with an error for each line; one that cannot be
    ended like that either fails with what it has."""
    async with gateway_on(tmp_path, server, upstream) as gateway, gateway.client() as client:
        gateway.gateway.drain()
        batches = [await begun(client, line(1), line(2)) for _ in range(2)]
        for batch, taken in zip(batches, (MOST_TAKEN, 2 * MOST_TAKEN), strict=True):
            server.client().hset(Names.of(EVERYBODY).batch(batch.id), "taken", taken)
        gateway.gateway.requests.draining = False
        ends = [await ended(client, batch.id) for batch in batches]
        assert [(one.status, one.errors.data[0].code) for one in ends] == [("failed", "batch_abandoned")] * 2
        errors = await results(client, ends[0].error_file_id)
        assert {name: one["error"]["code"] for name, one in errors.items()} == {
            "line-1": "batch_abandoned", "line-2": "batch_abandoned",
        }  # fmt: skip
        assert ends[0].request_counts.model_dump() == {"total": 2, "completed": 0, "failed": 2}
        assert (ends[1].error_file_id, engine.asked) == (None, [])


async def test_models_are_asked_for_in_their_own_thread(
    tmp_path: Path, server: RedisServer, upstream: FakeUpstream, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Lines are checked beside the loop; what the config knows is looked up in the thread of the loop."""
    async with gateway_on(tmp_path, server, upstream) as gateway, gateway.client() as client:
        room, threads = gateway.gateway.batches, []
        assert room is not None
        asks = room._asks.result()
        real = asks.has_model

        def noted(*arguments: Any) -> bool:
            threads.append(threading.current_thread())
            return real(*arguments)

        monkeypatch.setattr(asks, "has_model", noted)
        assert (await ended(client, (await begun(client, line(1))).id)).status == "completed"
        assert threads == [threading.current_thread()]


async def test_an_input_that_is_gone(tmp_path: Path, server: RedisServer, upstream: FakeUpstream) -> None:
    """A batch whose input file was lost fails, and says so."""
    async with gateway_on(tmp_path, server, upstream) as gateway, gateway.client() as client:
        file = await client.files.create(file=("in.jsonl", b"{}\n"), purpose="batch")
        shutil.rmtree(tmp_path / "files" / Names.of(EVERYBODY).folder(file.id))
        batch = await client.batches.create(
            input_file_id=file.id, endpoint="/v1/chat/completions", completion_window="24h"
        )
        over = await ended(client, batch.id)
        assert over.status == "failed"
        assert [fault.code for fault in over.errors.data] == ["input_file_not_found"]
