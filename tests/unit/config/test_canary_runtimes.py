"""What a config with a canary is compiled to, and which endpoints it has."""

from typing import Any

from capstan_contract.config import Canary, LoraAdapter, ModelEntry, ServiceBackend
from capstan_contract.names import CANARY, STABLE
from capstan_gateway.config.runtime import Runtime
from capstan_gateway.discovery.slices import Address, ServicePort
from capstan_gateway.discovery.table import EndpointTable
from capstan_gateway.routing.endpoints import EndpointSet
from capstan_gateway.routing.registry import EndpointRegistry
from support.runtimes import compile_whole


def _service(name: str) -> ServiceBackend:
    return ServiceBackend(namespace="ns", service=name, portName="http")


def _port(name: str) -> ServicePort:
    return ServicePort("ns", name, "http")


def _entry(canary: Canary | None, **fields: Any) -> ModelEntry:
    given = {"id": "ns/m", "servedName": "m", "upstreamName": "m", "backend": _service("m"), "canary": canary, **fields}
    return ModelEntry(**given)


def _canary(**fields: Any) -> Canary:
    return Canary(**{"id": "r2-1", "revision": "r2", "backend": _service("m-canary"), **fields})


def _table() -> EndpointTable:
    registry = EndpointRegistry()
    return EndpointTable(lambda: EndpointSet(registry), lambda _: ())


def _take(table: EndpointTable, entry: ModelEntry, previous: Runtime | None = None) -> Runtime:
    """Take a config of this model into use, as the gateway does."""
    draft = table.draft()
    runtime = compile_whole(entry, endpoints_of=draft.set_of, previous=previous)
    draft.commit([model.id for model in runtime.tracks])
    return runtime


def _hosts(endpoints: EndpointSet) -> list[str]:
    return [endpoint.host for endpoint in endpoints.endpoints]


def test_each_track_has_the_endpoints_of_its_service() -> None:
    """What becomes ready behind the canary's Service is the canary's, and nobody else's."""
    table = _table()
    model = _take(table, _entry(_canary())).models["m"]
    assert model.canary is not None
    table.discovered(_port("m"), [Address("10.0.0.1", 8000)])
    table.discovered(_port("m-canary"), [Address("10.0.0.2", 8000)])
    assert (_hosts(model.endpoints), _hosts(model.canary.endpoints)) == (["10.0.0.1"], ["10.0.0.2"])
    assert {endpoint.id for endpoint in model.canary.endpoints.endpoints} == {"ns/m@canary@10.0.0.2:8000"}


def test_what_a_set_has_learnt_lasts_as_long_as_its_track() -> None:
    """A weight that changes changes no set; when the canary goes, its set is empty and the other one what it was."""
    table = _table()
    before = _take(table, _entry(_canary(weight=1)))
    table.discovered(_port("m"), [Address("10.0.0.1", 8000)])
    table.discovered(_port("m-canary"), [Address("10.0.0.2", 8000)])
    after = _take(table, _entry(_canary(weight=2)), before)
    one, other = before.models["m"].canary, after.models["m"].canary
    assert one is not None
    assert other is not None
    assert one.endpoints is other.endpoints
    assert one is not other
    promoted = _take(table, _entry(None, revision="r2"), after).models["m"]
    assert promoted.endpoints is before.models["m"].endpoints
    assert (promoted.track, promoted.canary) == ("", None)
    assert not other.endpoints.endpoints
    table.discovered(_port("m-canary"), [Address("10.0.0.3", 8000)])
    assert not other.endpoints.endpoints


def test_every_name_of_a_model_has_its_canary() -> None:
    """Aliases are the model; an adapter has the canary's engine under its own name there."""
    adapters = (LoraAdapter(servedName="a", upstreamName="lora-a"),)
    entry = _entry(_canary(upstreamName="m-next"), aliases=("n",), adapters=adapters)
    runtime = _take(_table(), entry)
    found = {name: model.canary for name, model in runtime.models.items()}
    assert {name: one and one.upstream_name for name, one in found.items()} == {
        "m": "m-next",
        "n": "m-next",
        "a": "lora-a",
    }
    assert {name: one and (one.name, one.track, one.main.track) for name, one in found.items()} == {
        "m": ("m", CANARY, STABLE), "n": ("m", CANARY, STABLE), "a": ("a", CANARY, STABLE),
    }  # fmt: skip
    assert [model.id for model in runtime.tracks] == ["ns/m", "ns/m@canary"]


def test_an_entry_that_is_the_same_keeps_its_models() -> None:
    """A config that changes another model compiles nothing of this one anew, canary or not."""
    table = _table()
    before = _take(table, _entry(_canary()))
    after = _take(table, _entry(_canary()), before)
    assert after.models["m"] is before.models["m"]
