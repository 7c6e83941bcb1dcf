"""The upstreams of a gateway: both are healthy until a test says otherwise."""

from collections.abc import AsyncIterator

import pytest

from fakes.anthropic_upstream import anthropic_answer
from fakes.openai_upstream import FakeUpstream


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
