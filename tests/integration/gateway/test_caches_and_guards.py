"""Caches beside what else acts on a request: guards, limits, routers, cascades and adapters."""

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx2
import pytest

from capstan_contract.caches import CacheBody, Scope, cache_entry
from capstan_contract.config import (
    CascadeBackend,
    CascadeEstimator,
    EstimatorType,
    LoraAdapter,
    PolicyEntry,
    Price,
    RouterBackend,
    RouterMember,
    Strategy,
)
from capstan_contract.guards import Action, GuardBody, KeywordsGuard, PiiGuard, Source, guard_entry
from capstan_contract.limits import CountCached, LimitRule, Mode, Per, RateLimitBody, Unit, rate_limit_entry
from fakes.openai_upstream import DONE, FakeUpstream, Received, Wire, answer, completion, delta, frame
from support.gateway import RunningGateway, entry, running_gateway
from support.keys import key_entry, key_text
from support.wait import eventually

CHAT = "/v1/chat/completions"
CACHE, GUARD, LIMIT = "CachePolicy/t/c", "GuardPolicy/t/g", "RateLimitPolicy/t/l"
MESSAGES: Any = [{"role": "user", "content": "hello"}]
KEYS = tuple(key_entry(name, tenant="t", user=name) for name in ("ada", "bob"))


@pytest.fixture
async def upstream() -> AsyncIterator[FakeUpstream]:
    """An engine that answers, until a test says otherwise."""
    async with FakeUpstream(answer) as fake:
        yield fake


def cache(**fields: Any) -> PolicyEntry:
    """Give the cache."""
    return cache_entry("t", "c", CacheBody(**fields))


def blocks(word: str) -> PolicyEntry:
    """Give the guard that withholds answers with this word."""
    guard = KeywordsGuard(name="w", keywords=(word,), appliesTo=(Source.TEXT,), timeoutMillis=60_000)
    return guard_entry("t", "g", GuardBody(output=(guard,)))


def as_user(name: str) -> dict[str, str]:
    """Give the credential of a user."""
    return {"authorization": f"Bearer {key_text(name)}"}


async def ask(
    client: httpx2.AsyncClient, model: str = "chat", *, headers: dict[str, str] | None = None, **fields: Any
) -> httpx2.Response:
    """Ask."""
    return await client.post(CHAT, json={"model": model, "messages": MESSAGES, **fields}, headers=headers)


def client_of(gateway: RunningGateway) -> httpx2.AsyncClient:
    """Give a client."""
    return httpx2.AsyncClient(base_url=gateway.url, timeout=60)


def kept(gateway: RunningGateway) -> int:
    """Give how many entries are in memory."""
    return sum(len(room.memory) for _, room in gateway.gateway.caches.rooms())


@pytest.mark.parametrize("stream", [False, True])
async def test_an_answer_that_a_guard_withholds_is_not_kept(
    stream: bool, upstream: FakeUpstream, tmp_path: Path
) -> None:
    """What was blocked once is not there to be blocked again: the model is asked anew."""
    policies = (cache(), blocks("hello"))
    async with (
        running_gateway(tmp_path, entry("chat", upstream.url, policies=(CACHE, GUARD)), policies=policies) as gateway,
        client_of(gateway) as client,
    ):
        for _ in range(2):
            response = await ask(client, stream=stream)
            assert "content_filter" in response.text, response.text
            assert response.headers["x-cache"] == "miss"
            await eventually(lambda: kept(gateway) == 0)
    assert len(upstream.requests) == 2


async def test_what_is_there_goes_through_the_guards_of_who_asks(upstream: FakeUpstream, tmp_path: Path) -> None:
    """An answer that is given without a guard is withheld by one that somebody else has come through, and let go of."""
    router = entry(
        "router", policies=(GUARD,),
        backend=RouterBackend(strategy=Strategy.CHEAPEST, members=(RouterMember(model="test/chat"),)),
    )  # fmt: skip
    models = (entry("chat", upstream.url, policies=(CACHE,)), router)
    async with (
        running_gateway(tmp_path, *models, policies=(cache(), blocks("there"))) as gateway,
        client_of(gateway) as client,
    ):
        words = [(await ask(client)).headers["x-cache"] for _ in range(2)]
        guarded = await ask(client, "router")
        await eventually(lambda: kept(gateway) == 0)
    assert words == ["miss", "hit-memory"]
    assert (guarded.headers["x-cache"], "content_filter" in guarded.text) == ("hit-memory", True)
    assert "there" not in guarded.text
    assert len(upstream.requests) == 1


async def test_another_guard_begins_anew(upstream: FakeUpstream, tmp_path: Path) -> None:
    """A change of what guards a model makes other questions of all that are asked of it."""
    model = entry("chat", upstream.url, policies=(CACHE, GUARD))
    async with (
        running_gateway(tmp_path, model, policies=(cache(), blocks("x"))) as gateway,
        client_of(gateway) as client,
    ):
        words = [(await ask(client)).headers["x-cache"] for _ in range(2)]
        await gateway.configure(model, policies=(cache(), blocks("y")))
        words += [(await ask(client)).headers["x-cache"] for _ in range(2)]
        await gateway.configure(model, policies=(cache(), blocks("there")))
        blocked = await ask(client)
    assert words == ["miss", "hit-memory"] * 2
    assert "content_filter" in blocked.text


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("scope", list(Scope))
async def test_what_was_redacted_is_given_to_the_same_user_with_the_values_of_the_request(
    scope: Scope, stream: bool, upstream: FakeUpstream, tmp_path: Path
) -> None:
    """Placeholders are what is kept: each request gets its own values back, and no other user gets the answer."""

    async def repeats(received: Received, wire: Wire) -> None:
        said, name = received.document["messages"][0]["content"], received.document["model"]
        assert "example" not in said
        if not received.document.get("stream"):
            return await wire.json(completion(name, f"mail to {said}"))
        await wire.stream_head()
        await wire.chunk(frame(delta(name, f"mail to {said}")) + frame(delta(name, None, "stop")) + DONE)
        return await wire.end()

    upstream.respond = repeats
    pii = PiiGuard(name="p", action=Action.REDACT, restore=True, appliesTo=(Source.USER,))
    policies = (cache(scope=scope), guard_entry("t", "g", GuardBody(input=(pii,))))
    model = entry("chat", upstream.url, policies=(CACHE, GUARD))
    async with (
        running_gateway(tmp_path, model, policies=policies, keys=KEYS, insecure_no_auth=False) as gateway,
        client_of(gateway) as client,
    ):
        told = []
        for who, mail in (("ada", "a"), ("ada", "b"), ("bob", "a")):
            said = [{"role": "user", "content": f"{mail}da@example.org"}]
            response = await ask(client, headers=as_user(who), messages=said, stream=stream)
            assert f"{mail}da@example.org" in response.text
            told.append(response.headers["x-cache"])
    assert told == ["miss", "hit-memory", "miss"]


async def test_an_adapter_is_not_taken_for_its_model(upstream: FakeUpstream, tmp_path: Path) -> None:
    """An answer of an adapter, as the fallback of another model or of its own, is kept as the adapter's."""

    async def fails_alone(received: Received, wire: Wire) -> None:
        name = received.document["model"]
        if name in ("chat", "other"):
            await wire.json({"error": {"message": "no"}}, status=500)
        else:
            await wire.json(completion(name, f"I am {name}"))

    upstream.respond = fails_alone
    adapters = (LoraAdapter(servedName="tuned", upstreamName="tuned"),)
    models = (
        entry("chat", upstream.url, policies=(CACHE,), adapters=adapters, fallbacks=("tuned",)),
        entry("other", upstream.url, fallbacks=("tuned",)),
    )
    async with running_gateway(tmp_path, *models, policies=(cache(),)) as gateway, client_of(gateway) as client:
        first = [await ask(client, name) for name in ("chat", "other", "tuned")]
        upstream.respond = answer
        second = [await ask(client, name) for name in ("chat", "other", "tuned")]
    assert {one.headers["x-capstan-model"] for one in first} == {"tuned"}
    assert [one.headers.get("x-cache") for one in first] == ["miss", "hit-memory", "hit-memory"]
    assert [one.headers.get("x-cache") for one in second] == ["miss", None, "hit-memory"]
    assert [one.headers["x-capstan-model"] for one in second] == ["chat", "other", "tuned"]
    assert "I am tuned" not in second[0].text
    assert "I am tuned" in second[2].text


async def test_what_the_gateway_asks_for_itself_is_not_kept(upstream: FakeUpstream, tmp_path: Path) -> None:
    """A judge is asked about somebody's answer each time, and none of that is kept, whatever is in force on it."""

    async def grades(received: Received, wire: Wire) -> None:
        await wire.json(completion(received.document["model"], "10"))

    upstream.respond = grades
    estimator = CascadeEstimator(type=EstimatorType.JUDGE, judge="test/judge")
    models = (
        entry("judge", upstream.url, policies=(CACHE,)),
        entry("small", upstream.url),
        entry("large", upstream.url),
        entry(
            "cascade",
            backend=CascadeBackend(members=("test/small", "test/large"), threshold=0.1, estimator=estimator),
        ),
    )
    async with running_gateway(tmp_path, *models, policies=(cache(),)) as gateway, client_of(gateway) as client:
        for _ in range(2):
            response = await ask(client, "cascade")
            assert response.status_code == 200
            assert "x-cache" not in response.headers
        assert kept(gateway) == 0
        counts = gateway.gateway.caches.report().policies[CACHE]
    assert (counts.memoryHits, counts.misses, counts.bypassed) == (0, 0, 0)
    assert [one.document["model"] for one in upstream.requests].count("judge") == 2


async def test_who_came_another_way_shares_no_call(upstream: FakeUpstream, tmp_path: Path) -> None:
    """Of two who ask the same at once, one of them through a router with a guard, each has a call of its own: another
    model may answer, and the guard is to see that."""
    go = asyncio.Event()

    async def waits(received: Received, wire: Wire) -> None:
        await go.wait()
        await answer(received, wire)

    upstream.respond = waits
    router = entry(
        "router", policies=(GUARD,),
        backend=RouterBackend(strategy=Strategy.CHEAPEST, members=(RouterMember(model="test/chat"),)),
    )  # fmt: skip
    models = (entry("chat", upstream.url, policies=(CACHE,)), router)
    async with (
        running_gateway(tmp_path, *models, policies=(cache(), blocks("there"))) as gateway,
        client_of(gateway) as client,
    ):
        asking = [asyncio.create_task(ask(client, name)) for name in ("chat", "router", "chat")]
        await eventually(lambda: len(upstream.requests) == 2 and len(gateway.gateway.requests) == 3)
        go.set()
        direct, guarded, joined = await asyncio.gather(*asking)
    assert "there" in direct.text
    assert "there" in joined.text
    assert "content_filter" in guarded.text


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize(("counts", "used"), [(CountCached.NONE, 7), (CountCached.FULL, 14)])
async def test_limits_count_what_was_there_as_their_policy_says(
    counts: CountCached,
    used: int,
    stream: bool,
    upstream: FakeUpstream,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """An answer out of a cache costs nothing: limits count it as if it had been made, or not at all."""

    async def counted(received: Received, wire: Wire) -> None:
        name = received.document["model"]
        if not received.document.get("stream"):
            return await wire.json(completion(name))
        usage = {"prompt_tokens": 5, "completion_tokens": 2, "total_tokens": 7}
        last = {**delta(name, None), "choices": [], "usage": usage}
        await wire.stream_head()
        await wire.chunk(frame(delta(name, "Hello")) + frame(delta(name, None, "stop")) + frame(last) + DONE)
        return await wire.end()

    upstream.respond = counted
    rule = LimitRule(name="tokens", per=Per.TENANT, unit=Unit.TOKENS, amount=100, windowMillis=86_400_000, burst=100)
    policies = (cache(), rate_limit_entry("t", "l", RateLimitBody(limits=(rule,), countCached=counts)))
    model = entry(
        "chat", upstream.url, policies=(CACHE, LIMIT), price=Price(inputPerMillion="1000", outputPerMillion="1000")
    )
    lines: list[dict[str, Any]] = []
    async with (
        running_gateway(tmp_path, model, policies=policies) as gateway,
        client_of(gateway) as client,
    ):
        monkeypatch.setattr(gateway.gateway.deps.request_log, "enabled", True)
        monkeypatch.setattr(gateway.gateway.deps.request_log, "write", lines.append)
        told = []
        for _ in range(3):
            response = await ask(client, stream=stream, max_tokens=9)
            told.append(response.headers["x-cache"])
            await gateway.settled()
            assert "x-ratelimit-remaining-tokens" in response.headers
        (rule_used,) = gateway.gateway.limits.report().policies[LIMIT]
        saved = gateway.metric("llm_cache_saved_tokens_total", policy="t/c", mode="enforce")
        counting = gateway.gateway.deps.usage
        assert counting is not None
        numbers = [sum(column) for column in zip(*counting.take().values(), strict=True)]
    assert told == ["miss", "hit-memory", "hit-memory"]
    assert [one.path for one in upstream.requests].count(CHAT) == 1
    # As it stood when the third one had taken what it may use.
    assert (rule_used.usedPercent, saved) == (used + 8 + 9, 14)
    assert (numbers[0], numbers[4]) == (3, 7_000_000)
    assert [line["cache"] for line in lines] == told
    assert [line.get("output_tokens") for line in lines] == [2, None, None]
    assert [line.get("cost_dollars") for line in lines] == [0.007, None, None]
    assert [line.get("saved_tokens") for line in lines] == [None, 7, 7]
    assert [line.get("saved_dollars") for line in lines] == [None, 0.007, 0.007]


async def test_shadow_changes_no_header_and_keeps_what_it_sees_to_itself(
    upstream: FakeUpstream, tmp_path: Path
) -> None:
    """Who only looks on adds nothing to answers, also of what it would leave alone; when it acts it begins with
    nothing."""
    model = entry("chat", upstream.url, policies=(CACHE,))
    async with (
        running_gateway(tmp_path, model, policies=(cache(mode=Mode.SHADOW),)) as gateway,
        client_of(gateway) as client,
    ):
        answers = []
        for stream in (True, False, True):
            answers.append(await ask(client, stream=stream))
            await eventually(lambda: kept(gateway) == 1)
        answers.append(await ask(client, tools=[{"type": "function", "function": {"name": "f"}}]))
        answers.append(await ask(client, headers={"cache-control": "only-if-cached"}))
        counts = gateway.gateway.caches.report().policies[CACHE]
        await gateway.configure(model, policies=(cache(),))
        acting = await ask(client)
    assert all("x-cache" not in one.headers for one in answers)
    assert {one.status_code for one in answers} == {200}
    assert len(upstream.requests) == len(answers) + 1
    assert (counts.memoryHits, counts.misses, counts.stored) == (3, 1, 1)
    assert counts.savedTokens > 0
    assert acting.headers["x-cache"] == "miss"
    assert json.loads(acting.text)["choices"]
