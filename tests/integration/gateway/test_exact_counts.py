"""Near a limit the model's own tokenizer decides, where the estimate could be wrong; elsewhere nobody is asked."""

import asyncio
import contextlib
from pathlib import Path
from typing import Any

import httpx2
import pytest

from capstan_contract.config import ModelEntry, PolicyEntry, Price, Provider, RouterBackend, RouterMember, Task
from capstan_contract.limits import (
    BudgetRule,
    LimitRule,
    OnExhausted,
    Per,
    Period,
    PeriodType,
    RateLimitBody,
    Unit,
    rate_limit_entry,
)
from capstan_gateway.pipeline.limits import exact
from capstan_gateway.tokens.counter import CountedBy
from fakes.openai_upstream import FakeUpstream, Received, Wire, completion
from support.gateway import RunningGateway, entry, hosted_by, running_gateway
from support.wait import eventually

MONTH = 31 * 86_400_000
NANO = 1_000_000_000
PRICE = Price(inputPerMillion=1_000_000, outputPerMillion=1_000_000)
"""A dollar a token."""
CHAT = "/v1/chat/completions"
COUNTS = "gateway_limit_prompt_counts_total"


def text(tokens: int) -> list[dict[str, str]]:
    """Give a conversation with this estimate."""
    return [{"role": "user", "content": "x" * (4 * (tokens - 6))}]


class Engine:
    """An engine that counts a number of tokens in any prompt, or does not answer a question for one at all."""

    def __init__(self, tokens: int) -> None:
        self.tokens = tokens
        self.asked: list[dict[str, Any]] = []
        self.broken: set[str] = set()
        self.hangs = False
        self.used = 0
        """What a chat is said to have used; 0: as many as are counted."""

    async def respond(self, received: Received, wire: Wire) -> None:
        """Answer."""
        if received.path == "/tokenize":
            self.asked.append(received.document)
            if self.hangs:
                await asyncio.sleep(60)
            await wire.json({"count": self.tokens, "max_model_len": 4096, "tokens": [1]})
        elif received.document["model"] in self.broken:
            await wire.json({"error": {"message": "broken"}}, status=500)
        elif received.path == "/v1/embeddings":
            usage = {"prompt_tokens": self.tokens, "total_tokens": self.tokens}
            await wire.json({"object": "list", "data": [], "model": "m", "usage": usage})
        else:
            used = self.used or self.tokens
            usage = {"prompt_tokens": used, "completion_tokens": 1, "total_tokens": used + 1}
            await wire.json({**completion("chat"), "usage": usage})


def tokens_limit(amount: int, unit: Unit = Unit.INPUT_TOKENS) -> LimitRule:
    """Give a limit that fills so slowly that nothing comes in during a test."""
    return LimitRule(name="in", per=Per.POLICY, unit=unit, amount=amount, windowMillis=MONTH, burst=amount)


def budget(dollars: int, **more: Any) -> BudgetRule:
    """Give a budget of a month."""
    return BudgetRule(
        name="money", per=Per.POLICY, nanoDollars=dollars * NANO, period=Period(type=PeriodType.MONTH), **more
    )


def policy(*rules: LimitRule | BudgetRule, name: str = "p") -> PolicyEntry:
    """Give a policy."""
    return rate_limit_entry(
        "test", name,
        RateLimitBody(
            limits=tuple(rule for rule in rules if isinstance(rule, LimitRule)),
            budgets=tuple(rule for rule in rules if isinstance(rule, BudgetRule)),
        ),
    )  # fmt: skip


def governed(name: str, url: str, *policies: PolicyEntry, **fields: Any) -> ModelEntry:
    """Give a model under these policies."""
    return entry(name, url, policies=tuple(one.id for one in policies), **fields)


async def ask(gateway: RunningGateway, path: str = CHAT, **more: Any) -> httpx2.Response:
    """Ask, and wait for the end."""
    document = {"model": "chat", "max_tokens": 1, **more}
    if path == CHAT and "messages" not in document:
        document["messages"] = text(100)
    async with httpx2.AsyncClient(base_url=gateway.url, timeout=60) as client:
        found = await client.post(path, json=document, timeout=60)
    await gateway.settled()
    return found


@pytest.mark.parametrize("hangs", [False, True])
async def test_a_question_for_tokens_is_in_the_log(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, hangs: bool
) -> None:
    """The line of a request says how long engines were asked, also in vain; that is no work of the gateway's own, and
    no attempt to answer it."""
    engine, one, lines = Engine(60), policy(tokens_limit(150)), list[dict[str, Any]]()
    engine.hangs = hangs
    settings = {"count_seconds": 0.25} if hangs else {}
    async with (
        FakeUpstream(engine.respond) as upstream,
        running_gateway(tmp_path, governed("chat", upstream.url, one), policies=[one], **settings) as gateway,
    ):
        monkeypatch.setattr(gateway.gateway.deps.request_log, "enabled", True)
        monkeypatch.setattr(gateway.gateway.deps.request_log, "write", lines.append)
        for tokens in (20, 200):
            await ask(gateway, messages=text(tokens))
    free, asked = lines
    assert isinstance(asked["count_ms"], float)
    assert asked["count_ms"] > 0
    assert asked["attempts"] == (0 if hangs else 1)
    assert asked.get("overhead_ms", 0.0) < asked["count_ms"] or not hangs
    assert "count_ms" not in free


async def test_what_only_the_estimate_refuses_is_admitted(tmp_path: Path) -> None:
    """It has 200 by the estimate, and by the engine 60: one question, and none for the same prompt later."""
    engine, one = Engine(60), policy(tokens_limit(150))
    async with (
        FakeUpstream(engine.respond) as upstream,
        running_gateway(tmp_path, governed("chat", upstream.url, one), policies=[one]) as gateway,
    ):
        tool = {"type": "function", "function": {"name": "f", "parameters": {}}}
        found = await ask(gateway, messages=text(200), stream=False, tools=[tool], temperature=0.1)
        assert (found.status_code, len(engine.asked)) == (200, 1)
        assert {*engine.asked[0]} == {"model", "messages", "tools"}
        # 90 are left: as before, and then it is known that it does not fit.
        assert (await ask(gateway, messages=text(200), tools=[tool], temperature=0.7)).status_code == 200
        assert (await ask(gateway, messages=text(200), tools=[tool])).status_code == 429
        assert len(engine.asked) == 1
        assert (gateway.metric(COUNTS, by="engine"), gateway.metric(COUNTS, by="cache")) == (1, 2)
        assert gateway.metric("llm_tokens_total", model="chat", direction="input") == 120


@pytest.mark.parametrize(("really", "status"), [(120, 200), (151, 400)])
async def test_what_only_the_estimate_admits_is_refused(tmp_path: Path, really: int, status: int) -> None:
    """It has 100 by the estimate: with the engine's count it is taken, or refused before the model is asked."""
    engine, one = Engine(really), policy(tokens_limit(150))
    async with (
        FakeUpstream(engine.respond) as upstream,
        running_gateway(tmp_path, governed("chat", upstream.url, one), policies=[one]) as gateway,
    ):
        found = await ask(gateway)
        assert (found.status_code, len(engine.asked)) == (status, 1)
        assert len(upstream.requests) == (2 if status == 200 else 1)
        reserved = gateway.metric("llm_limit_tokens_total", policy="test/p", rule="in", stage="reserved")
        assert reserved == (120 if status == 200 else 0)
        assert gateway.gateway._counting.limiter.open == 0  # type: ignore[attr-defined]
        engine.tokens = 30
        assert (await ask(gateway, messages=text(120))).status_code == 200  # Nothing else was taken.


@pytest.mark.parametrize(
    ("rules", "asked", "status"),
    [
        ((tokens_limit(100_000),), {}, 200),
        ((tokens_limit(24),), {}, 400),
        ((tokens_limit(150, Unit.OUTPUT_TOKENS),), {"max_tokens": 151}, 400),
    ],
    ids=["plenty", "whatever it has", "output"],
)
async def test_nobody_is_asked_where_the_estimate_decides(
    tmp_path: Path, rules: tuple[LimitRule, ...], asked: dict[str, Any], status: int
) -> None:
    """Much is left, or it is refused whatever the prompt has: by its fewest tokens, or by its output."""
    engine, one = Engine(60), policy(*rules)
    async with (
        FakeUpstream(engine.respond) as upstream,
        running_gateway(tmp_path, governed("chat", upstream.url, one), policies=[one]) as gateway,
    ):
        assert (await ask(gateway, **asked)).status_code == status
        assert engine.asked == []


async def test_nobody_is_asked_for_what_has_no_slot(tmp_path: Path) -> None:
    """However many tokens its prompt has, it is refused. Who has the slot gives all back when the client leaves."""
    engine = Engine(60)
    one = policy(tokens_limit(150), LimitRule(name="slot", per=Per.POLICY, unit=Unit.CONCURRENCY, amount=1))
    engine.hangs = True
    async with (
        FakeUpstream(engine.respond) as upstream,
        running_gateway(tmp_path, governed("chat", upstream.url, one), policies=[one], count_seconds=10) as gateway,
        httpx2.AsyncClient(base_url=gateway.url, timeout=60) as client,
    ):
        document = {"model": "chat", "max_tokens": 1, "messages": text(100)}
        first = asyncio.create_task(client.post(CHAT, json=document, timeout=60))
        await eventually(lambda: len(engine.asked) == 1, what="the question for who has the slot")
        assert (await client.post(CHAT, json=document)).status_code == 429
        assert len(engine.asked) == 1
        first.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await first
        await gateway.settled()
        assert gateway.gateway._counting.limiter.open == 0  # type: ignore[attr-defined]


async def test_an_engine_that_hangs_costs_one_deadline(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The estimate stands, and for some seconds no request asks it again."""
    monkeypatch.setattr(exact, "PAUSE_SECONDS", 3600.0)
    engine, one = Engine(60), policy(tokens_limit(150))
    engine.hangs = True
    async with (
        FakeUpstream(engine.respond) as upstream,
        running_gateway(tmp_path, governed("chat", upstream.url, one), policies=[one], count_seconds=1.0) as gateway,
    ):
        for _ in range(3):
            assert (await ask(gateway, messages=text(200))).status_code == 400
        assert len(engine.asked) == 1
        assert gateway.metric(COUNTS, by="nobody") == 3


@pytest.mark.parametrize("how", ["off", "hosted", "virtual", "picture", "no route"])
async def test_where_nobody_can_count_the_estimate_decides(tmp_path: Path, how: str) -> None:
    """A setting, an API that hosts the model, a model that stands for others, what is no text, an engine without the
    route: nothing is sent, or once."""
    engine, one = Engine(60), policy(tokens_limit(150))

    async def without(received: Received, wire: Wire) -> None:
        engine.asked.append(received.document)
        await wire.json({"error": "no such route"}, status=404)

    async with FakeUpstream(without if how == "no route" else engine.respond) as upstream:
        models = [governed("chat", upstream.url, one)]
        if how == "hosted":
            backend = hosted_by(Provider.OPENAI_COMPATIBLE, upstream.url, key=None)
            models = [entry("chat", backend=backend, policies=(one.id,))]
        elif how == "virtual":
            router = RouterBackend(members=(RouterMember(model="test/a"),))
            models = [entry("chat", backend=router, policies=(one.id,)), entry("a", upstream.url)]
        messages: Any = text(200)
        if how == "picture":
            part = {"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA", "detail": "low"}}
            messages = [{"role": "user", "content": [part, {"type": "text", "text": "x" * 400}]}]
        options = {"count_seconds": 0.0} if how == "off" else {}
        async with running_gateway(tmp_path, *models, policies=[one], **options) as gateway:
            for _ in range(2):
                assert (await ask(gateway, messages=messages)).status_code == 400
            assert len(engine.asked) == (1 if how == "no route" else 0)
            assert gateway.metric(COUNTS, by="nobody") == (0 if how == "off" else 2)


async def test_a_follow_up_is_known_by_what_came_before(tmp_path: Path) -> None:
    """The conversation was counted a turn ago: only what came since is estimated, and where that decides nobody is
    asked again; where it does not, the whole is counted once more."""
    engine, one = Engine(60), policy(tokens_limit(250))
    turn = [{"role": "assistant", "content": "yes"}, {"role": "user", "content": "go"}]

    def reserved(gateway: RunningGateway) -> float:
        return gateway.metric("llm_limit_tokens_total", policy="test/p", rule="in", stage="reserved")

    async with (
        FakeUpstream(engine.respond) as upstream,
        running_gateway(tmp_path, governed("chat", upstream.url, one), policies=[one]) as gateway,
    ):
        assert (await ask(gateway, messages=text(300))).status_code == 200
        assert (await ask(gateway, messages=[*text(300), *turn])).status_code == 200
        assert (len(engine.asked), reserved(gateway)) == (1, 60 + 60 + 11)
        assert (await ask(gateway, messages=[*text(300), *turn, *turn])).status_code == 200
        assert (len(engine.asked), reserved(gateway)) == (2, 60 + 60 + 11 + 60)
        assert gateway.metric(COUNTS, by="prefix") == 1


@pytest.mark.parametrize(("more", "learnt"), [({}, True), ({"truncate_prompt_tokens": 10}, False), ({"x": "y"}, False)])
async def test_nobody_teaches_by_prompts_that_are_cut_off(tmp_path: Path, more: dict[str, Any], learnt: bool) -> None:
    """What others' prompts are taken to cost is learnt from those alone which an engine reads as they are."""
    engine, one = Engine(30), policy(tokens_limit(100_000))

    def reserved(gateway: RunningGateway) -> float:
        return gateway.metric("llm_limit_tokens_total", policy="test/p", rule="in", stage="reserved")

    async with (
        FakeUpstream(engine.respond) as upstream,
        running_gateway(tmp_path, governed("chat", upstream.url, one), policies=[one]) as gateway,
    ):
        for _ in range(20):
            assert (await ask(gateway, **more)).status_code == 200
        before = reserved(gateway)
        assert (await ask(gateway)).status_code == 200
        assert (reserved(gateway) - before < 50) is learnt


async def test_nothing_is_refused_for_good_by_what_a_conversation_once_had(tmp_path: Path) -> None:
    """Templates drop what was thought in earlier turns, so that a prompt may be shorter than its own beginning was."""
    engine, one = Engine(245), policy(tokens_limit(250))
    engine.used = 10
    turn = [{"role": "assistant", "content": "yes"}, {"role": "user", "content": "x" * 160}]
    async with (
        FakeUpstream(engine.respond) as upstream,
        running_gateway(tmp_path, governed("chat", upstream.url, one), policies=[one]) as gateway,
    ):
        assert (await ask(gateway, messages=text(300))).status_code == 200
        engine.tokens = 100
        assert (await ask(gateway, messages=[*text(300), *turn])).status_code == 200
        assert len(engine.asked) == 2


@pytest.mark.parametrize("path", ["/v1/completions", "/v1/embeddings", "/v1/messages"])
async def test_other_prompts_are_counted_too(tmp_path: Path, path: str) -> None:
    """A text to go on from or to embed is sent as a prompt, a conversation in another dialect as the chat it is."""
    engine, one = Engine(60), policy(tokens_limit(150))
    fields: dict[str, Any] = {"messages": text(200), "stream": True}
    if path != "/v1/messages":
        fields = {"prompt" if path == "/v1/completions" else "input": "x" * 800}
    task = Task.EMBED if path == "/v1/embeddings" else Task.CHAT
    async with (
        FakeUpstream(engine.respond) as upstream,
        running_gateway(tmp_path, governed("chat", upstream.url, one, task=task), policies=[one]) as gateway,
    ):
        if path == "/v1/messages":
            fields.pop("stream")
        assert (await ask(gateway, path, **fields)).status_code == 200
    (asked,) = engine.asked
    sent = {"messages": text(200)} if path == "/v1/messages" else {"prompt": "x" * 800, "content": "x" * 800}
    assert asked == {"model": "chat", **sent}


async def test_a_cheaper_model_is_counted_by_its_own_tokenizer(tmp_path: Path) -> None:
    """By the estimate the limit has enough for neither, by each one's own count it has: the budget decides."""
    dear, cheap = Engine(100), Engine(60)
    one = policy(budget(90, onExhausted=OnExhausted.DOWNGRADE, downgradeTo="test/cheap"), tokens_limit(150))
    async with (
        FakeUpstream(dear.respond) as first,
        FakeUpstream(cheap.respond) as second,
        running_gateway(
            tmp_path, governed("chat", first.url, one, price=PRICE), entry("cheap", second.url, price=PRICE),
            policies=[one],
        ) as gateway,
    ):  # fmt: skip
        found = await ask(gateway, messages=text(200))
        assert (found.status_code, found.headers.get("x-capstan-model")) == (200, "cheap")
        assert (len(dear.asked), len(cheap.asked)) == (1, 1)


@pytest.mark.parametrize("really", [60, 300])
async def test_a_fallback_is_counted_by_its_own_tokenizer(tmp_path: Path, really: int) -> None:
    """What the dearer one takes beyond what was taken is taken by its own count where that decides."""
    broken, other = Engine(60), Engine(really)
    broken.broken.add("chat")
    one = policy(budget(150))
    cheap = Price(inputPerMillion=1, outputPerMillion=1)
    async with (
        FakeUpstream(broken.respond) as first,
        FakeUpstream(other.respond) as second,
        running_gateway(
            tmp_path, governed("chat", first.url, one, price=cheap, fallbacks=("b",)),
            entry("b", second.url, price=PRICE), policies=[one],
        ) as gateway,
    ):  # fmt: skip
        found = await ask(gateway, messages=text(200))
        assert (found.status_code == 200, len(other.asked)) == (really == 60, 1)


async def test_a_cover_is_refused_for_good_by_no_ratio(tmp_path: Path) -> None:
    """Prompts of the fallback had twice their estimates: with nobody to count, the plain estimate counts."""
    broken, other = Engine(60), Engine(400)
    broken.broken.add("chat")
    cheap = Price(inputPerMillion=1, outputPerMillion=1)
    one = policy(budget(1000))
    async with (
        FakeUpstream(broken.respond) as first,
        FakeUpstream(other.respond) as second,
        running_gateway(
            tmp_path, governed("chat", first.url, one, price=cheap, fallbacks=("b",)),
            entry("b", second.url, price=PRICE), policies=[one], count_seconds=0.0,
        ) as gateway,
    ):  # fmt: skip
        ratios = gateway.gateway.limits._shared.ratios
        for _ in range(20):
            ratios.observe("test/b", estimate=200, told=400)
        assert (await ask(gateway, messages=text(700))).status_code == 200


class Tokenizer:
    """`Counters` and `PromptCounter`: one that was shipped, and counts so many in any prompt."""

    kind = CountedBy.FILE
    version = "1"

    def __init__(self, counted: int | None) -> None:
        self.counted = counted

    def of(self, model_id: str) -> "Tokenizer":
        """Give itself."""
        return self

    def count(self, document: Any) -> int | None:
        """Count."""
        return self.counted

    def tokens(self, document: Any) -> None:
        """Tell none."""


@pytest.mark.parametrize("hosted", [False, True])
@pytest.mark.parametrize("counted", [60, None])
async def test_a_tokenizer_that_was_shipped_comes_before_the_engine(
    tmp_path: Path, counted: int | None, hosted: bool
) -> None:
    """Also of a model that somebody hosts; where it cannot tell, an engine of ours is asked."""
    engine, one = Engine(60), policy(tokens_limit(150))
    async with FakeUpstream(engine.respond) as upstream:
        model = governed("chat", upstream.url, one)
        if hosted:
            backend = hosted_by(Provider.OPENAI_COMPATIBLE, upstream.url, key=None)
            model = entry("chat", backend=backend, policies=(one.id,))
        async with running_gateway(tmp_path, model, policies=[one]) as gateway:
            object.__setattr__(gateway.gateway.deps, "counters", Tokenizer(counted))
            found = await ask(gateway, messages=text(200))
            assert found.status_code == (200 if counted or not hosted else 400)
            assert len(engine.asked) == (0 if counted or hosted else 1)
            by = "file" if counted else "nobody" if hosted else "engine"
            assert gateway.metric(COUNTS, by=by) == 1


async def test_so_many_questions_at_once_and_no_more(tmp_path: Path) -> None:
    """Those beyond are decided by the estimate at once."""
    engine, one = Engine(60), policy(tokens_limit(150))
    engine.hangs = True
    async with (
        FakeUpstream(engine.respond) as upstream,
        running_gateway(tmp_path, governed("chat", upstream.url, one), policies=[one], count_seconds=1.0) as gateway,
        httpx2.AsyncClient(base_url=gateway.url, timeout=60) as client,
    ):
        gateway.gateway.limits._shared.counts._at_once = 2  # type: ignore[union-attr]
        document = {"model": "chat", "max_tokens": 1, "messages": text(200)}
        calls = [asyncio.create_task(client.post(CHAT, json=document, timeout=60)) for _ in range(6)]
        found = await asyncio.gather(*calls)
        assert ({one.status_code for one in found}, len(engine.asked)) == ({400}, 2)
