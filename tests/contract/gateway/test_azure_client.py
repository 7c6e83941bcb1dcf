"""What the official `openai.AzureOpenAI` client makes of the gateway's answers: it names models in paths."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import openai
import pytest

from capstan_contract.config import Task
from fakes.openai_upstream import FakeUpstream
from support.gateway import RunningGateway, entry, running_gateway
from support.keys import key_entry, key_text

CLIENT = {"table": "clients", "row": "openai (Python), AzureOpenAI", "package": "pypi:openai"}
"""This client's row in docs/compatibility.md."""
MESSAGES: list[Any] = [{"role": "user", "content": "hi"}]
KEY = key_text("ann")


@pytest.fixture
async def gateway(tmp_path: Path, engine: FakeUpstream) -> AsyncIterator[RunningGateway]:
    """A gateway that knows one key, which may not use all models."""
    models = (
        entry("chat", engine.url, upstreamName="engine-name"),
        entry("org/chat", engine.url, id="ns/slashed"),
        entry("embed", engine.url, task=Task.EMBED),
        entry("other", engine.url),
    )
    keys = [key_entry("ann", models=("chat", "embed", "org/*"))]
    async with running_gateway(tmp_path, *models, keys=keys, insecure_no_auth=False) as running:
        yield running


def azure(gateway: RunningGateway, **options: Any) -> openai.AsyncAzureOpenAI:
    """Give the client."""
    given = {"azure_endpoint": gateway.url, "api_key": KEY, "api_version": "2024-10-21", "max_retries": 0}
    return openai.AsyncAzureOpenAI(**{**given, **options})


@pytest.mark.compatibility(**CLIENT, does="chat")
@pytest.mark.parametrize(
    ("deployment", "model", "asked"), [(None, "chat", "engine-name"), ("chat", "other", "engine-name")]
)
async def test_chat(
    gateway: RunningGateway, engine: FakeUpstream, deployment: str | None, model: str, asked: str
) -> None:
    """The model in the path answers, also where the body has another one, with the key in Azure's own header."""
    more = {} if deployment is None else {"azure_deployment": deployment}
    async with azure(gateway, **more) as client:
        answer = await client.chat.completions.create(model=model, messages=MESSAGES)
    assert answer.choices[0].message.content == "Hello there"
    assert answer.model == "chat"
    assert engine.requests[0].document == {"model": asked, "messages": MESSAGES}
    assert "api-key" not in engine.requests[0].headers
    await gateway.settled()
    assert gateway.metric("llm_requests_total", model="chat", status="200") == 1


@pytest.mark.compatibility(**CLIENT, does="stream")
@pytest.mark.parametrize("model", ["chat", "org/chat"])
async def test_stream(gateway: RunningGateway, model: str) -> None:
    """Streams are as on the ordinary route, of models with a slash in their name too."""
    async with azure(gateway) as client:
        stream = await client.chat.completions.create(
            model=model, messages=MESSAGES, stream=True, stream_options={"include_usage": True}
        )
        chunks = [chunk async for chunk in stream]
    assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices) == "Hello!"
    assert [chunk.usage.total_tokens for chunk in chunks if chunk.usage] == [8]
    assert {chunk.model for chunk in chunks} == {model}


async def test_what_stands_beside_deployments(gateway: RunningGateway) -> None:
    """Completions and embeddings have a deployment; responses and the list of models do not."""
    async with azure(gateway) as client:
        assert (await client.completions.create(model="chat", prompt="hi")).model == "chat"
        assert (await client.embeddings.create(model="embed", input="hi")).model == "embed"
        assert (await client.responses.create(model="chat", input="hi")).output_text == "Hello there"
        assert [model.id async for model in client.models.list()] == ["auto", "chat", "embed", "org/chat"]
    async with openai.AsyncOpenAI(base_url=f"{gateway.url}/openai/v1/", api_key=KEY, max_retries=0) as client:
        assert (await client.chat.completions.create(model="chat", messages=MESSAGES)).model == "chat"
        assert (await client.models.retrieve("chat")).id == "chat"


@pytest.mark.compatibility(**CLIENT, does="errors")
async def test_errors(gateway: RunningGateway, engine: FakeUpstream) -> None:
    """A deployment that is not there, or that the key may not use, is 404; a wrong key is 401; a route that no
    deployment has is 404; what is wrong with the body is told as ever."""
    async with azure(gateway) as client:
        for model in ("nobody", "other", "x" * 200):
            with pytest.raises(openai.NotFoundError) as missing:
                await client.chat.completions.create(model=model, messages=MESSAGES)
            assert missing.value.code == "model_not_found"
        with pytest.raises(openai.BadRequestError) as refused:
            await client.chat.completions.create(model="chat", messages=[])
        assert refused.value.param == "messages"
        with pytest.raises(openai.NotFoundError):
            await client.images.generate(model="chat", prompt="a cat")
    async with azure(gateway, api_key="sk-capstan-of-nobody") as client:
        with pytest.raises(openai.AuthenticationError):
            await client.chat.completions.create(model="chat", messages=MESSAGES)
        with pytest.raises(openai.AuthenticationError):
            await client.models.list()
    assert engine.requests == []


async def test_a_body_without_a_model_is_one(gateway: RunningGateway, engine: FakeUpstream) -> None:
    """The path says it; so does a path without a version, or one that names a hundred."""
    async with httpx.AsyncClient(timeout=60) as http:
        for query in ("", "?api-version=2024-10-21", "?api-version=" + "x" * 100):
            reply = await http.post(
                f"{gateway.url}/openai/deployments/chat/chat/completions{query}",
                json={"messages": MESSAGES, "model": 7}, headers={"api-key": KEY},
            )  # fmt: skip
            assert reply.status_code == 200
        reply = await http.get(f"{gateway.url}/openai/deployments/chat/chat/completions", headers={"api-key": KEY})
        assert reply.status_code == 405
    assert [one.document["model"] for one in engine.requests] == ["engine-name"] * 3
