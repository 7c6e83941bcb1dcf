"""A gateway with policies of a test: every request goes through them, and nothing that they open is left open."""

import asyncio
import random
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx2
import pytest
from openai import BadRequestError

from capstan_contract.config import (
    CascadeBackend,
    CascadeEstimator,
    EstimatorType,
    ModelEntry,
    RouterBackend,
    RouterMember,
    Strategy,
    Task,
    Timeouts,
)
from fakes.openai_upstream import FakeUpstream, Received, Wire, answer, completion, delta, frame, stall
from support.gateway import entry, running_gateway
from support.policies import Attached, Counting, Ledger, Redacting, Remembering
from support.wait import eventually

SECRET = "my-secret"
MESSAGES: Any = [{"role": "user", "content": f"say {SECRET}"}]
SOON = Timeouts(firstTokenSeconds=1, idleSeconds=1, totalSeconds=1)
LATER = Timeouts(firstTokenSeconds=30, idleSeconds=30, totalSeconds=60)


async def breaks_off(received: Received, wire: Wire) -> None:
    """Begin a stream, and break it off."""
    await wire.stream_head()
    await wire.chunk(frame(delta(received.document["model"], "Hel")))
    wire.reset()


async def drips(received: Received, wire: Wire) -> None:
    """Begin a stream, and go on until the client has gone."""
    await wire.stream_head()
    while True:
        await wire.chunk(frame(delta(received.document["model"], "x")))
        await asyncio.sleep(0.01)


async def fails(_: Received, wire: Wire) -> None:
    """Answer with 500."""
    await wire.json({"error": {"message": "no"}}, 500)


async def embeds(received: Received, wire: Wire) -> None:
    """Answer with a vector."""
    await wire.json({"object": "list", "model": received.document["model"], "data": [{"embedding": [1.0]}]})


@pytest.fixture
async def upstream() -> AsyncIterator[FakeUpstream]:
    """An engine that answers, until a test says otherwise."""
    async with FakeUpstream(answer) as fake:
        yield fake


def sent(upstream: FakeUpstream) -> bytes:
    """Give the bodies of what the engine was sent."""
    return b"".join(received.body for received in upstream.requests)


ROUTES: list[tuple[str, dict[str, Any]]] = [
    ("/v1/chat/completions", {"messages": MESSAGES}),
    ("/v1/chat/completions", {"messages": MESSAGES, "stream": True}),
    ("/v1/messages", {"messages": MESSAGES, "max_tokens": 9}),
    ("/v1/messages", {"messages": MESSAGES, "max_tokens": 9, "stream": True}),
    ("/v1/responses", {"input": f"say {SECRET}"}),
    ("/v1/responses", {"input": f"say {SECRET}", "stream": True}),
    ("/v1/completions", {"prompt": f"say {SECRET}"}),
]


@pytest.mark.parametrize(("path", "body"), ROUTES)
async def test_what_a_policy_rewrites_is_what_the_engine_gets(
    tmp_path: Path, upstream: FakeUpstream, path: str, body: dict[str, Any]
) -> None:
    """On every route, streaming or not, directly or through a router: the engine never sees what was taken out."""
    ledger = Ledger()
    kind = Attached(Redacting, ledger, {"chat": ("guard",), "auto": ("floor",)})
    async with running_gateway(tmp_path, entry("chat", upstream.url), kinds=[kind]) as gateway:
        async with httpx2.AsyncClient(base_url=gateway.url, timeout=60) as client:
            for name in ("chat", "auto"):
                found = await client.post(path, json={**body, "model": name})
                assert found.status_code == 200, found.text
        await gateway.settled()
    assert SECRET.encode() not in sent(upstream)
    assert sent(upstream).count(b"[REDACTED]") == 2
    assert ledger.even
    assert ledger.opened == {"guard": 2, "floor": 1}


@pytest.mark.parametrize(("path", "body"), ROUTES[:6])
async def test_a_block_is_told_in_the_clients_dialect(
    tmp_path: Path, upstream: FakeUpstream, path: str, body: dict[str, Any]
) -> None:
    """A request that a policy refuses is refused before anything is sent, and no fallback answers it."""
    ledger = Ledger()
    kind = Attached(Redacting, ledger, {"chat": ("guard",)})
    models = (entry("chat", upstream.url, fallbacks=("other",)), entry("other", upstream.url))
    refused = {key: "forbidden" if key == "input" else value for key, value in body.items()}
    if "messages" in refused:
        refused["messages"] = [{"role": "user", "content": "forbidden"}]
    async with running_gateway(tmp_path, *models, kinds=[kind]) as gateway:
        async with httpx2.AsyncClient(base_url=gateway.url, timeout=60) as client:
            found = await client.post(path, json={**refused, "model": "chat"})
        assert found.status_code == 400
        assert found.json()["error"]["message"] == "a guard blocks this request"
        await gateway.settled()
    assert upstream.requests == []
    assert ledger.even


async def test_a_key_that_stands_there_twice_reaches_no_engine_twice(tmp_path: Path, upstream: FakeUpstream) -> None:
    """What a policy did not see does not get past it as a second key of the same name."""
    body = b'{"model":"chat","messages":[{"role":"user","content":"my-secret","content":"harmless"}]}'
    kind = Attached(Remembering, Ledger(), {"chat": ("cache",)})
    models = (entry("chat", upstream.url), entry("plain", upstream.url))
    async with running_gateway(tmp_path, *models, kinds=[kind]) as gateway, httpx2.AsyncClient(timeout=60) as client:
        path = f"{gateway.url}/v1/chat/completions"
        assert (await client.post(path, content=body)).status_code == 200
        assert SECRET.encode() not in sent(upstream)
        # Where no policy reads it, it is the engine's to judge.
        await client.post(path, content=body.replace(b'"chat"', b'"plain"'))
    assert SECRET.encode() in sent(upstream)


ENDS = [
    ("answered", answer, False, None),
    ("streamed", answer, True, None),
    ("failed", fails, False, None),
    ("failed stream", fails, True, None),
    ("broken off", breaks_off, True, None),
    ("too late", stall, False, None),
    ("left before the answer", stall, False, "leave"),
    ("left before the stream", stall, True, "leave"),
    ("left in the stream", drips, True, "leave"),
    ("too long a stream", drips, True, None),
]


@pytest.mark.parametrize(("_what", "respond", "stream", "ends"), ENDS, ids=[what for what, *_ in ENDS])
async def test_what_a_layer_opens_is_closed_once(
    tmp_path: Path, upstream: FakeUpstream, _what: str, respond: Any, stream: bool, ends: str | None
) -> None:
    """Answered, failed, broken off, too late or left by the client, at whatever model: each is closed once."""
    upstream.respond = respond
    ledger = Ledger()
    policies = {"chat": "a", "router": "b", "cascade": "c", "fallback": "d"}
    kind = Attached(Counting, ledger, {name: tuple({id, "a"}) for name, id in policies.items()})
    async with (
        running_gateway(tmp_path, *models(upstream, LATER if ends else SOON), kinds=[kind]) as gateway,
        httpx2.AsyncClient(base_url=gateway.url, timeout=60) as client,
    ):
        for name, policy in policies.items():
            body = {"model": name, "messages": MESSAGES, "stream": stream}
            call = asyncio.create_task(client.post("/v1/chat/completions", json=body))
            if ends == "leave":
                await eventually(lambda: upstream.active > 0, every=0.01, what="the call of the engine")
                call.cancel()
            await asyncio.gather(call, return_exceptions=True)
            await gateway.settled()
            assert ledger.opened[policy] > 0
            assert ledger.even, (name, ledger.opened, ledger.closed)
            runtime = gateway.gateway.current()
            assert runtime is not None
            assert {state.in_flight for model in runtime.models.values() for state in model.endpoints.states} == {0}
            await eventually(lambda: upstream.active == 0, what="the end of the engine's work")


def models(upstream: FakeUpstream, timeouts: Timeouts) -> tuple[ModelEntry, ...]:
    """Give a model, a router, a cascade, and one whose fallback it is."""
    return (
        entry("chat", upstream.url, timeouts=timeouts),
        entry(
            "router", timeouts=timeouts,
            backend=RouterBackend(strategy=Strategy.PRIORITY, members=(RouterMember(model="test/chat"),)),
        ),
        entry(
            "cascade", timeouts=timeouts,
            backend=CascadeBackend(
                members=("test/chat", "test/chat"), threshold=0.9,
                estimator=CascadeEstimator(type=EstimatorType.CHECKS),
            ),
        ),
        entry("fallback", timeouts=timeouts, fallbacks=("chat",)),
    )  # fmt: skip


async def test_requests_that_the_process_cancels_are_closed(tmp_path: Path, upstream: FakeUpstream) -> None:
    """When the gateway shuts down under a request, what its layers opened is closed."""
    upstream.respond = stall
    ledger = Ledger()
    kind = Attached(Counting, ledger, {"chat": ("limit",)})
    async with httpx2.AsyncClient(timeout=60) as client:
        async with running_gateway(tmp_path, entry("chat", upstream.url, timeouts=LATER), kinds=[kind]) as gateway:
            body = {"model": "chat", "messages": MESSAGES}
            call = asyncio.create_task(client.post(f"{gateway.url}/v1/chat/completions", json=body))
            await eventually(lambda: upstream.active > 0, every=0.01, what="the call of the engine")
            await gateway.listener.close(grace_seconds=0.0)
        assert (await call).status_code == 503
    assert (ledger.opened["limit"], ledger.closed["limit"]) == (1, 1)


async def test_requests_at_random(tmp_path: Path, upstream: FakeUpstream) -> None:
    """Two hundred requests of every kind, a third of whose clients leave at random: all is even in the end."""
    rng, ledger = random.Random(7), Ledger()  # noqa: S311 - a test
    responds = [answer, answer, fails, breaks_off, drips]

    async def anything(received: Received, wire: Wire) -> None:
        await asyncio.sleep(rng.random() * 0.02)
        await rng.choice(responds)(received, wire)

    upstream.respond = anything
    on = {"chat": ("a",), "router": ("b", "a"), "cascade": ("c", "a"), "fallback": ("d",)}
    kinds = [Attached(Counting, ledger, on), Attached(Redacting, ledger, {"chat": ("guard",), "router": ("guard",)})]
    async with running_gateway(tmp_path, *models(upstream, LATER), kinds=kinds) as gateway:
        async with httpx2.AsyncClient(base_url=gateway.url, timeout=60) as client:

            async def one() -> None:
                name, stream = rng.choice(["chat", "router", "cascade", "fallback"]), rng.random() < 0.5
                body = {"model": name, "messages": MESSAGES, "stream": stream}
                try:
                    async with asyncio.timeout(rng.random() * 0.2):
                        await client.post("/v1/chat/completions", json=body)
                except (TimeoutError, httpx2.HTTPError):
                    return

            for _ in range(10):
                await asyncio.gather(*(one() for _ in range(20)))
        await gateway.settled()
        assert ledger.even, (ledger.opened, ledger.closed)
        assert ledger.opened["a"]


async def test_a_judge_is_a_request_of_its_own_to_guards(tmp_path: Path, upstream: FakeUpstream) -> None:
    """What a cascade asks its judge goes through the judge's own policies, and the client's limits count it in."""
    ledger = Ledger()
    judge = CascadeEstimator(type=EstimatorType.JUDGE, judge="test/judge", judgeTimeoutSeconds=60)
    cascade = CascadeBackend(members=("test/chat", "test/chat"), threshold=0.5, estimator=judge)
    async with FakeUpstream(grades) as grader:
        guards = Attached(Redacting, ledger, {"cascade": ("guard",), "judge": ("guard",), "chat": ("guard",)})
        limits = Attached(Counting, ledger, {"cascade": ("limit",), "judge": ("limit",), "chat": ("limit",)})
        served = (entry("chat", upstream.url), entry("judge", grader.url), entry("cascade", backend=cascade))
        async with running_gateway(tmp_path, *served, kinds=[guards, limits]) as gateway:
            async with gateway.client() as client:
                await client.chat.completions.create(model="cascade", messages=MESSAGES)
            await gateway.settled()
    assert ledger.even
    assert ledger.opened == {"limit": 1, "guard": 2}
    assert SECRET.encode() not in sent(upstream) + sent(grader)


async def grades(received: Received, wire: Wire) -> None:
    """Find every answer good."""
    await wire.json(completion(received.document["model"], "5"))


async def test_a_request_keeps_the_policies_that_it_began_with(tmp_path: Path, upstream: FakeUpstream) -> None:
    """A changed policy is for new requests; a model that it does not concern keeps its answer function."""
    kind = Attached(Redacting, Ledger(), {"chat": ("guard",)})
    one, other = entry("chat", upstream.url), entry("other", upstream.url)
    async with running_gateway(tmp_path, one, other, kinds=[kind]) as gateway:
        before = gateway.gateway.current()
        assert before is not None
        await gateway.configure(one, other, entry("third", upstream.url))
        same = gateway.gateway.current()
        assert same is not None
        assert [same.models[name].answer for name in ("chat", "other")] == [
            before.models[name].answer for name in ("chat", "other")
        ]
        assert kind.built == {"guard": 1}
        kind.specs["guard"] = "another"
        await gateway.configure(one, other)
        after = gateway.gateway.current()
        assert after is not None
        assert after.models["other"] is before.models["other"]
        assert after.models["chat"] is not before.models["chat"]
        assert after.models["chat"].layers != () != before.models["chat"].layers
        assert after.models["chat"].layers[0] is not before.models["chat"].layers[0]
        kind.on.clear()
        await gateway.configure(one)
        bare = gateway.gateway.current()
        assert bare is not None
        assert bare.models["chat"].layers == ()


async def test_an_answer_of_the_cache_passes_the_guards(tmp_path: Path, upstream: FakeUpstream) -> None:
    """A layer that answers keeps none of those around it from their part, and the engine is not asked."""
    ledger = Ledger()
    kinds = [
        Attached(Remembering, ledger, {"chat": ("cache",)}),
        Attached(Redacting, ledger, {"chat": ("guard",)}),
        Attached(Counting, ledger, {"chat": ("limit",)}),
    ]
    async with running_gateway(tmp_path, entry("chat", upstream.url), kinds=kinds) as gateway:
        async with gateway.client() as client:
            for _ in range(2):
                await client.chat.completions.create(model="chat", messages=MESSAGES)
            with pytest.raises(BadRequestError):
                await client.chat.completions.create(model="chat", messages=[{"role": "user", "content": "forbidden"}])
        await gateway.settled()
    assert len(upstream.requests) == 1
    assert ledger.replied == {"limit": 2, "guard": 2, "cache": 1}
    assert ledger.even


async def test_embeddings_are_rewritten_too(tmp_path: Path, upstream: FakeUpstream) -> None:
    """Routes beside chat have the same layers."""
    upstream.respond = embeds
    kind = Attached(Redacting, Ledger(), {"vectors": ("guard",)})
    vectors = entry("vectors", upstream.url, task=Task.EMBED)
    async with running_gateway(tmp_path, vectors, kinds=[kind]) as gateway, gateway.client() as client:
        await client.embeddings.create(model="vectors", input=[SECRET], encoding_format="float")
    assert SECRET.encode() not in sent(upstream)
    assert b"[REDACTED]" in sent(upstream)
