"""What makes KEDA scale a model."""

from dataclasses import replace
from typing import Any

import pytest

from capstan_operator.desired.autoscaler import NOTHING_SAID, ScalerEndpoint, ScalerSays, Use, build_autoscaler
from capstan_operator.desired.model import build_model
from capstan_operator.desired.replicas import Replicas, decide_replicas
from capstan_operator.desired.scaled_object import ScaledObjectState, read_state
from capstan_operator.desired.types import Action, DesiredModel
from capstan_operator.resources.resource import Manifest
from support.plainmodels import SETTINGS, make_model, snapshot_of

ENDPOINT = ScalerEndpoint("capstan-operator-scaler.capstan-system.svc:6444", "-----BEGIN CERTIFICATE-----\n")
OF_KEDA = ("ConfigMap", "TriggerAuthentication", "ScaledObject")
BY_KEDA: dict[str, Any] = {"min": 0, "max": 4, "strategy": "KEDA"}


def _built(
    use: Use, *children: Manifest, listed: bool = True, least: int = 0, scaling: dict[str, Any] | None = None
) -> DesiredModel:
    model = make_model(scaling=BY_KEDA if scaling is None else scaling) if scaling != {} else make_model()
    snapshot = replace(snapshot_of(model, *children), scaled_objects=listed)
    says = ScalerSays(least=least, keda=use, endpoint=ENDPOINT if use is Use.APPLY else None)
    return build_model(model, snapshot, SETTINGS, scaler=says)


def _of_keda(desired: DesiredModel) -> dict[str, Manifest]:
    return {manifest["kind"]: manifest for manifest in desired.objects if manifest["kind"] in OF_KEDA}


def test_it_asks_the_operator_with_the_certificates_that_sign_for_it() -> None:
    """The ScaledObject names the Deployment, its trigger the address and the model, and what KEDA trusts comes from a
    ConfigMap of the model; all of it goes with the model."""
    found = _of_keda(_built(Use.APPLY))
    (trigger,) = found["ScaledObject"]["spec"]["triggers"]
    assert trigger == {
        "type": "external-push",
        "metadata": {"scalerAddress": ENDPOINT.address, "model": "llama"},
        "authenticationRef": {"name": "llama-model"},
    }
    assert found["ScaledObject"]["spec"]["scaleTargetRef"] == {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "name": "llama-model",
    }
    assert found["TriggerAuthentication"]["spec"] == {
        "configMapTargetRef": [{"parameter": "caCert", "name": "llama-model", "key": "ca.crt"}]
    }
    assert found["ConfigMap"]["data"] == {"ca.crt": ENDPOINT.authorities}
    assert {one["metadata"]["ownerReferences"][0]["uid"] for one in found.values()} == {"uid-team-llama"}


@pytest.mark.parametrize(("least", "written"), [(0, 0), (2, 2), (9, 4)])
def test_its_bounds_are_those_of_the_moment(least: int, written: int) -> None:
    """Zero is a minimum that KEDA knows, and a schedule raises it, never above the maximum."""
    spec = _of_keda(_built(Use.APPLY, least=least))["ScaledObject"]["spec"]
    assert (spec["minReplicaCount"], spec["maxReplicaCount"]) == (written, 4)


def test_its_windows_are_those_of_an_hpa() -> None:
    """KEDA makes an HPA of it, which must be no other than the operator's own would be; the time without requests is
    counted by the operator alone."""
    scaling = {**BY_KEDA, "scaleUpStabilizationSeconds": 5, "scaleDownStabilizationSeconds": 7200, "idleSeconds": 900}
    spec = _of_keda(_built(Use.APPLY, scaling=scaling))["ScaledObject"]["spec"]
    parsed = make_model(scaling=scaling).spec
    assert parsed
    assert parsed.scaling
    own = build_autoscaler("llama", parsed.scaling, 1)["spec"]["behavior"]
    assert spec["advanced"] == {"horizontalPodAutoscalerConfig": {"behavior": own}}
    assert (spec["cooldownPeriod"], spec["pollingInterval"]) == (0, 15)


@pytest.mark.parametrize(
    ("use", "listed", "scaling"),
    [
        (Use.NONE, True, BY_KEDA),
        (Use.HOLD, True, BY_KEDA),
        (Use.APPLY, False, BY_KEDA),
        (Use.APPLY, True, {}),
        (Use.APPLY, True, {"max": 4}),
        (Use.APPLY, True, {"max": 4, "strategy": "Capstan"}),
        (Use.APPLY, True, {"max": 4, "strategy": "External"}),
    ],
)
def test_others_have_none(use: Use, listed: bool, scaling: dict[str, Any]) -> None:
    """Only a model that asks for KEDA, where KEDA is there and its objects could be listed."""
    assert _of_keda(_built(use, listed=listed, scaling=scaling)) == {}


def _actions(desired: DesiredModel) -> dict[str, Action]:
    return {one.manifest["kind"]: one.action for one in desired.wanted if one.manifest["kind"] in OF_KEDA}


@pytest.mark.parametrize(
    ("use", "scaling", "action"),
    [
        (Use.HOLD, BY_KEDA, Action.HOLD),
        (Use.NONE, BY_KEDA, Action.PRUNE),
        (Use.NONE, {"max": 4}, Action.PRUNE),
        (Use.HOLD, {"max": 4, "strategy": "External"}, Action.PRUNE),
        (Use.HOLD, {}, Action.PRUNE),
    ],
)
def test_what_is_there_goes_when_it_is_known_that_it_should(use: Use, scaling: Any, action: Action) -> None:
    """A new process that has not looked for KEDA yet takes nothing away from a model that asks for it."""
    children = tuple(_of_keda(_built(Use.APPLY)).values())
    assert _actions(_built(use, *children, scaling=scaling)) == dict.fromkeys(OF_KEDA, action)


def test_a_process_that_has_decided_nothing_takes_nothing_away() -> None:
    """What is said before the first decision leaves the ScaledObject there."""
    model = make_model(scaling=BY_KEDA)
    children = tuple(_of_keda(_built(Use.APPLY)).values())
    snapshot = replace(snapshot_of(model, *children), scaled_objects=True)
    desired = build_model(model, snapshot, SETTINGS, scaler=NOTHING_SAID)
    assert _actions(desired) == dict.fromkeys(OF_KEDA, Action.HOLD)


@pytest.mark.parametrize("live", [0, 1, 7])
def test_the_number_of_replicas_is_left_to_keda(live: int) -> None:
    """Outside of the bounds too; what the LLMModel has owned is handed over as it is."""
    spec = make_model(scaling={"min": 1, "max": 5, "strategy": "KEDA"}).spec
    assert spec
    present = {"metadata": {"annotations": {"capstan.dev/replicas-from": "Scaler"}}, "spec": {"replicas": live}}
    assert decide_replicas(spec, present) == Replicas(in_manifest=None, to_hand_over=None)
    ours = {"metadata": {"annotations": {"capstan.dev/replicas-from": "LLMModel"}}, "spec": {"replicas": live}}
    assert decide_replicas(spec, ours) == Replicas(in_manifest=None, to_hand_over=live)


def _live(**fields: Any) -> Manifest:
    return {"metadata": {"name": "llama-model", **fields.pop("metadata", {})}, **fields}


def test_what_keda_does_not_say_is_unknown() -> None:
    """A ScaledObject that nobody has looked at, and one with conditions that make no sense."""
    for status in ({}, {"conditions": []}, {"conditions": [{"type": "Ready"}, "nonsense", {"status": "True"}]}):
        assert read_state(_live(status=status)) == ScaledObjectState()


def test_what_keda_says_is_read() -> None:
    """Each condition, and of one that is not ready why, shortened; and that it is to go."""
    conditions = [
        {"type": "Ready", "status": "False", "reason": "ScaledObjectCheckFailed", "message": "x" * 9999},
        {"type": "Active", "status": "True"},
        {"type": "Fallback", "status": "False"},
        {"type": "Paused", "status": "Unknown"},
    ]
    found = read_state(_live(metadata={"deletionTimestamp": "now"}, status={"conditions": conditions}))
    assert found == ScaledObjectState(
        ready="False",
        active="True",
        fallback="False",
        reason="ScaledObjectCheckFailed",
        message="x" * 500,
        is_going=True,
    )
    conditions[0]["status"] = "True"
    assert read_state(_live(status={"conditions": conditions})).message == ""
