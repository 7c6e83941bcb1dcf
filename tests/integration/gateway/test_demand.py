"""What a gateway without a Redis says of demand, at /internal/demand."""

import asyncio
from pathlib import Path
from typing import Any

import openai
import pytest

from capstan_contract.config import Provider
from capstan_contract.demand import ModelDemand
from fakes.openai_upstream import FakeUpstream, Received, Wire, completion
from support.gateway import RunningGateway, entry, hosted_by, running_gateway
from support.wait import eventually

ASKED: Any = {"model": "chat", "messages": [{"role": "user", "content": "hello"}]}


def demand_of(gateway: RunningGateway) -> ModelDemand:
    """Give what is asked of the model."""
    return gateway.gateway.demand.report().models["test/chat"]


async def test_what_waits_in_memory_is_told(tmp_path: Path) -> None:
    """A request that waits for a model at zero is cold and waits; it is nothing of that when an engine has it."""
    held = asyncio.Event()

    async def respond(request: Received, wire: Wire) -> None:
        await held.wait()
        await wire.json(completion("chat"))

    async with (
        FakeUpstream() as engine,
        running_gateway(tmp_path, entry("chat")) as gateway,
        gateway.client() as client,
    ):
        engine.respond = respond
        assert demand_of(gateway) == ModelDemand(arrived=0, rejected=0)
        asking = asyncio.create_task(client.chat.completions.create(**ASKED))
        await eventually(lambda: demand_of(gateway).waiting == 1, what="the wait")
        said = demand_of(gateway)
        assert (said.coldWaiting, said.inFlight, said.readyEndpoints, said.queue) == (1, 0, 0, None)
        await gateway.configure(entry("chat", engine.url))
        await eventually(lambda: demand_of(gateway).inFlight == 1, what="the engine's request")
        said = demand_of(gateway)
        assert (said.waiting, said.coldWaiting, said.readyEndpoints, said.oldestWaitSeconds) == (0, 0, 1, 0.0)
        held.set()
        await asking
        await eventually(lambda: demand_of(gateway).inFlight == 0, what="its end")
        await eventually(lambda: demand_of(gateway).tokensPerSecond > 0, what="the tokens")


async def test_who_gave_up_waiting_is_told(tmp_path: Path) -> None:
    """A request for which nobody came in time counts among those that were rejected."""
    async with (
        running_gateway(tmp_path, entry("chat"), endpoint_wait_seconds=0.01) as gateway,
        gateway.client() as client,
    ):
        with pytest.raises(openai.InternalServerError):
            await client.chat.completions.create(**ASKED)
        await eventually(lambda: demand_of(gateway).rejectedPerSecond > 0, what="the rate")


async def test_hosted_models_have_no_replicas(tmp_path: Path) -> None:
    """Of models that nobody scales nothing is said."""
    hosted = entry("hosted", backend=hosted_by(Provider.OPENAI, "http://127.0.0.1:9"))
    async with running_gateway(tmp_path, entry("chat"), hosted) as gateway:
        assert set(gateway.gateway.demand.report().models) == {"test/chat"}
