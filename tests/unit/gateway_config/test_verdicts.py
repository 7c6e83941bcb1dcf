"""Which verdicts on a model count."""

from typing import Any

from capstan_operator.api.kinds import Model
from capstan_operator.desired.types import Verdict
from capstan_operator.gateway_config.reconciler import GatewayState, Judged
from capstan_operator.resources.resource import ObjectKey


def model(generation: int = 1, status: dict[str, Any] | None = None) -> Model:
    """Give a model as the API server knows it."""
    return Model(key=ObjectKey("ns", "m"), uid="u", generation=generation, created="", spec=None, status=status or {})


def test_a_verdict_counts_only_for_its_generation() -> None:
    """A status must not be computed from what was said about an older spec, or another object of that name."""
    state = GatewayState(judged={ObjectKey("ns", "m"): Judged("u", 2, Verdict(True, "Accepted", ""))})
    assert state.verdict(model(2)) is not None
    assert not state.awaiting
    assert state.verdict(model(3)) is None
    assert state.awaiting == {ObjectKey("ns", "m")}


def test_a_verdict_on_a_deleted_object_of_the_same_name_does_not_count() -> None:
    """What was said of a model that was deleted is not said of the one that was made anew, whatever its generation."""
    for generation in (1, 2, 3):
        state = GatewayState(judged={ObjectKey("ns", "m"): Judged("former", generation, Verdict(True, "Accepted", ""))})
        assert not state.is_compiled(ObjectKey("ns", "m"), "u", 1)
        assert state.verdict(model(1)) is None
        assert state.awaiting == {ObjectKey("ns", "m")}
