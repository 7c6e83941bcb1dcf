"""The HPA of a model."""

from dataclasses import replace
from typing import Any

import pytest

from capstan_operator.desired.autoscaler import ScalerSays, Use, build_autoscaler
from capstan_operator.desired.model import build_model
from capstan_operator.desired.types import Action, DesiredModel
from capstan_operator.resources.resource import Manifest
from support.plainmodels import SETTINGS, make_model, snapshot_of

KIND = "HorizontalPodAutoscaler"


def _built(use: Use, *children: Manifest, listed: bool = True, **spec: Any) -> DesiredModel:
    model = make_model(**spec)
    snapshot = replace(snapshot_of(model, *children), autoscalers=listed)
    return build_model(model, snapshot, SETTINGS, scaler=ScalerSays(hpa=use, least=0))


def _hpas(desired: DesiredModel) -> list[Manifest]:
    return [manifest for manifest in desired.objects if manifest["kind"] == KIND]


def test_it_aims_at_one_for_each_replica() -> None:
    """Its metric is how many are asked for; its bounds and windows are those of the spec, with one at least."""
    times = {"scaleUpStabilizationSeconds": 5, "scaleDownStabilizationSeconds": 7200}
    (found,) = _hpas(_built(Use.APPLY, scaling={"min": 0, "max": 4, **times}))
    spec = found["spec"]
    assert (spec["minReplicas"], spec["maxReplicas"], spec["scaleTargetRef"]["name"]) == (1, 4, "llama-model")
    external = spec["metrics"][0]["external"]
    assert external["metric"] == {
        "name": "capstan_desired_load",
        "selector": {"matchLabels": {"capstan.dev/model": "llama"}},
    }
    assert external["target"] == {"type": "AverageValue", "averageValue": "1"}
    windows = {way: one["stabilizationWindowSeconds"] for way, one in spec["behavior"].items()}
    assert windows == {"scaleUp": 5, "scaleDown": 3600}
    assert found["metadata"]["ownerReferences"][0]["uid"] == "uid-team-llama"


def test_a_schedule_raises_its_minimum() -> None:
    """Never above its maximum."""
    scaling = make_model(scaling={"max": 4}).spec.scaling  # type: ignore[union-attr]
    assert scaling
    assert [build_autoscaler("a", scaling, least)["spec"]["minReplicas"] for least in (0, 3, 9)] == [1, 3, 4]


@pytest.mark.parametrize(
    ("use", "listed", "spec"),
    [
        (Use.NONE, True, {"scaling": {"max": 4}}),
        (Use.HOLD, True, {"scaling": {"max": 4}}),
        (Use.APPLY, False, {"scaling": {"max": 4}}),
        (Use.APPLY, True, {}),
        (Use.APPLY, True, {"scaling": {"max": 4, "strategy": "External"}}),
        (Use.APPLY, True, {"scaling": {"max": 4, "strategy": "Capstan"}}),
    ],
)
def test_it_is_made_only_where_it_is_wanted(use: Use, listed: bool, spec: dict[str, Any]) -> None:
    """And where those that are there can be seen; what the scaler says may be older than the strategy."""
    assert _hpas(_built(use, listed=listed, **spec)) == []


@pytest.mark.parametrize(
    ("use", "spec", "action"),
    [
        (Use.HOLD, {"scaling": {"max": 4}}, Action.HOLD),
        (Use.NONE, {"scaling": {"max": 4}}, Action.PRUNE),
        (Use.HOLD, {"scaling": {"max": 4, "strategy": "External"}}, Action.PRUNE),
        (Use.HOLD, {"scaling": {"max": 4, "strategy": "Capstan"}}, Action.PRUNE),
        (Use.HOLD, {}, Action.PRUNE),
    ],
)
def test_it_goes_when_it_is_not_wanted(use: Use, spec: dict[str, Any], action: Action) -> None:
    """And stays as long as it is not known whether it is."""
    (live,) = _hpas(_built(Use.APPLY, scaling={"max": 4}))
    found = [one.action for one in _built(use, live, **spec).wanted if one.manifest["kind"] == KIND]
    assert found == [action]


def test_a_release_before_left_it_to_others() -> None:
    """Their HPA gets no second one beside it, whatever the scaler says, until `strategy` is written."""
    before = {"capstan.dev/replicas-from": "Autoscaler"}
    for scaling, made in (({"max": 4}, 0), ({"max": 4, "strategy": "HPA"}, 1)):
        (live,) = [one for one in _built(Use.NONE, scaling={"max": 4}).objects if one["kind"] == "Deployment"]
        live["metadata"]["annotations"] |= before
        assert len(_hpas(_built(Use.APPLY, live, scaling=scaling))) == made
