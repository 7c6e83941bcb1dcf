"""Layers in the shape of policies together: a limit, a guard that holds windows back, a cache with one flight."""

import asyncio
import gc
import random
from pathlib import Path
from typing import Any

import httpx2

from capstan_gateway.pipeline.background import Background
from fakes.openai_upstream import DONE, FakeUpstream, Received, Wire, completion, delta, frame
from support.gateway import entry, running_gateway
from support.shaped_gateway import FORBIDDEN, SAID, SAYS, SECRET, WATCHED, State, shapes
from support.wait import eventually

SENTENCE = f"This is a {SAID}; no model was run."


async def answers(received: Received, wire: Wire) -> None:
    """Answer, a few characters at a time; now and then badly."""
    number = len(received.body)
    if number % 7 == 0:
        await wire.json({"error": {"message": "no"}}, 500)
    elif not received.document.get("stream"):
        await wire.json(completion("m", SENTENCE))
    else:
        await wire.stream_head()
        for at in range(0, len(SENTENCE), 5):
            await asyncio.sleep(0.001)
            await wire.chunk(frame(delta("m", SENTENCE[at : at + 5])))
        if number % 5:
            await wire.chunk(frame(delta("m", None, "stop")) + DONE)
        await wire.end()


async def test_shapes_of_policies_together(tmp_path: Path) -> None:
    """Hundreds of requests, some blocked, failing or left: each answer was checked, and nothing is left of any."""
    rng, state = random.Random(5), State()  # noqa: S311 - a test
    models = ("guarded", "cached", "plain", "limited")
    left = _watched()  # By whoever was here before: a failure that is reported holds what it was about.

    async with (
        FakeUpstream(answers) as upstream,
        running_gateway(tmp_path, *(entry(name, upstream.url) for name in models), kinds=shapes(state)) as gateway,
        httpx2.AsyncClient(base_url=gateway.url, timeout=60) as client,
    ):
        background: Background = gateway.gateway.deps.background
        state.background = lambda: background

        async def one(number: int) -> None:
            name, stream = rng.choice(models), rng.random() < 0.6
            words = f"{SECRET} {'x' * (number % 9)} {FORBIDDEN if number % 10 == 3 else ''}"
            body: dict[str, Any] = {"model": name, "messages": [{"role": "user", "content": words}], "stream": stream}
            try:
                async with asyncio.timeout(rng.random() * 0.3):
                    reply = await client.post("/v1/chat/completions", json=body)
            except (TimeoutError, httpx2.HTTPError):
                return
            if name in ("guarded", "cached"):
                assert SAID.encode() not in reply.content
                if FORBIDDEN in words:
                    assert reply.json()["error"]["code"] == "content_filter"
                elif not stream and reply.status_code == 200:
                    assert SAYS.encode() in reply.content

        for round_ in range(15):
            await asyncio.gather(*(one(20 * round_ + number) for number in range(20)))
        await gateway.settled()
        await eventually(lambda: len(background) == 0, what="the end of all flights")
        runtime = gateway.gateway.current()
        assert runtime is not None
        assert {endpoint.in_flight for model in runtime.models.values() for endpoint in model.endpoints.states} == {0}
        assert (+state.open, state.flights, gateway.gateway.memory.held) == ({}, {}, 0)
        await eventually(lambda: upstream.active == 0, what="the end of the engine's work")
        for received in upstream.requests:
            if received.document["model"] in ("guarded", "cached"):
                assert SECRET.encode() not in received.body
    known = {id(one) for one in left}
    assert [one for one in _watched() if id(one) not in known] == []


def _watched() -> list[Any]:
    gc.collect()
    return [one for one in gc.get_objects() if type(one) in WATCHED]
