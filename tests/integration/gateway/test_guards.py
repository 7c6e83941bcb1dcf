"""A gateway with GuardPolicies: what is asked is judged before it is sent, and what is answered before it is given."""

import asyncio
import threading
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx2
import orjson
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
    Task,
)
from capstan_contract.entries import PolicyTargets
from capstan_contract.guards import (
    ASKED,
    Action,
    AnyGuard,
    GuardBody,
    KeywordsGuard,
    OnError,
    PiiEntity,
    PiiGuard,
    PiiKind,
    RegexGuard,
    RegexPattern,
    Source,
    Unchecked,
    guard_entry,
)
from capstan_contract.limits import (
    BudgetRule,
    LimitRule,
    Mode,
    OnExhausted,
    Per,
    Period,
    PeriodType,
    RateLimitBody,
    Unit,
    rate_limit_entry,
)
from capstan_gateway.pipeline.guards import pieces, reading
from fakes.openai_upstream import FakeUpstream, Received, Wire, answer, completion, delta, frame, stream_frames
from support.gateway import RunningGateway, entry, running_gateway
from support.guards import Asked, Words, keywords_by
from support.wait import eventually

MAIL = "ada@lovelace.example.org"
MESSAGES: Any = [{"role": "user", "content": f"write to {MAIL}"}]
ID = "GuardPolicy/t/g"
ROUTES: list[tuple[str, dict[str, Any]]] = [
    ("/v1/chat/completions", {"messages": MESSAGES}),
    ("/v1/chat/completions", {"messages": MESSAGES, "stream": True}),
    ("/v1/messages", {"messages": MESSAGES, "max_tokens": 9}),
    ("/v1/messages", {"messages": MESSAGES, "max_tokens": 9, "stream": True}),
    ("/v1/responses", {"input": f"write to {MAIL}"}),
    ("/v1/responses", {"input": f"write to {MAIL}", "stream": True}),
    ("/v1/completions", {"prompt": f"write to {MAIL}"}),
    ("/v1/messages/count_tokens", {"messages": MESSAGES}),
    ("/tokenize", {"prompt": f"write to {MAIL}"}),
]


async def echoes(received: Received, wire: Wire) -> None:
    """Answer with what was asked last."""
    said = received.document
    if "input" in said:
        await wire.json({"object": "list", "model": "chat", "data": [{"embedding": [1.0]}]})
    elif "messages" in said:
        await wire.json(completion(said["model"], said["messages"][-1]["content"]))
    else:
        await answer(received, wire)


@pytest.fixture
async def upstream() -> AsyncIterator[FakeUpstream]:
    """An engine that answers, until a test says otherwise."""
    async with FakeUpstream(answer) as fake:
        yield fake


def pii(*, sources: tuple[Source, ...] = (Source.USER,), **fields: Any) -> PiiGuard:
    """Give a guard that looks for personal data."""
    return PiiGuard(name="pii", appliesTo=sources, **fields)


def keywords(name: str = "words", *, sources: tuple[Source, ...] = (Source.USER,), **fields: Any) -> KeywordsGuard:
    """Give a guard whose work a test does."""
    return KeywordsGuard(name=name, keywords=("x",), appliesTo=sources, **{"timeoutMillis": 60_000, **fields})


def policy(*guards: AnyGuard, name: str = "g", floor: bool = False, **fields: Any) -> PolicyEntry:
    """Give a policy with these guards of the input."""
    targets = PolicyTargets(everywhere=True) if floor else None
    return guard_entry("t", name, GuardBody(input=guards, **fields), targets=targets)


def guarded(upstream: FakeUpstream, name: str = "chat", **fields: Any) -> ModelEntry:
    """Give a model with the policy on it."""
    return entry(name, upstream.url, **{"policies": (ID,), **fields})


async def post(gateway: RunningGateway, path: str, body: dict[str, Any], model: str = "chat") -> httpx2.Response:
    """Ask."""
    async with httpx2.AsyncClient(base_url=gateway.url, timeout=60) as client:
        return await client.post(path, json={"model": model, **body})


def sent(upstream: FakeUpstream) -> bytes:
    """Give the bodies of what the engine was sent."""
    return b"".join(received.body for received in upstream.requests)


# --- what is asked ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("path", "body"), ROUTES)
async def test_what_is_redacted_is_never_sent(
    tmp_path: Path, upstream: FakeUpstream, path: str, body: dict[str, Any]
) -> None:
    """In every dialect, streaming or not, and on routes that count: the engine sees the placeholder."""
    async with running_gateway(tmp_path, guarded(upstream), policies=[policy(pii())]) as gateway:
        found = await post(gateway, path, body)
        assert found.headers.get("x-capstan-guard", "pii=redacted") == "pii=redacted"
        await gateway.settled()
    assert upstream.requests
    assert b"lovelace" not in sent(upstream)
    assert b"[EMAIL_1]" in sent(upstream)


@pytest.mark.parametrize(("path", "body"), ROUTES)
async def test_a_block_is_told_before_anything_is_sent(
    tmp_path: Path, upstream: FakeUpstream, path: str, body: dict[str, Any]
) -> None:
    """400 with the code of content filters in the client's dialect: it names the guard and says nothing of the text."""
    model = guarded(upstream, fallbacks=("test/other",))
    models = (model, entry("other", upstream.url))
    async with running_gateway(tmp_path, *models, policies=[policy(pii(action=Action.BLOCK))]) as gateway:
        found = await post(gateway, path, body)
        assert found.status_code == 400
        assert "`pii`" in found.json()["error"]["message"]
        assert "lovelace" not in found.text
        assert found.headers["x-should-retry"] == "false"
        assert gateway.metric("llm_guardrail_blocks_total", guard_type="PII", stage="input") == 1
    assert upstream.requests == []


async def test_a_block_names_the_field_that_it_is_about(tmp_path: Path, upstream: FakeUpstream) -> None:
    """Of several texts, that in which something was found."""
    named = policy(pii(action=Action.BLOCK, sources=(Source.SYSTEM, Source.USER)))
    async with running_gateway(tmp_path, guarded(upstream), policies=[named]) as gateway:
        body = {"messages": [{"role": "user", "content": "fine"}], "user": MAIL}
        found = await post(gateway, "/v1/chat/completions", body)
    assert (found.status_code, found.json()["error"]["param"]) == (400, "user")


async def test_a_policy_says_its_own_words(tmp_path: Path, upstream: FakeUpstream) -> None:
    """The message of a guard is told in place of ours, and the field that the text is in."""
    said = policy(pii(action=Action.BLOCK, message="Leave your address out."))
    async with running_gateway(tmp_path, guarded(upstream), policies=[said]) as gateway:
        error = (await post(gateway, *ROUTES[0])).json()["error"]
    assert error == {
        "message": "Leave your address out.", "type": "invalid_request_error", "param": "messages",
        "code": "content_filter",
    }  # fmt: skip


@pytest.mark.parametrize("action", [Action.WARN, Action.REDACT])
async def test_what_does_not_end_it_is_told_in_a_header(tmp_path: Path, upstream: FakeUpstream, action: Action) -> None:
    """A warning changes nothing but says so; both count, for the status as well."""
    async with running_gateway(tmp_path, guarded(upstream), policies=[policy(pii(action=action))]) as gateway:
        found = await post(gateway, *ROUTES[0])
        word = {Action.WARN: "warned", Action.REDACT: "redacted"}[action]
        assert found.headers["x-capstan-guard"] == f"pii={word}"
        assert (b"lovelace" in sent(upstream)) == (action is Action.WARN)
        (counts,) = gateway.gateway.guards.report().policies[ID]
        assert getattr(counts, word) == 1
        labels = {"policy": "t/g", "guard": "pii", "stage": "input", "mode": "enforce", "decision": word}
        assert gateway.metric("gateway_guard_decisions_total", **labels) == 1


async def test_embeddings_and_scores_are_guarded(tmp_path: Path, upstream: FakeUpstream) -> None:
    """Texts of which vectors are made, and documents that are ranked, are texts like others."""
    upstream.respond = echoes
    guard = policy(pii(sources=ASKED))
    models = (guarded(upstream, task=Task.EMBED), guarded(upstream, "rank", task=Task.SCORE))
    async with running_gateway(tmp_path, *models, policies=[guard]) as gateway:
        await post(gateway, "/v1/embeddings", {"input": ["a", MAIL]})
        await post(gateway, "/v1/rerank", {"query": "q", "documents": [MAIL, {"text": MAIL}]}, "rank")
        await post(gateway, "/v1/score", {"text_1": "q", "text_2": [MAIL]}, "rank")
    assert len(upstream.requests) == 3
    assert b"lovelace" not in sent(upstream)


@pytest.mark.parametrize(("path", "field"), [("/v1/completions", "prompt"), ("/v1/embeddings", "input")])
async def test_token_ids_are_no_way_around(tmp_path: Path, upstream: FakeUpstream, path: str, field: str) -> None:
    """A prompt that nobody can read is refused, whatever the policy says of images."""
    model = guarded(upstream, task=Task.EMBED if field == "input" else Task.CHAT)
    async with running_gateway(tmp_path, model, policies=[policy(pii())]) as gateway:
        found = await post(gateway, path, {field: [[1, 2, 3]]})
    assert found.status_code == 400
    assert found.json()["error"]["param"] == field
    assert upstream.requests == []


@pytest.mark.parametrize("unchecked", Unchecked)
async def test_images_are_said_to_be_unchecked_or_refused(
    tmp_path: Path, upstream: FakeUpstream, unchecked: Unchecked
) -> None:
    """What nobody can read goes on with a header, or not at all."""
    part = {"type": "image_url", "image_url": {"url": "data:image/png;base64,iVBORw0KGgo="}}
    body = {"messages": [{"role": "user", "content": [part]}]}
    async with running_gateway(tmp_path, guarded(upstream), policies=[policy(pii(), unchecked=unchecked)]) as gateway:
        found = await post(gateway, "/v1/chat/completions", body)
    assert found.status_code == (400 if unchecked is Unchecked.BLOCK else 200)
    assert found.headers.get("x-capstan-unchecked") == (None if unchecked is Unchecked.BLOCK else "media")


async def test_a_request_of_many_texts_is_gone_through_beside_the_loop(
    tmp_path: Path, upstream: FakeUpstream, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However small they are: on the loop a look is given up where it would take more than a moment."""
    looks: list[tuple[bool, int]] = []

    def noted(document: dict[str, Any], *, most: int = pieces.MOST_VALUES) -> pieces.Pieces:
        looks.append((threading.current_thread() is threading.main_thread(), most))
        return pieces.pieces_of(document, most=most)

    monkeypatch.setattr(reading, "pieces_of", noted)
    async with running_gateway(tmp_path, guarded(upstream), policies=[policy(pii())]) as gateway:
        for body in ({}, {"x": ["a"] * 2000}):
            assert (await post(gateway, "/v1/chat/completions", {"messages": MESSAGES, **body})).status_code == 200
        refused = await post(gateway, "/v1/chat/completions", {"messages": MESSAGES, "x": ["a"] * 250_001})
    assert looks[:3] == [(True, reading.INLINE_VALUES), (True, reading.INLINE_VALUES), (False, pieces.MOST_VALUES)]
    assert (refused.status_code, refused.json()["error"]["code"]) == (400, "content_filter")
    assert len(upstream.requests) == 2


async def test_what_cannot_be_rewritten_is_blocked(tmp_path: Path, upstream: FakeUpstream) -> None:
    """The name of a field in which something is to be redacted is not sent as it is."""
    body = {"messages": [{"role": "user", "content": "hi"}], "metadata": {MAIL: "x"}}
    async with running_gateway(tmp_path, guarded(upstream), policies=[policy(pii(sources=ASKED))]) as gateway:
        found = await post(gateway, "/v1/chat/completions", body)
        assert (found.status_code, found.json()["error"]["param"]) == (400, "metadata")
        assert gateway.metric("llm_guardrail_blocks_total", guard_type="PII", stage="input") == 1
    assert upstream.requests == []


# --- who cannot decide ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("on_error", OnError)
async def test_a_guard_that_is_down_is_closed_or_open(
    tmp_path: Path, upstream: FakeUpstream, on_error: OnError, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Closed: 503, with when to come back, and no fallback answers; open: it goes on and says so."""
    models = (guarded(upstream, fallbacks=("test/other",)), entry("other", upstream.url))
    with keywords_by(monkeypatch, lambda _: None, lambda _: Asked(raises=OSError("down"))):
        async with running_gateway(tmp_path, *models, policies=[policy(keywords(onError=on_error))]) as gateway:
            found = await post(gateway, *ROUTES[0])
            (counts,) = gateway.gateway.guards.report().policies[ID]
    assert counts.failed == 1
    if on_error is OnError.OPEN:
        assert (found.status_code, found.headers["x-capstan-guard"]) == (200, "words=failed")
        return
    assert (found.status_code, found.json()["error"]["code"]) == (503, "guard_unavailable")
    assert "retry-after" in found.headers
    assert upstream.requests == []


async def test_a_policy_that_cannot_be_enforced_is_refused(tmp_path: Path, upstream: FakeUpstream) -> None:
    """A model whose guard nobody can build is not served, and the reason is told to the operator."""
    said = policy(pii(engine="Presidio", entities=({"type": "NoSuchThing"},)))
    async with running_gateway(tmp_path, guarded(upstream), entry("free", upstream.url), policies=[said]) as gateway:
        assert (await post(gateway, *ROUTES[0])).status_code == 404
        assert (await post(gateway, *ROUTES[0], "free")).status_code == 200
        assert "the guard `pii` cannot be enforced" in str(gateway.gateway.store.report().refused[ID])


# --- no way around ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["router", "cascade"])
async def test_a_block_by_a_member_is_final(tmp_path: Path, upstream: FakeUpstream, kind: str) -> None:
    """A guard of one member blocks: the other members, which have none, are not asked."""
    backend: Any = (
        RouterBackend(
            strategy=Strategy.PRIORITY,
            members=(RouterMember(model="test/chat"), RouterMember(model="test/free", priority=1)),
        )
        if kind == "router"
        else CascadeBackend(
            members=("test/chat", "test/free"), threshold=0.5, estimator=CascadeEstimator(type=EstimatorType.CHECKS)
        )
    )
    models = (guarded(upstream), entry("free", upstream.url), entry("virtual", backend=backend))
    async with running_gateway(tmp_path, *models, policies=[policy(pii(action=Action.BLOCK))]) as gateway:
        found = await post(gateway, *ROUTES[0], "virtual")
    assert (found.status_code, found.json()["error"]["code"]) == (400, "content_filter")
    assert upstream.requests == []


async def test_a_draft_that_is_withheld_is_the_answer(tmp_path: Path, upstream: FakeUpstream) -> None:
    """A cascade does not ask the next member because a guard took the answer of the one before."""
    upstream.respond = echoes
    backend = CascadeBackend(
        members=("test/chat", "test/free"), threshold=0.99, estimator=CascadeEstimator(type=EstimatorType.CHECKS)
    )
    models = (guarded(upstream), entry("free", upstream.url), entry("virtual", backend=backend))
    said = guard_entry("t", "g", GuardBody(output=(pii(sources=(Source.TEXT,), action=Action.BLOCK),)))
    async with running_gateway(tmp_path, *models, policies=[said]) as gateway:
        found = await post(gateway, *ROUTES[0], "virtual")
    assert found.json()["choices"][0]["finish_reason"] == "content_filter"
    assert "lovelace" not in found.text
    assert len(upstream.requests) == 1


async def test_a_policy_on_a_router_and_its_member_acts_once(
    tmp_path: Path, upstream: FakeUpstream, monkeypatch: pytest.MonkeyPatch
) -> None:
    """At the outer place."""
    words = Words(["nothing"])
    backend = RouterBackend(strategy=Strategy.PRIORITY, members=(RouterMember(model="test/chat"),))
    models = (guarded(upstream), entry("virtual", backend=backend, policies=(ID,)))
    with keywords_by(monkeypatch, lambda _: words, lambda _: None):
        async with running_gateway(tmp_path, *models, policies=[policy(keywords())]) as gateway:
            assert (await post(gateway, *ROUTES[0], "virtual")).status_code == 200
    assert len(words.texts) == 1


async def test_the_floor_is_outside(tmp_path: Path, upstream: FakeUpstream, monkeypatch: pytest.MonkeyPatch) -> None:
    """What the installation redacts, a model's own policy never sees."""
    words = Words(["nothing"])
    own, floor = policy(keywords(), name="a"), policy(pii(), name="z", floor=True)
    model = guarded(upstream, policies=(own.id, floor.id))
    with keywords_by(monkeypatch, lambda _: words, lambda _: None):
        async with running_gateway(tmp_path, model, policies=[own, floor]) as gateway:
            assert (await post(gateway, *ROUTES[0])).status_code == 200
    assert words.texts == ["write to [EMAIL_1]"]


async def test_a_cheaper_model_is_behind_the_same_guards(tmp_path: Path, upstream: FakeUpstream) -> None:
    """A budget that is spent leads to a model without guards, but not around those of the model that was asked for."""
    spent = BudgetRule(
        name="spent", per=Per.POLICY, nanoDollars=1, period=Period(type=PeriodType.MONTH),
        onExhausted=OnExhausted.DOWNGRADE, downgradeTo="test/cheap",
    )  # fmt: skip
    limits = rate_limit_entry("t", "l", RateLimitBody(budgets=(spent,)))
    model = guarded(upstream, policies=(ID, limits.id), price=Price(inputPerMillion=9, outputPerMillion=9))
    models = (model, entry("cheap", upstream.url))
    async with running_gateway(tmp_path, *models, policies=[policy(pii(restore=True)), limits]) as gateway:
        found = await post(gateway, *ROUTES[0])
        assert (found.status_code, found.headers["x-capstan-route"]) == (200, "downgraded")
        assert found.headers["x-capstan-guard"] == "pii=redacted"
        await gateway.configure(*models, policies=[policy(pii(action=Action.BLOCK)), limits])
        assert (await post(gateway, *ROUTES[0])).json()["error"]["code"] == "content_filter"
    assert b"lovelace" not in sent(upstream)


async def test_no_engine_counts_what_no_guard_has_judged(tmp_path: Path, upstream: FakeUpstream) -> None:
    """Near a limit the engine would be asked how long the prompt is, before guards have redacted it."""
    limit = LimitRule(
        name="in", per=Per.POLICY, unit=Unit.INPUT_TOKENS, amount=12, windowMillis=86_400_000, burst=12
    )  # fmt: skip
    limits = rate_limit_entry("t", "l", RateLimitBody(limits=(limit,)))
    for policies in ((ID, limits.id), (limits.id,)):
        upstream.requests.clear()
        model = guarded(upstream, policies=policies)
        async with running_gateway(tmp_path, model, policies=[policy(pii()), limits]) as gateway:
            await post(gateway, *ROUTES[0])
        assert (b"lovelace" in sent(upstream)) == (ID not in policies)


# --- what is answered -------------------------------------------------------------------------------------------------


def output(**fields: Any) -> PolicyEntry:
    """Give a policy with a guard of the output alone."""
    return guard_entry("t", "g", GuardBody(output=(pii(sources=(Source.TEXT,), **fields),)))


async def test_a_block_of_an_answer_in_each_dialect(tmp_path: Path, upstream: FakeUpstream) -> None:
    """The answer is empty and has the finish reason of filters, in the client's words; what it cost is charged."""
    upstream.respond = echoes
    async with running_gateway(tmp_path, guarded(upstream), policies=[output(action=Action.BLOCK)]) as gateway:
        chat = (await post(gateway, *ROUTES[0])).json()
        messages = (await post(gateway, *ROUTES[2])).json()
        responses = (await post(gateway, *ROUTES[4])).json()
        assert gateway.metric("llm_guardrail_blocks_total", guard_type="PII", stage="output") == 3
        await gateway.settled()
        assert gateway.metric("llm_tokens_total", model="chat", direction="output") > 0
    assert chat["choices"][0] == {
        "index": 0, "message": {"role": "assistant", "content": ""}, "logprobs": None,
        "finish_reason": "content_filter",
    }  # fmt: skip
    assert chat["usage"]["total_tokens"] > 0
    assert (messages["stop_reason"], messages["content"]) == ("refusal", [])
    assert (responses["status"], responses["incomplete_details"]) == ("incomplete", {"reason": "content_filter"})
    assert "lovelace" not in orjson.dumps([chat, messages, responses["output"]]).decode()


async def test_every_choice_every_call_and_every_thought_is_judged(tmp_path: Path, upstream: FakeUpstream) -> None:
    """Redacted in all of them, and in what repeats their texts."""

    async def says(received: Received, wire: Wire) -> None:
        message = {
            "role": "assistant", "content": MAIL, "reasoning_content": f"hm {MAIL}",
            "tool_calls": [
                {"id": "1", "type": "function", "function": {"name": "f", "arguments": f'{{"to": "{MAIL}"}}'}}
            ],
        }  # fmt: skip
        told = {"content": [{"token": MAIL, "logprob": -0.1, "bytes": None, "top_logprobs": []}]}
        choices = [{"index": n, "message": message, "finish_reason": "tool_calls", "logprobs": told} for n in range(2)]
        await wire.json({**completion("chat", "x"), "choices": choices})

    upstream.respond = says
    guard = pii(sources=(Source.TEXT, Source.TOOL_ARGUMENTS, Source.REASONING))
    said = guard_entry("t", "g", GuardBody(output=(guard,)))
    async with running_gateway(tmp_path, guarded(upstream), policies=[said]) as gateway:
        found = await post(gateway, *ROUTES[0])
    assert "lovelace" not in found.text
    assert found.headers["x-capstan-guard"] == "pii=redacted"
    for choice in found.json()["choices"]:
        assert choice["message"]["content"] == "[EMAIL_1]"
        assert orjson.loads(choice["message"]["tool_calls"][0]["function"]["arguments"]) == {"to": "[EMAIL_1]"}


async def test_placeholders_become_again_what_they_stand_for(tmp_path: Path, upstream: FakeUpstream) -> None:
    """The engine sees the placeholder only, and the client reads its own value; not without `restore`."""
    upstream.respond = echoes
    async with running_gateway(tmp_path, guarded(upstream), policies=[policy(pii(restore=True))]) as gateway:
        found = await post(gateway, *ROUTES[0])
        assert found.json()["choices"][0]["message"]["content"] == f"write to {MAIL}"
        await gateway.configure(guarded(upstream), policies=[policy(pii())])
        found = await post(gateway, *ROUTES[0])
        assert found.json()["choices"][0]["message"]["content"] == "write to [EMAIL_1]"
    assert b"lovelace" not in sent(upstream)


async def test_an_answer_that_could_not_be_checked_is_not_given(
    tmp_path: Path, upstream: FakeUpstream, monkeypatch: pytest.MonkeyPatch
) -> None:
    """502, with nothing of it, and no fallback answers in its place."""
    models = (guarded(upstream, fallbacks=("test/other",)), entry("other", upstream.url))
    said = guard_entry("t", "g", GuardBody(output=(keywords(sources=(Source.TEXT,)),)))
    with keywords_by(monkeypatch, lambda _: None, lambda _: Asked(raises=OSError("down"))):
        async with running_gateway(tmp_path, *models, policies=[said]) as gateway:
            found = await post(gateway, *ROUTES[0])
    assert (found.status_code, found.json()["error"]["code"]) == (502, "answer_not_checked")
    assert len(upstream.requests) == 1


# --- Shadow -----------------------------------------------------------------------------------------------------------


async def test_shadow_counts_and_changes_nothing(tmp_path: Path, upstream: FakeUpstream) -> None:
    """The bytes that came go out, the answer is the engine's, and what would have been is counted."""
    upstream.respond = echoes
    body = GuardBody(
        mode=Mode.SHADOW, input=(pii(action=Action.BLOCK),), output=(pii(sources=(Source.TEXT,)),)
    )  # fmt: skip
    async with running_gateway(tmp_path, guarded(upstream), policies=[guard_entry("t", "g", body)]) as gateway:
        found = await post(gateway, *ROUTES[0])
        assert found.json()["choices"][0]["message"]["content"] == f"write to {MAIL}"
        assert "x-capstan-guard" not in found.headers
        await eventually(
            lambda: (
                [(one.blocked, one.redacted) for one in gateway.gateway.guards.report().policies[ID]]
                == [(1, 0), (0, 1)]
            ),
            what="the counts",
        )
        assert gateway.metric("llm_guardrail_blocks_total", guard_type="PII", stage="input") == 0
    assert MAIL.encode() in sent(upstream)


async def test_nobody_waits_for_shadow(tmp_path: Path, upstream: FakeUpstream, monkeypatch: pytest.MonkeyPatch) -> None:
    """A guard that never answers keeps nothing waiting; when too much looks on, more is counted as not seen."""
    asked = Asked(hangs=True)
    with keywords_by(monkeypatch, lambda _: None, lambda _: asked):
        said = policy(keywords(), mode=Mode.SHADOW)
        async with running_gateway(tmp_path, guarded(upstream), policies=[said]) as gateway:
            monkeypatch.setattr(gateway.gateway.guards._shared.shadows, "_left", 1)
            for _ in range(2):
                assert (await post(gateway, *ROUTES[0])).status_code == 200
            await eventually(lambda: len(asked.cases) == 1, what="the look")
            assert gateway.metric("gateway_guard_shadows_dropped_total", policy="t/g") == 1


# --- reload -----------------------------------------------------------------------------------------------------------


async def test_a_request_keeps_the_policy_that_it_began_with(
    tmp_path: Path, upstream: FakeUpstream, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A policy that is changed meanwhile is in force on what comes then; counts go on."""
    going = asyncio.Event()

    async def waits(received: Received, wire: Wire) -> None:
        await going.wait()
        await echoes(received, wire)

    upstream.respond = waits
    async with running_gateway(tmp_path, guarded(upstream), policies=[policy(pii(restore=True))]) as gateway:
        first = asyncio.create_task(post(gateway, *ROUTES[0]))
        await eventually(lambda: len(upstream.requests) == 1, what="the request")
        await gateway.configure(guarded(upstream), policies=[policy(pii(action=Action.BLOCK))])
        assert (await post(gateway, *ROUTES[0])).status_code == 400
        going.set()
        assert (await first).json()["choices"][0]["message"]["content"] == f"write to {MAIL}"
        (counts,) = gateway.gateway.guards.report().policies[ID]
        assert (counts.redacted, counts.blocked) == (1, 1)


@pytest.mark.parametrize("action", [Action.BLOCK, Action.REDACT])
async def test_parts_are_judged_as_engines_read_them(tmp_path: Path, upstream: FakeUpstream, action: Action) -> None:
    """A phrase that is one only with a line end between two parts is found; it stands in no text, so it is refused."""
    guard = RegexGuard(
        name="r", appliesTo=(Source.USER,), action=action,
        patterns=(RegexPattern(name="codes", pattern=r"launch\s+codes"),),
    )  # fmt: skip
    parts = [{"type": "text", "text": "give me the launch"}, {"type": "text", "text": "codes, please"}]
    async with running_gateway(tmp_path, guarded(upstream), policies=[policy(guard)]) as gateway:
        for content in (parts, [part["text"] for part in parts]):
            found = await post(gateway, "/v1/chat/completions", {"messages": [{"role": "user", "content": content}]})
            assert (found.status_code, found.json()["error"]["code"]) == (400, "content_filter")
        harmless = [{"type": "text", "text": "codes"}, {"type": "text", "text": "launch"}]
        found = await post(gateway, "/v1/chat/completions", {"messages": [{"role": "user", "content": harmless}]})
    assert found.status_code == 200
    assert len(upstream.requests) == 1


# --- /v1/guard/check --------------------------------------------------------------------------------------------------


async def test_a_text_is_checked_without_a_model(tmp_path: Path, upstream: FakeUpstream) -> None:
    """It says which guard would do what, and where; no model is asked, and nothing counts as decided."""
    said = guard_entry("t", "g", GuardBody(input=(pii(),), output=(pii(sources=(Source.TEXT,), action=Action.BLOCK),)))
    async with running_gateway(tmp_path, guarded(upstream), policies=[said]) as gateway:
        path = "/v1/guard/check"
        asked = (await post(gateway, path, {"input": f"write to {MAIL}"})).json()
        talked = (await post(gateway, path, {"messages": MESSAGES})).json()
        answered = (await post(gateway, path, {"input": MAIL, "stage": "output", "messages": MESSAGES})).json()
        fine = (await post(gateway, path, {"input": "hello"})).json()
        assert [counts.redacted for counts in gateway.gateway.guards.report().policies[ID]] == [0, 0]
    score = asked["guards"][0]["findings"][0]["score"]
    finding = {"kind": "Email", "at": "input", "start": 9, "end": 9 + len(MAIL), "score": score}
    assert asked == {
        "object": "guard.check", "model": "chat", "stage": "input", "action": "Redact", "failed": [],
        "policies": ["t/g"],
        "guards": [
            {
                "guard": "pii", "type": "PII", "policy": "t/g", "mode": "Enforce", "action": "Redact", "found": 1,
                "findings": [finding],
            }
        ],
    }  # fmt: skip
    assert talked["guards"][0]["findings"] == [{**finding, "at": "messages[0].content"}]
    assert (answered["action"], answered["guards"][0]["findings"][0]["start"]) == ("Block", 0)
    assert (fine["action"], fine["guards"], fine["policies"]) == ("Allow", [], ["t/g"])
    assert upstream.requests == []


@pytest.mark.parametrize("down", [False, True])
async def test_a_check_says_what_a_policy_that_looks_on_would_do(
    tmp_path: Path, upstream: FakeUpstream, monkeypatch: pytest.MonkeyPatch, down: bool
) -> None:
    """It is told, with its mode, and decides nothing: neither by what it finds, nor where it could not decide."""
    asks = Asked(raises=OSError("down")) if down else Asked(words=["falcon"])
    with keywords_by(monkeypatch, lambda _: None, lambda _: asks):
        watching = policy(keywords(), mode=Mode.SHADOW)
        async with running_gateway(tmp_path, guarded(upstream), policies=[watching]) as gateway:
            found = (await post(gateway, "/v1/guard/check", {"input": "a falcon"})).json()
    told = found["failed"] if down else found["guards"]
    assert (found["action"], [(one["guard"], one["mode"]) for one in told]) == ("Allow", [("words", "Shadow")])


async def test_a_check_is_no_map_of_the_way_around_a_guard(tmp_path: Path, upstream: FakeUpstream) -> None:
    """Scores are told to a tenth, and of a policy of the installation neither its name nor those of its guards."""
    text = {"input": f"call +49 30 901820, write to {MAIL}, 4111 1111 1111 1111"}
    async with running_gateway(tmp_path, guarded(upstream), policies=[policy(pii(), floor=True)]) as gateway:
        told = (await post(gateway, "/v1/guard/check", text)).json()
    (guard,) = told["guards"]
    assert (guard["guard"], guard["type"], guard["policy"]) == ("PII", "PII", None)
    assert told["policies"] == []
    assert "t/g" not in str(told)
    assert [round(one["score"], 1) for one in guard["findings"]] == [one["score"] for one in guard["findings"]]


@pytest.mark.parametrize("action", [Action.REDACT, Action.BLOCK])
async def test_a_check_asks_nobody_about_what_a_policy_keeps_back(
    tmp_path: Path, upstream: FakeUpstream, monkeypatch: pytest.MonkeyPatch, action: Action
) -> None:
    """A policy of a namespace is shown what the installation's leaves of a text, as when a model is asked; of one that
    is blocked its guards in the process say what they find, and those that ask say that they were not asked."""
    asked = Asked()
    floor = policy(pii(action=action), name="floor", floor=True)
    own = policy(keywords("asks"), RegexGuard(
        name="finds", patterns=(RegexPattern(name="verb", pattern="write"),), action=Action.WARN, appliesTo=ASKED,
    ))  # fmt: skip
    model = guarded(upstream, policies=(floor.id, ID))
    with keywords_by(monkeypatch, lambda said: None, lambda said: asked):  # noqa: ARG005
        async with running_gateway(tmp_path, model, policies=[floor, own]) as gateway:
            told = (await post(gateway, "/v1/guard/check", {"input": f"write to {MAIL}"})).json()
    blocks = action is Action.BLOCK
    assert [piece.text for case in asked.cases for piece in case.pieces] == ([] if blocks else ["write to [EMAIL_1]"])
    assert [(one["guard"], one["reason"]) for one in told["failed"]] == ([("asks", "not-asked")] if blocks else [])
    assert [one["guard"] for one in told["guards"]] == ["PII", "finds"]
    assert (told["action"], told["policies"]) == (action.value, ["t/g"])


@pytest.mark.parametrize("action", [Action.REDACT, Action.BLOCK])
async def test_a_check_of_an_answer_shows_nobody_what_was_asked_as_it_came(
    tmp_path: Path, upstream: FakeUpstream, monkeypatch: pytest.MonkeyPatch, action: Action
) -> None:
    """Who judges the answer sees of the question what the installation's policy leaves of it; nothing where that lets
    nothing pass. A check counts nothing."""
    asked = Asked()
    entities = (PiiEntity(type=PiiKind.EMAIL, action=action),)
    floor = policy(pii(action=Action.REDACT, entities=entities), name="floor", floor=True)
    own = guard_entry("t", "g", GuardBody(output=(keywords("asks", sources=(Source.TEXT,)),)))
    model = guarded(upstream, policies=(floor.id, ID))
    body = {"input": "done", "stage": "output", "messages": MESSAGES}
    with keywords_by(monkeypatch, lambda said: None, lambda said: asked):  # noqa: ARG005
        async with running_gateway(tmp_path, model, policies=[floor, own]) as gateway:
            found = await post(gateway, "/v1/guard/check", body)
            decided = {"policy": "t/floor", "guard": "pii", "stage": "input", "mode": "enforce"}
            for word in ("redacted", "blocked"):
                assert gateway.metric("gateway_guard_decisions_total", **decided, decision=word) == 0
    shown = [case.ask.request.document["messages"][0]["content"] for case in asked.cases]
    assert shown == ([] if action is Action.BLOCK else ["write to [EMAIL_1]"])
    assert [one["reason"] for one in found.json()["failed"]] == (["not-asked"] if action is Action.BLOCK else [])
    assert "x-capstan-guard" not in found.headers


async def test_a_check_of_an_answer_begins_at_the_model(tmp_path: Path, upstream: FakeUpstream) -> None:
    """What the model's own policy redacts the installation's has no more to find; they are told in their order."""
    guard = pii(sources=(Source.TEXT,))
    floor = guard_entry("t", "floor", GuardBody(output=(guard,)), targets=PolicyTargets(everywhere=True))
    own = guard_entry("t", "g", GuardBody(output=(guard,)))
    model = guarded(upstream, policies=(floor.id, ID))
    async with running_gateway(tmp_path, model, policies=[floor, own]) as gateway:
        told = (await post(gateway, "/v1/guard/check", {"input": MAIL, "stage": "output"})).json()
    assert [(one["policy"], one["action"]) for one in told["guards"]] == [("t/g", "Redact")]


BAD_CHECKS: list[tuple[dict[str, Any], str]] = [
    ({}, "input"),
    ({"input": 5}, "input"),
    ({"input": "x", "stage": "middle"}, "stage"),
    ({"messages": "x"}, "messages"),
    ({"messages": MESSAGES, "stage": "output"}, "input"),
    ({"messages": MESSAGES, "input": "x"}, "input"),
]


@pytest.mark.parametrize(("body", "param"), BAD_CHECKS)
async def test_a_check_that_cannot_be_read(
    tmp_path: Path, upstream: FakeUpstream, body: dict[str, Any], param: str
) -> None:
    """400 that names the field."""
    async with running_gateway(tmp_path, guarded(upstream), policies=[policy(pii())]) as gateway:
        found = await post(gateway, "/v1/guard/check", body)
    assert (found.status_code, found.json()["error"]["param"]) == (400, param)


async def test_a_stream_keeps_the_policy_that_it_began_with(tmp_path: Path, upstream: FakeUpstream) -> None:
    """A policy that blocks from now on ends no stream that has begun under one that redacts."""
    going = asyncio.Event()

    async def waits(received: Received, wire: Wire) -> None:
        await wire.stream_head()
        await wire.chunk(frame(delta("chat", "it is " + "so " * 400)))
        await going.wait()
        for piece in stream_frames("chat", (MAIL, " indeed")):
            await wire.chunk(piece)
        await wire.end()

    upstream.respond = waits
    async with (
        running_gateway(tmp_path, guarded(upstream), policies=[output()]) as gateway,
        gateway.client() as client,
    ):
        stream: Any = await client.chat.completions.create(model="chat", messages=MESSAGES, stream=True)
        said = (await anext(stream)).choices[0].delta.content or ""
        await gateway.configure(guarded(upstream), policies=[output(action=Action.BLOCK)])
        going.set()
        finish: list[str | None] = []
        async for chunk in stream:
            said += "".join(choice.delta.content or "" for choice in chunk.choices)
            finish = [choice.finish_reason for choice in chunk.choices] or finish
    assert said.endswith("[EMAIL_1] indeed")
    assert finish == ["stop"]
