"""POST /v1/moderations with the official client."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx2
import openai
import pytest

from capstan_contract.config import Price
from capstan_contract.guards import GuardBody, ModerationGuard, Source, guard_entry
from fakes.openai_upstream import FakeUpstream, Received, Wire, completion
from support.gateway import entry, running_gateway
from support.keys import key_entry, key_text

FLOOR = "GuardPolicy/t/g"


async def judge(request: Received, wire: Wire) -> None:
    """Do as Llama Guard does: zebras are unsafe, and a lion is more than it can take."""
    text = request.document["messages"][-1]["content"]
    if "lion" in text:
        await wire.json({"error": {"message": text}}, 500)
        return
    await wire.json(completion("guard", "unsafe\nS1" if "zebra" in text else "safe"))


@pytest.fixture
async def upstream() -> AsyncIterator[FakeUpstream]:
    """The engine of the model that moderates."""
    async with FakeUpstream(judge) as fake:
        yield fake


def models(upstream: FakeUpstream) -> tuple[Any, ...]:
    """Give one that moderates, one that is guarded by it, and one that neither does nor is."""
    return (
        entry("hidden", upstream.url, upstreamName="llama-guard-3"),
        entry("chat", upstream.url, policies=(FLOOR,)),
        entry("free", upstream.url),
    )


POLICY = guard_entry(
    "t", "g", GuardBody(input=(ModerationGuard(name="harm", appliesTo=(Source.USER,), model="test/hidden"),))
)


async def test_the_official_client_is_answered(tmp_path: Path, upstream: FakeUpstream) -> None:
    """In its own types: each text has a result, with the thirteen categories and the model's own."""
    async with running_gateway(tmp_path, *models(upstream), policies=[POLICY]) as gateway, gateway.client() as client:
        told = await client.moderations.create(model="hidden", input=["a zebra", "a cat"])
        assert told.model == "hidden"
        assert told.id.startswith("modr-")
        first, second = told.results
        assert (first.flagged, first.categories.violence, first.categories.sexual) == (True, True, False)
        assert (first.category_scores.violence, second.category_scores.violence) == (1.0, 0.0)
        assert first.category_applied_input_types.violence == ["text"]
        assert not second.flagged
        parts: Any = [{"type": "text", "text": "a zebra"}]
        assert (await client.moderations.create(model="hidden", input=parts)).results[0].flagged


async def test_the_guards_of_a_model_answer_for_it(tmp_path: Path, upstream: FakeUpstream) -> None:
    """Also where no model is named; the model itself is not asked, and nobody is told which one was."""
    async with running_gateway(tmp_path, *models(upstream), policies=[POLICY]) as gateway, gateway.client() as client:
        told = await client.moderations.create(model="chat", input="a zebra")
        assert (told.model, told.results[0].flagged) == ("chat", True)
        assert (await client.moderations.create(input="a zebra")).results[0].flagged
        with pytest.raises(openai.BadRequestError) as refused:
            await client.moderations.create(model="free", input="a zebra")
        assert "does not moderate" in refused.value.message
        with pytest.raises(openai.NotFoundError):
            await client.moderations.create(model="nobody", input="a zebra")
    assert {one.document["model"] for one in upstream.requests} == {"llama-guard-3"}


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({}, "input"), ({"input": []}, "input"), ({"input": [1]}, "input.0"), ({"input": "a", "model": 3}, "model"),
        ({"input": "a", "model": ""}, "model"), ({"input": "a", "stream": True}, "stream"),
    ],
)  # fmt: skip
async def test_bad_requests_are_refused(
    tmp_path: Path, upstream: FakeUpstream, body: dict[str, Any], param: str
) -> None:
    """By their field."""
    async with running_gateway(tmp_path, *models(upstream), policies=[POLICY]) as gateway:
        async with httpx2.AsyncClient(base_url=gateway.url, timeout=60) as client:
            found = await client.post("/v1/moderations", json=body)
        assert (found.status_code, found.json()["error"]["param"]) == (400, param), found.text


async def test_who_asks_uses_what_is_theirs(tmp_path: Path, upstream: FakeUpstream) -> None:
    """A model that moderates and is somebody else's is not there; as a guard it works all the same, and is billed."""
    price = Price(inputPerMillion=1.0, outputPerMillion=1.0)
    hidden, chat, free = models(upstream)
    keys = [key_entry("ann", models=("chat",))]
    async with running_gateway(
        tmp_path, hidden.model_copy(update={"price": price}), chat, free, policies=[POLICY], keys=keys,
        insecure_no_auth=False,
    ) as gateway:  # fmt: skip
        bearer = {"authorization": f"Bearer {key_text('ann')}"}
        async with httpx2.AsyncClient(base_url=gateway.url, headers=bearer, timeout=60) as client:
            gone = await client.post("/v1/moderations", json={"input": "a", "model": "hidden"})
            assert gone.status_code == 404
            told = await client.post("/v1/moderations", json={"input": "a zebra"})
            assert (told.status_code, told.json()["model"]) == (200, "chat")
            assert float(told.headers["x-capstan-cost"]) > 0
            assert "hidden" not in told.text + str(told.headers)
            failed = await client.post("/v1/moderations", json={"input": "a lion", "model": "chat"})
            assert (failed.status_code, failed.json()["error"]["code"]) == (503, "guard_unavailable")
            assert "lion" not in failed.text
            assert "hidden" not in failed.text
        async with httpx2.AsyncClient(base_url=gateway.url, timeout=60) as client:
            assert (await client.post("/v1/moderations", json={"input": "a"})).status_code == 401
