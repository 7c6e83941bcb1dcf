"""What gateways of the Gateway API Inference Extension route by."""

from dataclasses import replace
from typing import Any

import pytest

from capstan_contract.names import ENGINE_PORT
from capstan_operator.desired.inference_pool import build_inference_pool
from capstan_operator.desired.model import build_model
from capstan_operator.desired.types import Action, DesiredModel
from capstan_operator.resources.resource import Manifest
from support.plainmodels import SETTINGS, make_model, snapshot_of

WANTED = replace(SETTINGS, inference_pools=True)


def _built(*children: Manifest, known: bool = True, wanted: bool = True, **spec: Any) -> DesiredModel:
    model = make_model(**spec)
    snapshot = replace(snapshot_of(model, *children), inference_pools=known)
    return build_model(model, snapshot, WANTED if wanted else SETTINGS)


def _pool(desired: DesiredModel) -> Manifest | None:
    return next((item for item in desired.objects if item["kind"] == "InferencePool"), None)


def test_it_selects_what_the_service_selects() -> None:
    """Pods of the stable track, by the engine's port; so no pod of a canary is in it, nor a Job beside the model."""
    desired = _built()
    pool = _pool(desired)
    assert pool
    (service,) = [item for item in desired.objects if item["kind"] == "Service"]
    assert pool["spec"]["selector"]["matchLabels"] == service["spec"]["selector"]
    assert pool["spec"]["selector"]["matchLabels"]["capstan.dev/track"] == "stable"
    assert pool["spec"]["targetPorts"] == [{"number": ENGINE_PORT}]
    (deployment,) = [item for item in desired.objects if item["kind"] == "Deployment"]
    labels = deployment["spec"]["template"]["metadata"]["labels"]
    assert pool["spec"]["selector"]["matchLabels"].items() <= labels.items()


def test_it_names_the_picker_of_its_model() -> None:
    """By the name of the LLMModel, with a port, which the kind demands of a Service."""
    settings = replace(WANTED, endpoint_picker="epp-{model}", endpoint_picker_port=9003)
    assert build_inference_pool("llama", {"a": "b"}, settings)["spec"]["endpointPickerRef"] == {
        "group": "",
        "kind": "Service",
        "name": "epp-llama",
        "port": {"number": 9003},
        "failureMode": "FailClose",
    }
    alone = build_inference_pool("llama", {"a": "b"}, replace(WANTED, endpoint_picker=""))
    assert "endpointPickerRef" not in alone["spec"]


def test_it_is_the_models() -> None:
    """So it goes with the model, also when no operator runs."""
    pool = _pool(_built())
    assert pool
    assert pool["metadata"]["ownerReferences"][0]["uid"] == "uid-team-llama"
    assert pool["metadata"]["labels"]["app.kubernetes.io/managed-by"] == "capstan"
    assert "capstan.dev/track" not in pool["metadata"]["labels"]


def test_a_model_at_zero_keeps_it() -> None:
    """Routes go on naming it; it has no pods, and a gateway says so to its clients."""
    assert _pool(_built(replicas=0)) == _pool(_built())


@pytest.mark.parametrize(("known", "wanted"), [(False, True), (True, False), (False, False)])
def test_it_is_made_only_where_somebody_asks_and_the_cluster_knows_it(known: bool, wanted: bool) -> None:
    """Else the apply would fail, and with it the whole reconcile."""
    assert _pool(_built(known=known, wanted=wanted)) is None


def test_one_that_nobody_asks_for_any_more_goes() -> None:
    """An install that no longer makes pools takes away those that it has made."""
    pool = _pool(_built())
    assert pool
    wanted = {one.manifest["kind"]: one.action for one in _built(pool, wanted=False).wanted}
    assert wanted["InferencePool"] is Action.PRUNE


def test_a_hosted_model_has_none() -> None:
    """It has no pods: what is left of a former engine goes."""
    pool = _pool(_built())
    assert pool
    hosted = _built(pool, external={"provider": "OpenAI", "url": "https://api.example.com/v1"})
    assert [(one.manifest["kind"], one.action) for one in hosted.wanted] == [("InferencePool", Action.PRUNE)]


def test_a_faulty_edit_takes_nothing_away() -> None:
    """What routes by the pool goes on, as the pods do."""
    pool = _pool(_built())
    assert pool
    faulty = _built(pool, replicas=-1)
    assert [(one.manifest["kind"], one.action) for one in faulty.wanted] == [("InferencePool", Action.HOLD)]
