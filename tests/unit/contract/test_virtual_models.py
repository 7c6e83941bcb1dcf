"""What a gateway may rely on in a config with virtual models."""

import pytest
from pydantic import ValidationError

from capstan_contract.config import (
    Backend,
    CascadeBackend,
    CascadeEstimator,
    EstimatorType,
    ExternalBackend,
    ExternalEndpoint,
    GatewayConfig,
    ModelEntry,
    Provider,
    RouterBackend,
    RouterMember,
    StaticBackend,
    Strategy,
    referenced_models,
)
from capstan_contract.reading import join_config
from capstan_contract.sharding import split_config

ENGINE = StaticBackend(urls=("http://127.0.0.1:1",))


def _entry(name: str, backend: Backend = ENGINE) -> ModelEntry:
    return ModelEntry(id=f"team/{name}", generation=1, servedName=name, upstreamName=name, backend=backend)


def _router(*members: str) -> RouterBackend:
    return RouterBackend(members=tuple(RouterMember(model=f"team/{member}") for member in members))


def _cascade(*members: str, judge: str | None = None) -> CascadeBackend:
    estimator = CascadeEstimator(type=EstimatorType.JUDGE, judge=f"team/{judge}") if judge else CascadeEstimator()
    return CascadeBackend(members=tuple(f"team/{member}" for member in members), estimator=estimator)


def test_every_backend_survives_delivery() -> None:
    """Routers, cascades and endpoints are read as they were written."""
    endpoints = (
        ExternalEndpoint(name="eu", url="https://eu/v1", region="eu", credentialFile="team.e.eu"),
        ExternalEndpoint(name="us", url="https://us/v1", priority=1, weight=0),
    )
    config = GatewayConfig.build(
        (
            _entry("a"),
            _entry("b"),
            _entry("e", ExternalBackend(provider=Provider.ANTHROPIC, endpoints=endpoints)),
            _entry("c", _cascade("a", "e", judge="b").model_copy(update={"maxCost": 0.1, "threshold": 0.9})),
            _entry("r", _router("c", "a").model_copy(update={"strategy": Strategy.PRIORITY})),
        )
    )
    assert join_config(split_config(config)) == config
    assert join_config(split_config(config, shard_bytes=700)) == config


@pytest.mark.parametrize(
    ("entries", "message"),
    [
        ([_entry("r", _router("gone"))], "'team/r' refers to 'team/gone', which is not in the config"),
        ([_entry("r", _router("s")), _entry("s", _router("r"))], "must not refer to 'team/s', which is virtual"),
        (
            [_entry("a"), _entry("c", _cascade("a")), _entry("d", _cascade("c", "a"))],
            "'team/d' must not refer to 'team/c', which is virtual",
        ),
        ([_entry("a"), _entry("c", _cascade("a", judge="r")), _entry("r", _router("a"))], "'team/r', which is virtual"),
        ([_entry("a"), _entry("c", _cascade("a", judge="gone"))], "'team/gone', which is not in the config"),
    ],
)
def test_config_never_names_what_it_does_not_have(entries: list[ModelEntry], message: str) -> None:
    """Every id that a virtual model names is there and may be asked: a reader need not look for cycles."""
    with pytest.raises(ValidationError, match=message):
        GatewayConfig(hash="", models=tuple(entries))


def test_judge_is_named_when_judges_decide() -> None:
    """An estimator of type Judge always has one."""
    with pytest.raises(ValidationError, match="`judge` is required"):
        CascadeEstimator(type=EstimatorType.JUDGE)


def test_members_and_judge_are_referenced() -> None:
    """Whoever needs every model that a virtual one needs gets members and judge."""
    assert referenced_models(_router("b", "a")) == ("team/b", "team/a")
    assert referenced_models(_cascade("a", judge="j")) == ("team/a", "team/j")
    assert referenced_models(ENGINE) == ()
