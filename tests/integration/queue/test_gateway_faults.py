"""Queued requests when something goes away, and gateways that share a queue."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx2
import openai
import pytest

from capstan_contract.config import Dispatch, ModelQueue, Timeouts
from capstan_contract.demand import DEMAND_PATH, read_demand
from capstan_contract.queue.calls import Bounds, Call, Queue
from capstan_contract.queue.names import PriorityClass, queue_prefix
from capstan_gateway.queueing import reader, room
from fakes.openai_upstream import FakeUpstream, Received, Wire, completion
from support.gateway import entry
from support.gateway_process import gateway_process
from support.keys import key_entry, key_text
from support.queue_taker import EVENTS, Job, queue_worker, reply
from support.queued import ASKED, QUEUED, SOON, gateway_of
from support.redis_server import RedisServer, redis_server
from support.wait import eventually

pytestmark = pytest.mark.redis

AUTO = ModelQueue(places=1)
PATIENT = entry("chat", queue=QUEUED, timeouts=Timeouts(totalSeconds=120))


@pytest.fixture
async def engine() -> AsyncIterator[FakeUpstream]:
    """An engine that answers at once, unless a test says otherwise."""
    async with FakeUpstream() as fake:
        yield fake


def ask(client: openai.AsyncOpenAI, **more: Any) -> "asyncio.Task[Any]":
    """Ask for an answer in one piece."""
    return asyncio.create_task(client.chat.completions.create(**ASKED, **more))


def text_of(answer: Any) -> str:
    """Give what was answered."""
    return str(answer.choices[0].message.content)


def entries(store: RedisServer) -> list[dict[bytes, bytes]]:
    """Give the entries that Redis has."""
    client = store.client()
    return [client.hgetall(key) for key in client.scan_iter("*:entry:*")]


async def test_redis_comes_back_without_its_latest_writes(tmp_path: Path) -> None:
    """A stream that had begun before a Redis came back that knows nothing of that ends with an error: nobody gets the
    beginning of an answer twice, though the entry is there to be taken."""
    takings = 0
    begun = asyncio.Event()

    async def answer(job: Job) -> None:
        nonlocal takings
        takings += 1
        await job.head(content_type=EVENTS)
        await job.chunk("one ")
        if takings == 1:
            await job.unwanted.wait()
        else:
            await job.chunk("two")
            await job.finish()

    with redis_server(tmp_path) as own:
        async with gateway_of(own, tmp_path) as gateway, gateway.client() as client:
            said: list[str] = []

            async def listen() -> None:
                async for chunk in await client.chat.completions.create(**ASKED, stream=True):
                    said.append(chunk.choices[0].delta.content or "")
                    begun.set()

            listening = asyncio.create_task(listen())
            await eventually(lambda: len(entries(own)) == 1, what="the entry")
            own.client().save()
            async with queue_worker(own.port, answer):
                await asyncio.wait_for(begun.wait(), 60)
                own.kill()
                own.start()
                with pytest.raises(openai.APIError):
                    await asyncio.wait_for(listening, 60)
    assert (said, takings) == (["one "], 2)


async def test_a_gateway_that_was_silent_puts_in_again_what_was_dropped(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was dropped of a gateway that was taken for dead, and is not, is in the queue again after its next beat, and
    so is what somebody else has deleted; it is answered long before its deadline."""
    monkeypatch.setattr(reader, "LOOK_SECONDS", 3600.0)
    with redis_server(tmp_path) as own, own.client() as seen:
        async with gateway_of(own, tmp_path) as gateway, gateway.client() as client:
            asking = ask(client)
            await eventually(lambda: len(entries(own)) == 1, what="the entry")
            calls = Queue(queue_prefix("test/chat"))
            sweep = calls.sweep()
            (name,) = seen.zrange(f"{calls.prefix}alive", 0, -1)
            with seen.pipeline() as pipe:
                pipe.zadd(f"{calls.prefix}alive", {name: 1})
                pipe.eval(sweep.script, 1, *sweep.keys, *sweep.arguments)
                pipe.execute()
            assert not entries(own)
            await eventually(lambda: len(entries(own)) == 1, what="the entry once more")
            monkeypatch.setattr(reader, "LOOK_SECONDS", 0.1)
            seen.delete(*seen.scan_iter("*:entry:*"))
            await eventually(lambda: len(entries(own)) == 1, what="the entry for the third time")
            async with queue_worker(own.port, reply):
                assert text_of(await asking) == "one two three"


async def test_an_entry_that_only_redis_takes_for_expired(store: RedisServer, tmp_path: Path) -> None:
    """Where the clock of Redis was put forward, what is expired there alone is put in again and answered."""
    async with gateway_of(store, tmp_path, PATIENT) as gateway, gateway.client() as client:
        asking = ask(client)
        await eventually(lambda: len(entries(store)) == 1, what="the entry")
        with store.client() as seen:
            (key,) = seen.scan_iter("*:entry:*")
            seen.hset(key, "d", 1)
        async with queue_worker(store.port, reply):
            assert text_of(await asking) == "one two three"


async def test_an_entry_that_redis_has_given_up(
    store: RedisServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """When a worker finds that it is gone, its gateway puts it in again, long before gateways look by themselves."""
    monkeypatch.setattr(reader, "LOOK_SECONDS", 3600.0)
    async with gateway_of(store, tmp_path, PATIENT) as gateway, gateway.client() as client:
        asking = ask(client)
        await eventually(lambda: len(entries(store)) == 1, what="the entry")
        with store.client() as seen:
            seen.delete(*seen.scan_iter("*:entry:*"))
        async with queue_worker(store.port, reply):
            assert text_of(await asking) == "one two three"


async def test_redis_is_killed_and_back(tmp_path: Path) -> None:
    """What waits when Redis is killed, and loses its memory, is put in again and answered when it is back."""
    with redis_server(tmp_path) as own:
        async with gateway_of(own, tmp_path) as gateway, gateway.client() as client:
            asking = [ask(client) for _ in range(3)]
            await eventually(lambda: len(entries(own)) == 3, what="the entries")
            own.kill()
            own.start()
            await eventually(lambda: len(entries(own)) == 3, what="the entries again")
            async with queue_worker(own.port, reply):
                assert {text_of(one) for one in await asyncio.gather(*asking)} == {"one two three"}


async def test_redis_is_killed_in_the_middle_of_a_stream(tmp_path: Path) -> None:
    """A stream of which the client has a part ends with an error when Redis has forgotten it, and is not begun anew."""

    async def answer(job: Job) -> None:
        await job.head(content_type=EVENTS)
        await job.chunk("one ")
        await job.unwanted.wait()

    with redis_server(tmp_path) as own:
        async with gateway_of(own, tmp_path) as gateway, gateway.client() as client, queue_worker(own.port, answer):
            stream = await client.chat.completions.create(**ASKED, stream=True)
            assert (await anext(stream)).choices[0].delta.content == "one "
            own.kill()
            own.start()
            with pytest.raises(openai.APIError, match="broke off"):
                await anext(stream)
            assert not entries(own)


async def test_without_redis_requests_go_directly(tmp_path: Path, engine: FakeUpstream) -> None:
    """While Redis is away an engine is asked as it is without a queue, also where all are to be queued."""
    model = entry("chat", engine.url, queue=ModelQueue(dispatch=Dispatch.QUEUE), timeouts=SOON)
    with redis_server(tmp_path) as own:
        async with gateway_of(own, tmp_path, model) as gateway, gateway.client() as client:
            async with queue_worker(own.port, reply):
                assert text_of(await ask(client)) == "one two three"
            own.kill()
            assert text_of(await ask(client)) == "Hello there"
            assert len(engine.requests) == 1


async def test_a_long_outage(tmp_path: Path, engine: FakeUpstream, monkeypatch: pytest.MonkeyPatch) -> None:
    """What waits in a Redis that stays away is sent to an endpoint, once there is one."""
    monkeypatch.setattr(room, "AWAY_SECONDS", 0.2)
    with redis_server(tmp_path) as own:
        async with gateway_of(own, tmp_path) as gateway, gateway.client() as client:
            asking = ask(client)
            await eventually(lambda: bool(entries(own)), what="the entry")
            own.kill()
            await gateway.configure(entry("chat", engine.url, queue=ModelQueue(dispatch=Dispatch.QUEUE)))
            assert text_of(await asking) == "Hello there"


async def test_a_queue_that_nobody_takes_from(
    store: RedisServer, tmp_path: Path, engine: FakeUpstream, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where all are to be queued and no worker is there, whoever has waited for a while is sent to the endpoint."""
    monkeypatch.setattr(room, "AWAY_SECONDS", 0.2)
    model = entry("chat", engine.url, queue=QUEUED, timeouts=SOON)
    async with gateway_of(store, tmp_path, model) as gateway, gateway.client() as client:
        assert text_of(await ask(client)) == "Hello there"
    assert not entries(store)


async def test_a_queue_that_cannot_be_read_ends_no_beats(
    store: RedisServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A reply that makes no sense is logged, and the queues of other models are looked at as ever."""
    models = [entry(name, queue=QUEUED, timeouts=SOON) for name in ("odd", "well")]
    async with gateway_of(store, tmp_path, *models) as gateway:
        queues = gateway.gateway.queues
        odd, well = (queues.line(f"test/{name}", name) for name in ("odd", "well"))
        await eventually(lambda: well.state is not None, what="the state")

        async def senseless(_: Call) -> Any:
            return [b"it makes no sense"]

        with monkeypatch.context() as patched:
            patched.setattr(odd, "run", senseless)
            await queues.look()
            assert odd.state is None
            assert well.state is not None
        await eventually(lambda: odd.state is not None, what="a reply that makes sense")
        assert well.state is not None


async def test_redis_comes_back_while_a_request_waits_for_an_endpoint(tmp_path: Path) -> None:
    """A request that came while Redis was away, of a model at zero, waits in memory until one of the two is there."""
    with redis_server(tmp_path) as own:
        async with gateway_of(own, tmp_path, endpoint_wait_seconds=60.0) as gateway, gateway.client() as client:
            async with queue_worker(own.port, reply):
                await ask(client)
            own.kill()
            asking = ask(client)
            await eventually(lambda: gateway.gateway.demand.report().models["test/chat"].waiting == 1, what="the wait")
            own.start()
            async with queue_worker(own.port, reply) as worker:
                assert text_of(await asking) == "one two three"
            assert len(worker.seen) == 1


class Held:
    """Lets an engine have requests until it is told to answer."""

    def __init__(self, engine: FakeUpstream) -> None:
        self.go = asyncio.Event()
        engine.respond = self._respond

    async def _respond(self, request: Received, wire: Wire) -> None:
        await self.go.wait()
        await wire.json(completion("chat"))


async def test_auto(store: RedisServer, tmp_path: Path, engine: FakeUpstream) -> None:
    """The engine gets as many as it has places for, and what is more goes to a worker by the queue."""
    held = Held(engine)
    async with (
        gateway_of(store, tmp_path, entry("chat", engine.url, queue=AUTO, timeouts=SOON)) as gateway,
        gateway.client() as client, queue_worker(store.port, reply),
    ):  # fmt: skip
        first = ask(client)
        await eventually(lambda: len(engine.requests) == 1, what="the engine's request")
        line = gateway.gateway.queues.lines["test/chat"]
        await eventually(lambda: line.state is not None and line.state.workers == 1, what="the worker")
        assert text_of(await ask(client)) == "one two three"
        held.go.set()
        assert text_of(await first) == "Hello there"
        assert len(engine.requests) == 1


async def test_auto_counts_what_workers_have(store: RedisServer, tmp_path: Path, engine: FakeUpstream) -> None:
    """An engine that is full of queued work gets nothing directly, as long as another one has a place; when none has,
    the next request waits in the queue, and is said to wait."""
    go = asyncio.Event()

    async def answer(job: Job) -> None:
        await job.head(content_type=EVENTS)
        await job.chunk("one")
        await go.wait()
        await job.finish()

    async with FakeUpstream() as full:
        engines = entry("chat", full.url, engine.url, queue=AUTO, timeouts=Timeouts(totalSeconds=120))
        address = full.url.removeprefix("http://")
        async with (
            gateway_of(store, tmp_path, engines) as gateway, gateway.client() as client,
            queue_worker(store.port, answer, places=1, address=address) as worker,
        ):  # fmt: skip
            both = [Held(full), Held(engine)]
            first = [ask(client), ask(client)]
            await eventually(lambda: (len(full.requests), len(engine.requests)) == (1, 1), what="one request at each")
            line = gateway.gateway.queues.lines["test/chat"]

            async def is_taken_for() -> bool:
                await gateway.gateway.queues.look()
                return line.state is not None and line.state.workers == 1

            await eventually(is_taken_for, what="the worker, as the gateway knows of it")
            queued = ask(client, stream=True)
            await eventually(lambda: line.at == {address: 1}, what="the beginning of the queued answer")
            for held in both:
                held.go.set()
            await asyncio.gather(*first)
            await gateway.gateway.queues.look()

            def one_runs() -> bool:
                # An answer is read by its client a moment before its place is free.
                return gateway.gateway.demand.report().models["test/chat"].inFlight == 1

            for _ in range(8):
                await eventually(one_runs, what="a free place")
                await ask(client)
            assert (len(full.requests), len(engine.requests)) == (1, 9)
            await eventually(one_runs, what="a free place")
            both[1].go.clear()
            last = ask(client)
            await eventually(lambda: len(engine.requests) == 10, what="the last free place")
            waiting = ask(client, stream=True)
            await eventually(lambda: len(line.entries) == 2, what="the one that waits")
            assert len(worker.seen) == 1
            said = gateway.gateway.demand.report().models["test/chat"]
            assert (said.inFlight, said.waiting) == (2, 1)  # though Redis was asked before
            both[1].go.set()
            go.set()
            for stream in (await queued, await waiting):
                assert "".join([chunk.choices[0].delta.content or "" async for chunk in stream]) == "one"
            assert (await last).choices
        assert line.at == {}


async def test_auto_without_workers(store: RedisServer, tmp_path: Path, engine: FakeUpstream) -> None:
    """An engine that no worker takes for gets its requests directly, full or not: they would wait in vain."""
    held = Held(engine)
    model = entry("chat", engine.url, queue=AUTO, timeouts=SOON)
    async with gateway_of(store, tmp_path, model) as gateway, gateway.client() as client:
        first = ask(client)
        await eventually(lambda: len(engine.requests) == 1, what="the engine's request")
        await eventually(lambda: gateway.gateway.queues.lines["test/chat"].state is not None, what="the state")
        second = ask(client)
        await eventually(lambda: len(engine.requests) == 2, what="the second request")
        held.go.set()
        assert text_of(await first) == text_of(await second) == "Hello there"


async def test_two_gateways(store: RedisServer, tmp_path: Path) -> None:
    """Gateways share a queue, and each gets the answers to what it has put in."""
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()

    async def answer(job: Job) -> None:
        await job.stream(job.body["messages"][0]["content"])

    async def say(client: openai.AsyncOpenAI, text: str) -> str:
        messages: Any = [{"role": "user", "content": text}]
        stream = await client.chat.completions.create(model="chat", messages=messages, stream=True)
        return "".join([chunk.choices[0].delta.content or "" async for chunk in stream])

    texts = [f"text {number}" for number in range(10)]
    async with (
        gateway_of(store, tmp_path / "a") as one, gateway_of(store, tmp_path / "b") as other,
        one.client() as first, other.client() as second, queue_worker(store.port, answer, places=2),
    ):  # fmt: skip
        said = await asyncio.gather(*(say(client, text) for text in texts for client in (first, second)))
    assert said == [text for text in texts for _ in range(2)]


async def test_what_a_dead_gateway_has_left_is_dropped(store: RedisServer, tmp_path: Path) -> None:
    """Entries of a gateway that has not said for long that it is there are swept away by another one."""
    calls, client = Queue(queue_prefix("test/chat")), store.client()
    call = calls.enqueue(
        "left", priority=PriorityClass.DEFAULT, tenant="t", weight=1.0, tokens=1, ttl_ms=60_000, gateway="dead",
        ask=b"{}", body=b"", bounds=Bounds(10, 1000, 60_000),
    )  # fmt: skip
    client.eval(call.script, len(call.keys), *call.keys, *call.arguments)
    client.zadd(f"{calls.prefix}alive", {"dead": 1})
    async with gateway_of(store, tmp_path) as gateway, gateway.client() as asking:
        waiting = ask(asking)
        await eventually(lambda: [one[b"o"] for one in entries(store)] not in ([], [b"dead"]), what="the own entry")
        await eventually(lambda: b"dead" not in {one[b"o"] for one in entries(store)}, what="the sweep")
        async with queue_worker(store.port, reply) as worker:
            assert text_of(await waiting) == "one two three"
        assert len(worker.seen) == 1


async def test_a_gateway_is_killed(store: RedisServer, tmp_path: Path) -> None:
    """What a killed gateway has left is dropped: what waits is taken by nobody, and who works on it is told to stop."""
    models = [entry("chat", queue=QUEUED)]
    (tmp_path / "other").mkdir()
    with gateway_process(tmp_path, models, "--redis-url", store.url, "--redis-seconds", "10") as killed:
        clients = [killed.client(), killed.client()]
        async with queue_worker(store.port, until_unwanted, places=1) as worker:
            asking = [ask(client) for client in clients]
            await eventually(lambda: len(worker.seen) == 1 and len(entries(store)) == 2, what="the entries")
            killed.process.kill()
            killed.process.wait(timeout=60)
            said = await asyncio.gather(*asking, return_exceptions=True)
            assert all(isinstance(one, openai.APIConnectionError) for one in said)
            alive = f"{queue_prefix('test/chat')}alive"
            (name,) = store.client().zrange(alive, 0, -1)
            store.client().zadd(alive, {name: 1})  # It has been silent for long.
            async with gateway_of(store, tmp_path / "other") as gateway, gateway.client() as client:
                last = ask(client)
                async with asyncio.timeout(60):
                    await worker.seen[0].unwanted.wait()
                await eventually(lambda: len(worker.seen) == 2, what="the other gateway's request")
                assert worker.seen[1].body["messages"] == ASKED["messages"]
                assert name not in {one[b"o"] for one in entries(store) if one[b"s"] == b"w"}
                last.cancel()


async def until_unwanted(job: Job) -> None:
    """Have it for as long as somebody wants it."""
    await job.unwanted.wait()


async def test_who_ends_in_order_says_so(store: RedisServer, tmp_path: Path) -> None:
    """A gateway that ends is not waited for: it is not among those that are there."""
    async with gateway_of(store, tmp_path) as gateway, gateway.client() as client, queue_worker(store.port, reply):
        await ask(client)
        alive = f"{queue_prefix('test/chat')}alive"
        (name,) = store.client().zrange(alive, 0, -1)
        until = store.client().zscore(alive, name)
    assert store.client().zscore(alive, name) < until


async def test_tiers(store: RedisServer, tmp_path: Path) -> None:
    """The tier of a key says how urgent its requests are, the client may lower that, and no tenant is named."""
    keys = [key_entry("rich", tier="premium", tenant="acme"), key_entry("poor", tenant="other")]
    settings = {"queue_tiers": ("premium=high:4",), "insecure_no_auth": False}
    async with gateway_of(store, tmp_path, keys=keys, **settings) as gateway:
        waiting = []
        for key, said in (("rich", "auto"), ("rich", "flex"), ("poor", "priority")):
            client = gateway.client(api_key=key_text(key))
            waiting.append(ask(client, service_tier=said))
            await eventually(lambda: len(entries(store)) == len(waiting), what="the entry")
        assert sorted(one[b"c"] for one in entries(store)) == [b"0", b"1", b"2"]
        assert len({one[b"t"] for one in entries(store)}) == 2
        assert b"acme" not in b"".join(value for one in entries(store) for value in one.values())
        for one in waiting:
            one.cancel()
        await eventually(lambda: not entries(store), what="the end of the entries")


async def test_demand(store: RedisServer, tmp_path: Path) -> None:
    """A replica says what waits for a model at zero, and how its queue stands; and nothing of it behind that."""
    key = "the-key-of-the-admin-which-is-long"
    file = tmp_path / "admin-key"
    file.write_text(key)
    async with (
        gateway_of(store, tmp_path, admin_key_file=file) as gateway, gateway.client() as client,
        httpx2.AsyncClient(headers={"authorization": f"Bearer {key}"}, timeout=60) as pages,
    ):  # fmt: skip

        async def demand() -> Any:
            page = await pages.get(gateway.url + DEMAND_PATH)
            return read_demand(page.text).models["test/chat"]

        assert (await demand()).waiting == 0
        waiting = [ask(client), ask(client)]
        await eventually(lambda: len(entries(store)) == 2, what="the entries")

        async def told() -> bool:
            said = await demand()
            return said.queue is not None and said.queue.waiting == 2

        await eventually(told, what="the queue's state")
        said = await demand()
        assert (said.waiting, said.coldWaiting, said.inFlight, said.readyEndpoints) == (2, 2, 0, 0)
        assert said.oldestWaitSeconds > 0
        assert said.queue is not None
        assert said.queue.gateways == 1

        async def rated() -> bool:
            return (await demand()).arrivalsPerSecond > 0

        await eventually(rated, what="the rate")
        async with queue_worker(store.port, reply):
            await asyncio.gather(*waiting)
        assert (await demand()).waiting == 0
