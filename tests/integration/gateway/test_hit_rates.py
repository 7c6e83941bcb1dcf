"""The hits of engines' prefix caches in the gateway's own metrics."""

from pathlib import Path
from typing import Any

import httpx2
import pytest

from fakes.openai_upstream import FakeUpstream, Received, Wire, answer
from support.gateway import RunningGateway, entry, running_gateway
from support.wait import eventually
from support.worker import simulator

NAME = "llm_kv_cache_hit_ratio"
PROMPT = " ".join(f"word{number}" for number in range(320))
OFTEN: dict[str, Any] = {"engine_metrics_seconds": 0.05}


def ratio(gateway: RunningGateway, model: str) -> float | None:
    """Give the share of a model; None while there is none."""
    return gateway.gateway.metrics.registry.get_sample_value(NAME, {"model": model})


async def ask(client: httpx2.AsyncClient, model: str, times: int) -> None:
    """Ask a model the same some times."""
    body = {"model": model, "prompt": PROMPT, "max_tokens": 1}
    for _ in range(times):
        response = await client.post("/v1/completions", json=body)
        assert response.status_code == 200


async def test_each_model_has_the_share_of_its_own_engines(tmp_path: Path) -> None:
    """Of one whose prompts come again most is there; of one that keeps nothing, nothing; and none of a model that is
    gone, or that nobody has asked."""
    with simulator(model="sim") as one, simulator("--prefix-cache", "off", model="off") as off:
        models = entry("sim", one.url), entry("off", off.url), entry("idle", one.url, upstreamName="sim")
        async with (
            running_gateway(tmp_path, *models, **OFTEN) as gateway,
            httpx2.AsyncClient(base_url=gateway.url, timeout=60) as client,
        ):
            await eventually(lambda: len(gateway.gateway.hit_rates.known) == 3, what="the first counts")
            assert [ratio(gateway, name) for name in ("sim", "off")] == [None, None]
            await ask(client, "sim", 10)
            await eventually(lambda: (ratio(gateway, "sim") or 0.0) > 0.8, what="hits")
            assert ratio(gateway, "off") in (None, 0.0)
            await gateway.configure(models[1])
            await eventually(lambda: ratio(gateway, "sim") is None, what="no share of a model that is gone")


async def test_an_engine_that_tells_nothing_is_left_alone(tmp_path: Path) -> None:
    """It is asked once, and requests to it are answered as ever."""
    asked: list[bytes] = []

    async def silent(received: Received, wire: Wire) -> None:
        if received.path == "/metrics":
            asked.append(b"metrics")
            await wire.json({"detail": "Not Found"}, 404)
        else:
            await answer(received, wire)

    async with (
        FakeUpstream(silent) as upstream,
        running_gateway(tmp_path, entry("m", upstream.url), **OFTEN) as gateway,
    ):
        await eventually(lambda: asked, what="the first question")
        async with httpx2.AsyncClient(base_url=gateway.url, timeout=60) as client:
            body = {"model": "m", "messages": [{"role": "user", "content": "x"}]}
            for _ in range(5):
                assert (await client.post("/v1/chat/completions", json=body)).status_code == 200
        rounds = gateway.gateway.hit_rates
        await rounds.ask_round()
        await rounds.ask_round()
    assert (len(asked), ratio(gateway, "m")) == (1, None)


async def test_how_full_the_caches_are_is_told(tmp_path: Path) -> None:
    """Whoever scales a model reads the share of its KV caches in use, averaged over the engines that tell it, with how
    many these are; of an engine that tells nothing of it there is none."""

    def page(text: bytes) -> Any:
        async def respond(_: Received, wire: Wire) -> None:
            await wire.head(200, "content-type: text/plain", length=len(text))
            await wire.raw(text)

        return respond

    full, half = page(b"vllm:kv_cache_usage_perc 0.9\n"), page(b"vllm:kv_cache_usage_perc 0.5\n")
    async with FakeUpstream(full) as one, FakeUpstream(half) as two, FakeUpstream(page(b"tgi_queue_size 1\n")) as tgi:
        models = entry("m", one.url, two.url, tgi.url), entry("t", tgi.url)
        async with running_gateway(tmp_path, *models, **OFTEN) as gateway:

            def told(name: str) -> tuple[float | None, int]:
                found = gateway.gateway.demand.report().models[f"test/{name}"]
                return found.kvCacheUtilization, found.kvCacheEndpoints

            await eventually(lambda: told("m")[1] == 2, what="two shares")
            assert told("m")[0] == pytest.approx(0.7)
            assert told("t") == (None, 0)
