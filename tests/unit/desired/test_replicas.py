"""Who says how many replicas there are."""

import pytest

from capstan_operator.api.llmmodel import LLMModelSpec
from capstan_operator.desired.replicas import Replicas, decide_replicas, wanted_replicas
from support.plainmodels import make_model


def _spec(**spec: object) -> LLMModelSpec:
    found = make_model(**spec).spec  # type: ignore[arg-type]
    assert found
    return found


def test_a_deployment_that_says_nothing_has_one_replica() -> None:
    """As the API server has it: that is within these bounds, so nobody needs to write anything."""
    bare = {"metadata": {}, "spec": {}}
    spec = _spec(scaling={"min": 0, "max": 4}, replicas=3)
    assert wanted_replicas(spec, bare) == 1
    assert decide_replicas(spec, bare) == Replicas(in_manifest=None, to_hand_over=None)


@pytest.mark.parametrize(("live", "wanted"), [(0, 2), (1, 2), (2, 2), (3, 3), (5, 5), (6, 5)])
def test_an_autoscaler_is_kept_within_the_bounds(live: int, wanted: int) -> None:
    """What it says within them is left alone."""
    spec = _spec(scaling={"min": 2, "max": 5}, replicas=3)
    found = decide_replicas(spec, {"metadata": {}, "spec": {"replicas": live}})
    assert found == Replicas(in_manifest=None, to_hand_over=None if wanted == live else wanted)


@pytest.mark.parametrize(("replicas", "first"), [(0, 1), (1, 1), (3, 3), (9, 5)])
def test_a_model_that_never_ran_begins_with_one_at_least(replicas: int, first: int) -> None:
    """Also where none is allowed: an autoscaler sees nothing of a model that never ran."""
    assert wanted_replicas(_spec(scaling={"min": 0, "max": 5}, replicas=replicas), None) == first
