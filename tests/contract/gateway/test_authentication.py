"""The official clients get in with a key, each with its own header, and say what is wrong without one."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import anthropic
import openai
import pytest

from fakes.openai_upstream import FakeUpstream
from support.gateway import RunningGateway, entry, running_gateway
from support.keys import key_entry, key_text

MESSAGES: list[Any] = [{"role": "user", "content": "hi"}]
KEY = key_text("ann")
WRONG = "sk-capstan-of-nobody"


@pytest.fixture
async def gateway(tmp_path: Path, engine: FakeUpstream) -> AsyncIterator[RunningGateway]:
    """A gateway that knows one key."""
    models = (entry("chat", engine.url), entry("other", engine.url))
    async with running_gateway(
        tmp_path, *models, keys=[key_entry("ann", models=("chat",))], insecure_no_auth=False
    ) as running:
        yield running


async def test_openai(gateway: RunningGateway) -> None:
    """Bearer: chat, its stream, and the list of what the key may use; AuthenticationError, not tried again, without."""
    async with gateway.client(api_key=KEY, max_retries=2) as client:
        answer = await client.chat.completions.create(model="chat", messages=MESSAGES)
        assert answer.choices[0].message.content
        stream = await client.chat.completions.create(model="chat", messages=MESSAGES, stream=True)
        assert [chunk async for chunk in stream]
        assert [model.id async for model in client.models.list()] == ["auto", "chat"]
        with pytest.raises(openai.NotFoundError) as missing:
            await client.chat.completions.create(model="other", messages=MESSAGES)
        assert missing.value.code == "model_not_found"
    async with gateway.client(api_key=WRONG, max_retries=2) as client:
        with pytest.raises(openai.AuthenticationError) as refused:
            await client.chat.completions.create(model="chat", messages=MESSAGES)
        assert (refused.value.code, refused.value.status_code) == ("invalid_api_key", 401)
        assert WRONG not in str(refused.value)
        with pytest.raises(openai.AuthenticationError):
            await client.models.list()
    assert gateway.metric("gateway_admission_rejected_total", reason="unauthenticated") == 2


async def test_anthropic(gateway: RunningGateway) -> None:
    """x-api-key, or Bearer where the client has a token; AuthenticationError of its own envelope without."""
    for credentials in ({"api_key": KEY}, {"auth_token": KEY}):
        async with anthropic.AsyncAnthropic(base_url=gateway.url, max_retries=0, **credentials) as client:
            answer = await client.messages.create(model="chat", max_tokens=9, messages=MESSAGES)
            assert answer.content
            async with client.messages.stream(model="chat", max_tokens=9, messages=MESSAGES) as stream:
                assert await stream.get_final_text()
            assert [model.id async for model in client.models.list()] == ["auto", "chat"]
    async with anthropic.AsyncAnthropic(base_url=gateway.url, api_key=WRONG, max_retries=2) as client:
        with pytest.raises(anthropic.AuthenticationError) as refused:
            await client.messages.create(model="chat", max_tokens=9, messages=MESSAGES)
        body: Any = refused.value.body
        assert body["error"]["type"] == "authentication_error"
        with pytest.raises(anthropic.AuthenticationError):
            await client.models.list()


async def test_azure(gateway: RunningGateway) -> None:
    """api-key, or Bearer where the client has a token of Entra; on all but the addresses of deployments."""
    for credentials in ({"api_key": KEY}, {"azure_ad_token": KEY}):
        async with openai.AsyncAzureOpenAI(
            base_url=f"{gateway.url}/v1", api_version="2026-01-01", max_retries=0, **credentials
        ) as client:
            assert (await client.responses.create(model="chat", input="hi")).output_text
            assert [model.id async for model in client.models.list()] == ["auto", "chat"]
    async with openai.AsyncAzureOpenAI(
        base_url=f"{gateway.url}/v1", api_version="2026-01-01", api_key=WRONG, max_retries=2
    ) as client:
        with pytest.raises(openai.AuthenticationError):
            await client.responses.create(model="chat", input="hi")
