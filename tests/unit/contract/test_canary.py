"""What a gateway is told of a revision that is tried beside the stable one."""

from typing import Any

import orjson
import pytest
from pydantic import ValidationError

from capstan_contract.config import (
    Backend,
    Canary,
    CascadeBackend,
    ExternalBackend,
    ExternalEndpoint,
    GatewayConfig,
    ModelEntry,
    Price,
    Provider,
    RouterBackend,
    RouterMember,
    ServiceBackend,
    StaticBackend,
    StickyBy,
    canary_entry,
    with_canaries,
)
from capstan_contract.names import canary_id, stable_id
from capstan_contract.reading import join_config
from capstan_contract.sharding import split_config
from capstan_contract.tracks import Counters, Measure, Quantity, Track, TracksReport, tracks_of

STABLE = ServiceBackend(namespace="team", service="m", portName="http")
TRIED = ServiceBackend(namespace="team", service="m-canary", portName="http")


def _canary(**fields: Any) -> Canary:
    return Canary(**{"id": "r2-1", "revision": "r2", "backend": TRIED, **fields})


def _entry(canary: Canary | None, backend: Backend = STABLE) -> ModelEntry:
    return ModelEntry(id="team/m", servedName="m", upstreamName="m", backend=backend, canary=canary)


@pytest.mark.parametrize("weight", [0, 0.01, 5, 33.33, 100])
@pytest.mark.parametrize("backend", [TRIED, StaticBackend(urls=("http://127.0.0.1:1",))])
def test_a_canary_survives_delivery(weight: float, backend: ServiceBackend | StaticBackend) -> None:
    """What is written of a canary is what is read."""
    config = GatewayConfig.build([_entry(_canary(weight=weight, backend=backend, stickyBy=StickyBy.SESSION))])
    assert join_config(split_config(config)) == config


def test_a_model_without_a_canary_is_written_as_ever() -> None:
    """Nothing is written of a canary that is not there: such a config has the hash that it always had."""
    assert b"canary" not in _entry(None).text


def test_a_reader_from_before_the_field_has_the_stable_revision() -> None:
    """Without the field the entry is that of the stable revision, and nothing in it requires the field."""
    written = orjson.loads(_entry(_canary(weight=50)).text)
    assert not written.get("requires")
    del written["canary"]
    assert ModelEntry.model_validate(written) == _entry(None)


@pytest.mark.parametrize(
    "backend",
    [
        RouterBackend(members=(RouterMember(model="team/a"),)),
        CascadeBackend(members=("team/a",)),
        ExternalBackend(provider=Provider.OPENAI, endpoints=(ExternalEndpoint(name="a", url="https://a/v1"),)),
    ],
)
def test_only_models_with_endpoints_of_their_own_have_a_canary(backend: Backend) -> None:
    """There is no second revision of a router, a cascade or a hosted API."""
    with pytest.raises(ValidationError, match="`canary` is for models"):
        _entry(_canary(), backend)


@pytest.mark.parametrize(
    "fields",
    [{"weight": -0.01}, {"weight": 100.01}, {"weight": float("nan")}, {"id": ""}, {"id": "a/b"}, {"id": "x" * 64}],
)
def test_a_canary_that_cannot_be_is_refused(fields: dict[str, Any]) -> None:
    """Weights are percents, and the id of a try is a name."""
    with pytest.raises(ValidationError):
        _canary(**fields)


def test_the_id_of_a_canary_is_that_of_no_model() -> None:
    """`namespace/name` has no @."""
    assert canary_id("team/m") == "team/m@canary"
    assert stable_id("team/m@canary") == stable_id("team/m") == "team/m"


def test_a_canary_is_what_the_model_is_but_for_what_it_says_itself() -> None:
    """Its names, limits and adapters are the model's; revision, endpoints, engine's name and bounds are its own."""
    entry = _entry(_canary(upstreamName="m2", contextWindow=100, price=Price(outputPerMillion=2)))
    entry = entry.model_copy(update={"contextWindow": 200, "maxOutputTokens": 50, "fallbacks": ("other",)})
    tried = canary_entry(entry)
    assert tried is not None
    assert (tried.id, tried.servedName, tried.upstreamName) == ("team/m@canary", "m", "m2")
    assert (tried.revision, tried.backend, tried.price) == ("r2", TRIED, Price(outputPerMillion=2))
    assert (tried.contextWindow, tried.maxOutputTokens, tried.fallbacks) == (100, 50, ())
    assert tried.canary is None
    assert with_canaries([entry]) == [entry, tried]
    assert canary_entry(_entry(None)) is None


def test_counts_of_replicas_add_up_by_track_and_those_of_another_try_are_left_out() -> None:
    """Who restarts a rollout does not see what was counted of the one before."""

    def page(epoch: str, errors: int) -> TracksReport:
        counters = Counters(measures={Quantity.ERROR: Measure(count=10, sum=errors)})
        return TracksReport(models={"team/m": (Track(track="canary", epoch=epoch, counters=counters),)})

    found = tracks_of([page("b", 1), page("b", 2), page("a", 9)], "team/m", epoch="b")
    assert found["canary"].of(Quantity.ERROR) == Measure(count=20, sum=3)
    assert tracks_of([page("a", 1)], "team/x", epoch="a") == {}
