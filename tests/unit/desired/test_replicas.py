"""Who says how many replicas there are."""

import pytest

from capstan_operator.api.llmmodel import LLMModelSpec
from capstan_operator.desired.replicas import Replicas, decide_replicas, scaling_in_force, wanted_replicas
from capstan_operator.resources.resource import Manifest
from support.plainmodels import make_model


def _spec(**spec: object) -> LLMModelSpec:
    found = make_model(**spec).spec  # type: ignore[arg-type]
    assert found
    return found


def _live(replicas: int | None, **annotations: str) -> Manifest:
    spec = {} if replicas is None else {"replicas": replicas}
    return {
        "metadata": {"annotations": {f"capstan.dev/{k.replace('_', '-')}": v for k, v in annotations.items()}},
        "spec": spec,
    }


def test_a_deployment_that_says_nothing_has_one_replica() -> None:
    """As the API server has it: that is within these bounds, so nobody needs to write anything."""
    spec = _spec(scaling={"min": 0, "max": 4})
    assert wanted_replicas(spec, _live(None)) == 1
    assert decide_replicas(spec, _live(None)) == Replicas(in_manifest=None, to_hand_over=None)


@pytest.mark.parametrize(("live", "wanted"), [(0, 2), (1, 2), (2, 2), (3, 3), (5, 5), (6, 5)])
def test_what_there_is_is_kept_within_the_bounds(live: int, wanted: int) -> None:
    """As long as nothing was decided, what is within them is left alone."""
    spec = _spec(scaling={"min": 2, "max": 5})
    found = decide_replicas(spec, _live(live))
    assert found == Replicas(in_manifest=None, to_hand_over=None if wanted == live else wanted)


def test_a_schedule_may_say_less_than_the_minimum() -> None:
    """Until something is decided, the least of all minima is within the bounds."""
    spec = _spec(scaling={"min": 2, "max": 5, "schedules": [{"cron": "0 18 * * *", "min": 1}]})
    assert [wanted_replicas(spec, _live(live)) for live in (0, 1, 2)] == [1, 1, 2]


@pytest.mark.parametrize("least", [0, 1, 3])
def test_a_model_that_never_ran_begins_with_the_minimum(least: int) -> None:
    """Also with none: the gateway shows what is asked of a model at zero."""
    assert wanted_replicas(_spec(scaling={"min": least, "max": 5}), None) == least


def test_what_was_decided_is_handed_over() -> None:
    """By the scale manager, and only where it is not so already."""
    spec = _spec(scaling={"min": 0, "max": 5})
    live = _live(2, replicas_from="Scaler")
    assert decide_replicas(spec, live, 4) == Replicas(in_manifest=None, to_hand_over=4)
    assert decide_replicas(spec, live, 0) == Replicas(in_manifest=None, to_hand_over=0)
    assert decide_replicas(spec, live, 2) == Replicas(in_manifest=None, to_hand_over=None)


def test_switching_a_scaler_on_and_off_goes_through_no_other_number() -> None:
    """On: what there is is handed over. Off: the manifest says the LLMModel's number, in one write."""
    on = decide_replicas(_spec(scaling={"min": 0, "max": 5}), _live(3, replicas_from="LLMModel"))
    assert (on.in_manifest, on.to_hand_over) == (None, 3)
    off = decide_replicas(_spec(replicas=3), _live(3, replicas_from="Scaler"), 2)
    assert (off.in_manifest, off.to_hand_over) == (3, None)


def test_somebody_elses_number_is_left_alone() -> None:
    """Outside of the bounds too, and whatever was decided before; only what was never handed over is, as it is."""
    spec = _spec(scaling={"min": 1, "max": 5, "strategy": "External"})
    ours = _live(7, replicas_from="LLMModel")
    assert decide_replicas(spec, ours, 2) == Replicas(in_manifest=None, to_hand_over=7, passed_on=1)
    theirs = _live(7, replicas_from="Scaler", replicas_passed_on="1")
    assert decide_replicas(spec, theirs, 2) == Replicas(in_manifest=None, to_hand_over=None, passed_on=1)


def test_a_change_of_the_scale_subresource_is_passed_on_once() -> None:
    """`kubectl scale llmmodel` sets `spec.replicas`; what somebody makes of the Deployment after that stays."""
    spec = _spec(replicas=4, scaling={"max": 5, "strategy": "External"})
    before = _live(2, replicas_from="Scaler", replicas_passed_on="1")
    found = decide_replicas(spec, before)
    assert (found.to_hand_over, found.annotations["capstan.dev/replicas-passed-on"]) == (4, "4")
    after = _live(3, replicas_from="Scaler", replicas_passed_on="4")
    assert decide_replicas(spec, after).to_hand_over is None
    assert decide_replicas(spec, None).to_hand_over == 4


@pytest.mark.parametrize(
    ("scaling", "live", "strategy"),
    [
        ({"max": 5}, _live(3, replicas_from="Autoscaler"), "External"),
        ({"max": 5}, _live(3, replicas_from="Scaler"), None),
        ({"max": 5}, _live(3, replicas_from="LLMModel"), None),
        ({"max": 5}, None, None),
        ({"max": 5, "strategy": "HPA"}, _live(3, replicas_from="Autoscaler"), "HPA"),
        ({"max": 5, "strategy": "Capstan"}, _live(3, replicas_from="Autoscaler"), "Capstan"),
    ],
)
def test_what_a_release_before_left_to_others_stays_theirs(
    scaling: dict[str, object], live: Manifest | None, strategy: str | None
) -> None:
    """Until `strategy` is written; from then on the Deployment says so, also when it is taken out again."""
    found = scaling_in_force(_spec(scaling=scaling), live)
    assert found
    assert found.strategy == strategy


def test_an_upgrade_keeps_the_number_and_remembers_whose_it_is() -> None:
    """Whatever was decided and whatever `replicas` beside `scaling` says; the HPA of an LLMModel goes on, too."""
    spec = _spec(replicas=3, scaling={"min": 0, "max": 5})
    first = decide_replicas(spec, _live(4, replicas_from="Autoscaler"), 0)
    assert (first.in_manifest, first.to_hand_over, first.passed_on) == (None, None, 3)
    assert first.annotations["capstan.dev/replicas-from"] == "Autoscaler"
    upgraded = _live(4, replicas_from="Autoscaler", replicas_passed_on="2")
    assert decide_replicas(spec, upgraded, 0).to_hand_over == 3
    chosen = decide_replicas(_spec(replicas=3, scaling={"max": 5, "strategy": "Capstan"}), upgraded, 2)
    assert (chosen.to_hand_over, chosen.annotations["capstan.dev/replicas-from"]) == (2, "Scaler")
