"""A gateway with CachePolicies that compare questions by what they mean."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx2
import pytest

from capstan_contract.caches import CACHE_KIND, SemanticTier, cache_policy_id
from capstan_contract.config import ModelEntry, RouterBackend, RouterMember, Strategy
from capstan_contract.entries import PolicyEntry
from capstan_contract.guards import GuardBody, KeywordsGuard, Source, guard_entry
from capstan_gateway.caches.purges import Purge, What
from capstan_gateway.pipeline.caches import alike
from fakes.openai_upstream import FakeUpstream, answer
from support.gateway import RunningGateway, entry, running_gateway
from support.keys import key_entry, key_text

ID = cache_policy_id("t", "c")
CHAT = "/v1/chat/completions"
ASKED = "How do I reset my password?"
SAME = "How can I reset my password?"
TURN = [{"role": "user", "content": SAME}]
OTHER = "How do I change my username?"


@pytest.fixture
async def upstream() -> AsyncIterator[FakeUpstream]:
    """An engine that answers."""
    async with FakeUpstream(answer) as fake:
        yield fake


@pytest.fixture(autouse=True)
def patience(monkeypatch: pytest.MonkeyPatch) -> None:
    """A busy machine takes its time to load the weights, and to compare."""
    monkeypatch.setattr(alike, "FIND_SECONDS", 120.0)
    monkeypatch.setattr(alike, "PUT_SECONDS", 120.0)


class Client:
    """Asks a gateway."""

    def __init__(self, gateway: RunningGateway) -> None:
        self._http = httpx2.AsyncClient(base_url=gateway.url, timeout=180)

    async def __aenter__(self) -> "Client":
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._http.aclose()

    async def ask(self, text: str, *, headers: dict[str, str] | None = None, **fields: Any) -> httpx2.Response:
        """Ask a question."""
        body = {"model": "chat", "messages": [{"role": "user", "content": text}], **fields}
        return await self._http.post(CHAT, json=body, headers=headers)


def policies(**semantic: Any) -> tuple[PolicyEntry, ...]:
    """Give the policy, as it is written in a config; by chance no hit is asked of the model all the same."""
    return (PolicyEntry(id=ID, kind=CACHE_KIND, body={"semantic": {"sampleRate": 0, **semantic}}),)


def cached(upstream: FakeUpstream) -> ModelEntry:
    """Give a model with the policy on it."""
    return entry("chat", upstream.url, policies=(ID,))


async def test_a_paraphrase_gets_the_answer_that_is_there(upstream: FakeUpstream, tmp_path: Path) -> None:
    """Another wording of a question hits, as JSON and as a stream, and says how alike it is; another question never."""
    async with running_gateway(tmp_path, cached(upstream), policies=policies()) as gateway, Client(gateway) as client:
        first = await client.ask(ASKED)
        second = await client.ask(SAME)
        streamed = await client.ask("how could i reset my password", stream=True)
        other = await client.ask(OTHER)
    assert [one.headers["x-cache"] for one in (first, second, streamed, other)] == [
        "miss", "hit-semantic", "hit-semantic", "miss"
    ]  # fmt: skip
    assert 0.9 < float(second.headers["x-cache-similarity"]) <= 1
    assert second.headers["x-cache-key"] == first.headers["x-cache-key"]
    assert second.json()["choices"] == first.json()["choices"]
    assert "x-cache-similarity" not in first.headers
    assert len(upstream.requests) == 2


async def test_what_a_guard_withholds_is_not_found_by_its_meaning_any_more(
    upstream: FakeUpstream, tmp_path: Path
) -> None:
    """An answer that is found by what it means goes through the guards of who asks; what they withhold is let go of."""
    word = KeywordsGuard(name="w", keywords=("hello",), appliesTo=(Source.TEXT,), timeoutMillis=60_000)
    guard = guard_entry("t", "g", GuardBody(output=(word,)))
    members = RouterBackend(strategy=Strategy.CHEAPEST, members=(RouterMember(model="test/chat"),))
    models = (cached(upstream), entry("router", backend=members, policies=(guard.id,)))
    async with (
        running_gateway(tmp_path, *models, policies=(*policies(), guard)) as gateway,
        Client(gateway) as client,
    ):
        first = await client.ask(ASKED)
        guarded = await client.ask(SAME, model="router")
        after = await client.ask("how could i reset my password")
    assert [one.headers["x-cache"] for one in (first, guarded, after)] == ["miss", "hit-semantic", "miss"]
    assert "content_filter" in guarded.text
    assert "Hello" not in guarded.text


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("What is 17 times 24?", "What is 17 times 25?"),
        ("How do I enable notifications?", "How do I disable notifications?"),
        ("How do I get from Rome to Oslo?", "How do I get from Oslo to Rome?"),
        ("Is it safe to eat raw eggs?", "Is it not safe to eat raw eggs?"),
        ("What is the capital of France?", "What is the capital of Spain?"),
    ],
)
async def test_another_question_is_asked(one: str, other: str, upstream: FakeUpstream, tmp_path: Path) -> None:
    """Another number, the opposite, the way back, a negation, another name: the model is asked."""
    async with running_gateway(tmp_path, cached(upstream), policies=policies()) as gateway, Client(gateway) as client:
        await client.ask(one)
        assert (await client.ask(other)).headers["x-cache"] == "miss"
    assert len(upstream.requests) == 2


async def test_a_client_makes_it_stricter_and_never_looser(upstream: FakeUpstream, tmp_path: Path) -> None:
    """`x-cache-semantic: off` wants the very same request; a least similarity is kept; a low one loosens nothing."""
    async with running_gateway(tmp_path, cached(upstream), policies=policies()) as gateway, Client(gateway) as client:
        await client.ask(ASKED)
        for headers, text in (
            ({"x-cache-semantic": "off"}, SAME),
            ({"x-cache-similarity-min": "0.9999"}, "How could I reset my password?"),
            ({"x-cache-similarity-min": "much"}, "how would I reset my password?"),
            ({"x-cache-similarity-min": "0"}, OTHER),
        ):
            assert (await client.ask(text, headers=headers)).headers["x-cache"] == "miss", headers


@pytest.mark.parametrize(
    "fields",
    [
        {"temperature": 0},
        {"max_tokens": 7},
        {"response_format": {"type": "json_object"}},
        {"messages": [{"role": "system", "content": "Be brief."}, *TURN]},
        {"messages": [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Yes?"}, *TURN]},
    ],
)  # fmt: skip
async def test_what_is_said_before_and_around_is_the_very_same(
    fields: dict[str, Any], upstream: FakeUpstream, tmp_path: Path
) -> None:
    """Another system prompt, earlier turn or parameter: nothing is compared."""
    async with running_gateway(tmp_path, cached(upstream), policies=policies()) as gateway, Client(gateway) as client:
        await client.ask(ASKED)
        assert (await client.ask(SAME, **fields)).headers["x-cache"] == "miss"
        assert (await client.ask(SAME)).headers["x-cache"] == "hit-semantic"


async def test_a_policy_without_it_compares_nothing(upstream: FakeUpstream, tmp_path: Path) -> None:
    """Where nothing is configured only the very same request hits."""
    plain = (PolicyEntry(id=ID, kind=CACHE_KIND, body={}),)
    async with running_gateway(tmp_path, cached(upstream), policies=plain) as gateway, Client(gateway) as client:
        await client.ask(ASKED)
        assert (await client.ask(SAME)).headers["x-cache"] == "miss"


async def test_a_policy_may_ask_for_a_similarity_of_its_own(upstream: FakeUpstream, tmp_path: Path) -> None:
    """`similarity` decides in place of the error budget; the rules are in force all the same."""
    tier = SemanticTier(similarity=0.5).model_dump(mode="json", exclude_defaults=True)
    async with (
        running_gateway(tmp_path, cached(upstream), policies=policies(**tier)) as gateway,
        Client(gateway) as client,
    ):
        await client.ask("Which ingredients does a good pizza dough need?")
        loose = await client.ask("what ingredients are needed to make good dough for pizza")
        assert loose.headers["x-cache"] == "hit-semantic"
        assert (await client.ask("Which ingredients does a bad pizza dough need?")).headers["x-cache"] == "miss"


async def test_nothing_is_compared_across_tenants_models_and_revisions(upstream: FakeUpstream, tmp_path: Path) -> None:
    """Another tenant, another model, another revision of the same one: each has questions of its own."""
    keys = (key_entry("ada", tenant="a"), key_entry("bob", tenant="b"))
    models = [entry(name, upstream.url, policies=(ID,), revision="1") for name in ("chat", "other")]

    async def word(client: Client, who: str, text: str, **fields: Any) -> str:
        found = await client.ask(text, headers={"authorization": f"Bearer {key_text(who)}"}, **fields)
        return str(found.headers["x-cache"])

    async with (
        running_gateway(tmp_path, *models, keys=keys, policies=policies(), insecure_no_auth=False) as gateway,
        Client(gateway) as client,
    ):
        assert await word(client, "ada", ASKED) == "miss"
        assert await word(client, "bob", SAME) == "miss"
        assert await word(client, "ada", SAME, model="other") == "miss"
        assert await word(client, "ada", SAME) == "hit-semantic"
        newer = [model.model_copy(update={"revision": "2"}) for model in models]
        await gateway.configure(*newer, keys=keys, policies=policies())
        assert await word(client, "ada", "How could I reset my password?") == "miss"


async def test_what_is_purged_is_not_found_by_its_meaning(upstream: FakeUpstream, tmp_path: Path) -> None:
    """A client that wants the answer anew gets it, and one that takes only what is there gets what means the same."""
    async with running_gateway(tmp_path, cached(upstream), policies=policies()) as gateway, Client(gateway) as client:
        await client.ask(ASKED)
        only = {"cache-control": "only-if-cached"}
        assert (await client.ask(SAME, headers=only)).headers["x-cache"] == "hit-semantic"
        assert (await client.ask(OTHER, headers=only)).status_code == 504
        assert (await client.ask(SAME, headers={"cache-control": "no-cache"})).headers["x-cache"] == "miss"
        await gateway.gateway.caches.purge(Purge(What.ALL))
        assert (await client.ask("How could I reset my password?")).headers["x-cache"] == "miss"
