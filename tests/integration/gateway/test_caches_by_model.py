"""A gateway with CachePolicies that compare questions by the vectors of a model."""

import asyncio
import math
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx2
import pytest

from capstan_contract.caches import CacheBody, Scope, SemanticTier, cache_entry, cache_policy_id
from capstan_contract.config import ModelEntry, Task
from capstan_contract.entries import PolicyEntry
from capstan_contract.limits import Mode
from capstan_gateway.pipeline.caches import alike, modelled
from fakes.openai_upstream import FakeUpstream, Received, Wire, answer
from support.gateway import RunningGateway, entry, running_gateway
from support.keys import key_entry, key_text
from support.wait import eventually

ID = cache_policy_id("test", "c")
CHAT = "/v1/chat/completions"
DEGREES = {"a b c": 0, "a b d": 20, "x y z": 90, "e 1": 5, "e 2": 5}
"""Where the model has each text: questions of nearly one direction are alike."""


@pytest.fixture(autouse=True)
def patience(monkeypatch: pytest.MonkeyPatch) -> None:
    """A busy machine takes its time."""
    monkeypatch.setattr(alike, "FIND_SECONDS", 60.0)
    monkeypatch.setattr(alike, "PUT_SECONDS", 60.0)
    monkeypatch.setattr(modelled, "SECONDS", 60.0)
    monkeypatch.setattr(modelled, "LATE_SECONDS", 60.0)


class Upstream:
    """Chats, and makes vectors: of two numbers and then zeros, unless it is told otherwise."""

    def __init__(self) -> None:
        self.texts: list[str] = []
        self.chats = 0
        self.length = 2
        self.turned = 0.0
        self.busy = asyncio.Event()
        self.busy.set()

    async def respond(self, received: Received, wire: Wire) -> None:
        """Answer."""
        if not received.path.endswith("/embeddings"):
            self.chats += 1
            await answer(received, wire)
            return
        await self.busy.wait()
        (text,) = received.document["input"]
        self.texts.append(text)
        angle = math.radians(DEGREES.get(text, 45) + self.turned)
        vector = [math.cos(angle), math.sin(angle), *[0.0] * (self.length - 2)]
        data = [{"object": "embedding", "index": 0, "embedding": vector}]
        usage = {"prompt_tokens": 3, "total_tokens": 3}
        await wire.json({"object": "list", "model": received.document["model"], "data": data, "usage": usage})


@pytest.fixture
def engine() -> Upstream:
    """What stands behind both models."""
    return Upstream()


@pytest.fixture
async def upstream(engine: Upstream) -> AsyncIterator[FakeUpstream]:
    """It, at an address."""
    async with FakeUpstream(engine.respond) as fake:
        yield fake


def policy(scope: Scope = Scope.TENANT, mode: Mode = Mode.ENFORCE, **semantic: Any) -> PolicyEntry:
    """Give the policy."""
    tier = SemanticTier(
        **{"similarity": 0.9, "verify": False, "sampleRate": 0, "embedding": "test/vectors", **semantic}
    )
    return cache_entry("test", "c", CacheBody(semantic=tier, scope=scope, mode=mode))


def models(upstream: FakeUpstream, **vectors: Any) -> tuple[ModelEntry, ...]:
    """Give one that chats, with the policy on it, and one that makes vectors."""
    return entry("chat", upstream.url, policies=(ID,)), entry("vectors", upstream.url, task=Task.EMBED, **vectors)


async def words(client: httpx2.AsyncClient, *texts: str, key: str = "") -> list[str]:
    """Ask these one after the other; give what the cache had to do with each."""
    headers = {"authorization": f"Bearer {key_text(key)}"} if key else {}
    found = []
    for text in texts:
        body = {"model": "chat", "messages": [{"role": "user", "content": text}]}
        response = await client.post(CHAT, json=body, headers=headers)
        assert response.status_code == 200, response.text
        found.append(response.headers["x-cache"])
    return found


async def are_kept(gateway: RunningGateway, number: int) -> None:
    """Wait until so many questions can be found: they are kept when their clients have their answers."""
    await eventually(
        lambda: sum(len(room.alike) for _, room in gateway.gateway.caches.rooms()) == number,  # type: ignore[arg-type]
        what="questions that can be found",
    )


def client_of(gateway: RunningGateway) -> httpx2.AsyncClient:
    """Give a client."""
    return httpx2.AsyncClient(base_url=gateway.url, timeout=120)


async def test_what_the_model_says_is_alike_hits(upstream: FakeUpstream, engine: Upstream, tmp_path: Path) -> None:
    """From `similarity` on, in any language where no rules are to be held; the model is asked once for each question,
    and its tokens are on no client's bill."""
    async with (
        running_gateway(tmp_path, *models(upstream), policies=(policy(),)) as gateway,
        client_of(gateway) as client,
    ):
        assert await words(client, "a b c", "x y z") == ["miss", "miss"]
        await are_kept(gateway, 2)
        assert await words(client, "a b d") == ["hit-semantic"]
    assert (engine.chats, engine.texts) == (2, ["a b c", "x y z", "a b d"])


async def test_rules_hold_for_these_vectors_too(upstream: FakeUpstream, tmp_path: Path) -> None:
    """Questions that differ in a number are two, however near the model has them."""
    for verify, word in ((True, "miss"), (False, "hit-semantic")):
        folder = tmp_path / str(verify)
        folder.mkdir()
        one, other = "What is 17 times 24?", "What is 17 times 25?"
        running = running_gateway(folder, *models(upstream), policies=(policy(verify=verify),))
        async with running as gateway, client_of(gateway) as client:
            assert await words(client, one) == ["miss"]
            await are_kept(gateway, 1)
            assert await words(client, other) == [word]


async def test_tenants_are_apart(upstream: FakeUpstream, engine: Upstream, tmp_path: Path) -> None:
    """Another tenant finds nothing, and what it takes to make a vector tells it nothing either."""
    keys = [key_entry(name, tenant=name, user="u") for name in ("a", "b")]
    running = running_gateway(tmp_path, *models(upstream), keys=keys, policies=(policy(),), insecure_no_auth=False)
    async with running as gateway, client_of(gateway) as client:
        assert await words(client, "a b c", key="a") == ["miss"]
        await are_kept(gateway, 1)
        assert await words(client, "a b d", key="b") == ["miss"]
        await are_kept(gateway, 2)
        assert await words(client, "a b c", key="b") == ["hit-semantic"]
        assert engine.texts.count("a b c") == 2


@pytest.mark.parametrize("changed", ["revision", "length"])
async def test_vectors_of_another_model_match_nothing(
    changed: str, upstream: FakeUpstream, engine: Upstream, tmp_path: Path
) -> None:
    """Another revision has other vectors, and vectors of another length are another model's, whatever it says."""
    running = running_gateway(tmp_path, *models(upstream), policies=(policy(),))
    async with running as gateway, client_of(gateway) as client:
        assert await words(client, "a b c") == ["miss"]
        await are_kept(gateway, 1)
        if changed == "length":
            engine.length = 5
        else:
            await gateway.configure(*models(upstream, revision="2"), policies=(policy(),))
        assert await words(client, "a b d", "a b c") == ["miss", "hit-memory"]


@pytest.mark.parametrize("fault", ["long", "absent", "slow", "wrong-task"])
async def test_without_a_vector_the_model_answers(
    fault: str, upstream: FakeUpstream, engine: Upstream, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A model that is not there, of another task, too slow, or with vectors too long, is a miss; the request fails for
    nothing of it, and it is counted."""
    tier = policy()
    if fault == "long":
        engine.length = modelled.MOST_DIMENSIONS + 1
    elif fault == "absent":
        tier = policy(embedding="test/nothing")
    elif fault == "wrong-task":
        tier = policy(embedding="test/chat")
    else:
        monkeypatch.setattr(alike, "FIND_SECONDS", 0.05)
        monkeypatch.setattr(alike, "PUT_SECONDS", 0.05)
        engine.busy.clear()
    async with running_gateway(tmp_path, *models(upstream), policies=(tier,)) as gateway, client_of(gateway) as client:
        assert await words(client, "a b c", "a b d", "a b c") == ["miss", "miss", "hit-memory"]
        reason = "late" if fault == "slow" else "failed"
        assert gateway.gateway.metrics.cache_not_compared.at("test/c", reason).value >= 2
        engine.busy.set()


async def test_no_more_calls_than_bounded(
    upstream: FakeUpstream, engine: Upstream, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever comes beside them is answered by the model at once."""
    monkeypatch.setattr(modelled, "MOST_AT_ONCE", 1)
    async with (
        running_gateway(tmp_path, *models(upstream), policies=(policy(),)) as gateway,
        client_of(gateway) as client,
    ):
        engine.busy.clear()
        first = asyncio.create_task(words(client, "a b c"))
        await eventually(lambda: any(one.path.endswith("/embeddings") for one in upstream.requests))
        assert await words(client, "x y z") == ["miss"]
        assert gateway.gateway.metrics.cache_not_compared.at("test/c", "busy").value >= 1
        engine.busy.set()
        assert await first == ["miss"]


async def test_a_vector_that_comes_late_is_kept(
    upstream: FakeUpstream, engine: Upstream, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who asked does not wait for it, and the model is asked once: what it says then has the question found."""
    monkeypatch.setattr(alike, "FIND_SECONDS", 0.05)
    running = running_gateway(tmp_path, *models(upstream), policies=(policy(),))
    async with running as gateway, client_of(gateway) as client:
        engine.busy.clear()
        assert await words(client, "a b c") == ["miss"]
        assert gateway.gateway.metrics.cache_not_compared.at("test/c", "late").value == 1
        engine.busy.set()
        await are_kept(gateway, 1)
        assert engine.texts == ["a b c"]


@pytest.mark.parametrize(("seconds", "asked"), [(600.0, 3), (0.0, 4)])
async def test_a_model_that_is_late_again_and_again_is_left_alone(
    seconds: float,
    asked: int,
    upstream: FakeUpstream,
    engine: Upstream,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """For a while it is not asked, and questions are not compared; then it is asked again."""
    monkeypatch.setattr(modelled, "LATE_SECONDS", -1.0)
    monkeypatch.setattr(modelled, "PAUSE_SECONDS", seconds)
    running = running_gateway(tmp_path, *models(upstream), policies=(policy(),))
    async with running as gateway, client_of(gateway) as client:
        assert await words(client, "a b c", "x y z") == ["miss", "miss"]
        await are_kept(gateway, 2)
        assert await words(client, "e 1") == ["hit-semantic"]
        assert await words(client, "e 2") == ["hit-semantic" if asked == 4 else "miss"]
        assert len(engine.texts) == asked
        assert (gateway.gateway.metrics.cache_not_compared.at("test/c", "paused").value > 0) == (asked == 3)


async def test_one_tenant_leaves_places_to_others(
    upstream: FakeUpstream, engine: Upstream, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It has as many calls at once as are free beside them, so that who comes then is compared, too."""
    monkeypatch.setattr(modelled, "MOST_AT_ONCE", 2)
    keys = [key_entry(name, tenant=name, user="u") for name in ("a", "b")]
    running = running_gateway(tmp_path, *models(upstream), keys=keys, policies=(policy(),), insecure_no_auth=False)
    async with running as gateway, client_of(gateway) as client:

        async def calls(number: int) -> None:
            await eventually(lambda: sum(one.path.endswith("/embeddings") for one in upstream.requests) == number)

        engine.busy.clear()
        first = asyncio.create_task(words(client, "a b c", key="a"))
        await calls(1)
        assert await words(client, "x y z", key="a") == ["miss"]
        counted = gateway.gateway.metrics.cache_not_compared.at("test/c", "busy")
        await eventually(lambda: counted.value == 2, what="a question that is neither looked for nor kept")
        other = asyncio.create_task(words(client, "e 1", key="b"))
        await calls(2)
        engine.busy.set()
        assert [await first, await other] == [["miss"], ["miss"]]
        assert "x y z" not in engine.texts


async def test_shadow_counts_by_these_vectors(upstream: FakeUpstream, engine: Upstream, tmp_path: Path) -> None:
    """What would have been a hit is counted, and everybody is answered by the model."""
    tier = policy(mode=Mode.SHADOW)
    async with running_gateway(tmp_path, *models(upstream), policies=(tier,)) as gateway, client_of(gateway) as client:
        body = {"model": "chat", "messages": [{"role": "user", "content": "a b c"}]}
        await client.post(CHAT, json=body)
        caches = gateway.gateway.caches

        async def counted(name: str) -> bool:
            return bool(getattr(caches.report().policies[ID], name))

        await eventually(lambda: counted("stored"))
        await client.post(CHAT, json={**body, "messages": [{"role": "user", "content": "a b d"}]})
        await eventually(lambda: counted("semanticHits"))
    assert engine.chats == 2
