"""A real gateway with RateLimitPolicies: what is admitted, what is told, and what the buckets hold in the end."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx2
import pytest

from capstan_contract.config import (
    CascadeBackend,
    CascadeEstimator,
    EstimatorType,
    ModelEntry,
    PolicyEntry,
    Price,
    RouterBackend,
    RouterMember,
    Strategy,
)
from capstan_contract.limits import (
    BudgetRule,
    LimitRule,
    Match,
    OnExhausted,
    Per,
    Period,
    PeriodType,
    RateLimitBody,
    Unit,
    rate_limit_entry,
)
from capstan_gateway.tokens.prompt import prompt_tokens
from fakes.openai_upstream import DONE, FakeUpstream, Received, Wire, answer, completion, delta, frame
from support.counts import Counts
from support.gateway import RunningGateway, entry, running_gateway
from support.keys import key_entry, key_text
from support.wait import eventually

MESSAGES: Any = [{"role": "user", "content": "say hello"}]
MINUTE = 60_000


def limit(name: str, unit: Unit, amount: int, *, per: Per = Per.KEY, window: int = MINUTE, **more: Any) -> LimitRule:
    """Give a rule."""
    if unit is Unit.CONCURRENCY:
        return LimitRule(name=name, per=per, unit=unit, amount=amount, **more)
    burst = more.pop("burst", amount)
    return LimitRule(name=name, per=per, unit=unit, amount=amount, windowMillis=window, burst=burst, **more)


def budget(name: str, nano: int, **more: Any) -> BudgetRule:
    """Give a budget of a day."""
    given = {"per": Per.KEY, "period": Period(type=PeriodType.DAY), **more}
    return BudgetRule(name=name, nanoDollars=nano, **given)


def policy(*rules: LimitRule | BudgetRule, name: str = "p", **more: Any) -> PolicyEntry:
    """Give a policy."""
    limits = tuple(rule for rule in rules if isinstance(rule, LimitRule))
    budgets = tuple(rule for rule in rules if isinstance(rule, BudgetRule))
    return rate_limit_entry("test", name, RateLimitBody(limits=limits, budgets=budgets, **more))


def governed(name: str, url: str, *policies: PolicyEntry, **fields: Any) -> ModelEntry:
    """Give a model under these policies."""
    return entry(name, url, policies=tuple(one.id for one in policies), **fields)


@pytest.fixture
async def upstream() -> AsyncIterator[FakeUpstream]:
    """An engine that answers, until a test says otherwise."""
    async with FakeUpstream(answer) as fake:
        yield fake


@pytest.fixture
def store() -> Counts:
    """The counts."""
    return Counts()


def body(**more: Any) -> dict[str, Any]:
    """Give a chat request."""
    return {"model": "chat", "messages": MESSAGES, "max_tokens": 10, **more}


async def ask(gateway: RunningGateway, path: str = "/v1/chat/completions", **more: Any) -> httpx2.Response:
    """Ask, and wait for the end."""
    async with httpx2.AsyncClient(base_url=gateway.url, timeout=60) as client:
        found = await client.post(path, json=body(**more))
    await gateway.settled()
    return found


async def test_a_limit_of_requests_admits_as_many(tmp_path: Path, upstream: FakeUpstream, store: Counts) -> None:
    """And refuses the next one with a 429 that says when to come back; then it is admitted, to the millisecond."""
    one = policy(limit("few", Unit.REQUESTS, 2))
    chat = governed("chat", upstream.url, one)
    async with running_gateway(tmp_path, chat, policies=[one], limiter=store.limiter) as gateway:
        first, second, third = [await ask(gateway) for _ in range(3)]
        assert [first.status_code, second.status_code, third.status_code] == [200, 200, 429]
        assert (first.headers["x-ratelimit-limit-requests"], first.headers["x-ratelimit-remaining-requests"]) == (
            "2",
            "1",
        )
        assert first.headers["x-ratelimit-reset-requests"] == "30s"
        assert "x-ratelimit-limit-tokens" not in first.headers
        error = third.json()["error"]
        assert (error["type"], error["code"], error["param"]) == ("requests", "rate_limit_exceeded", None)
        assert "x-should-retry" not in third.headers
        assert (third.headers["retry-after"], third.headers["retry-after-ms"]) == ("30", "30000")
        assert third.headers["x-ratelimit-remaining-requests"] == "0"
        store.now_ms += 29_999
        assert (await ask(gateway)).status_code == 429
        store.now_ms += 1
        assert (await ask(gateway)).status_code == 200


async def test_tokens_are_settled_to_what_the_engine_told(
    tmp_path: Path, upstream: FakeUpstream, store: Counts
) -> None:
    """Reserved is the prompt's estimate and the most that the client accepts; kept is the engine's own count."""
    one = policy(
        limit("tokens", Unit.TOKENS, 1000, window=86_400_000), limit("out", Unit.OUTPUT_TOKENS, 500, window=86_400_000)
    )
    chat = governed("chat", upstream.url, one)
    async with running_gateway(tmp_path, chat, policies=[one], limiter=store.limiter) as gateway:
        found = await ask(gateway, max_tokens=100, n=2)
        usage = found.json()["usage"]
        told = [usage["completion_tokens"], usage["prompt_tokens"] + usage["completion_tokens"]]
        assert store.used() == told
        assert found.headers["x-ratelimit-limit-tokens"] == "500"
        assert found.headers["x-ratelimit-remaining-tokens"] == "300"
        assert gateway.metric("llm_limit_tokens_total", policy="test/p", rule="out", stage="reserved") == 200
        assert gateway.metric("llm_limit_tokens_total", policy="test/p", rule="out", stage="settled") == told[0]
        assert (
            gateway.metric("llm_limit_decisions_total", policy="test/p", mode="enforce", rule="all", outcome="admitted")
            == 1
        )


async def test_what_is_reserved_for_a_prompt_comes_near_to_what_the_engine_counts(
    tmp_path: Path, upstream: FakeUpstream, store: Counts
) -> None:
    """Of a model whose tokenizer makes three times of the rule; but no request is refused for good because of that."""

    async def dense(received: Received, wire: Wire) -> None:
        prompt = 3 * prompt_tokens(received.document)
        usage = {"prompt_tokens": prompt, "completion_tokens": 1, "total_tokens": prompt + 1}
        await wire.json({**completion("chat"), "usage": usage})

    upstream.respond = dense
    one = policy(limit("in", Unit.INPUT_TOKENS, 100_000, window=31_622_400_000))
    chat = governed("chat", upstream.url, one)
    text = [{"role": "user", "content": "x" * 4000}]

    def reserved(gateway: RunningGateway) -> float:
        return gateway.metric("llm_limit_tokens_total", policy="test/p", rule="in", stage="reserved")

    async with running_gateway(tmp_path, chat, policies=[one], limiter=store.limiter) as gateway:
        assert (await ask(gateway, messages=text)).status_code == 200
        assert reserved(gateway) == 1006
        for _ in range(10):
            assert (await ask(gateway, messages=text)).status_code == 200
        before = reserved(gateway)
        assert (await ask(gateway, messages=text)).status_code == 200
        assert abs(reserved(gateway) - before - 3018) < 30
        # By the rule it has 50,006, with the ratio more than there ever is.
        store.forget()
        assert (await ask(gateway, messages=[{"role": "user", "content": "x" * 200_000}])).status_code == 200


async def test_more_than_a_limit_ever_has_is_refused_for_good(
    tmp_path: Path, upstream: FakeUpstream, store: Counts
) -> None:
    """With a 400 that names the field, and tells the SDKs not to wait; nothing is taken and nothing is sent."""
    one = policy(limit("requests", Unit.REQUESTS, 5), limit("tokens", Unit.TOKENS, 50))
    chat = governed("chat", upstream.url, one)
    async with running_gateway(tmp_path, chat, policies=[one], limiter=store.limiter) as gateway:
        found = await ask(gateway, max_tokens=100)
        error = found.json()["error"]
        assert (found.status_code, error["code"], error["param"]) == (400, "request_exceeds_limit", "max_tokens")
        assert found.headers["x-should-retry"] == "false"
        assert "retry-after" not in found.headers
        assert (store.used(), upstream.requests) == ([], [])


async def test_who_sets_no_limit_is_not_refused_for_what_the_model_could_give(
    tmp_path: Path, upstream: FakeUpstream, store: Counts
) -> None:
    """Such a request takes all that there is, at most; with too long a prompt it is refused for good."""
    one = policy(
        limit("tokens", Unit.TOKENS, 50), limit("out", Unit.OUTPUT_TOKENS, 40), budget("b", 45 * NANO)
    )  # fmt: skip
    chat = governed("chat", upstream.url, one, maxOutputTokens=100_000, price=PRICE)
    async with running_gateway(tmp_path, chat, policies=[one], limiter=store.limiter) as gateway:
        assert (await ask(gateway, max_tokens=None)).status_code == 200
        assert (await ask(gateway, max_tokens=100_000)).json()["error"]["code"] == "request_exceeds_limit"
        long = [{"role": "user", "content": "word " * 100}]
        assert (await ask(gateway, max_tokens=None, messages=long)).json()["error"]["code"] == "request_exceeds_limit"


PRICE = Price(inputPerMillion=1_000_000, outputPerMillion=1_000_000)
"""A dollar a token."""
NANO = 1_000_000_000


async def test_a_spent_budget_stops_the_sdks(tmp_path: Path, upstream: FakeUpstream, store: Counts) -> None:
    """The third kind of error: insufficient_quota, with the time at which the next period begins."""
    one = policy(budget("daily", 40 * NANO, softLimitPercent=10))
    chat = governed("chat", upstream.url, one, price=PRICE)
    async with running_gateway(tmp_path, chat, policies=[one], limiter=store.limiter) as gateway:
        found = await ask(gateway)
        assert found.status_code == 200
        assert found.headers["x-capstan-budget"].startswith("daily; used=")
        usage = found.json()["usage"]
        assert store.used() == [(usage["prompt_tokens"] + usage["completion_tokens"]) * NANO]
        statuses = [(await ask(gateway)).status_code for _ in range(6)]
        assert statuses[-1] == 429
        refused = await ask(gateway)
        error = refused.json()["error"]
        assert (error["type"], error["code"]) == ("insufficient_quota", "insufficient_quota")
        assert refused.headers["x-should-retry"] == "false"
        assert "the next period begins at 20" in error["message"]
        assert gateway.metric("llm_budget_soft_limit_total", policy="test/p", rule="daily") > 0


async def test_without_a_price_a_budget_flags_or_denies(tmp_path: Path, upstream: FakeUpstream, store: Counts) -> None:
    """Never is it taken for nothing: it is counted, or refused with an error that says so."""
    flags, denies = policy(budget("b", NANO)), policy(budget("b", NANO), name="d", unknownPrice="Deny")
    models = governed("chat", upstream.url, flags), governed("strict", upstream.url, denies)
    async with running_gateway(tmp_path, *models, policies=[flags, denies], limiter=store.limiter) as gateway:
        assert (await ask(gateway)).status_code == 200
        assert gateway.metric("llm_limit_unpriced_total", policy="test/p") == 1
        found = await ask(gateway, model="strict")
        assert (found.status_code, found.json()["error"]["code"]) == (400, "model_price_unknown")
        assert found.headers["x-should-retry"] == "false"


@pytest.mark.parametrize("virtual", ["router", "cascade"])
async def test_a_member_without_a_price_hides_none_of_the_others(
    tmp_path: Path, upstream: FakeUpstream, virtual: str
) -> None:
    """A budget that flags takes what the dearest member with a price may cost: of many at once as many as it pays."""
    one = policy(budget("daily", 40 * NANO, period=Period(type=PeriodType.MONTH)))
    backend = (
        RouterBackend(members=(RouterMember(model="test/a", weight=1), RouterMember(model="test/b", weight=0)))
        if virtual == "router"
        else CascadeBackend(
            members=("test/a", "test/b"), threshold=0.5, estimator=CascadeEstimator(type=EstimatorType.LOG_PROBABILITY)
        )
    )
    models = entry("a", upstream.url, price=PRICE), entry("b", upstream.url)
    await two_of_many_are_admitted(
        tmp_path, upstream, one, governed("chat", upstream.url, one, backend=backend), *models
    )


@pytest.mark.parametrize("by", ["price", "tokens", "router", "downgrade"])
async def test_a_dearer_fallback_is_paid_before_it_is_asked(tmp_path: Path, upstream: FakeUpstream, by: str) -> None:
    """Of many requests at once to a cheap model that fails, as many reach its fallback as the limit has enough for."""
    cheap, more = Price(inputPerMillion=1, outputPerMillion=1), {"max_tokens": 10}
    rules: tuple[LimitRule | BudgetRule, ...] = (budget("daily", 40 * NANO, period=Period(type=PeriodType.MONTH)),)
    models = [entry("b", upstream.url, price=PRICE)]
    fallback = "b"
    if by == "tokens":
        rules = (limit("out", Unit.OUTPUT_TOKENS, 220, window=86_400_000 * 300),)
        models, more = [entry("b", upstream.url, maxOutputTokens=90)], {"max_tokens": 90}
    elif by == "router":
        fallback = "r"
        models.append(entry("r", backend=RouterBackend(members=(RouterMember(model="test/b"),))))
    elif by == "downgrade":
        fallback = ""
        down = {"onExhausted": OnExhausted.DOWNGRADE, "downgradeTo": "test/broken"}
        rules += (budget("spent", 1, period=Period(type=PeriodType.MONTH), **down),)
        models.append(entry("broken", upstream.url, price=cheap, fallbacks=("b",)))
    one = policy(*rules)
    asked = governed(
        "chat", upstream.url, one, price=cheap, upstreamName="broken" if fallback else "chat",
        maxOutputTokens=1 if by == "tokens" else None,
        fallbacks=(fallback,) if fallback else (),
    )  # fmt: skip
    await two_of_many_are_admitted(tmp_path, upstream, one, asked, *models, **more)


async def test_a_stream_of_a_cascade_takes_what_its_drafts_may_be(
    tmp_path: Path, upstream: FakeUpstream, store: Counts
) -> None:
    """They are whole answers: of many at once one is asked for, where the limit has enough for one."""
    go_on = asyncio.Event()

    async def respond(received: Received, wire: Wire) -> None:
        if not received.document.get("stream"):
            await go_on.wait()
        await answer(received, wire)

    upstream.respond = respond
    one = policy(limit("out", Unit.OUTPUT_TOKENS, 100_000, window=86_400_000 * 300))
    backend = CascadeBackend(
        members=("test/a", "test/b"), threshold=0.5, estimator=CascadeEstimator(type=EstimatorType.LOG_PROBABILITY)
    )
    models = governed("chat", upstream.url, one, backend=backend), entry("a", upstream.url), entry("b", upstream.url)
    async with (
        running_gateway(tmp_path, *models, policies=[one], limiter=store.limiter) as gateway,
        httpx2.AsyncClient(base_url=gateway.url, timeout=60) as client,
    ):
        asked = body(max_tokens=60_000, stream=True)
        calls = [asyncio.create_task(client.post("/v1/chat/completions", json=asked)) for _ in range(6)]
        try:
            await eventually(lambda: sum(call.done() for call in calls) == 5, what="those without a draft")
            drafts = [received for received in upstream.requests if not received.document.get("stream")]
            assert [received.document["model"] for received in drafts] == ["a"]
        finally:
            go_on.set()
        found = await asyncio.gather(*calls)
        await gateway.settled()
    assert {one.status_code for one in found} == {200}


def a_cascade(url: str, one: PolicyEntry) -> tuple[ModelEntry, ...]:
    """A cascade whose drafts are never good enough: the last member answers."""
    backend = CascadeBackend(
        members=("test/a", "test/b"), threshold=1.0, estimator=CascadeEstimator(type=EstimatorType.LOG_PROBABILITY)
    )
    return governed("chat", url, one, backend=backend), entry("a", url), entry("b", url)


@pytest.mark.parametrize(("most", "judged"), [(400, True), (200, False)])
async def test_a_judge_is_paid_before_it_is_asked(
    tmp_path: Path, upstream: FakeUpstream, most: int, judged: bool
) -> None:
    """What it may write is taken beside the draft; where the limit has no more it is not asked, and says nothing."""
    upstream.respond = answer
    one = policy(limit("out", Unit.OUTPUT_TOKENS, most, window=86_400_000 * 300))
    backend = CascadeBackend(
        members=("test/a", "test/b"), threshold=0.5,
        estimator=CascadeEstimator(type=EstimatorType.JUDGE, judge="test/judge"),
    )  # fmt: skip
    models = (
        governed("chat", upstream.url, one, backend=backend), entry("a", upstream.url), entry("b", upstream.url),
        entry("judge", upstream.url),
    )  # fmt: skip
    async with running_gateway(tmp_path, *models, policies=[one]) as gateway:
        await ask(gateway, max_tokens=10)
    assert ("judge" in [received.document["model"] for received in upstream.requests]) == judged


async def test_a_draft_that_a_limit_never_has_is_passed_over(tmp_path: Path, upstream: FakeUpstream) -> None:
    """The last member of a cascade streams what the limit has, whatever its drafts would have taken."""
    upstream.respond = answer
    one = policy(limit("out", Unit.OUTPUT_TOKENS, 1_000, window=86_400_000 * 300))
    async with (
        running_gateway(tmp_path, *a_cascade(upstream.url, one), policies=[one]) as gateway,
        httpx2.AsyncClient(base_url=gateway.url, timeout=60) as client,
    ):
        streamed = await client.post("/v1/chat/completions", json=body(max_tokens=60_000, stream=True))
        whole = await client.post("/v1/chat/completions", json=body(max_tokens=60_000))
    assert (streamed.status_code, whole.status_code) == (200, 400)
    assert [received.document["model"] for received in upstream.requests] == ["b"]


async def test_a_stream_behind_a_draft_uses_what_that_has_left(tmp_path: Path, upstream: FakeUpstream) -> None:
    """The last member of a cascade goes on as long as what was taken for a draft lasts, where nobody can have more."""
    words = 3_000

    async def respond(received: Received, wire: Wire) -> None:
        if not received.document.get("stream"):
            await answer(received, wire)
            return
        await wire.stream_head()
        for _ in range(words // 100):
            await wire.chunk(b"".join(frame(delta("b", "word ")) for _ in range(100)))
        await wire.chunk(frame({"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]}) + DONE)

    upstream.respond = respond
    one = policy(limit("out", Unit.OUTPUT_TOKENS, 61_000, window=86_400_000 * 300))
    async with (
        running_gateway(tmp_path, *a_cascade(upstream.url, one), policies=[one]) as gateway,
        httpx2.AsyncClient(base_url=gateway.url, timeout=60) as client,
    ):
        reply = await client.post("/v1/chat/completions", json=body(max_tokens=60_000, stream=True))
    assert [received.document["model"] for received in upstream.requests] == ["a", "b"]
    assert reply.content.count(b"word ") == words
    assert b'"finish_reason":"stop"' in reply.content


async def test_who_sets_no_bound_is_not_kept_from_a_fallback(tmp_path: Path, upstream: FakeUpstream) -> None:
    """All of the limit is taken for such a request: behind an answer that was none a fallback needs no more."""

    async def respond(received: Received, wire: Wire) -> None:
        if received.document["model"] == "chat":
            await wire.json("no completion, and paid for all the same")
            return
        await answer(received, wire)

    upstream.respond = respond
    one = policy(limit("tokens", Unit.TOKENS, 1_000, window=86_400_000 * 300))
    asked = governed("chat", upstream.url, one, maxOutputTokens=9_000, fallbacks=("b",))
    async with (
        running_gateway(tmp_path, asked, entry("b", upstream.url, maxOutputTokens=9_000), policies=[one]) as gateway,
        httpx2.AsyncClient(base_url=gateway.url, timeout=60) as client,
    ):
        reply = await client.post("/v1/chat/completions", json={"model": "chat", "messages": MESSAGES})
    assert reply.status_code == 200
    assert upstream.requests[-1].document["model"] == "b"


async def two_of_many_are_admitted(
    tmp_path: Path, upstream: FakeUpstream, one: PolicyEntry, *models: ModelEntry, **more: Any
) -> None:
    """Ask many times at once: two requests wait for the engine, and all others are refused."""
    go_on = asyncio.Event()

    async def waits(received: Received, wire: Wire) -> None:
        if received.document["model"] == "broken":
            await wire.json({"error": {"message": "broken"}}, 500)
            return
        await go_on.wait()
        await answer(received, wire)

    upstream.respond = waits
    async with (
        running_gateway(tmp_path, *models, policies=[one]) as gateway,
        httpx2.AsyncClient(base_url=gateway.url, timeout=60) as client,
    ):
        calls = [asyncio.create_task(client.post("/v1/chat/completions", json=body(**more))) for _ in range(12)]
        try:
            await eventually(lambda: sum(call.done() for call in calls) == 10, what="the refusals")
        finally:
            go_on.set()
        found = await asyncio.gather(*calls)
    statuses = sorted(one.status_code for one in found)
    assert statuses.count(200) == 2
    assert set(statuses) <= {200, 429, 502, 503}


async def test_a_spent_budget_may_be_answered_by_a_cheaper_model(
    tmp_path: Path, upstream: FakeUpstream, store: Counts
) -> None:
    """Which is said in a header; the layers of that model act too, and there is no second step down."""
    down = {"onExhausted": OnExhausted.DOWNGRADE, "downgradeTo": "test/cheap"}
    back = {"onExhausted": OnExhausted.DOWNGRADE, "downgradeTo": "test/chat"}
    one = policy(budget("daily", 20 * NANO, **down), limit("requests", Unit.REQUESTS, 100))
    other = policy(budget("cheap", 25 * NANO, **back), name="other")
    models = (
        governed("chat", upstream.url, one, price=PRICE),
        governed("cheap", upstream.url, other, price=PRICE),
    )
    async with running_gateway(tmp_path, *models, policies=[one, other], limiter=store.limiter) as gateway:
        found = await ask(gateway, max_tokens=1)
        while found.headers.get("x-capstan-route") is None and found.status_code == 200:
            found = await ask(gateway, max_tokens=1)
        assert (found.status_code, found.headers["x-capstan-route"]) == (200, "downgraded")
        assert found.headers["x-capstan-model"] == "cheap"
        while found.status_code == 200:
            found = await ask(gateway, max_tokens=1)
        assert (found.status_code, found.json()["error"]["code"]) == (429, "insufficient_quota")
        assert "`cheap`" in found.json()["error"]["message"]
        assert (
            gateway.metric(
                "llm_limit_decisions_total", policy="test/p", mode="enforce", rule="daily", outcome="downgraded"
            )
            > 0
        )


async def test_a_policy_in_shadow_changes_nothing(tmp_path: Path, upstream: FakeUpstream, store: Counts) -> None:
    """It decides and counts, under a group of its own: no header, no error, also while its store is away."""
    one = policy(limit("few", Unit.REQUESTS, 1), mode="Shadow", onStoreFailure="Deny")
    chat = governed("chat", upstream.url, one)

    def decided(outcome: str, rule: str) -> float:
        return gateway.metric("llm_limit_decisions_total", policy="test/p", mode="shadow", rule=rule, outcome=outcome)

    async with running_gateway(tmp_path, chat, policies=[one], limiter=store.limiter) as gateway:
        found = [await ask(gateway) for _ in range(2)]
        assert [one.status_code for one in found] == [200, 200]
        assert not [name for one in found for name in one.headers if "ratelimit" in name]
        assert (decided("admitted", "all"), decided("wait", "few")) == (1, 1)
        assert all("#shadow" in group for group, _, _ in store.buckets)
        assert store.used() == [1]


async def test_a_store_that_is_away_denies_where_the_policy_says_so(tmp_path: Path, upstream: FakeUpstream) -> None:
    """503 limiter_unavailable, with the time after which to try again."""
    one = policy(limit("few", Unit.REQUESTS, 1), onStoreFailure="Deny")
    chat = governed("chat", upstream.url, one)
    store = Counts(remote=True)
    store.down = True
    async with running_gateway(tmp_path, chat, policies=[one], limiter=store.limiter) as gateway:
        found = await ask(gateway)
        assert (found.status_code, found.json()["error"]["code"]) == (503, "limiter_unavailable")
        assert found.headers["retry-after"] == "1"
        assert upstream.requests == []


async def test_what_runs_at_once_is_held_to_the_end_of_the_answer(
    tmp_path: Path, upstream: FakeUpstream, store: Counts
) -> None:
    """Of streams too: as long as one runs the next is refused, and then there is room again."""
    one, go_on = policy(limit("one", Unit.CONCURRENCY, 1)), asyncio.Event()
    chat = governed("chat", upstream.url, one)

    async def waits(received: Received, wire: Wire) -> None:
        await wire.stream_head()
        await wire.chunk(frame(delta("chat", "Hel")))
        await go_on.wait()
        await wire.chunk(frame(delta("chat", "lo", finish="stop")) + b"data: [DONE]\n\n")
        await wire.end()

    async with (
        running_gateway(tmp_path, chat, policies=[one], limiter=store.limiter) as gateway,
        httpx2.AsyncClient(base_url=gateway.url, timeout=60) as client,
    ):
        upstream.respond = waits
        async with client.stream("POST", "/v1/chat/completions", json=body(stream=True)) as stream:
            assert stream.status_code == 200
            refused = await client.post("/v1/chat/completions", json=body())
            assert (refused.status_code, refused.json()["error"]["type"]) == (429, "requests")
            go_on.set()
            await stream.aread()
        upstream.respond = answer
        assert (await ask(gateway)).status_code == 200
        assert store.used() == []


async def test_anthropics_clients_are_told_in_their_words(
    tmp_path: Path, upstream: FakeUpstream, store: Counts
) -> None:
    """On /v1/messages: anthropic-ratelimit-*, with times; on success, on streams, and on the refusal."""
    one = policy(limit("r", Unit.REQUESTS, 2), limit("i", Unit.INPUT_TOKENS, 1000), limit("o", Unit.OUTPUT_TOKENS, 100))
    chat = governed("chat", upstream.url, one)
    async with running_gateway(tmp_path, chat, policies=[one], limiter=store.limiter) as gateway:
        found = [await ask(gateway, "/v1/messages", stream=stream) for stream in (False, True, False)]
        assert [one.status_code for one in found] == [200, 200, 429]
        for number, one_of in enumerate(found):
            assert one_of.headers["anthropic-ratelimit-requests-limit"] == "2"
            assert one_of.headers["anthropic-ratelimit-requests-remaining"] == str((1, 0, 0)[number])
            assert one_of.headers["anthropic-ratelimit-requests-reset"].endswith("Z")
            assert one_of.headers["anthropic-ratelimit-output-tokens-limit"] == "100"
            assert "anthropic-ratelimit-tokens-limit" not in one_of.headers
            assert "x-ratelimit-limit-requests" not in one_of.headers
        assert found[2].json()["error"]["type"] == "rate_limit_error"


async def test_counting_tokens_takes_nothing(tmp_path: Path, upstream: FakeUpstream, store: Counts) -> None:
    """It is no answer."""
    one = policy(limit("r", Unit.REQUESTS, 1))
    chat = governed("chat", upstream.url, one)
    async with running_gateway(tmp_path, chat, policies=[one], limiter=store.limiter) as gateway:
        for _ in range(3):
            assert (await ask(gateway, "/v1/messages/count_tokens")).status_code == 200
    assert store.used() == []


async def test_auto_leaves_out_what_costs_more_than_the_caller_allows(tmp_path: Path, upstream: FakeUpstream) -> None:
    """By header or field, also what nobody knows the price of; a model of one's own choice is refused."""
    cheap, dear = Price(inputPerMillion=1, outputPerMillion=1), Price(inputPerMillion=1000, outputPerMillion=1000)
    models = (
        entry("cheap", upstream.url, price=cheap, weight=1), entry("dear", upstream.url, price=dear),
        entry("unknown", upstream.url),
    )  # fmt: skip
    async with (
        running_gateway(tmp_path, *models, auto_strategy="Weighted") as gateway,
        httpx2.AsyncClient(base_url=gateway.url, timeout=60) as client,
    ):
        for said in ({"headers": {"x-capstan-max-cost": "0.001"}}, {"field": {"max_cost": 0.001}}):
            asked = body(model="auto") | ({"capstan": said["field"]} if "field" in said else {})
            found = [
                await client.post("/v1/chat/completions", json=asked, headers=said.get("headers")) for _ in range(8)
            ]
            assert {one.headers["x-capstan-model"] for one in found} == {"cheap"}
        assert b"capstan" not in b"".join(received.body for received in upstream.requests)
        for name in ("dear", "unknown"):
            refused = await client.post(
                "/v1/chat/completions", json=body(model=name), headers={"x-capstan-max-cost": "0.001"}
            )
            assert (refused.status_code, refused.json()["error"]["code"]) == (400, "request_exceeds_max_cost")
        nothing = await client.post(
            "/v1/chat/completions", json=body(model="auto"), headers={"x-capstan-max-cost": "0"}
        )
        assert "0 of them cost at most $0.00000000" in nothing.json()["error"]["message"]
        wrong = await client.post("/v1/chat/completions", json=body(), headers={"x-capstan-max-cost": "much"})
        assert (wrong.status_code, wrong.json()["error"]["param"]) == (404, "model")
        wrong = await client.post(
            "/v1/chat/completions", json=body(model="dear"), headers={"x-capstan-max-cost": "much"}
        )
        assert (wrong.status_code, wrong.json()["error"]["param"]) == (400, "x-capstan-max-cost")


async def test_a_router_is_no_way_around_the_limit_of_a_member(
    tmp_path: Path, upstream: FakeUpstream, store: Counts
) -> None:
    """What a policy says of a model by name, or per model, counts whoever chose that; the rest counts once."""
    one = policy(
        limit("all", Unit.REQUESTS, 10), limit("chat", Unit.REQUESTS, 2, match=Match(model="chat")),
        limit("each", Unit.REQUESTS, 20, per=Per.MODEL),
    )  # fmt: skip
    models = (
        governed("chat", upstream.url, one),
        entry("router", backend=RouterBackend(members=(RouterMember(model="test/chat"),)), policies=(one.id,)),
    )
    async with running_gateway(tmp_path, *models, policies=[one], limiter=store.limiter) as gateway:
        statuses = [(await ask(gateway, model=name)).status_code for name in ("router", "chat", "router")]
        assert statuses == [200, 200, 429]
        # Twice each: by any name, of the model by name, and of the model; once of the router, where nothing is left
        # of the request that was refused.
        assert store.used() == [1, 2, 2, 2]


async def test_a_member_without_a_price_makes_the_others_no_cheaper(
    tmp_path: Path, upstream: FakeUpstream, store: Counts
) -> None:
    """A request to a router takes the price of its dearest member, as far as prices are known."""
    one = policy(budget("b", NANO))
    members = (RouterMember(model="test/chat"), RouterMember(model="test/free"))
    models = (
        entry("chat", upstream.url, price=PRICE),
        entry("free", upstream.url),
        entry("router", backend=RouterBackend(members=members), policies=(one.id,)),
    )
    async with running_gateway(tmp_path, *models, policies=[one], limiter=store.limiter) as gateway:
        found = await ask(gateway, model="router", max_tokens=100_000)
        assert (found.status_code, found.json()["error"]["code"]) == (400, "request_exceeds_limit")


async def test_a_cascade_stops_at_what_its_caller_allows(tmp_path: Path, upstream: FakeUpstream) -> None:
    """The lower one of that and its own `maxCost`."""
    backend = CascadeBackend(
        members=("test/cheap", "test/cheap"), threshold=1.0, maxCost=1.0,
        estimator=CascadeEstimator(type=EstimatorType.LOG_PROBABILITY),
    )  # fmt: skip
    models = entry("cheap", upstream.url, price=Price(outputPerMillion=1000)), entry("cascade", backend=backend)
    async with (
        running_gateway(tmp_path, *models) as gateway,
        httpx2.AsyncClient(base_url=gateway.url, timeout=60) as client,
    ):
        for said, calls in (("1", 2), ("0.0101", 1)):
            upstream.requests.clear()
            found = await client.post(
                "/v1/chat/completions", json=body(model="cascade"), headers={"x-capstan-max-cost": said}
            )
            assert found.status_code == 200, found.text
            assert len(upstream.requests) == calls
    assert "max-cost" in found.headers["x-capstan-route"]


async def test_the_use_of_policies_is_told_to_the_operator(
    tmp_path: Path, upstream: FakeUpstream, store: Counts
) -> None:
    """At /internal/limits, of nobody by name; a policy that nobody has used says nothing."""
    one = policy(limit("few", Unit.REQUESTS, 4), budget("b", 100 * NANO))
    chat = governed("chat", upstream.url, one, price=PRICE)
    secret = "an-admin-key-of-tests"
    (tmp_path / "admin").write_text(secret)
    options: dict[str, Any] = {"limiter": store.limiter, "admin_key_file": tmp_path / "admin"}
    async with (
        running_gateway(tmp_path, chat, policies=[one], **options) as gateway,
        httpx2.AsyncClient(base_url=gateway.url, headers={"authorization": f"Bearer {secret}"}, timeout=60) as client,
    ):
        assert (await client.get("/internal/limits")).json()["policies"] == {}
        await ask(gateway)
        await ask(gateway)
        rules = (await client.get("/internal/limits")).json()["policies"][one.id]
    assert [rule["name"] for rule in rules] == ["few", "b"]
    assert rules[0]["usedPercent"] in (49, 50)
    assert rules[1]["spentNanoDollars"] > 10 * NANO


async def test_in_shadow_nobody_waits_for_the_store(tmp_path: Path, upstream: FakeUpstream) -> None:
    """It is asked beside the request; what it says late is counted, and settled, all the same."""
    one = policy(limit("few", Unit.REQUESTS, 9), mode="Shadow", onStoreFailure="Deny")
    chat = governed("chat", upstream.url, one)
    store = Counts(remote=True)
    go_on = store.go_on = asyncio.Event()
    async with running_gateway(tmp_path, chat, policies=[one], limiter=store.limiter) as gateway:
        assert (await ask(gateway)).status_code == 200
        assert store.used() == []
        go_on.set()
        await eventually(lambda: store.used() == [1] and not store.under_way, what="the settlement")
        store.down = True
        assert (await ask(gateway)).status_code == 200
        labels = {"policy": "test/p", "mode": "shadow", "rule": "all", "outcome": "unavailable"}
        await eventually(lambda: gateway.metric("llm_limit_decisions_total", **labels) == 1, what="the count")


async def test_a_model_that_one_may_not_use_answers_for_no_other(
    tmp_path: Path, upstream: FakeUpstream, store: Counts
) -> None:
    """A budget that would step down to it is spent instead, and says nothing of it."""
    down = {"onExhausted": OnExhausted.DOWNGRADE, "downgradeTo": "test/cheap"}
    one = policy(budget("daily", 11 * NANO, **down))
    models = governed("chat", upstream.url, one, price=PRICE), entry("cheap", upstream.url, price=PRICE)
    key = key_entry("k", models=("chat",))
    async with (
        running_gateway(tmp_path, *models, policies=[one], keys=[key], limiter=store.limiter) as gateway,
        httpx2.AsyncClient(base_url=gateway.url, timeout=60) as client,
    ):
        stepped = await ask(gateway)
        assert stepped.headers["x-capstan-model"] == "cheap"
        refused = await client.post("/v1/chat/completions", json=body(), headers={"x-api-key": key_text("k")})
        assert refused.status_code in (400, 429)
        assert "cheap" not in refused.text


async def test_what_has_failed_is_given_back_before_another_model_is_asked(
    tmp_path: Path, upstream: FakeUpstream, store: Counts
) -> None:
    """And the answer tells nothing of its limits; a member whose limit is reached is passed over."""
    one = policy(limit("few", Unit.REQUESTS, 5))
    none = policy(limit("none", Unit.TOKENS, 5), limit("none-at-once", Unit.CONCURRENCY, 1), name="none")
    members = (RouterMember(model="test/broken", priority=0), RouterMember(model="test/chat", priority=1))
    models = (
        governed("broken", "http://127.0.0.1:9", one),
        governed("chat", upstream.url),
        entry("router", backend=RouterBackend(strategy=Strategy.PRIORITY, members=members)),
        governed("full", upstream.url, none, fallbacks=("chat",)),
        entry("over-full", backend=RouterBackend(strategy=Strategy.PRIORITY, members=(
            RouterMember(model="test/once", priority=0), RouterMember(model="test/chat", priority=1),
        ))),
        governed("once", upstream.url, policy(limit("once", Unit.REQUESTS, 1), name="once")),
    )  # fmt: skip
    policies = [one, none, policy(limit("once", Unit.REQUESTS, 1), name="once")]
    async with running_gateway(tmp_path, *models, policies=policies, limiter=store.limiter) as gateway:
        found = await ask(gateway, model="router")
        assert (found.status_code, found.headers["x-capstan-model"]) == (200, "chat")
        assert "x-ratelimit-limit-requests" not in found.headers
        assert store.used() == []
        # What is in force on the model that was asked for is around its fallbacks as well.
        assert (await ask(gateway, model="full")).status_code == 400
        by = [(await ask(gateway, model="over-full")).headers["x-capstan-model"] for _ in range(2)]
        assert by == ["once", "chat"]


@pytest.mark.parametrize("rule", ["requests", "tokens", "money", "slots"])
async def test_many_at_once_are_admitted_as_many_as_there_are(
    tmp_path: Path, upstream: FakeUpstream, rule: str
) -> None:
    """Of 60 requests at once on a limit of 15 exactly 15, whatever is limited; the others take nothing."""
    go_on = asyncio.Event()
    rules: dict[str, LimitRule | BudgetRule] = {
        "requests": limit("r", Unit.REQUESTS, 15, window=86_400_000 * 300),
        "tokens": limit("t", Unit.OUTPUT_TOKENS, 159, window=86_400_000 * 300),
        "money": budget("m", 159 * NANO, period=Period(type=PeriodType.MONTH)),
        "slots": limit("s", Unit.CONCURRENCY, 15),
    }
    one = policy(rules[rule])
    chat = governed("chat", upstream.url, one, price=Price(inputPerMillion=0, outputPerMillion=1_000_000))

    async def waits(received: Received, wire: Wire) -> None:
        await go_on.wait()
        await answer(received, wire)

    upstream.respond = waits
    limits = httpx2.Limits(max_connections=100)
    async with (
        running_gateway(tmp_path, chat, policies=[one]) as gateway,
        httpx2.AsyncClient(base_url=gateway.url, limits=limits, timeout=60) as client,
    ):
        calls = [asyncio.create_task(client.post("/v1/chat/completions", json=body())) for _ in range(60)]
        await eventually(lambda: sum(call.done() for call in calls) == 45, what="the refusals")
        await eventually(lambda: len(upstream.requests) == 15, what="the calls of the engine")
        go_on.set()
        found = await asyncio.gather(*calls)
    assert sorted(one.status_code for one in found) == [200] * 15 + [429] * 45


@pytest.mark.parametrize("rule", ["requests", "tokens", "money"])
async def test_shares_admit_as_many_as_there_are(
    tmp_path: Path, upstream: FakeUpstream, store: Counts, rule: str
) -> None:
    """Of 400 requests on a limit of 200 exactly 200, though most of them are decided by shares; failures cost none."""
    rules: dict[str, LimitRule | BudgetRule] = {
        "requests": limit("r", Unit.REQUESTS, 200),
        "tokens": limit("t", Unit.OUTPUT_TOKENS, 200),
        "money": budget("m", 200 * NANO),
    }
    one = policy(rules[rule])
    price = Price(inputPerMillion=0, outputPerMillion=1_000_000)
    models = governed("chat", upstream.url, one, price=price), governed("broken", upstream.url, one, price=price)

    async def one_word(received: Received, wire: Wire) -> None:
        if received.document["model"] == "broken":
            await wire.json({"error": {"message": "broken"}}, 500)
            return
        usage = {"prompt_tokens": 1, "completion_tokens": 1, "total_tokens": 2}
        await wire.json({**completion("chat"), "usage": usage})

    upstream.respond = one_word
    async with (
        running_gateway(tmp_path, *models, policies=[one], limiter=store.limiter) as gateway,
        httpx2.AsyncClient(base_url=gateway.url, timeout=60) as client,
    ):

        async def some(model: str) -> list[int]:
            asked = body(model=model, max_tokens=1)
            calls = (client.post("/v1/chat/completions", json=asked) for _ in range(20))
            return [found.status_code for found in await asyncio.gather(*calls)]

        statuses = []
        for turn in range(20):
            if turn < 8:
                assert {status // 100 for status in await some("broken")} == {5}
            statuses += await some("chat")
        await gateway.settled()
        assert (statuses.count(200), statuses.count(429)) == (200, 200)
        assert store.limiter.tally.from_shares > 100
        assert store.used() == [200 * NANO if rule == "money" else 200]
        assert not store.under_way


async def test_slots_of_shares_come_back(tmp_path: Path, upstream: FakeUpstream, store: Counts) -> None:
    """As many run at once as there are slots, with shares of them too, and then all are free."""
    one, go_on = policy(limit("s", Unit.CONCURRENCY, 120)), asyncio.Event()
    chat = governed("chat", upstream.url, one)

    async def waits(received: Received, wire: Wire) -> None:
        await go_on.wait()
        await answer(received, wire)

    limits = httpx2.Limits(max_connections=200)
    async with (
        running_gateway(tmp_path, chat, policies=[one], limiter=store.limiter) as gateway,
        httpx2.AsyncClient(base_url=gateway.url, limits=limits, timeout=60) as client,
    ):
        while not store.limiter.tally.from_shares:
            assert (await ask(gateway)).status_code == 200
        upstream.respond = waits
        calls = [asyncio.create_task(client.post("/v1/chat/completions", json=body())) for _ in range(140)]
        await eventually(lambda: sum(call.done() for call in calls) == 20, what="the refusals")
        assert store.used() == [120]
        go_on.set()
        found = [call.status_code for call in await asyncio.gather(*calls)]
        assert (found.count(200), found.count(429)) == (120, 20)
        await gateway.settled()
        assert store.used() == []
