"""A gateway whose guards ask somebody: models, a moderation service, a webhook; also where these are down or wrong."""

import asyncio
import hashlib
import hmac
import logging
import math
import threading
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx2
import pytest

from capstan_contract.config import Price, Provider, RouterBackend, RouterMember, Strategy, Task
from capstan_contract.entries import PolicyTargets
from capstan_contract.guards import (
    ASKED,
    Action,
    AnyGuard,
    AttackGuard,
    Classifier,
    ConfidenceGuard,
    GroundingGuard,
    GuardBody,
    KeywordsGuard,
    ModerationCategory,
    ModerationGuard,
    OnError,
    Source,
    Topic,
    TopicsGuard,
    Verdict,
    WebhookGuard,
    guard_entry,
)
from capstan_contract.limits import Mode
from capstan_contract.names import REQUEST_ID_HEADER
from capstan_gateway.guards.build import BUILDERS
from capstan_gateway.guards.port import Cost, Finding, Scan
from capstan_gateway.pipeline.guards.asked import texts
from capstan_gateway.pipeline.guards.pieces import pieces_of
from fakes.openai_upstream import FakeUpstream, Received, Wire, answer, completion
from support.gateway import RunningGateway, entry, hosted_by, running_gateway
from support.wait import eventually

SECRET_TEXT = "the zebra eats at midnight"
FLOOR = "GuardPolicy/t/g"


class Guarding:
    """An engine whose answers a test says, by what it is asked."""

    def __init__(self) -> None:
        self.says: Any = "safe"
        self.fails = False

    async def respond(self, request: Received, wire: Wire) -> None:
        """Answer as told."""
        if self.fails:
            await wire.json({"error": {"message": "broken"}}, 500)
            return
        said = self.says(request) if callable(self.says) else self.says
        if said is None:
            await asyncio.Event().wait()
        if isinstance(said, str):
            said = completion("guard", said)
        await wire.json(said)


@pytest.fixture
async def engine() -> AsyncIterator[FakeUpstream]:
    """The engine of the model that clients ask."""
    async with FakeUpstream(answer) as fake:
        yield fake


@pytest.fixture
def guarding() -> Guarding:
    """What the guard's model says."""
    return Guarding()


@pytest.fixture
async def guard(guarding: Guarding) -> AsyncIterator[FakeUpstream]:
    """The engine of the model that guards."""
    async with FakeUpstream(guarding.respond) as fake:
        yield fake


class Guarded:
    """A gateway with a model `chat` that has one guard, and a model that guards."""

    def __init__(self, tmp_path: Path, engine: FakeUpstream, guard: FakeUpstream) -> None:
        self.tmp_path, self.engine, self.guard = tmp_path, engine, guard

    def running(
        self,
        one: AnyGuard,
        *,
        output: bool = False,
        task: Task = Task.CHAT,
        name: str = "llama-guard-3",
        everywhere: bool = False,
        **settings: Any,
    ) -> Any:
        """Start it."""
        body = GuardBody(output=(one,)) if output else GuardBody(input=(one,))
        price = Price(inputPerMillion=1.0, outputPerMillion=1.0)
        return running_gateway(
            self.tmp_path, entry("chat", self.engine.url, policies=(FLOOR,), price=price),
            # NB: a policy that is in force everywhere is so on the model that it asks.
            entry("guard", self.guard.url, task=task, upstreamName=name, policies=(FLOOR,), price=price),
            policies=[guard_entry("t", "g", body, targets=PolicyTargets(everywhere=True) if everywhere else None)],
            credentials={"secret": "s3cret", "key": "k3y"}, **settings,
        )  # fmt: skip


@pytest.fixture
def guarded(tmp_path: Path, engine: FakeUpstream, guard: FakeUpstream) -> Guarded:
    """Give what is started by a test."""
    return Guarded(tmp_path, engine, guard)


async def ask(gateway: RunningGateway, *messages: dict[str, Any], **more: Any) -> httpx2.Response:
    """Ask the model."""
    said = messages or ({"role": "user", "content": SECRET_TEXT},)
    async with httpx2.AsyncClient(base_url=gateway.url, timeout=60) as client:
        return await client.post("/v1/chat/completions", json={"model": "chat", "messages": list(said), **more})


def moderation(**fields: Any) -> ModerationGuard:
    """Give a guard that asks the model about what users say."""
    return ModerationGuard(**{"name": "harm", "appliesTo": (Source.USER,), "model": "test/guard", **fields})


# --- Moderation -------------------------------------------------------------------------------------------------------


async def test_a_moderating_model_blocks(
    guarded: Guarded, guarding: Guarding, caplog: pytest.LogCaptureFixture
) -> None:
    """Named is the guard, and neither the model nor the text: not in the error, not in a log, not in a metric."""
    caplog.set_level(logging.DEBUG)
    async with guarded.running(moderation()) as gateway:
        guarding.says = "unsafe\nS1"
        refused = await ask(gateway)
        assert (refused.status_code, refused.json()["error"]["code"]) == (400, "content_filter")
        assert "`harm`" in refused.text
        assert guarded.engine.requests == []
        guarding.says = "safe"
        assert (await ask(gateway)).status_code == 200
        told = gateway.gateway.metrics.render().decode() + caplog.text + refused.text + str(refused.headers)
        assert "zebra" not in told
        await gateway.settled()
    (question, *_) = guarded.guard.requests
    assert question.document["messages"] == [{"role": "user", "content": SECRET_TEXT}]
    assert question.document["model"] == "llama-guard-3"


async def test_what_shadow_costs_is_counted_for_the_policy(guarded: Guarded, guarding: Guarding) -> None:
    """It is on no client's bill, so that nobody else would see what it spends."""
    guarding.says = "unsafe\nS1"
    price = Price(inputPerMillion=1.0, outputPerMillion=1.0)
    async with running_gateway(
        guarded.tmp_path, entry("chat", guarded.engine.url, policies=(FLOOR,)),
        entry("guard", guarded.guard.url, upstreamName="llama-guard-3", price=price),
        policies=[guard_entry("t", "g", GuardBody(mode=Mode.SHADOW, input=(moderation(),)))],
    ) as gateway:  # fmt: skip
        found = await ask(gateway)
        assert (found.status_code, "x-capstan-cost" in found.headers) == (200, False)
        await eventually(
            lambda: gateway.metric("gateway_guard_shadows_cost_dollars", policy="t/g") > 0, what="what the look cost"
        )
        total = gateway.metric("llm_cost_dollars", model="guard")
        assert gateway.metric("gateway_guard_shadows_cost_dollars", policy="t/g") == total


async def test_shadow_spends_no_more_than_it_may(guarded: Guarded, guarding: Guarding) -> None:
    """A policy that has spent what it may within the hour asks nobody any more, and its other guards look on."""
    guarding.says = "unsafe\nS1"
    words = KeywordsGuard(name="words", keywords=("zebra",), appliesTo=(Source.USER,), action=Action.WARN)
    body = GuardBody(mode=Mode.SHADOW, input=(moderation(), words))
    async with running_gateway(
        guarded.tmp_path, entry("chat", guarded.engine.url, policies=(FLOOR,)),
        entry(
            "guard", guarded.guard.url, upstreamName="llama-guard-3", price=Price(inputPerMillion=1, outputPerMillion=1)
        ),
        policies=[guard_entry("t", "g", body)], guard_shadow_dollars_per_hour=0.000001,
    ) as gateway:  # fmt: skip

        def warned() -> float:
            return gateway.metric(
                "gateway_guard_decisions_total", policy="t/g", guard="words", stage="input", mode="shadow",
                decision="warned",
            )  # fmt: skip

        for number in (1, 2, 3):
            assert (await ask(gateway)).status_code == 200
            await eventually(lambda number=number: warned() == number, what="the look")  # type: ignore[misc]
        assert len(guarded.guard.requests) == 1
        await eventually(
            lambda: gateway.metric("gateway_guard_shadows_dropped_total", policy="t/g") == 2, what="the count"
        )


async def test_the_admin_sees_which_guards_are_in_force(guarded: Guarded, tmp_path: Path) -> None:
    """Of every policy, also of the installation's, in the order in which they see a request; not what they look for."""
    words = KeywordsGuard(name="words", keywords=("zebra",), appliesTo=(Source.USER,), onError=OnError.OPEN)
    floor = guard_entry(
        "t", "floor", GuardBody(output=(moderation(appliesTo=(Source.TEXT,)),)), targets=PolicyTargets(everywhere=True)
    )
    own = guard_entry("t", "own", GuardBody(mode=Mode.SHADOW, input=(words,)))
    steps = entry(
        "route", backend=RouterBackend(strategy=Strategy.WEIGHTED, members=(RouterMember(model="test/chat"),))
    )
    file = tmp_path / "admin-key"
    file.write_text("the-key-of-the-admin-which-is-long")
    admin = {"authorization": "Bearer the-key-of-the-admin-which-is-long"}
    async with running_gateway(
        guarded.tmp_path, entry("chat", guarded.engine.url, policies=(own.id, floor.id)), steps, policies=[own, floor],
        admin_key_file=file,
    ) as gateway, httpx2.AsyncClient(base_url=gateway.url, headers=admin, timeout=60) as client:  # fmt: skip
        for name in ("chat", "test/chat"):
            told = (await client.get("/internal/guards/model", params={"name": name})).json()
            assert (told["model"], told["members"]) == ("chat", [])
            first, second = told["policies"]
            assert (first["policy"], first["everywhere"], first["mode"]) == ("t/floor", True, "Enforce")
            assert (first["output"][0]["guard"], first["output"][0]["models"]) == ("harm", ["test/guard"])
            assert (second["policy"], second["everywhere"], second["mode"]) == ("t/own", False, "Shadow")
            assert (second["input"][0]["guard"], second["input"][0]["onError"]) == ("words", "Open")
            assert "zebra" not in str(told)
        told = (await client.get("/internal/guards/model", params={"name": "route"})).json()
        assert (told["members"], told["policies"]) == (["chat"], [])
        assert (await client.get("/internal/guards/model", params={"name": "gone"})).status_code == 404


async def test_categories_are_those_of_the_policy(guarded: Guarded, guarding: Guarding) -> None:
    """What it does not name passes."""
    guarding.says = "unsafe\nS10"
    wanted = (ModerationCategory(name="Violent Crimes"), ModerationCategory(name="S9"))
    async with guarded.running(moderation(categories=wanted)) as gateway:
        assert (await ask(gateway)).status_code == 200
        guarding.says = "unsafe\nS9"
        assert (await ask(gateway)).status_code == 400


@pytest.mark.parametrize("says", ["I cannot judge that", "", "<error>", {"choices": []}, {"a": 1}])
@pytest.mark.parametrize(("on_error", "status"), [(OnError.CLOSED, 503), (OnError.OPEN, 200)])
async def test_a_model_that_says_nothing_could_not_decide(
    guarded: Guarded, guarding: Guarding, says: Any, on_error: OnError, status: int
) -> None:
    """Closed: 503, and nothing is sent; open: it goes on, and says so in a header."""
    guarding.says = says
    async with guarded.running(moderation(onError=on_error)) as gateway:
        found = await ask(gateway)
        assert found.status_code == status
        assert len(guarded.engine.requests) == (status == 200)
        if status == 200:
            assert "harm=failed" in found.headers["x-capstan-guard"]


@pytest.mark.parametrize(("on_error", "status"), [(OnError.CLOSED, 503), (OnError.OPEN, 200)])
async def test_a_model_that_is_down_or_slow_could_not_decide(
    guarded: Guarded, guarding: Guarding, on_error: OnError, status: int
) -> None:
    """The same by its status, and by its deadline."""
    guarding.fails = True
    async with guarded.running(moderation(onError=on_error, timeoutMillis=300)) as gateway:
        assert (await ask(gateway)).status_code == status
        guarding.fails, guarding.says = False, None
        assert (await ask(gateway)).status_code == status


async def test_a_category_that_the_model_never_tells_could_not_decide(
    guarded: Guarded, caplog: pytest.LogCaptureFixture
) -> None:
    """Llama Guard has no `violence`: the guard would find nothing; the log says once what there is."""
    with caplog.at_level(logging.WARNING):
        async with guarded.running(moderation(categories=(ModerationCategory(name="violence"),))) as gateway:
            answers = [await ask(gateway) for _ in range(2)]
    assert [one.status_code for one in answers] == [503, 503]
    (told,) = [one for one in caplog.records if one.getMessage() == "a guard cannot decide"]
    assert "violent-crimes" in str(vars(told)["reason"])


async def test_a_model_that_is_not_served_could_not_decide(guarded: Guarded) -> None:
    """Closed, and said by the name of the guard."""
    async with guarded.running(moderation(model="test/gone")) as gateway:
        found = await ask(gateway)
        assert (found.status_code, "`harm`" in found.text) == (503, True)


async def test_what_guards_cost_is_on_the_clients_bill(guarded: Guarded) -> None:
    """Both calls are."""
    async with guarded.running(moderation()) as gateway:
        found = await ask(gateway)
        assert found.status_code == 200
        alone = (5 + 2) / 1_000_000
        assert math.isclose(float(found.headers["x-capstan-cost"]), 2 * alone, rel_tol=1e-6)


async def test_answers_are_moderated_behind_their_question(guarded: Guarded, guarding: Guarding) -> None:
    """A block of an answer ends it by a content filter; the judge has seen what it answers."""
    guarding.says = "unsafe\nS1"
    async with guarded.running(moderation(appliesTo=(Source.TEXT,)), output=True) as gateway:
        found = await ask(gateway)
        (choice,) = found.json()["choices"]
        assert (choice["finish_reason"], choice["message"]["content"]) == ("content_filter", "")
    (question,) = guarded.guard.requests
    assert [one["content"] for one in question.document["messages"]] == [SECRET_TEXT, "Hello there"]


def flagged(request: Received) -> dict[str, Any]:
    """Moderate as OpenAI's API does: what has a zebra in it is violence."""
    results = [
        {"flagged": "zebra" in text, "categories": {"violence": "zebra" in text}, "category_scores": {"violence": 0.8}}
        for text in request.document["input"]
    ]
    return {"id": "modr-1", "model": "omni-moderation-latest", "results": results}


async def test_a_service_moderates(guarded: Guarded, guarding: Guarding) -> None:
    """All texts in one call, with its key; what is redacted is the piece that it flags."""
    guarding.says = flagged
    one = moderation(
        model=None, url=f"{guarded.guard.url}/v1/moderations", credentialFile="key", action=Action.REDACT,
        categories=(ModerationCategory(name="violence", threshold=0.5),), upstreamModel="omni",
        appliesTo=ASKED,
    )  # fmt: skip
    async with guarded.running(one) as gateway:
        found = await ask(gateway, {"role": "system", "content": "be kind"}, {"role": "user", "content": SECRET_TEXT})
        assert found.status_code == 200, found.text
    (question,) = guarded.guard.requests
    assert question.headers["authorization"] == "Bearer k3y"
    assert question.document["model"] == "omni"
    assert set(question.document["input"]) == {"be kind", SECRET_TEXT}
    assert b"zebra" not in guarded.engine.requests[0].body


@pytest.mark.parametrize(
    "url", ["http://169.254.169.254/latest/", "http://[fd00:ec2::254]/", "http://[::ffff:169.254.169.254]/"]
)
async def test_addresses_of_a_cloud_are_not_asked(
    guarded: Guarded, url: str, capfd: pytest.CaptureFixture[str]
) -> None:
    """Whoever writes a policy does not read the credentials of the gateway's own machine."""
    async with guarded.running(moderation(model=None, url=url)) as gateway:
        assert (await ask(gateway)).status_code == 503
    assert "AddressNotAllowed" in capfd.readouterr().err  # The audit record says why it could not decide.


# --- doubtful cases ---------------------------------------------------------------------------------------------------


class Doubting:
    """A detector that is in doubt of zebras, sure of lions, and finds nothing else."""

    cost = Cost.CHEAP

    def scan(self, text: str, source: Source) -> Scan:
        """Look for them."""
        if "lion" in text:
            return Scan(findings=[Finding("lion", 0, len(text))])
        return Scan(doubt=0.5) if "zebra" in text else Scan()


def classes(label: str, likely: float) -> Any:
    """Classify every text so."""

    def classify(request: Received) -> dict[str, Any]:
        probs = [1 - likely, likely]
        rows = [
            {"index": n, "label": label, "probs": probs, "num_classes": 2}
            for n in range(len(request.document["input"]))
        ]
        return {"id": "c", "object": "list", "data": rows, "usage": {"prompt_tokens": 9, "total_tokens": 9}}

    return classify


@pytest.mark.parametrize(
    ("task", "found", "harmless", "broken"),
    [
        (Task.CLASSIFY, classes("JAILBREAK", 0.9), classes("BENIGN", 0.1), classes("spam", 0.9)),
        (Task.CHAT, '{"attack": 0.9}', '{"attack": 0.1}', "no attack at all"),
    ],
)
async def test_a_model_decides_of_what_is_in_doubt(
    guarded: Guarded,
    guarding: Guarding,
    monkeypatch: pytest.MonkeyPatch,
    task: Task,
    found: Any,
    harmless: Any,
    broken: Any,
) -> None:
    """Only of that: what the detector finds, and what it finds nothing in, is not asked about."""
    monkeypatch.setitem(BUILDERS, AttackGuard, lambda _: Doubting())  # type: ignore[attr-defined]
    one = AttackGuard(
        type="Jailbreak", name="jail", appliesTo=(Source.USER,), classifier=Classifier(model="test/guard")
    )
    async with guarded.running(one, task=task, name="prompt-guard") as gateway:
        assert (await ask(gateway, {"role": "user", "content": "a lion"})).status_code == 400
        assert (await ask(gateway, {"role": "user", "content": "a cat"})).status_code == 200
        assert guarded.guard.requests == []
        guarding.says = found
        assert (await ask(gateway)).status_code == 400
        guarding.says = harmless
        assert (await ask(gateway)).status_code == 200
        guarding.says = broken
        assert (await ask(gateway)).status_code == 503
    assert all(SECRET_TEXT.encode() in one.body for one in guarded.guard.requests)


async def test_a_long_text_is_classified_in_windows(
    guarded: Guarded, guarding: Guarding, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An attack at its end is found, and no window is longer than classifiers read."""
    monkeypatch.setitem(BUILDERS, AttackGuard, lambda _: Doubting())  # type: ignore[attr-defined]

    def classify(request: Received) -> dict[str, Any]:
        texts = request.document["input"]
        rows = [
            {"index": n, "label": "LABEL_0", "probs": [0.1, 0.9] if "zebra eats" in text else [0.9, 0.1]}
            for n, text in enumerate(texts)
        ]
        return {"data": [{**row, "label": f"LABEL_{int(row['probs'][1] > 0.5)}"} for row in rows]}

    guarding.says = classify
    one = AttackGuard(
        type="PromptInjection", name="in", appliesTo=(Source.USER,), classifier=Classifier(model="test/guard")
    )
    async with guarded.running(one, task=Task.CLASSIFY) as gateway:
        assert (await ask(gateway, {"role": "user", "content": "word " * 3000 + SECRET_TEXT})).status_code == 400
        assert (await ask(gateway, {"role": "user", "content": "zebra " * 3000})).status_code == 200
        assert (await ask(gateway, {"role": "user", "content": "zebra " * 300_000})).status_code == 503
    assert all(len(text) <= 960 for one in guarded.guard.requests for text in one.document["input"])


# --- Webhook ----------------------------------------------------------------------------------------------------------


def webhook(url: str, **fields: Any) -> WebhookGuard:
    """Give a guard of the user's own."""
    return WebhookGuard(
        **{"name": "own", "appliesTo": (Source.USER,), "url": f"{url}/check?v=1", "secretFile": "secret", **fields}
    )


async def test_a_webhook_is_asked_and_signed(guarded: Guarded, guarding: Guarding) -> None:
    """It gets the pieces with who has written them, signed over a time, its path and the body; its message is told."""
    guarding.says = {
        "action": "block",
        "message": "not at night",
        "findings": [{"piece": 0, "start": 4, "end": 9, "kind": "Animal"}],
    }
    async with guarded.running(webhook(guarded.guard.url)) as gateway:
        found = await ask(gateway)
        assert (found.status_code, found.json()["error"]["message"]) == (400, "not at night")
    (received,) = guarded.guard.requests
    assert received.path == "/check?v=1"
    document = received.document
    assert document["requestId"] == found.headers[REQUEST_ID_HEADER]
    assert {name: document[name] for name in ("version", "stage", "guard", "pieces")} == {
        "version": 1, "stage": "input", "guard": "own",
        "pieces": [{"source": "User", "path": "messages[0].content", "text": SECRET_TEXT}],
    }  # fmt: skip
    at, nonce, digest = signed_by(received)
    signed = f"{at}.{nonce}.POST./check?v=1.".encode() + received.body
    assert hmac.compare_digest(digest, hmac.new(b"s3cret", signed, hashlib.sha256).hexdigest())


def signed_by(received: Received) -> list[str]:
    """Give the time, the nonce and the digest of a signature."""
    return [part.partition("=")[2] for part in received.headers["x-capstan-signature"].split(",")]


async def test_a_verdict_that_must_be_signed_is_for_its_own_request(guarded: Guarded, guard: FakeUpstream) -> None:
    """With `verdict: Signed` an answer counts with a signature over the nonce of its request: without one, with that of
    another request, or with another body nobody has decided. No nonce comes twice."""
    allow, signatures = b'{"action": "allow"}', list[str]()

    async def answers(received: Received, wire: Wire) -> None:
        nonce = signed_by(received)[1]
        signatures.append("v1=" + hmac.new(b"s3cret", f"verdict.{nonce}.".encode() + allow, hashlib.sha256).hexdigest())
        body, told = next(said)
        await wire.json(body, 200, *(f"x-capstan-signature: {signatures[at]}" for at in told))

    guard.respond = answers
    said = iter([(allow, [0]), (allow, []), (allow, [0]), (allow + b" ", [3]), (allow, [4, 4]), (allow, [5])])
    async with guarded.running(webhook(guarded.guard.url, verdict=Verdict.SIGNED)) as gateway:
        told = [(await ask(gateway)).status_code for _ in range(6)]
    assert told == [200, 503, 503, 503, 503, 200]
    assert len(set(signatures)) == 6


async def test_a_policy_does_not_have_the_gateway_ask_its_own_machine(guarded: Guarded, guarding: Guarding) -> None:
    """What listens there trusts whoever reaches it: the guard could not decide, nor can one of the floor."""
    guarding.says = {"action": "allow"}
    for everywhere in (False, True):
        own = webhook(guarded.guard.url)
        async with guarded.running(own, everywhere=everywhere, policy_loopback=False) as gateway:
            assert (await ask(gateway)).status_code == 503
    assert guarded.guard.requests == guarded.engine.requests == []


async def test_policies_of_namespaces_ask_the_hosts_that_they_may(guarded: Guarded, guarding: Guarding) -> None:
    """A host that the installation does not list is asked for its own policy that is in force everywhere, and no other;
    so it is with services that moderate."""
    guarding.says = {"action": "allow"}
    hosts = {"policy_hosts": ("guard.example.com",)}
    harm = ModerationGuard(name="harm", appliesTo=(Source.USER,), url=f"{guarded.guard.url}/v1/moderations")
    for one in (webhook(guarded.guard.url), harm):
        async with guarded.running(one, **hosts) as gateway:
            assert (await ask(gateway)).status_code == 503
    assert guarded.guard.requests == []
    async with guarded.running(webhook(guarded.guard.url), everywhere=True, **hosts) as gateway:
        assert (await ask(gateway)).status_code == 200
    listed = ("*.example.com", guarded.guard.url.removeprefix("http://"))
    async with guarded.running(webhook(guarded.guard.url), policy_hosts=listed) as gateway:
        assert (await ask(gateway)).status_code == 200


async def test_a_webhook_decides_what_becomes_of_it(guarded: Guarded, guarding: Guarding) -> None:
    """Allow, warn, redact; never more than the policy's own action."""
    async with guarded.running(webhook(guarded.guard.url)) as gateway:
        guarding.says = {"action": "allow"}
        assert "x-capstan-guard" not in (await ask(gateway)).headers
        guarding.says = {"action": "warn"}
        assert (await ask(gateway)).headers["x-capstan-guard"] == "own=warned"
        guarding.says = {"action": "redact", "findings": [{"piece": 0, "start": 4, "end": 9, "kind": "animal"}]}
        assert (await ask(gateway)).headers["x-capstan-guard"] == "own=redacted"
        assert guarded.engine.requests[-1].document["messages"][0]["content"] == "the [ANIMAL_1] eats at midnight"
    async with guarded.running(webhook(guarded.guard.url, action=Action.WARN)) as gateway:
        guarding.says = {"action": "block"}
        found = await ask(gateway)
        assert (found.status_code, found.headers["x-capstan-guard"]) == (200, "own=warned")


@pytest.mark.parametrize(
    "says",
    [
        {}, {"action": "no"}, {"action": "block", "findings": [{"piece": 9, "start": 0, "end": 1}]},
        {"action": "block", "findings": [{"piece": 0, "start": 5, "end": 500}]}, {"action": "allow" * 20_000}, b"[]",
        b"nonsense",
    ],
)  # fmt: skip
async def test_a_bad_verdict_is_none(guarded: Guarded, guarding: Guarding, says: Any) -> None:
    """Closed: the request is not sent on."""
    guarding.says = says
    async with guarded.running(webhook(guarded.guard.url)) as gateway:
        assert (await ask(gateway)).status_code == 503
        assert guarded.engine.requests == []


async def test_a_webhook_is_not_followed_elsewhere(guarded: Guarded, guard: FakeUpstream) -> None:
    """A redirect is no verdict, and a key that is missing signs nothing."""

    async def elsewhere(_: Received, wire: Wire) -> None:
        await wire.head(302, f"location: {guard.url}/other", length=0)
        wire.ended = True

    guard.respond = elsewhere
    async with guarded.running(webhook(guard.url)) as gateway:
        assert (await ask(gateway)).status_code == 503
    assert len(guard.requests) == 1
    async with guarded.running(webhook(guard.url, secretFile="gone")) as gateway:
        assert (await ask(gateway)).status_code == 503
    assert len(guard.requests) == 1


# --- about an answer as a whole ---------------------------------------------------------------------------------------

CONTEXT = {"role": "tool", "tool_call_id": "c1", "content": "Paris is the capital of France."}
CALL = {
    "role": "assistant",
    "content": None,
    "tool_calls": [{"id": "c1", "type": "function", "function": {"name": "look", "arguments": "{}"}}],
}
QUESTION = {"role": "user", "content": "Which is the capital?"}


def grounding(**fields: Any) -> GroundingGuard:
    """Give a guard that wants half of the sentences supported."""
    return GroundingGuard(**{"name": "true", "appliesTo": (Source.TEXT,), "model": "test/guard", **fields})


async def test_an_answer_that_is_not_supported_is_withheld(guarded: Guarded, guarding: Guarding) -> None:
    """By a judge that has seen the context; without a context nobody is asked."""
    guarding.says = '{"supported": [], "unsupported": [1]}'
    async with guarded.running(grounding(), output=True, name="judge") as gateway:
        found = await ask(gateway, QUESTION, CALL, CONTEXT)
        assert found.json()["choices"][0]["finish_reason"] == "content_filter", found.text
        assert b"Paris is the capital" in guarded.guard.requests[0].body
        assert (await ask(gateway, QUESTION)).json()["choices"][0]["finish_reason"] == "stop"
        assert len(guarded.guard.requests) == 1
        guarding.says = '{"supported": [1], "unsupported": []}'
        assert (await ask(gateway, QUESTION, CALL, CONTEXT)).json()["choices"][0]["finish_reason"] == "stop"
        guarding.says = "It looks fine to me"
        assert (await ask(gateway, QUESTION, CALL, CONTEXT)).status_code == 502


async def test_an_answer_that_is_checked_is_no_context_of_its_own(guarded: Guarded, guarding: Guarding) -> None:
    """Nor is it the question: the judge sees what was asked, and the answer once."""
    guarding.says = '{"supported": [], "unsupported": [1]}'
    answered = "Lyon is the capital of Freedonia."
    body = {"model": "chat", "stage": "output", "input": answered, "messages": [QUESTION, CALL, CONTEXT]}
    async with (
        guarded.running(grounding(), output=True, name="judge") as gateway,
        httpx2.AsyncClient(base_url=gateway.url, timeout=60) as client,
    ):
        told = (await client.post("/v1/guard/check", json=body)).json()
        alone = (await client.post("/v1/guard/check", json={**body, "messages": []})).json()
    assert (told["action"], alone["action"]) == ("Block", "Allow")
    (request,) = guarded.guard.requests
    assert request.body.count(b"Freedonia") == 1


async def test_a_context_is_looked_for_beside_the_loop(
    guarded: Guarded, guarding: Guarding, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of any request that is not short: it may have any number of texts."""
    on_loop: list[bool] = []

    def noted(document: Any) -> Any:
        on_loop.append(threading.current_thread() is threading.main_thread())
        return pieces_of(document)

    monkeypatch.setattr(texts, "pieces_of", noted)
    guarding.says = '{"supported": [1], "unsupported": []}'
    async with guarded.running(grounding(), output=True, name="judge") as gateway:
        assert (await ask(gateway, QUESTION, CALL, CONTEXT, x=["a"] * 2000)).status_code == 200
    assert on_loop
    assert not any(on_loop)


async def test_an_answer_is_scored_against_its_context(guarded: Guarded, guarding: Guarding) -> None:
    """By a model of task score, in pairs."""
    score = 0.1
    guarding.says = lambda request: {
        "data": [{"index": n, "score": score} for n in range(len(request.document["text_1"]))],
        "usage": {"prompt_tokens": 1},
    }
    async with guarded.running(grounding(), output=True, task=Task.SCORE) as gateway:
        found = await ask(gateway, QUESTION, CALL, CONTEXT)
        assert found.json()["choices"][0]["finish_reason"] == "content_filter", found.text
        score = 0.9
        found = await ask(gateway, QUESTION, CALL, CONTEXT)
        assert found.json()["choices"][0]["finish_reason"] == "stop"


async def test_embeddings_tell_what_is_talked_about(guarded: Guarded, guarding: Guarding) -> None:
    """Examples are asked about once; a text that is like one of what is denied is blocked."""

    def embed(request: Received) -> dict[str, Any]:
        vectors = [[1.0, 0.0] if "zebra" in text else [0.0, 1.0] for text in request.document["input"]]
        data = [{"index": n, "object": "embedding", "embedding": vector} for n, vector in enumerate(vectors)]
        return {"object": "list", "data": data, "usage": {"prompt_tokens": 1, "total_tokens": 1}}

    guarding.says = embed
    one = TopicsGuard(
        name="topics",
        appliesTo=(Source.USER,),
        model="test/guard",
        deny=(Topic(name="animals", examples=("a zebra",)),),
    )
    async with guarded.running(one, task=Task.EMBED) as gateway:
        assert (await ask(gateway)).status_code == 400
        assert (await ask(gateway, {"role": "user", "content": "the weather"})).status_code == 200
    assert [one.document["input"] for one in guarded.guard.requests] == [["a zebra"], [SECRET_TEXT], ["the weather"]]


async def test_an_answer_that_its_model_is_not_sure_of_is_withheld(guarded: Guarded, engine: FakeUpstream) -> None:
    """By log-probabilities that the client did not ask for, and is not given; without any nobody could decide."""
    likely: float | None = 0.2

    async def sure(request: Received, wire: Wire) -> None:
        assert request.document["logprobs"] is True
        told = completion("chat")
        if likely is not None:
            told["choices"][0]["logprobs"] = {"content": [{"token": "x", "logprob": math.log(likely)}]}
        await wire.json(told)

    engine.respond = sure
    async with guarded.running(ConfidenceGuard(name="sure", appliesTo=(Source.TEXT,)), output=True) as gateway:
        assert (await ask(gateway)).json()["choices"][0]["finish_reason"] == "content_filter"
        likely = 0.9
        (choice,) = (await ask(gateway)).json()["choices"]
        assert (choice["finish_reason"], choice["logprobs"]) == ("stop", None)
        likely = None
        assert (await ask(gateway)).status_code == 502


async def test_what_an_engine_refuses_for_another_reason_is_refused(guarded: Guarded, engine: FakeUpstream) -> None:
    """Only where it is about log-probabilities is an engine asked again without them."""

    async def refuses(request: Received, wire: Wire) -> None:
        await wire.json({"error": {"message": "the temperature is too high", "param": "temperature"}}, status=400)

    engine.respond = refuses
    async with guarded.running(ConfidenceGuard(name="sure", appliesTo=(Source.TEXT,)), output=True) as gateway:
        assert (await ask(gateway)).status_code == 400
    assert len(engine.requests) == 1


@pytest.mark.parametrize("on_error", OnError)
async def test_a_model_that_tells_no_probabilities_is_asked_without_them(
    tmp_path: Path, engine: FakeUpstream, on_error: OnError
) -> None:
    """Where it is known here that an API has none its client is not told of a field that it never sent: the guard could
    not decide."""

    async def says(request: Received, wire: Wire) -> None:
        assert "logprobs" not in request.document
        content = [{"type": "text", "text": "hi"}]
        usage = {"input_tokens": 1, "output_tokens": 1}
        await wire.json({
            "id": "msg_1", "type": "message", "role": "assistant", "model": "c", "content": content,
            "stop_reason": "end_turn", "usage": usage,
        })  # fmt: skip

    engine.respond = says
    sure = guard_entry(
        "t", "g", GuardBody(output=(ConfidenceGuard(name="sure", onError=on_error, appliesTo=(Source.TEXT,)),))
    )
    model = entry("chat", policies=(sure.id,), backend=hosted_by(Provider.ANTHROPIC, engine.url, key=None))
    async with running_gateway(tmp_path, model, policies=[sure]) as gateway:
        found = await ask(gateway)
    assert found.status_code == (200 if on_error is OnError.OPEN else 502), found.text
    assert found.headers.get("x-capstan-guard") == ("sure=failed" if on_error is OnError.OPEN else None)


async def test_a_classifier_moderates(guarded: Guarded, guarding: Guarding) -> None:
    """By its labels."""
    async with guarded.running(moderation(), task=Task.CLASSIFY, name="toxic-bert") as gateway:
        guarding.says = classes("toxic", 0.9)
        assert (await ask(gateway)).status_code == 400
        guarding.says = classes("neutral", 0.1)
        assert (await ask(gateway)).status_code == 200


async def test_an_allowed_phrase_is_on_topic_whatever_it_is_like(guarded: Guarded, guarding: Guarding) -> None:
    """With `allow`, what is similar to no example is off topic, unless it says one of the phrases."""
    guarding.says = lambda request: {
        "data": [
            {"index": n, "embedding": [1.0, 0.0] if "invoice" in text else [0.0, 1.0]}
            for n, text in enumerate(request.document["input"])
        ]
    }
    one = TopicsGuard(
        name="topics", appliesTo=(Source.USER,), model="test/guard",
        allow=(Topic(name="bills", examples=("an invoice",), phrases=("my bill",)),),
    )  # fmt: skip
    async with guarded.running(one, task=Task.EMBED) as gateway:
        assert (await ask(gateway)).status_code == 400
        assert (await ask(gateway, {"role": "user", "content": "where is the invoice"})).status_code == 200
        assert (await ask(gateway, {"role": "user", "content": "zebras on My  Bill"})).status_code == 200


async def test_an_engine_that_refuses_a_form_is_asked_without_it(guarded: Guarded, guard: FakeUpstream) -> None:
    """Its answer must have the form all the same."""

    async def plain(request: Received, wire: Wire) -> None:
        if "response_format" in request.document:
            await wire.json({"error": {"message": "response_format is not supported", "type": "invalid"}}, 400)
        elif "logprobs" in request.document:
            await wire.json({"error": {"message": "logprobs are not supported", "type": "invalid"}}, 400)
        else:
            known = request.document["model"] == "llama-guard-3"
            await wire.json(completion("guard", "unsafe\nS1" if known else '{"supported": [], "unsupported": [1]}'))

    guard.respond = plain
    async with guarded.running(grounding(), output=True, name="judge") as gateway:
        found = await ask(gateway, QUESTION, CALL, CONTEXT)
        assert found.json()["choices"][0]["finish_reason"] == "content_filter", found.text
    wanted = (ModerationCategory(name="S1", threshold=0.5),)
    async with guarded.running(moderation(categories=wanted)) as gateway:
        assert (await ask(gateway)).status_code == 400


async def test_a_long_text_is_moderated_to_its_end(guarded: Guarded, guarding: Guarding) -> None:
    """In windows; more than can be asked about could not be decided."""

    def judge(request: Received) -> str:
        return "unsafe\nS1" if "zebra" in request.document["messages"][-1]["content"] else "safe"

    guarding.says = judge
    async with guarded.running(moderation()) as gateway:
        assert (await ask(gateway, {"role": "user", "content": "word " * 20_000})).status_code == 200
        assert (await ask(gateway, {"role": "user", "content": "word " * 20_000 + SECRET_TEXT})).status_code == 400
        assert (await ask(gateway, {"role": "user", "content": "word " * 400_000})).status_code == 503
