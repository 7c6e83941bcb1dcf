"""Tracks: what is made now is labelled for them, and what an older release has made keeps serving."""

from typing import Any

import pytest

from capstan_contract.names import COMPONENT_LABEL, MODEL_LABEL, TRACK_LABEL
from capstan_operator.api.kinds import Model
from capstan_operator.desired.model import build_model
from capstan_operator.desired.naming import child_labels, selector_labels, workload_name
from capstan_operator.desired.objects import build_deployment, build_disruption_budget, build_service
from capstan_operator.desired.types import RolloutMode
from capstan_operator.resources.resource import Manifest
from capstan_operator.settings import BuildSettings
from support.plainmodels import deployment_of, hash_of, make_model, make_pod, snapshot_of

SETTINGS = BuildSettings(network_policies=True)
WHOLE = {COMPONENT_LABEL: "engine", MODEL_LABEL: "llama"}
STABLE = {**WHOLE, TRACK_LABEL: "stable"}


def _objects(model: Model, *pods: Manifest, live: Manifest | None = None) -> dict[str, Manifest]:
    snapshot = snapshot_of(model, *([live] if live else []), pods=pods)
    desired = build_model(model, snapshot, SETTINGS)
    return {"selector": {"text": desired.selector}} | {item["kind"]: item for item in desired.objects}


def _labelled(pod: Manifest) -> Manifest:
    labels = {**pod["metadata"]["labels"], TRACK_LABEL: "stable"}
    return {**pod, "metadata": {**pod["metadata"], "labels": labels}}


def _selectors(objects: dict[str, Manifest]) -> list[dict[str, str]]:
    budget: dict[str, Any] = objects["PodDisruptionBudget"]["spec"]["selector"]["matchLabels"]
    return [objects["Service"]["spec"]["selector"], budget]


def test_a_new_model_is_of_the_stable_track() -> None:
    """Its pods, its Deployment's selector and its Service are told from those of another track."""
    objects = _objects(make_model(replicas=2))
    spec = objects["Deployment"]["spec"]
    assert spec["template"]["metadata"]["labels"][TRACK_LABEL] == "stable"
    assert spec["selector"]["matchLabels"] == STABLE
    assert _selectors(objects) == [STABLE, STABLE]
    assert objects["selector"]["text"].endswith("capstan.dev/track=stable")
    assert objects["NetworkPolicy"]["spec"]["podSelector"]["matchLabels"] == WHOLE


def test_a_deployment_without_tracks_keeps_its_selector() -> None:
    """A selector cannot change."""
    model = make_model(replicas=2)
    live = deployment_of(model)
    live["spec"] = {**live["spec"], "selector": {"matchLabels": WHOLE}}
    assert _objects(model, live=live)["Deployment"]["spec"]["selector"]["matchLabels"] == WHOLE


def test_no_pod_without_the_label_loses_its_service() -> None:
    """The Service and the budget select by track only when every pod that runs or may yet be made has the label."""
    model = make_model(replicas=2)
    old, new = make_pod("old", "old", ready=True), _labelled(make_pod("new", hash_of(model), ready=True))
    live = deployment_of(model)
    assert _selectors(_objects(model, old, new, live=live)) == [WHOLE, WHOLE]
    assert _selectors(_objects(model, new, live=live)) == [STABLE, STABLE]
    gone = {**old, "metadata": {**old["metadata"], "deletionTimestamp": "2026-05-04T12:00:00Z"}}
    assert _selectors(_objects(model, gone, new, live=live)) == [STABLE, STABLE]


def test_a_template_without_the_label_makes_pods_without_it() -> None:
    """While the template of an older release is kept, it may make a pod at any moment, and that one is to be found."""
    model = make_model(replicas=2, generation=3, status={"observedGeneration": 3})
    live = deployment_of(model)
    labels = {k: v for k, v in live["spec"]["template"]["metadata"]["labels"].items() if k != TRACK_LABEL}
    old = {**live["spec"]["template"], "metadata": {"labels": {**labels, "capstan.dev/pod-hash": "0123456789abcdef"}}}
    live = {**live, "metadata": {**live["metadata"], "annotations": {}}, "spec": {**live["spec"], "template": old}}
    objects = _objects(model, live=live)
    assert objects["Deployment"]["spec"]["template"] == old
    assert _selectors(objects) == [WHOLE, WHOLE]


@pytest.mark.parametrize("track", ["stable", "canary"])
def test_every_track_has_objects_of_its_own(track: str) -> None:
    """Names and selectors take the track; those of the stable one are called as ever."""
    name = workload_name("llama", track)
    assert name == ("llama-model" if track == "stable" else "llama-canary")
    selector = selector_labels("llama", track)
    deployment = build_deployment(
        "llama", {}, selector=selector, replicas=1, mode=RolloutMode.SURGE, deadline=60, annotations={}, track=track
    )
    budget = build_disruption_budget("llama", selector, track)
    service = build_service("llama", selector, track)
    assert {item["metadata"]["name"] for item in (deployment, budget, service)} == {name}
    assert service["spec"]["selector"].items() <= child_labels("llama", track).items()
    assert service["spec"]["selector"][TRACK_LABEL] == track
