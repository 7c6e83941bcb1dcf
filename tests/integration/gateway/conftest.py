"""What most tests of a running gateway need; a file whose engine or client is another one has its own of the name."""

from collections.abc import AsyncIterator

import aiohttp
import pytest

from capstan_contract.guards import Guard
from capstan_gateway.identity import issuer
from capstan_gateway.pipeline.caches import embeddings, layer
from capstan_gateway.pipeline.guards.compiled import CompiledGuard
from capstan_gateway.pipeline.limits import metered
from fakes.openai_upstream import FakeUpstream
from support.gateway import RunningGateway


@pytest.fixture(autouse=True)
def unhurried(monkeypatch: pytest.MonkeyPatch) -> None:
    """A busy machine takes its time: for what a guard looks at, too, unless the test says how long it may take."""
    usual = Guard.model_fields["timeoutMillis"].default

    def seconds(one: CompiledGuard) -> float:
        millis = one.guard.timeoutMillis
        return 60.0 if millis == usual else millis / 1000

    monkeypatch.setattr(CompiledGuard, "seconds", property(seconds))
    monkeypatch.setattr(embeddings, "LOOK_SECONDS", 60.0)
    monkeypatch.setattr(layer, "WAIT_SECONDS", 60.0)
    monkeypatch.setattr(metered, "ANSWER_SECONDS", 60.0)
    monkeypatch.setattr(issuer, "WAIT_SECONDS", 60.0)


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
