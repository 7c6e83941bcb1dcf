"""Which set of endpoints a model has, from config to config."""

import pytest

from capstan_contract.config import (
    Backend,
    ExternalBackend,
    ExternalEndpoint,
    ModelEntry,
    Provider,
    ServiceBackend,
    StaticBackend,
)
from capstan_contract.names import WORKER_PORT
from capstan_gateway.discovery.slices import Address
from capstan_gateway.discovery.table import EndpointTable, service_port
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


def _take(table: EndpointTable, *entries: ModelEntry) -> list[EndpointSet]:
    """Take a config of these models into use; give their sets."""
    draft = table.draft()
    sets = [draft.set_of(entry) for entry in entries]
    draft.commit([entry.id for entry in entries])
    return sets


def _hosts(endpoints: EndpointSet) -> list[str]:
    return [endpoint.host for endpoint in endpoints.endpoints]


def test_a_set_outlives_a_change_of_address() -> None:
    """A request that waits for an endpoint sees those of the next config."""
    table = _table()
    [before] = _take(table, _engine())
    [after] = _take(table, _engine("http://10.0.0.2:8000"))
    assert after is before
    assert _hosts(before) == ["10.0.0.2"]


@pytest.mark.parametrize(
    ("former", "later"),
    [
        (_engine(), _hosted(Provider.OPENAI)),
        (_hosted(Provider.OPENAI), _engine()),
        (_hosted(Provider.OPENAI), _hosted(Provider.ANTHROPIC)),
        (_hosted(Provider.OPENAI), _hosted(Provider.OPENAI).model_copy(update={"upstreamName": "other"})),
        (_engine(), _engine().model_copy(update={"upstreamName": "other"})),
    ],
)
def test_a_request_never_goes_where_it_was_not_written_for(former: ModelEntry, later: ModelEntry) -> None:
    """A backend of another kind, another provider, another name of the model there: the set is another one."""
    table = _table()
    [before] = _take(table, former)
    hosts = _hosts(before)
    draft = table.draft()
    after = draft.set_of(later)
    assert after is not before
    assert _hosts(before) == hosts, "the config may still be refused"
    draft.commit(["ns/a"])
    assert _hosts(before) == []
    assert len(_hosts(after)) == 1


def test_a_draft_that_is_given_up_changes_nothing() -> None:
    """Until a config is in use, the sets of the one before have their endpoints, and follow their Service."""
    ready = {"svc": (Address("10.0.0.1", 8000),)}
    registry = EndpointRegistry()
    table = EndpointTable(lambda: EndpointSet(registry), lambda key: ready.get(key.service, ()))
    service = _entry(ServiceBackend(namespace="ns", service="svc", portName="http"))
    other = ModelEntry(id="ns/b", servedName="b", upstreamName="b", backend=StaticBackend(urls=("http://h:1",)))
    endpoints, another = _take(table, service, other)
    versions = endpoints.version, another.version
    draft = table.draft()
    draft.set_of(_engine())
    draft.set_of(ModelEntry(id="ns/c", servedName="c", upstreamName="c", backend=StaticBackend(urls=("http://h:2",))))
    with pytest.raises(ValueError, match=r"[Pp]ort"):
        draft.set_of(_entry(StaticBackend.model_construct(urls=("http://h:99999",))))
    assert (_hosts(endpoints), _hosts(another)) == (["10.0.0.1"], ["h"])
    assert (endpoints.version, another.version) == versions, "nobody who waits is woken"
    assert len(registry.states()) == 2
    ready["svc"] = (Address("10.0.0.2", 8000),)
    table.service_changed("ns", "svc")
    assert _hosts(endpoints) == ["10.0.0.2"]


def test_what_became_ready_while_a_config_was_compiled_is_there_when_it_is_in_use() -> None:
    """The cluster is asked when the config is taken into use, not when it was begun."""
    ready: dict[str, tuple[Address, ...]] = {}
    registry = EndpointRegistry()
    table = EndpointTable(lambda: EndpointSet(registry), lambda key: ready.get(key.service, ()))
    draft = table.draft()
    endpoints = draft.set_of(_entry(ServiceBackend(namespace="ns", service="svc", portName="http")))
    ready["svc"] = (Address("10.0.0.1", 8000),)
    table.service_changed("ns", "svc")
    draft.commit(["ns/a"])
    assert _hosts(endpoints) == ["10.0.0.1"]


def test_models_that_a_draft_was_not_asked_for_stay() -> None:
    """A model that did not change is not compiled anew, and keeps its set; one that is gone loses it."""
    table = _table()
    other = ModelEntry(id="ns/b", servedName="b", upstreamName="b", backend=StaticBackend(urls=("http://h:1",)))
    first, second = _take(table, _engine(), other)
    table.draft().commit(["ns/b"])
    assert (_hosts(first), _hosts(second)) == ([], ["h"])


def test_the_password_of_a_url_is_in_no_id() -> None:
    """Ids of endpoints are in the log."""
    [endpoints] = _take(_table(), _engine("http://user:secret@10.0.0.1:8000"))
    assert [endpoint.id for endpoint in endpoints.endpoints] == ["ns/a@10.0.0.1:8000"]


def _workers(endpoints: EndpointSet) -> list[tuple[str, int] | None]:
    workers = [endpoint.worker for endpoint in endpoints.endpoints]
    return [None if worker is None else (worker.host, worker.port) for worker in workers]


def test_the_workers_of_fixed_addresses_are_where_the_config_says() -> None:
    """Only of a model whose workers tell, and only of the engines of which it says so."""
    urls = ("http://10.0.0.1:8000", "http://10.0.0.2:8000")
    entry = _entry(StaticBackend(urls=urls, workers={urls[1]: "http://10.0.0.2:9001"}))
    table = _table()
    [endpoints] = _take(table, entry)
    ids = [endpoint.id for endpoint in endpoints.endpoints]
    assert _workers(endpoints) == [None, None]
    _take(table, entry.model_copy(update={"kvEvents": True}))
    assert _workers(endpoints) == [None, ("10.0.0.2", 9001)]
    assert [endpoint.id for endpoint in endpoints.endpoints] == ids


def test_the_workers_of_a_service_are_on_their_port_of_its_pods() -> None:
    """Of pods that come later, too, and no longer when the model's workers do not tell any more."""
    entry = _entry(ServiceBackend(namespace="ns", service="a", portName="http"))
    key = service_port(entry.backend)  # type: ignore[arg-type]
    known = [Address("10.0.0.1", 8000)]
    registry = EndpointRegistry()
    table = EndpointTable(lambda: EndpointSet(registry), lambda _: known)
    [endpoints] = _take(table, entry.model_copy(update={"kvEvents": True}))
    assert _workers(endpoints) == [("10.0.0.1", WORKER_PORT)]
    table.discovered(key, [*known, Address("fd00::1", 8000)])
    assert _workers(endpoints) == [("10.0.0.1", WORKER_PORT), ("fd00::1", WORKER_PORT)]
    _take(table, entry)
    assert _workers(endpoints) == [None]
