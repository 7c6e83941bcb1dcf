"""A model whose answer has not the form that it must have is asked once more, and told what was wrong."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx2
import orjson
import pytest

from capstan_contract.config import PolicyEntry
from capstan_contract.entries import PolicyTargets
from capstan_contract.guards import Action, FormatGuard, GuardBody, KeywordsGuard, PiiGuard, Source, guard_entry
from fakes.openai_upstream import FakeUpstream, Received, Wire, answer, completion
from support.gateway import entry, running_gateway

MESSAGES: Any = [{"role": "user", "content": "write to ada@lovelace.example.org"}]


def policy(**fields: Any) -> PolicyEntry:
    """Give a policy that wants JSON, and redacts what users say."""
    form = FormatGuard(
        name="json", jsonSchema={"type": "object", "required": ["to"]}, askAgain=True, appliesTo=(Source.TEXT,),
        **fields,
    )  # fmt: skip
    pii = PiiGuard(name="pii", restore=True, appliesTo=(Source.USER,))
    return guard_entry("t", "g", GuardBody(input=(pii,), output=(form,)))


class Engine:
    """Gives these answers, one after the other; each is in one piece."""

    def __init__(self, *texts: str) -> None:
        self.texts = list(texts)

    async def respond(self, received: Received, wire: Wire) -> None:
        """Answer."""
        assert not received.document.get("stream")
        await wire.json(completion("chat", self.texts.pop(0)))


@pytest.fixture
async def upstream() -> AsyncIterator[FakeUpstream]:
    """An engine."""
    async with FakeUpstream(answer) as fake:
        yield fake


async def ask(tmp_path: Path, upstream: FakeUpstream, *texts: str, stream: bool = False) -> httpx2.Response:
    """Ask a model that gives these answers."""
    upstream.respond = Engine(*texts).respond
    model = entry("chat", upstream.url, policies=("GuardPolicy/t/g",))
    async with running_gateway(tmp_path, model, policies=[policy()]) as gateway:
        async with httpx2.AsyncClient(base_url=gateway.url, timeout=60) as client:
            found = await client.post(
                "/v1/chat/completions", json={"model": "chat", "messages": MESSAGES, "stream": stream}
            )
        await gateway.settled()
        assert gateway.metric("llm_tokens_total", model="chat", direction="output") == 2 * len(upstream.requests)
    return found


@pytest.mark.parametrize("stream", [False, True])
async def test_a_second_answer_in_form_is_given(tmp_path: Path, upstream: FakeUpstream, stream: bool) -> None:
    """It is told what was wrong, sees what it has answered and nothing that is redacted; both answers are charged."""
    found = await ask(tmp_path, upstream, "to [EMAIL_1]", '{"to": "[EMAIL_1]"}', stream=stream)
    assert found.status_code == 200, found.text
    said = '{"to": "ada@lovelace.example.org"}'
    assert orjson.dumps(said).decode() in found.text
    assert "json=asked-again" in found.headers["x-capstan-guard"]
    assert (found.headers["content-type"].startswith("text/event-stream")) == stream
    first, second = upstream.requests
    assert b"lovelace" not in first.body + second.body
    assert second.document["messages"][-2] == {"role": "assistant", "content": "to [EMAIL_1]"}
    assert "JSON" in second.document["messages"][-1]["content"]


@pytest.mark.parametrize("stream", [False, True])
async def test_a_second_answer_out_of_form_is_blocked(tmp_path: Path, upstream: FakeUpstream, stream: bool) -> None:
    """There is no third one."""
    found = await ask(tmp_path, upstream, "one", "two", stream=stream)
    assert "content_filter" in found.text
    assert "two" not in found.text
    assert len(upstream.requests) == 2


async def test_a_good_answer_is_asked_for_once(tmp_path: Path, upstream: FakeUpstream) -> None:
    """And is said to be nothing else."""
    found = await ask(tmp_path, upstream, '{"to": "x"}', stream=True)
    assert "[DONE]" in found.text
    assert found.headers["x-capstan-guard"] == "pii=redacted"
    assert len(upstream.requests) == 1


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize(("action", "finish"), [(Action.WARN, "stop"), (Action.BLOCK, "content_filter")])
async def test_where_there_is_no_second_answer_the_first_one_is_judged(
    tmp_path: Path, upstream: FakeUpstream, stream: bool, action: Action, finish: str
) -> None:
    """An engine that fails at the second question takes no answer away that is there already."""

    async def once(received: Received, wire: Wire) -> None:
        if len(upstream.requests) == 1:
            await wire.json(completion("chat", "plain"))
        else:
            await wire.json({"error": {"message": "out of memory"}}, 500)

    upstream.respond = once
    model = entry("chat", upstream.url, policies=("GuardPolicy/t/g",))
    async with running_gateway(tmp_path, model, policies=[policy(action=action)]) as gateway:
        async with httpx2.AsyncClient(base_url=gateway.url, timeout=60) as client:
            body = {"model": "chat", "messages": MESSAGES, "stream": stream}
            found = await client.post("/v1/chat/completions", json=body)
        await gateway.settled()
    assert found.status_code == 200, found.text
    assert f'"finish_reason":"{finish}"' in found.text.replace(" ", "")
    assert ("plain" in found.text) == (action is Action.WARN)
    assert "json=failed" in found.headers["x-capstan-guard"]


@pytest.mark.parametrize("stream", [False, True])
async def test_what_a_guard_withholds_is_not_asked_for_again(
    tmp_path: Path, upstream: FakeUpstream, stream: bool
) -> None:
    """A second answer would be a way around the guard further inside."""
    upstream.respond = Engine("a secret", '{"to": "x"}').respond
    secret = KeywordsGuard(name="secret", keywords=("secret",), appliesTo=(Source.TEXT,), timeoutMillis=60_000)
    inside = guard_entry("t", "inside", GuardBody(output=(secret,)))
    outside = policy().model_copy(update={"targets": PolicyTargets(everywhere=True)})
    model = entry("chat", upstream.url, policies=(inside.id, outside.id))
    async with running_gateway(tmp_path, model, policies=[inside, outside]) as gateway:
        async with httpx2.AsyncClient(base_url=gateway.url, timeout=60) as client:
            body = {"model": "chat", "messages": MESSAGES, "stream": stream}
            found = await client.post("/v1/chat/completions", json=body)
        await gateway.settled()
        assert gateway.metric("llm_guardrail_blocks_total", guard_type="Format", stage="output") == 0
    assert '"finish_reason":"content_filter"' in found.text.replace(" ", "")
    assert len(upstream.requests) == 1
