"""What the gateway's config says of a canary, by what the status says."""

from typing import Any

import pytest

from capstan_operator.api.kinds import Model
from capstan_operator.desired.compile import compile_gateway
from capstan_operator.desired.live import LiveConfig
from capstan_operator.desired.rollouts.machine import try_of
from capstan_operator.desired.rollouts.memory import read_memory
from support.plainmodels import make_model

MEMORY = {"stable": "0" * 16, "candidate": "1" * 16, "generation": 1, "attempt": 1, "began": "2026-05-04T11:00:00Z"}


def _model(state: str, weight: int, **spec: Any) -> Model:
    said = {"engine": {"type": "Simulator"}, "rollout": {"steps": [{"weight": 10}]}, **spec}
    return make_model(**said, status={"rollout": {**MEMORY, "state": state, "weight": weight}})


@pytest.mark.parametrize(
    ("state", "weight", "left"), [("Step", 10, 10.0), ("RolledBack", 0, None), ("Paused", 0, None)]
)
def test_failed_canary_goes_also_from_an_entry_that_stays(state: str, weight: int, left: float | None) -> None:
    """An edit that cannot be used leaves what serves as it is, but gives no request to a canary that has failed."""
    before = compile_gateway([_model("Step", 10)])
    memory = read_memory(_model("Step", 10).status)
    assert memory is not None
    (entry,) = before.config.models
    assert entry.canary is not None
    assert (entry.canary.id, entry.canary.weight) == (try_of(memory), 10)
    faulty = _model(state, weight, replicas=-1)
    assert faulty.faults
    (kept,) = compile_gateway([faulty], live=LiveConfig.of(before.config)).config.models
    assert (kept.canary and kept.canary.weight) == left
