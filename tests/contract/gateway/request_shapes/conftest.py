"""A gateway before every kind of target that a request is written for."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from capstan_contract.config import Capability, Provider
from fakes.openai_upstream import FakeUpstream
from support.gateway import RunningGateway, entry, hosted_by, running_gateway


@pytest.fixture
async def gateway(tmp_path: Path, engine: FakeUpstream, hosted: FakeUpstream) -> AsyncIterator[RunningGateway]:
    """An engine, one that reasons, and both hosted APIs."""

    models = (
        entry("engine", engine.url, maxOutputTokens=4096, contextWindow=32768),
        entry("reasons", engine.url, capabilities=(Capability.REASONING,)),
        entry("claude", backend=hosted_by(Provider.ANTHROPIC, hosted.url)),
        entry("gpt", backend=hosted_by(Provider.OPENAI, engine.url)),
    )
    async with running_gateway(tmp_path, *models, credentials={"key": "sk"}) as running:
        yield running
