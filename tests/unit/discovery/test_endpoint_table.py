"""Which set of endpoints a model has, from config to config."""

from capstan_contract.config import (
    Backend,
    ExternalBackend,
    ExternalEndpoint,
    ModelEntry,
    Provider,
    StaticBackend,
)
from capstan_gateway.discovery.table import EndpointTable
from capstan_gateway.routing.endpoints import EndpointSet
from capstan_gateway.routing.registry import EndpointRegistry


def _table() -> EndpointTable:
    registry = EndpointRegistry()
    return EndpointTable(lambda: EndpointSet(registry), lambda _: ())


def _entry(backend: Backend) -> ModelEntry:
    return ModelEntry(id="ns/a", generation=1, servedName="a", upstreamName="a", backend=backend)


def _hosted(provider: Provider) -> ModelEntry:
    endpoint = ExternalEndpoint(name="eu", url="https://api.example.com/v1")
    return _entry(ExternalBackend(provider=provider, endpoints=(endpoint,)))


def _engine(url: str = "http://10.0.0.1:8000") -> ModelEntry:
    return _entry(StaticBackend(urls=(url,)))


def test_a_set_outlives_a_change_of_address() -> None:
    """A request that waits for an endpoint sees those of the next config."""
    table = _table()
    before = table.set_of(_engine())
    assert table.set_of(_engine("http://10.0.0.2:8000")) is before
    assert [endpoint.host for endpoint in before.endpoints] == ["10.0.0.2"]


def test_a_backend_of_another_kind_gets_a_set_of_its_own() -> None:
    """A request that was written for an engine never goes to the hosted API that took its place; nor the reverse."""
    table = _table()
    before = table.set_of(_engine())
    after = table.set_of(_hosted(Provider.OPENAI))
    assert after is not before
    assert [endpoint.host for endpoint in before.endpoints] == ["10.0.0.1"], "the config may still be refused"
    table.retain(["ns/a"])
    assert before.endpoints == ()
    assert [endpoint.host for endpoint in after.endpoints] == ["api.example.com"]


def test_another_provider_gets_a_set_of_its_own() -> None:
    """A request in one provider's format never goes to another provider."""
    table = _table()
    before = table.set_of(_hosted(Provider.OPENAI))
    after = table.set_of(_hosted(Provider.ANTHROPIC))
    table.retain(["ns/a"])
    assert before.endpoints == ()
    assert len(after.endpoints) == 1
