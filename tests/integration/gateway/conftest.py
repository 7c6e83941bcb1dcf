"""What most tests of a running gateway need; a file whose engine or client is another one has its own of the name."""

from collections.abc import AsyncIterator

import aiohttp
import pytest

from fakes.openai_upstream import FakeUpstream
from support.gateway import RunningGateway


@pytest.fixture
async def upstream() -> AsyncIterator[FakeUpstream]:
    """An engine that answers every request well, unless the test tells it otherwise."""
    async with FakeUpstream() as fake:
        yield fake


@pytest.fixture
async def http(gateway: RunningGateway) -> AsyncIterator[aiohttp.ClientSession]:
    """A plain HTTP client of the file's `gateway`."""
    async with aiohttp.ClientSession(gateway.url) as session:
        yield session
