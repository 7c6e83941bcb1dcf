"""What a policy redacts stays with the client: no store, judge or moderating model sees it either."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import httpx2
import pytest

from capstan_contract.config import CascadeBackend, CascadeEstimator, EstimatorType
from capstan_contract.guards import (
    Action,
    GuardBody,
    ModerationGuard,
    PiiEntity,
    PiiGuard,
    PiiKind,
    Source,
    guard_entry,
)
from fakes.openai_upstream import FakeUpstream, Received, Wire, completion, stream_frames
from support.gateway import entry, running_gateway
from support.redis_server import redis_server

MAIL = "ada@lovelace.example.org"
OTHER = "ceo@corp.example.org"
POLICY = "GuardPolicy/t/g"


def pii(*sources: Source, **fields: Any) -> PiiGuard:
    """Give a guard that redacts what users say, or others."""
    return PiiGuard(name="pii", appliesTo=sources or (Source.USER,), **fields)


def policy(*guards: Any, name: str = "g") -> Any:
    """Give a policy with these guards of the input."""
    return guard_entry("t", name, GuardBody(input=guards))


async def repeats(request: Received, wire: Wire) -> None:
    """Say what was said last."""
    text = f"You said: {request.document['messages'][-1]['content']}"
    if request.document.get("stream"):
        await wire.stream_head()
        for piece in stream_frames(request.document["model"], (text,)):
            await wire.chunk(piece)
        await wire.end()
    else:
        await wire.json(completion(request.document["model"], text))


@pytest.fixture
async def upstream() -> AsyncIterator[FakeUpstream]:
    """An engine that repeats."""
    async with FakeUpstream(repeats) as fake:
        yield fake


@pytest.mark.redis
@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("restore", [False, True])
async def test_stored_responses_hold_what_the_engine_saw(
    tmp_path: Path, upstream: FakeUpstream, stream: bool, restore: bool
) -> None:
    """The client has its answer as it should be; in the store there are placeholders, and what goes on from there does
    so with these."""
    with redis_server(tmp_path) as server:
        async with (
            running_gateway(
                tmp_path, entry("m", upstream.url, policies=(POLICY,)), policies=[policy(pii(restore=restore))],
                redis_url=server.url, redis_seconds=10.0,
            ) as gateway,
            aiohttp.ClientSession() as client,
        ):  # fmt: skip
            url = f"{gateway.url}/v1/responses"
            items = [{"role": "user", "content": f"Mail {MAIL}"}]
            body = {"model": "m", "input": items, "stream": stream, "metadata": {"who": MAIL}}
            async with client.post(url, json=body) as response:
                told = await response.text()
                assert response.status == 200, told
            assert (MAIL in told.replace(f'"who":"{MAIL}"', "")) == restore
            found = told.split('"id":"resp_')[1].split('"')[0]
            kept = await (await client.get(f"{url}/resp_{found}")).text()
            listed = await (await client.get(f"{url}/resp_{found}/input_items")).text()
            assert "[EMAIL_1]" in kept
            assert "Mail [EMAIL_1]" in listed
            assert MAIL not in kept + listed
            goes_on = {"model": "m", "previous_response_id": f"resp_{found}", "input": f"and {OTHER}"}
            async with client.post(url, json=goes_on) as response:
                assert response.status == 200
    said = [message["content"] for message in upstream.requests[-1].document["messages"]]
    assert said == ["Mail [EMAIL_1]", "You said: Mail [EMAIL_1]", "and [EMAIL_2]"]


JUDGED = CascadeBackend(
    members=("test/small", "test/large"), threshold=0.5,
    estimator=CascadeEstimator(type=EstimatorType.JUDGE, judge="test/judge", judgeTimeoutSeconds=30),
)  # fmt: skip


@pytest.mark.parametrize(
    ("guarded", "of"), [("small", (Source.USER,)), ("large", (Source.USER,)), ("large", (Source.TOOL_RESULTS,))]
)
async def test_a_judge_sees_nothing_that_a_member_is_not_shown(
    tmp_path: Path, upstream: FakeUpstream, guarded: str, of: tuple[Source, ...]
) -> None:
    """What the policy of any member redacts is redacted of question and answer before they are judged; the client has
    the answer as it is."""

    async def answers(request: Received, wire: Wire) -> None:
        await wire.json(completion(request.document["model"], f"It is {MAIL}, or {OTHER}."))

    upstream.respond = answers
    async with FakeUpstream(lambda _, wire: wire.json(completion("judge", "0.9"))) as judge:
        models = [
            entry(name, upstream.url, policies=(POLICY,) if name == guarded else ()) for name in ("small", "large")
        ]
        steps = entry("steps", backend=JUDGED)
        async with (
            running_gateway(
                tmp_path, *models, entry("judge", judge.url), steps, policies=[policy(pii(*of, restore=True))]
            ) as gateway,
            httpx2.AsyncClient(base_url=gateway.url, timeout=60) as client,
        ):  # fmt: skip
            body = {"model": "steps", "messages": [{"role": "user", "content": f"Who is {MAIL}?"}]}
            found = await client.post("/v1/chat/completions", json=body)
    assert found.json()["choices"][0]["message"]["content"] == f"It is {MAIL}, or {OTHER}."
    assert "accepted=1" in found.headers["x-capstan-route"]
    (prompt,) = [one.document["messages"][1]["content"] for one in judge.requests]
    assert "Who is [EMAIL_1]?" in prompt
    assert "It is [EMAIL_1], or [EMAIL_2]." in prompt


@pytest.mark.parametrize("model", ["chat", "llama-guard"])
async def test_who_moderates_sees_what_is_redacted(tmp_path: Path, upstream: FakeUpstream, model: str) -> None:
    """Whether the model moderates itself or its guards do; what a guard that redacts would block goes to nobody."""

    async def safe(_: Received, wire: Wire) -> None:
        await wire.json(completion("guard", "safe"))

    upstream.respond = safe
    cards = PiiEntity(type=PiiKind.CARD, action=Action.BLOCK)
    guards = policy(pii(entities=(PiiEntity(type=PiiKind.EMAIL), cards)), ModerationGuard(
        name="harm", appliesTo=(Source.USER,), model="test/hidden", action=Action.REDACT,
    ))  # fmt: skip
    async with running_gateway(
        tmp_path, entry("chat", upstream.url, policies=(POLICY,)),
        entry("llama-guard", upstream.url, policies=(POLICY,)),
        entry("hidden", upstream.url, upstreamName="llama-guard-3"), policies=[guards],
    ) as gateway, httpx2.AsyncClient(base_url=gateway.url, timeout=60) as client:  # fmt: skip
        told = await client.post("/v1/moderations", json={"model": model, "input": [f"mail {MAIL}", "a cat"]})
        assert told.status_code == 200, told.text
        assert len(told.json()["results"]) == 2
        refused = await client.post("/v1/moderations", json={"model": model, "input": "4111 1111 1111 1111"})
        assert (refused.status_code, refused.json()["error"]["code"]) == (400, "content_filter")
    sent = [str(one.document) for one in upstream.requests]
    assert any("mail [EMAIL_1]" in one for one in sent)
    assert not any(MAIL in one or "4111" in one for one in sent)
