"""One hosted model at several addresses: keys, full regions, and a region that is cut off."""

import asyncio
import sys
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from openai import APIConnectionError, APIError, APIStatusError, AsyncOpenAI, InternalServerError

from capstan_contract.config import ExternalBackend, ExternalEndpoint, ModelEntry, Provider
from fakes.openai_upstream import FakeUpstream, Received, Wire, answer
from support.gateway import entry, running_gateway, write_config
from support.ports import free_port
from support.wait import eventually
from support.worker import Worker, worker

MESSAGES: Any = [{"role": "user", "content": "Hello"}]


def hosted(*endpoints: ExternalEndpoint) -> ModelEntry:
    """Give a hosted model at these addresses."""
    backend = ExternalBackend(provider=Provider.OPENAI_COMPATIBLE, endpoints=endpoints)
    return entry("hosted", backend=backend, upstreamName="demo")


def at(name: str, url: str, **fields: Any) -> ExternalEndpoint:
    """Give one address, in a region of its own name."""
    return ExternalEndpoint(name=name, url=f"{url}/v1", region=name, **fields)


async def ask(client: AsyncOpenAI) -> None:
    """Ask once; an error comes out."""
    await client.chat.completions.create(model="hosted", messages=MESSAGES)


async def test_each_endpoint_gets_its_own_key(tmp_path: Path) -> None:
    """A key goes to its endpoint and to no other one; an endpoint without its key, or whose key is refused, is left."""

    async def wants(request: Received, wire: Wire) -> None:
        if request.headers["authorization"] == "Bearer us-key":
            await answer(request, wire)
        else:
            await wire.json({"error": {"message": "who are you?"}}, 401)

    async with (
        FakeUpstream(wants) as eu,
        FakeUpstream(wants) as us,
        running_gateway(tmp_path, credentials={"eu-file": "wrong-key", "us-file": "us-key"}) as gateway,
        gateway.client() as client,
    ):
        spec = [at("eu", eu.url, credentialFile="eu-file"), at("us", us.url, priority=1, credentialFile="us-file")]
        await gateway.configure(hosted(*spec))
        await ask(client)
        assert [request.headers["authorization"] for request in eu.requests] == ["Bearer wrong-key"]
        assert [request.headers["authorization"] for request in us.requests] == ["Bearer us-key"]
        await gateway.configure(hosted(at("eu", eu.url, credentialFile="missing"), spec[1]))
        await ask(client)
        assert (len(eu.requests), len(us.requests)) == (1, 2)
        await gateway.configure(hosted(at("eu", eu.url, credentialFile="missing")))
        with pytest.raises(InternalServerError, match="no credentials"):
            await ask(client)


async def test_a_full_endpoint_is_left_alone(tmp_path: Path) -> None:
    """429 with Retry-After sends the request, and those after it, to the next endpoint without asking the full one."""

    async def full(_: Received, wire: Wire) -> None:
        await wire.json({"error": {"message": "slow down"}}, 429, "retry-after: 30")

    async with (
        FakeUpstream(full) as eu,
        FakeUpstream() as us,
        running_gateway(tmp_path, hosted(at("eu", eu.url), at("us", us.url, priority=1))) as gateway,
        gateway.client() as client,
    ):
        for _ in range(5):
            await ask(client)
        assert (len(eu.requests), len(us.requests)) == (1, 5)


@pytest.mark.parametrize(("region", "expected"), [("eu", {"eu": 6}), ("us", {"us": 6})])
async def test_the_own_region_answers(tmp_path: Path, region: str, expected: dict[str, int]) -> None:
    """Among endpoints of one priority those of the gateway's own region come first."""
    async with (
        FakeUpstream() as eu,
        FakeUpstream() as us,
        running_gateway(tmp_path, hosted(at("eu", eu.url), at("us", us.url)), region=region) as gateway,
        gateway.client() as client,
    ):
        for _ in range(6):
            await ask(client)
        found = Counter({"eu": len(eu.requests), "us": len(us.requests)})
        assert +found == expected


async def test_weights_share_a_priority(tmp_path: Path) -> None:
    """Without regions endpoints of one priority share by weight; weight 0 gets nothing."""
    async with (
        FakeUpstream() as one,
        FakeUpstream() as other,
        FakeUpstream() as none,
        running_gateway(tmp_path) as gateway,
        gateway.client() as client,
    ):
        spec = (at("one", one.url, weight=50), at("other", other.url, weight=50), at("none", none.url, weight=0))
        await gateway.configure(hosted(*spec))
        for _ in range(30):
            await ask(client)
        assert one.requests
        assert other.requests
        assert not none.requests


class Load:
    """Requests through one gateway, plain and streamed in turn, until it is told to stop."""

    def __init__(self, url: str) -> None:
        self._client = AsyncOpenAI(base_url=f"{url}/v1", api_key="unused", max_retries=0, timeout=60)
        self._ended = False
        self.answered = 0
        self.cut = 0
        """Streams that broke after they had begun."""
        self.failures: list[str] = []

    @asynccontextmanager
    async def running(self, clients: int = 3) -> AsyncIterator["Load"]:
        """Send while the block lasts."""
        tasks = [asyncio.create_task(self._send()) for _ in range(clients)]
        try:
            yield self
        finally:
            self._ended = True
            await asyncio.gather(*tasks)
            await self._client.close()

    async def more(self, count: int) -> None:
        """Wait until so many more requests were answered."""
        target = self.answered + count
        await eventually(lambda: self.answered >= target, what=f"{count} more answers")

    async def _send(self) -> None:
        while not self._ended:
            try:
                await ask(self._client)
                await self._stream()
                self.answered += 2
            except (APIStatusError, APIConnectionError) as error:
                self.failures.append(str(error))

    async def _stream(self) -> None:
        stream = await self._client.chat.completions.create(
            model="hosted", messages=MESSAGES, stream=True, max_tokens=20
        )
        try:
            async for _ in stream:
                pass
        except APIError:
            self.cut += 1


@asynccontextmanager
async def gateway_in(region: str, directory: Path, model: ModelEntry) -> AsyncIterator[str]:
    """Run a gateway as a process in a region; give its URL."""
    config, port = directory / region, free_port()
    config.mkdir()
    write_config(config, [model])
    flags = ["--port", str(port), "--config-dir", str(config), "--region", region, "--drain-seconds", "0"]
    command = [sys.executable, "-m", "capstan_gateway", "--insecure-no-auth", "--log-level", "warning", *flags]
    process = await asyncio.create_subprocess_exec(*command)
    url = f"http://127.0.0.1:{port}"
    try:
        await eventually(lambda: _ready(url), what=f"the gateway in {region}")
        yield url
    finally:
        process.terminate()
        await process.wait()


async def _ready(url: str) -> bool:
    try:
        async with aiohttp.ClientSession() as http, http.get(f"{url}/readyz") as response:
            return response.status == 200
    except aiohttp.ClientConnectionError:
        return False


def simulator(port: int | None = None) -> Any:
    """Give an engine as a process."""
    return worker("simulator", ["--model", "demo", "--tpot-ms", "1", "--answer-tokens", "20"], port=port)


def served(engine: Worker) -> float:
    """Give how many requests an engine has answered."""
    return engine.metric("vllm:request_success_total")


async def test_a_region_that_is_cut_off(tmp_path: Path) -> None:
    """Two regions with a gateway each; one engine is killed: no request fails that had not begun to stream.

    Its gateway goes on with the other region, and when the engine is back it gets traffic again.
    """
    async with AsyncExitStack() as stack:
        eu = stack.enter_context(simulator())
        us = stack.enter_context(simulator())
        model = hosted(at("eu", eu.url), at("us", us.url))
        urls = [await stack.enter_async_context(gateway_in(region, tmp_path, model)) for region in ("eu", "us")]
        loads = [await stack.enter_async_context(Load(url).running()) for url in urls]
        for load in loads:
            await load.more(20)
        assert served(eu) > 0
        assert served(us) > 0
        eu.process.kill()
        for load in loads:
            await load.more(40)
        back = stack.enter_context(simulator(port=eu.port))
        await eventually(lambda: served(back) >= 5, what="traffic in the region that is back", every=0.2)
        await loads[0].more(20)
        assert [load.failures for load in loads] == [[], []]
        assert loads[1].cut == 0
