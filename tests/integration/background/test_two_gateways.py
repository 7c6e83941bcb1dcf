"""Responses in the background when the gateway that works on them, or Redis, goes away."""

import asyncio
import signal
from collections.abc import AsyncIterator, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import openai
import pytest

from capstan_contract.guards import GuardBody, PiiGuard, Source, guard_entry
from capstan_gateway.background.names import Names
from capstan_gateway.background.state import LEASE_SECONDS
from capstan_gateway.identity.principal import EVERYBODY
from fakes.openai_upstream import FakeUpstream
from support.background import Engine, over
from support.gateway import entry, running_gateway
from support.gateway_process import GatewayProcess, gateway_process
from support.queue_taker import Job, completion, queue_worker
from support.queued import QUEUED
from support.redis_server import RedisServer, redis_server
from support.wait import eventually

pytestmark = pytest.mark.redis
ASK: dict[str, Any] = {"model": "m", "input": "hello", "background": True}
FOLLOWED = 3 * LEASE_SECONDS + 60.0
"""Seconds within which another gateway has taken a response, on a busy machine too."""


@pytest.fixture
def fake() -> Engine:
    """An engine."""
    return Engine()


@pytest.fixture
async def upstream(fake: Engine) -> AsyncIterator[FakeUpstream]:
    """It, behind HTTP."""
    async with FakeUpstream(fake.respond) as running:
        yield running


@pytest.fixture
def server(tmp_path: Path) -> Iterator[RedisServer]:
    """A Redis of the test's own."""
    with redis_server(tmp_path, flags=("--appendonly", "yes", "--appendfsync", "always")) as running:
        yield running


def processes(tmp_path: Path, stack: ExitStack, upstream: FakeUpstream, *flags: str) -> list[GatewayProcess]:
    """Start two gateways."""
    folders = tmp_path / "one", tmp_path / "two"
    for folder in folders:
        folder.mkdir()
    models = [entry("m", upstream.url)]
    return [stack.enter_context(gateway_process(folder, models, *flags)) for folder in folders]


async def test_gateways_that_are_killed_are_followed(
    tmp_path: Path, server: RedisServer, upstream: FakeUpstream, fake: Engine
) -> None:
    """Responses whose gateway is killed, asked already or not, are answered by another one; and one that kills each
    gateway that asks for it is not asked for ever."""
    flags = "--redis-url", server.url, "--redis-seconds", "10", "--background-concurrency", "2"
    with ExitStack() as stack:
        runs = await asyncio.to_thread(processes, tmp_path, stack, upstream, *flags)
        async with runs[0].client() as first, runs[1].client() as second:
            begun = [await first.responses.create(**{**ASK, "input": f"say {number}"}) for number in range(5)]
            await eventually(lambda: len(fake.asked) == 4, what="what both gateways ask")
            runs[0].process.send_signal(signal.SIGKILL)
            fake.gate.set()
            done = [await over(second, one.id, seconds=FOLLOWED) for one in begun]
        assert [one.output_text for one in done] == [f"<say {number}>" for number in range(5)]
        assert len(fake.asked) <= 7


async def test_a_gateway_that_ends_finishes_what_it_asks(
    tmp_path: Path, server: RedisServer, upstream: FakeUpstream, fake: Engine
) -> None:
    """A gateway that drains brings to an end what it asks, though nobody is connected; what waits is another one's."""
    flags = (
        "--redis-url", server.url, "--redis-seconds", "10", "--background-concurrency", "1", "--drain-seconds", "0.5",
        "--grace-seconds", "120",
    )  # fmt: skip
    with ExitStack() as stack:
        runs = await asyncio.to_thread(processes, tmp_path, stack, upstream, *flags)
        async with runs[0].client() as first, runs[1].client() as second:
            begun = [await first.responses.create(**{**ASK, "input": f"say {number}"}) for number in range(3)]
            await eventually(lambda: len(fake.asked) == 2, what="what both gateways ask")
            await first.close()
            runs[0].process.send_signal(signal.SIGTERM)

            async def is_closed() -> bool:
                try:
                    async with runs[0].client(timeout=5.0) as trying:
                        await trying.models.list()
                except openai.APIConnectionError:
                    return True
                return False

            await eventually(is_closed, what="the end of the port")
            assert runs[0].process.poll() is None
            fake.gate.set()
            done = [await over(second, one.id) for one in begun]
            assert await asyncio.to_thread(runs[0].process.wait, 60) == 0
        assert [one.output_text for one in done] == [f"<say {number}>" for number in range(3)]
        assert sorted(fake.asked) == ["say 0", "say 1", "say 2"]


async def test_redis_that_is_away_is_waited_for(
    tmp_path: Path, server: RedisServer, upstream: FakeUpstream, fake: Engine
) -> None:
    """An answer that comes while Redis is away is stored when it is back: nothing is asked again. Meanwhile nothing is
    acknowledged that would not be kept."""
    settings = {"redis_url": server.url, "redis_seconds": 5.0}
    async with (
        running_gateway(tmp_path, entry("m", upstream.url), **settings) as gateway,
        gateway.client() as client,
    ):
        begun = await client.responses.create(**ASK)
        await eventually(lambda: fake.asked, what="the engine")
        server.kill()
        fake.gate.set()
        await gateway.settled()
        for call in (client.responses.create(**ASK), client.responses.retrieve(begun.id)):
            with pytest.raises(openai.InternalServerError, match="cannot be read at the moment"):
                await call
        server.start()

        async def answered() -> Any:
            try:
                return await over(client, begun.id)
            except openai.InternalServerError:
                return None

        done = await eventually(answered, what="the response")
        assert (done.status, done.output_text, fake.asked) == ("completed", "<hello>", ["hello"])


async def test_what_must_not_be_sent_twice_is_not(
    tmp_path: Path, server: RedisServer, upstream: FakeUpstream, fake: Engine
) -> None:
    """A response that may have had effects where its gateway was lost is told to have failed, and not asked again."""
    settings = {"redis_url": server.url, "redis_seconds": 10.0}
    async with (
        running_gateway(tmp_path, entry("m", upstream.url), **settings) as gateway,
        gateway.client() as client,
    ):
        tools: Any = [{"type": "function", "name": "f", "parameters": {"type": "object"}, "strict": False}]
        begun = await client.responses.create(**ASK, tools=tools, extra_body={"web_search_options": {}})
        await eventually(lambda: fake.asked, what="the engine")
        _lost(server, begun.id)
        failed = await over(client, begun.id, seconds=FOLLOWED)
        assert (failed.status, failed.error.code, fake.asked) == ("failed", "server_error", ["hello"])
        assert "nobody knows whether the model has had the request" in failed.error.message
        again = await client.responses.create(**ASK)
        await eventually(lambda: len(fake.asked) == 2, what="the engine")
        for times in range(3, 5):
            _lost(server, again.id)
            await eventually(lambda times=times: len(fake.asked) == times, what="the next one", seconds=FOLLOWED)  # type: ignore[misc]
        _lost(server, again.id)
        failed = await over(client, again.id, seconds=FOLLOWED)
        assert (failed.status, failed.error.message) == (
            "failed", "The gateway failed again and again at this response.",
        )  # fmt: skip


def _lost(server: RedisServer, response_id: str) -> None:
    """Have the lease of a response end as that of a gateway that was killed does."""
    with server.client() as looking:
        looking.hset(Names.of(EVERYBODY).response(response_id), mapping={"token": "gone", "until": 0})


async def test_the_class_of_who_asks(tmp_path: Path, server: RedisServer, upstream: FakeUpstream) -> None:
    """In a queue a response waits as what it is, in the class that it names, also where a guard has rewritten it; to
    cancel takes it out of there."""

    async def answer(job: Job) -> None:
        await job.answer(completion("there"))

    settings = {"redis_url": server.url, "redis_seconds": 10.0, "redis_limit_seconds": 10.0}
    async with (
        running_gateway(tmp_path, entry("m", upstream.url, queue=QUEUED), **settings) as gateway,
        gateway.client() as client,
    ):

        def waiting(name: str) -> float:
            return gateway.metric("gateway_queue_waiting", model="m", **{"class": name})

        guards = guard_entry(
            "t", "g", GuardBody(input=(PiiGuard(name="pii", appliesTo=(Source.USER,), timeoutMillis=60_000),))
        )
        guarded = entry("m", upstream.url, queue=QUEUED, policies=("GuardPolicy/t/g",))
        await gateway.configure(guarded, policies=[guards])
        begun = await client.responses.create(**ASK)
        flexible = await client.responses.create(
            model="m", input="write to ada@lovelace.example.org", background=True, service_tier="flex"
        )
        await eventually(lambda: (waiting("default"), waiting("low")) == (1, 1), what="both in the queue")
        await client.responses.cancel(flexible.id)
        await eventually(lambda: (waiting("default"), waiting("low")) == (1, 0), what="one of them in the queue")
        async with queue_worker(server.port, answer, model="test/m"):
            assert (await over(client, begun.id)).output_text == "there"
