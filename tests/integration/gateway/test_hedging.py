"""Hedges and probes in a whole gateway, before simulators."""

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest

from capstan_gateway.routing.breaker import BreakerState
from support.gateway import RunningGateway, entry, running_gateway
from support.loopclock import loop_clock
from support.wait import eventually
from support.worker import Worker, worker

MESSAGES = [{"role": "user", "content": "Say something, please."}]


@pytest.fixture(scope="module")
def engines() -> Iterator[tuple[Worker, Worker]]:
    """A simulator whose first token takes a minute, and one that answers at once."""
    flags = ["--model", "m", "--answer-tokens", "8", "--seed", "1"]
    with worker("simulator", [*flags, "--ttft-ms", "60000"]) as slow, worker("simulator", flags) as fast:
        yield slow, fast


def _is_idle(engine: Worker) -> bool:
    return engine.metric("vllm:num_requests_running") == 0 == engine.metric("vllm:num_requests_waiting")


async def _tokens(gateway: RunningGateway) -> int:
    """Read one stream; give the tokens that its usage names."""
    async with gateway.client() as client:
        usage = {"include_usage": True}
        chunks = await client.chat.completions.create(
            model="m",
            messages=MESSAGES,  # type: ignore[arg-type]
            stream=True,
            stream_options=usage,  # type: ignore[arg-type]
        )
        return sum([chunk.usage.completion_tokens async for chunk in chunks if chunk.usage is not None])


async def test_a_late_first_token_is_fetched_elsewhere_and_paid_for_once(
    tmp_path: Path, engines: tuple[Worker, Worker]
) -> None:
    """Ten streams over a fast and a stuck engine: all are quick, usage counts once, the stuck engine is let go."""
    slow, fast = engines
    hedged = {"hedge_percent": 100.0, "hedge_after_seconds": 0.1}
    async with running_gateway(tmp_path, entry("m", slow.url, fast.url), **hedged) as gateway:
        tokens = sum([await _tokens(gateway) for _ in range(10)])
        await gateway.settled()
        won = gateway.metric("llm_hedges_total", model="m", outcome="won")
        assert won >= 1
        assert gateway.metric("llm_tokens_total", model="m", direction="output") == tokens
        assert gateway.metric("llm_requests_total", model="m", status="200") == 10
        assert gateway.metric("gateway_retries_total", model="m", kind="endpoint") == 0
        await eventually(lambda: asyncio.to_thread(_is_idle, slow), what="the end of what lost")


async def test_without_hedging_a_request_waits_for_its_engine(tmp_path: Path, engines: tuple[Worker, Worker]) -> None:
    """`--hedge-percent 0` sends nothing twice."""
    slow, fast = engines
    off = {"hedge_percent": 0.0, "hedge_after_seconds": 0.01}
    async with running_gateway(tmp_path, entry("m", slow.url, fast.url), **off) as gateway:
        tasks = [asyncio.create_task(_tokens(gateway)) for _ in range(4)]
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await gateway.settled()
        assert not [sample for sample in gateway.gateway.metrics.hedges.collect().samples if sample.value]


async def test_a_dead_engine_is_out_before_the_first_request(tmp_path: Path, engines: tuple[Worker, Worker]) -> None:
    """Probes of the whole gateway: the first request goes to the engine that is well, and is not sent twice."""
    _, fast = engines
    dead = "http://127.0.0.1:9"
    with loop_clock() as clock:
        async with running_gateway(
            tmp_path, entry("m", dead, fast.url), probe_seconds=0.1, probe_request_seconds=0.0
        ) as gateway:

            def is_out() -> bool:
                (state,) = (one for one in gateway.gateway._registry.states() if one.endpoint.port == 9)
                return state.breaker.state(clock.time()) is BreakerState.OPEN

            await eventually(is_out, every=0.01, what="a dead engine that is left out")
            # It is tried again after a second: without a stopped clock this asks whether the machine is quick.
            with clock.stopped():
                for _ in range(5):
                    await _tokens(gateway)
            assert gateway.metric("gateway_retries_total", model="m", kind="endpoint") == 0
            assert gateway.metric("gateway_probes_total", model="m", kind="readiness", outcome="failed") >= 3
