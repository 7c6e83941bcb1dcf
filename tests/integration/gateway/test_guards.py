"""A gateway with GuardPolicies: what is asked is judged before it is sent, and what is answered before it is given."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx2
import pytest

from capstan_contract.guards import Action, GuardBody, PiiGuard, Source, guard_entry
from fakes.openai_upstream import FakeUpstream, answer
from support.gateway import entry, running_gateway

MAIL = "ada@lovelace.example.org"
MESSAGES: Any = [{"role": "user", "content": f"write to {MAIL}"}]
ROUTES: list[tuple[str, dict[str, Any]]] = [
    ("/v1/chat/completions", {"messages": MESSAGES}),
    ("/v1/messages", {"messages": MESSAGES, "max_tokens": 9}),
    ("/v1/responses", {"input": f"write to {MAIL}"}),
    ("/v1/completions", {"prompt": f"write to {MAIL}"}),
]


@pytest.fixture
async def upstream() -> AsyncIterator[FakeUpstream]:
    """An engine that answers."""
    async with FakeUpstream(answer) as fake:
        yield fake


def policy(**fields: Any) -> GuardBody:
    """Give a policy with one guard that looks for personal data in what users say."""
    return GuardBody(input=(PiiGuard(name="pii", appliesTo=(Source.USER,), **fields),))


@pytest.mark.parametrize(("path", "body"), ROUTES)
async def test_what_is_redacted_is_never_sent(
    tmp_path: Path, upstream: FakeUpstream, path: str, body: dict[str, Any]
) -> None:
    """In every dialect the engine sees the placeholder, and the client is told in a header."""
    guarded = entry("chat", upstream.url, policies=("GuardPolicy/t/g",))
    async with running_gateway(tmp_path, guarded, policies=[guard_entry("t", "g", policy())]) as gateway:
        async with httpx2.AsyncClient(base_url=gateway.url) as client:
            found = await client.post(path, json={**body, "model": "chat"})
        assert found.status_code == 200, found.text
        assert found.headers["x-capstan-guard"] == "pii=redacted"
        await gateway.settled()
    (received,) = upstream.requests
    assert MAIL.encode() not in received.body
    assert b"[EMAIL_1]" in received.body


@pytest.mark.parametrize(("path", "body"), ROUTES)
async def test_a_block_is_told_before_anything_is_sent(
    tmp_path: Path, upstream: FakeUpstream, path: str, body: dict[str, Any]
) -> None:
    """400 with the code of content filters in the client's dialect: it names the guard and says nothing of the text."""
    guarded = entry("chat", upstream.url, policies=("GuardPolicy/t/g",))
    entries = [guard_entry("t", "g", policy(action=Action.BLOCK))]
    async with running_gateway(tmp_path, guarded, policies=entries) as gateway:
        async with httpx2.AsyncClient(base_url=gateway.url) as client:
            found = await client.post(path, json={**body, "model": "chat"})
        assert found.status_code == 400
        assert "`pii`" in found.json()["error"]["message"]
        assert "lovelace" not in found.text
        assert found.headers["x-should-retry"] == "false"
        assert gateway.metric("llm_guardrail_blocks_total", guard_type="PII", stage="input") == 1
    assert upstream.requests == []
