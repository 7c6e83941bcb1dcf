"""A gateway before every kind of target that a request is written for."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from capstan_contract.config import Capability, ExternalBackend, ExternalEndpoint, Provider
from fakes.anthropic_upstream import anthropic_answer
from fakes.openai_upstream import FakeUpstream
from support.gateway import RunningGateway, entry, running_gateway


@pytest.fixture
async def engine() -> AsyncIterator[FakeUpstream]:
    """An engine, which plays OpenAI as well."""
    async with FakeUpstream() as fake:
        yield fake


@pytest.fixture
async def hosted() -> AsyncIterator[FakeUpstream]:
    """Anthropic."""
    async with FakeUpstream(anthropic_answer) as fake:
        yield fake


@pytest.fixture
async def gateway(tmp_path: Path, engine: FakeUpstream, hosted: FakeUpstream) -> AsyncIterator[RunningGateway]:
    """An engine, one that reasons, and both hosted APIs."""

    def external(provider: Provider, url: str) -> ExternalBackend:
        endpoint = ExternalEndpoint(name="one", url=url + "/v1", credentialFile="key")
        return ExternalBackend(provider=provider, endpoints=(endpoint,))

    models = (
        entry("engine", engine.url, maxOutputTokens=4096, contextWindow=32768),
        entry("reasons", engine.url, capabilities=(Capability.REASONING,)),
        entry("claude", backend=external(Provider.ANTHROPIC, hosted.url)),
        entry("gpt", backend=external(Provider.OPENAI, engine.url)),
    )
    async with running_gateway(tmp_path, *models, credentials={"key": "sk"}) as running:
        yield running
