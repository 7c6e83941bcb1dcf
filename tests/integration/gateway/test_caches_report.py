"""What a gateway says of its caches, for the status of policies."""

from pathlib import Path
from typing import Any

from capstan_contract.caches import CacheBody, CachesReport, cache_entry
from capstan_contract.limits import Mode
from fakes.openai_upstream import FakeUpstream, answer
from support.cached import cached_gateway
from support.gateway import entry
from support.wait import eventually

ID = "CachePolicy/t/c"
BODY: Any = {"model": "chat", "messages": [{"role": "user", "content": "what is the capital of France?"}]}


async def test_the_page_says_what_was_there_and_what_was_not(tmp_path: Path) -> None:
    """A policy that nobody has asked counts nothing; then misses, hits, and the tokens that hits have saved. Nothing of
    any request is said, and that there is no Redis is."""
    async with FakeUpstream(answer) as upstream:
        model = entry("chat", upstream.url, policies=(ID,))
        policies = (cache_entry("t", "c", CacheBody()),)
        async with cached_gateway(tmp_path, model, policies=policies, admin=True) as (_, client):
            before = CachesReport.model_validate_json((await client.get("/internal/caches")).text)
            for _ in range(3):
                said = await client.post("/v1/chat/completions", json=BODY)
                assert said.status_code == 200
            usage = said.json()["usage"]
            page = (await client.get("/internal/caches")).text
    assert set(before.policies) <= {ID}
    found = CachesReport.model_validate_json(page)
    counts = found.policies[ID]
    assert not found.shared
    assert (counts.memoryHits, counts.misses, counts.stored, counts.entries) == (2, 1, 1, 1)
    assert counts.savedTokens == 2 * (usage["prompt_tokens"] + usage["completion_tokens"])
    assert "France" not in page


async def test_a_mode_that_comes_again_begins_at_nothing(tmp_path: Path) -> None:
    """What was counted in Enforce is not told a second time when the policy was in Shadow meanwhile; another time to
    live in the same mode goes on counting."""
    async with FakeUpstream(answer) as upstream:
        model = entry("chat", upstream.url, policies=(ID,))
        policies = (cache_entry("t", "c", CacheBody()),)
        async with cached_gateway(tmp_path, model, policies=policies) as (gateway, client):

            async def counted(mode: Mode, times: int, **fields: Any) -> tuple[int, int, int, int]:
                policy = cache_entry("t", "c", CacheBody(mode=mode, **fields))
                await gateway.configure(model, policies=(policy,))
                for _ in range(times):
                    assert (await client.post("/v1/chat/completions", json=BODY)).status_code == 200
                await gateway.settled()

                def told() -> tuple[int, int, int, int] | None:
                    said = gateway.gateway.caches.report().policies[ID]
                    assert said.mode is mode
                    found = said.memoryHits, said.misses, said.stored, said.savedTokens
                    return found if said.memoryHits + said.misses else None

                return await eventually(told)

            hits, misses, stored, saved = await counted(Mode.ENFORCE, 3)
            assert (hits, misses, stored) == (2, 1, 1)
            assert (await counted(Mode.SHADOW, 1))[:2] == (0, 1)
            assert await counted(Mode.ENFORCE, 2) == (1, 1, 1, saved // 2)
            assert (await counted(Mode.ENFORCE, 2, ttlSeconds=60))[:3] == (2, 2, 2)
            assert gateway.metric("llm_cache_requests_total", policy="t/c", mode="enforce", outcome="miss") == 3
