from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from capstan_operator.api.kinds import Model
from capstan_operator.desired.compile import compile_gateway
from capstan_operator.desired.model import build_model
from capstan_operator.desired.snapshot import Snapshot
from capstan_operator.desired.types import Verdict
from capstan_operator.resources.resource import Manifest, ObjectKey
from capstan_operator.settings import BuildSettings
from capstan_operator.status.checks import CHAINS
from capstan_operator.status.compute import compute_status
from capstan_operator.status.types import Acknowledgement, AckState, Problem, StatusResult
from support.plainmodels import (
    NOW,
    SETTINGS,
    deployment_of,
    gpu_pod,
    hash_of,
    make_member,
    make_model,
    make_pod,
    snapshot_of,
    unschedulable_pod,
    waiting_pod,
)
from support.profiles import profiled

RUNS = Acknowledgement(AckState.ACKNOWLEDGED, acknowledged=2, ready=2)
GPU = {"resources": {"gpus": 2}}


def _status(model: Model, snapshot: Snapshot, ack: Acknowledgement = RUNS, **options: Any) -> StatusResult:
    now = options.pop("now", NOW)
    snapshot = replace(snapshot, now=now)
    desired = build_model(model, snapshot, SETTINGS)
    verdict: Verdict = options.pop("verdict", None) or compile_gateway([model]).verdicts[model.key]
    return compute_status(model, desired, snapshot, verdict, ack, now, **options)


def _of(model: Model, *pods: Manifest, **options: Any) -> dict[str, tuple[str, str]]:
    """Give (status, reason) of every condition of a model whose Deployment is written."""
    return _told(_status(model, snapshot_of(model, deployment_of(model), pods=pods), **options))


def _told(result: StatusResult) -> dict[str, tuple[str, str]]:
    return {c["type"]: (c["status"], c["reason"]) for c in result.status["conditions"]}


def _message(result: StatusResult, kind: str) -> str:
    return next(str(c["message"]) for c in result.status["conditions"] if c["type"] == kind)


def test_first_visit_sets_every_condition() -> None:
    """A model that was never looked at gets all its conditions, each with its generation."""
    model = make_model(generation=4)
    result = _status(model, snapshot_of(model))
    assert [c["type"] for c in result.status["conditions"]] == list(CHAINS)
    assert {c["observedGeneration"] for c in result.status["conditions"]} == {4}
    assert result.status["observedGeneration"] == 4
    assert _told(result) == {
        "Accepted": ("True", "Accepted"),
        "WeightsReady": ("True", "OnDemand"),
        "Available": ("False", "NoReadyReplicas"),
        "Progressing": ("True", "RollingOut"),
        "Degraded": ("False", "AsExpected"),
        "Ready": ("False", "NoReadyReplicas"),
    }
    assert [t.reason for t in result.transitions] == ["Accepted", "RollingOut"]


def test_serving_model_is_ready() -> None:
    """A ready pod of this generation that the gateway knows of is Ready."""
    model = make_model()
    assert _of(model, make_pod("p", hash_of(model), ready=True)) == {
        "Accepted": ("True", "Accepted"),
        "WeightsReady": ("True", "OnDemand"),
        "Available": ("True", "ReplicasReady"),
        "Progressing": ("False", "Complete"),
        "Degraded": ("False", "AsExpected"),
        "Ready": ("True", "Serving"),
    }


@pytest.mark.parametrize(
    ("ack", "expected"),
    [
        (Acknowledgement(AckState.NO_GATEWAY), ("False", "NoGateway")),
        (Acknowledgement(AckState.UNKNOWN, ready=2), ("Unknown", "GatewayUnknown")),
        (Acknowledgement(AckState.PENDING, acknowledged=1, ready=2), ("False", "GatewayPending")),
        (Acknowledgement(AckState.NOT_NEEDED), ("True", "Serving")),
        (RUNS, ("True", "Serving")),
    ],
)
def test_ready_only_when_every_gateway_replica_runs_it(ack: Acknowledgement, expected: tuple[str, str]) -> None:
    """Ready says that clients get answers, so it waits for the gateway."""
    model = make_model()
    assert _of(model, make_pod("p", hash_of(model), ready=True), ack=ack)["Ready"] == expected


@pytest.mark.parametrize("scaling", [{"replicas": 0}])
def test_zero_by_design_is_ready(scaling: dict[str, Any]) -> None:
    """No replica, because none is wanted, is as it should be."""
    told = _of(make_model(**scaling))
    assert told["Ready"] == ("True", "Idle")
    assert told["Available"] == told["Progressing"] == ("False", "Idle")
    assert told["Degraded"] == ("False", "AsExpected")


def test_zero_by_an_autoscaler_is_ready() -> None:
    """An autoscaler at its lower bound 0 has made the model idle, not broken."""
    model = make_model(scaling={"min": 0, "max": 2})
    live = deployment_of(model)
    live = {**live, "spec": {**live["spec"], "replicas": 0}}
    assert _told(_status(model, snapshot_of(model, live)))["Ready"] == ("True", "Idle")


def test_that_a_release_before_left_the_number_to_others_is_told() -> None:
    """With what to write, until `strategy` is written."""
    for strategy, told in ({}, True), ({"strategy": "External"}, False):
        model = make_model(scaling={"max": 2, **strategy})
        live = deployment_of(model)
        live["metadata"]["annotations"] |= {"capstan.dev/replicas-from": "Autoscaler"}
        result = _status(model, snapshot_of(model, live))
        assert _told(result)["ScalingActive"] == _told(result)["ScalingLimited"] == ("False", "External")
        assert ("write `strategy: HPA`" in _message(result, "ScalingActive")) == told


def test_faulty_model_needs_a_person() -> None:
    """A faulty spec is told in full, and nothing else is claimed about it."""
    model = make_model(replicas=-1)
    result = _status(model, snapshot_of(model))
    assert _told(result) == {
        "Accepted": ("False", "Invalid"),
        "WeightsReady": ("Unknown", "Invalid"),
        "Available": ("False", "Invalid"),
        "Progressing": ("False", "Invalid"),
        "Degraded": ("True", "Invalid"),
        "Ready": ("False", "Invalid"),
    }
    assert "spec.replicas" in _message(result, "Accepted")
    assert {t.type for t in result.transitions} == {"Warning"}


def test_conflict_is_not_accepted_and_needs_a_person() -> None:
    """Whoever lost a name has to take another; its pods are told as they are."""
    model = make_model()
    verdict = Verdict(accepted=False, reason="Conflicted", message="the name 'x' belongs to 'a/b'")
    told = _of(model, make_pod("p", hash_of(model), ready=True), verdict=verdict)
    assert told["Accepted"] == told["Ready"] == ("False", "Conflicted")
    assert told["Degraded"] == ("True", "Conflicted")
    assert told["Available"] == ("True", "ReplicasReady")


def test_external_model_is_ready_without_pods() -> None:
    """A hosted API has no pods, no selector, and nothing to roll out."""
    model = make_model(external={"url": "https://user.example.com/v1"})
    result = _status(model, snapshot_of(model))
    told = _told(result)
    assert told["Available"] == told["WeightsReady"] == ("True", "External")
    assert (told["Progressing"], told["Ready"]) == (("False", "External"), ("True", "Serving"))
    assert "replicas" not in result.status
    assert "example.com" not in str(result.status["conditions"])


def test_missing_secret_of_an_external_model_needs_a_person() -> None:
    """A reference that leads nowhere is told where it is missing."""
    model = make_model(external={"url": "https://api.example.com/v1", "secretRef": {"name": "keys", "key": "k"}})
    problem = Problem("SecretNotFound", "the Secret 'keys' does not exist")
    told = _told(_status(model, snapshot_of(model), problems=[problem]))
    assert told["Available"] == told["Ready"] == ("False", "SecretNotFound")
    assert told["Degraded"] == ("True", "SecretNotFound")


def test_refused_object_needs_a_person() -> None:
    """What the API server refuses is told, and running pods are not called gone."""
    model = make_model()
    problem = Problem("ApplyRefused", "Deployment: spec.x: unknown field")
    told = _of(model, make_pod("p", hash_of(model), ready=True), problems=[problem])
    assert told["Degraded"] == ("True", "ApplyRefused")
    assert told["Progressing"] == told["Ready"] == ("False", "ApplyRefused")
    assert told["Available"] == ("True", "ReplicasReady")


# --- weights --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("phase", "expected", "degraded"),
    [
        (None, ("False", "ClaimNotFound"), "True"),
        ("Pending", ("False", "ClaimPending"), "False"),
        ("Lost", ("False", "ClaimLost"), "True"),
        ("Bound", ("True", "ClaimBound"), "False"),
    ],
)
def test_named_claim_decides_about_weights(phase: str | None, expected: tuple[str, str], degraded: str) -> None:
    """The claim that a source names has to exist and be bound."""
    model = make_model(model={"source": "pvc://weights/llama"})
    claims = {ObjectKey("team", "weights"): {"status": {"phase": phase}}} if phase else {}
    told = _told(_status(model, snapshot_of(model, claims=claims)))
    assert told["WeightsReady"] == expected
    assert told["Degraded"][0] == degraded


def test_claim_of_ones_own_may_still_come() -> None:
    """A claim that the operator makes is pending until it is bound, and nobody is called."""
    model = make_model(cache={"size": "1Gi"})
    told = _told(_status(model, snapshot_of(model)))
    assert (told["WeightsReady"], told["Degraded"][0]) == (("False", "ClaimPending"), "False")
    claim = {"kind": "PersistentVolumeClaim", "metadata": {"name": "llama-weights"}, "status": {"phase": "Bound"}}
    assert _told(_status(model, snapshot_of(model, claim)))["WeightsReady"] == ("True", "ClaimBound")


def test_a_claim_that_was_left_is_told() -> None:
    """A claim whose `cache` is gone is named, so that nobody pays for it unknowingly; nothing is wrong with that."""
    model = make_model()
    claim = {"kind": "PersistentVolumeClaim", "metadata": {"name": "llama-weights"}, "status": {"phase": "Bound"}}
    result = _status(model, snapshot_of(model, claim))
    assert (_told(result)["WeightsReady"], _told(result)["Degraded"][0]) == (("True", "ClaimLeft"), "False")
    assert "'llama-weights'" in _message(result, "WeightsReady")


def _on_node(name: str, model: Model, node: str, *, ready: bool) -> Manifest:
    conditions = [
        {"type": "Ready", "status": str(ready)},
        {"type": "PodReadyToStartContainers", "status": str(ready)},
    ]
    return make_pod(name, hash_of(model), ready=ready, spec={"nodeName": node}, conditions=conditions)


@pytest.mark.parametrize("cache", [{"size": "1Gi"}, {"claimName": "mine"}])
@pytest.mark.parametrize(
    ("node", "mode", "expected"),
    [("b", "ReadWriteOnce", True), ("a", "ReadWriteOnce", False), ("b", "ReadWriteMany", False)],
)
def test_replicas_that_wait_for_a_claim_of_another_node_are_told(
    cache: dict[str, str], node: str, mode: str, expected: bool
) -> None:
    """A replica on another node than the one that has the ReadWriteOnce claim waits for ever: that is told."""
    made = {**cache, "accessMode": mode} if "size" in cache else cache
    model = make_model(cache=made, replicas=2)
    pods = [_on_node("one", model, "a", ready=True), _on_node("two", model, node, ready=False)]
    claims = {ObjectKey("team", "mine"): {"spec": {"accessModes": [mode]}, "status": {"phase": "Bound"}}}
    told = _told(_status(model, snapshot_of(model, deployment_of(model), pods=pods, claims=claims)))
    assert (told["Degraded"] == ("True", "ReadWriteOnceClaim")) == expected
    assert told["Available"] == ("True", "ReplicasReady")


def test_one_replica_needs_no_shared_claim() -> None:
    """With one replica wanted, a second pod that waits for the claim is on its way out, or a rollout's."""
    model = make_model(cache={"size": "1Gi"})
    pods = [_on_node("one", model, "a", ready=True), _on_node("two", model, "b", ready=False)]
    assert _of(model, *pods)["Degraded"][1] != "ReadWriteOnceClaim"


def test_missing_storage_class_is_about_weights() -> None:
    """A claim whose class does not exist will never be bound."""
    model = make_model(cache={"size": "1Gi", "storageClassName": "fast"})
    problem = Problem("StorageClassNotFound", "the StorageClass 'fast' does not exist")
    told = _told(_status(model, snapshot_of(model), problems=[problem]))
    assert told["WeightsReady"] == ("False", "StorageClassNotFound")
    assert told["Degraded"] == ("True", "StorageClassNotFound")


def test_dropped_image_volume_is_told() -> None:
    """An API server that drops image volumes leaves the engine without weights, which somebody has to know."""
    model = make_model(model={"source": "oci://registry.example.com/models/tiny:1"})
    live = deployment_of(model)
    assert _told(_status(model, snapshot_of(model, live)))["WeightsReady"] == ("True", "OnDemand")
    volumes = [v for v in live["spec"]["template"]["spec"]["volumes"] if v["name"] != "image"]
    live["spec"]["template"]["spec"]["volumes"] = volumes
    told = _told(_status(model, snapshot_of(model, live)))
    assert told["WeightsReady"] == ("False", "ImageVolumesMissing")
    assert told["Degraded"] == ("True", "ImageVolumesMissing")


def test_simulator_needs_no_weights() -> None:
    """The simulator runs with a source that leads nowhere."""
    model = make_model(engine={"type": "Simulator"}, model={"source": "pvc://absent/x"})
    told = _told(_status(model, snapshot_of(model)))
    assert (told["WeightsReady"], told["Degraded"][0]) == (("True", "NotNeeded"), "False")


# --- problem with pods ----------------------------------------------------------------------------------------------

TERMINATED = {"terminated": {"exitCode": 1, "reason": "Error"}}
KILLED = {"terminated": {"exitCode": 137, "reason": "OOMKilled"}}


@pytest.mark.parametrize(
    ("state", "reason", "degraded"),
    [
        ({"state": {"waiting": {"reason": "ErrImagePull"}}}, "ImagePullFailed", "True"),
        ({"state": {"waiting": {"reason": "ImagePullBackOff"}}}, "ImagePullFailed", "True"),
        (
            {"state": {"waiting": {"reason": "CreateContainerConfigError", "message": "secret"}}},
            "ContainerConfigError",
            "True",
        ),
        (
            {"state": {"waiting": {"reason": "CrashLoopBackOff"}}, "lastState": TERMINATED, "restarts": 1},
            "CrashLoop",
            "False",
        ),
        ({"state": {"running": {}}, "lastState": TERMINATED, "restarts": 2}, "CrashLoop", "False"),
        (
            {"state": {"waiting": {"reason": "CrashLoopBackOff"}}, "lastState": TERMINATED, "restarts": 3},
            "CrashLoop",
            "True",
        ),
        (
            {"state": {"waiting": {"reason": "CrashLoopBackOff"}}, "lastState": KILLED, "restarts": 3},
            "OutOfMemory",
            "True",
        ),
        ({"state": {"running": {}}}, "Loading", "False"),
        ({"state": {"waiting": {"reason": "ContainerCreating"}}}, "Loading", "False"),
    ],
)
def test_a_problem_is_classified(state: dict[str, Any], reason: str, degraded: str) -> None:
    """What keeps a pod from becoming ready has a reason, and calls a person only when waiting does not help."""
    model = make_model()
    told = _of(model, waiting_pod("p", hash_of(model), **state))
    assert told["Available"] == told["Ready"] == ("False", reason)
    assert told["Degraded"][0] == degraded
    assert told["Progressing"][0] == ("False" if degraded == "True" else "True")


@pytest.mark.parametrize(
    ("says", "reason"),
    [
        ("0/1 nodes are available: 1 Insufficient nvidia.com/gpu.", "InsufficientGPU"),
        ("0/1 nodes are available: 1 node(s) had untolerated taint.", "Unschedulable"),
    ],
)
def test_unschedulable_is_told_with_what_the_scheduler_says(says: str, reason: str) -> None:
    """A pod without a node has the scheduler's own words, and GPUs are told apart."""
    model = make_model(**GPU)
    snapshot = snapshot_of(model, deployment_of(model), pods=(unschedulable_pod("p", hash_of(model), says),))
    result = _status(model, snapshot)
    assert _told(result)["Available"] == ("False", reason)
    assert says in _message(result, "Ready")


def test_person_is_called_when_a_node_does_not_come() -> None:
    """A pod may wait five minutes for a node; the status says when to look again."""
    model = make_model(**GPU)
    pod = unschedulable_pod("p", hash_of(model), "0/1 nodes are available: 1 Insufficient nvidia.com/gpu.")
    snapshot = snapshot_of(model, deployment_of(model), pods=(pod,))
    waiting = _status(model, snapshot)
    assert (_told(waiting)["Degraded"][0], waiting.recheck_after) == ("False", 240.0)
    late = _status(model, snapshot, now=NOW + timedelta(seconds=240))
    assert (_told(late)["Degraded"], late.recheck_after) == (("True", "InsufficientGPU"), None)


def test_nobody_is_called_while_old_pods_finish() -> None:
    """A new pod may wait for the GPUs of an old one for as long as that one's streams may take."""
    model = make_model(**GPU)
    pod = unschedulable_pod("p", hash_of(model), "1 Insufficient nvidia.com/gpu", since="2026-05-04T11:50:00Z")
    leaving = make_pod("old", "old", ready=True)
    leaving["metadata"]["deletionTimestamp"] = "2026-05-04T12:01:00Z"
    result = _status(model, snapshot_of(model, deployment_of(model), pods=(pod, leaving)))
    assert (_told(result)["Degraded"][0], result.recheck_after) == ("False", 60.0)


def test_refused_pods_are_told_without_their_names() -> None:
    """A quota or an admission rule that refuses pods is told the same way for every pod."""
    model = make_model()
    results = []
    for suffix in ("abcde", "fghij"):
        said = f'pods "llama-model-5d4f-{suffix}" is forbidden: exceeded quota: gpus'
        live = deployment_of(model, conditions=[{"type": "ReplicaFailure", "status": "True", "message": said}])
        results.append(_status(model, snapshot_of(model, live)))
    assert _told(results[0])["Degraded"] == ("True", "PodsRefused")
    assert _message(results[0], "Ready") == _message(results[1], "Ready") == "pods are refused: exceeded quota: gpus"


def test_messages_do_not_depend_on_restarts_or_pod_names() -> None:
    """The same cause has the same message, so that at rest nothing is written."""
    model = make_model()
    told = set()
    for name, restarts in (("a", 3), ("b", 17)):
        pod = waiting_pod(name, hash_of(model), restarts=restarts, lastState=TERMINATED)
        told.add(_message(_status(model, snapshot_of(model, deployment_of(model), pods=(pod,))), "Degraded"))
    assert len(told) == 1


# --- rollouts -------------------------------------------------------------------------------------------------------


def test_old_pods_serve_but_the_generation_is_not_ready() -> None:
    """While only old pods answer, the model is Available and this generation is not Ready."""
    model = make_model(replicas=2)
    pods = (make_pod("old", "old", ready=True), make_pod("new", hash_of(model)))
    told = _of(model, *pods)
    assert told["Available"] == ("True", "ReplicasReady")
    assert told["Progressing"] == ("True", "RollingOut")
    assert told["Ready"] == ("False", "RollingOut")


def test_in_place_rollout_says_why() -> None:
    """A rollout in place says that there is no room for a surge, and calls nobody: an old pod gives way."""
    model = make_model(**GPU, replicas=2)
    stuck = unschedulable_pod("new", hash_of(model), "1 Insufficient nvidia.com/gpu", since="2026-05-04T11:50:00Z")
    result = _status(model, snapshot_of(model, deployment_of(model), pods=(gpu_pod("old", "old", 2), stuck)))
    assert _told(result)["Progressing"] == ("True", "RollingInPlace")
    assert _told(result)["Degraded"][0] == "False"
    assert _message(result, "Progressing").startswith("no room for a surge: pods are replaced in place")


def test_single_replica_without_room_says_the_ways_out() -> None:
    """The old pod serves on, the surge waits, and after the patience a person is told what to do about it."""
    model = make_model(**GPU)
    stuck = unschedulable_pod("new", hash_of(model), "1 Insufficient nvidia.com/gpu")
    snapshot = snapshot_of(model, deployment_of(model), pods=(gpu_pod("old", "old", 2), stuck))
    early = _status(model, snapshot)
    assert (_told(early)["Degraded"][0], early.recheck_after) == ("False", 240.0)
    assert _told(early)["Ready"] == ("False", "NoRoomForSurge")
    late = _status(model, snapshot, now=NOW + timedelta(seconds=240))
    assert _told(late)["Degraded"] == ("True", "NoRoomForSurge")
    assert (_told(late)["Available"], late.recheck_after) == (("True", "ReplicasReady"), None)
    assert "free a GPU, or set `spec.rollout.strategy` to InPlace" in _message(late, "Degraded")


def test_pod_that_its_node_cannot_prepare_is_told_in_time() -> None:
    """A pod that waits for what it mounts, such as a ConfigMap that is not there, calls a person after five minutes."""
    model = make_model()
    conditions = [
        {"type": "PodScheduled", "status": "True", "lastTransitionTime": "2026-05-04T11:56:00Z"},
        {"type": "PodReadyToStartContainers", "status": "False"},
    ]
    pods = (make_pod("new", hash_of(model), conditions=conditions),)
    early = _status(model, snapshot_of(model, deployment_of(model), pods=pods))
    assert (_told(early)["Degraded"][0], early.recheck_after) == ("False", 60.0)
    late = _status(model, snapshot_of(model, deployment_of(model), pods=pods), now=NOW + timedelta(seconds=60))
    assert (_told(late)["Degraded"], late.recheck_after) == (("True", "PodNotPrepared"), None)


def test_overdue_rollout_needs_a_person() -> None:
    """A rollout that makes no progress for too long is not waited for."""
    model = make_model()
    overdue = {"type": "Progressing", "status": "False", "reason": "ProgressDeadlineExceeded"}
    live = deployment_of(model, conditions=[overdue])
    told = _told(_status(model, snapshot_of(model, live, pods=(make_pod("new", hash_of(model)),))))
    assert told["Degraded"] == ("True", "RolloutDeadlineExceeded")
    assert told["Progressing"] == ("False", "RolloutDeadlineExceeded")


def test_deployment_that_is_not_written_yet_is_progress() -> None:
    """Until the Deployment has the wanted template, pods of the old one prove nothing."""
    old, new = make_model(), make_model(engine={"args": ["--new"]})
    pods = (make_pod("p", hash_of(old), ready=True),)
    told = _told(_status(new, snapshot_of(new, deployment_of(old), pods=pods)))
    assert (told["Progressing"], told["Ready"]) == (("True", "RollingOut"), ("False", "RollingOut"))


def test_scaling_down_is_progress() -> None:
    """More pods than wanted are on their way out."""
    model = make_model(replicas=0)
    told = _of(model, make_pod("p", hash_of(model), ready=True))
    assert told["Progressing"] == ("True", "ScalingDown")


# --- what is written ------------------------------------------------------------------------------------------------


def test_second_look_changes_nothing() -> None:
    """The same facts later give the same status, no write and no Event."""
    model = make_model()
    pods = (make_pod("p", hash_of(model), ready=True),)
    first = _status(model, snapshot_of(model, deployment_of(model), pods=pods))
    again = replace(model, status=first.status)
    second = _status(again, snapshot_of(again, deployment_of(again), pods=pods), now=NOW + timedelta(hours=1))
    assert first.changed
    assert (second.changed, second.status, second.transitions) == (False, first.status, ())


def test_transition_time_moves_only_with_the_status() -> None:
    """Another reason leaves lastTransitionTime alone, another status moves it."""
    model = make_model()
    first = _status(model, snapshot_of(model, deployment_of(model)))
    later = NOW + timedelta(minutes=5)
    again = replace(model, status=first.status)
    loading = _status(again, snapshot_of(again, deployment_of(again), pods=(make_pod("p", hash_of(again)),)), now=later)
    ready = _status(
        again, snapshot_of(again, deployment_of(again), pods=(make_pod("p", hash_of(again), ready=True),)), now=later
    )
    times = [
        next(c["lastTransitionTime"] for c in result.status["conditions"] if c["type"] == "Ready")
        for result in (first, loading, ready)
    ]
    assert times == ["2026-05-04T12:00:00Z", "2026-05-04T12:00:00Z", "2026-05-04T12:05:00Z"]
    assert loading.changed


def test_conditions_of_others_are_left_alone() -> None:
    """A condition of another controller is neither written nor a difference."""
    model = make_model()
    first = _status(model, snapshot_of(model))
    foreign = {"type": "Quota", "status": "True", "reason": "X", "message": ""}
    again = replace(model, status={**first.status, "conditions": [foreign, *first.status["conditions"]]})
    second = _status(again, snapshot_of(again))
    assert not second.changed
    assert "Quota" not in _told(second)


def test_recovery_is_an_event() -> None:
    """What needed a person and does not any more is told as good news."""
    model = make_model()
    broken = _status(model, snapshot_of(model), problems=[Problem("SecretNotFound", "the Secret 'x' does not exist")])
    assert ("Warning", "SecretNotFound") in {(t.type, t.reason) for t in broken.transitions}
    healed = _status(replace(model, status=broken.status), snapshot_of(model))
    assert ("Normal", "Recovered") in {(t.type, t.reason) for t in healed.transitions}


def test_that_replicas_give_way_in_place_is_an_event() -> None:
    """A rollout that began with a surge and goes on in place is told once, since fewer replicas serve from then on."""
    model = make_model(**GPU, replicas=2)
    olds = (gpu_pod("old-1", "old", 2), gpu_pod("old-2", "old", 2))
    begun = _status(model, snapshot_of(model, deployment_of(model), pods=olds))
    assert _told(begun)["Progressing"] == ("True", "RollingOut")
    stuck = unschedulable_pod("new", hash_of(model), "1 Insufficient nvidia.com/gpu", since="2026-05-04T11:50:00Z")
    again = replace(model, status=begun.status)
    found = snapshot_of(again, deployment_of(again), pods=(olds[0], stuck))
    in_place = _status(again, found)
    assert _told(in_place)["Progressing"] == ("True", "RollingInPlace")
    assert [t.type for t in in_place.transitions if t.reason == "RollingInPlace"] == ["Normal"]
    assert _status(replace(model, status=in_place.status), found).transitions == ()


def test_a_fact_is_one_event() -> None:
    """Refused pods end the progress, need a person and keep the model from being ready: one Warning says it all."""
    model = make_model()
    coming = _status(model, snapshot_of(model, deployment_of(model)))
    again = replace(model, status=coming.status)
    refused = [{"type": "ReplicaFailure", "status": "True", "message": "exceeded quota"}]
    result = _status(again, snapshot_of(again, deployment_of(again, conditions=refused)))
    assert _told(result)["Progressing"] == ("False", "PodsRefused")
    assert [(t.type, t.reason) for t in result.transitions] == [("Warning", "PodsRefused")]


def test_plain_fields_say_what_is() -> None:
    """Replicas are the pods that exist, ready ones those of this generation; finished and leaving pods do not count."""
    model = make_model(model={"servedName": "chat"}, replicas=2)
    leaving = make_pod("leaving", hash_of(model), ready=True)
    leaving["metadata"]["deletionTimestamp"] = "2026-05-04T12:01:00Z"
    pods = (
        make_pod("new", hash_of(model), ready=True),
        make_pod("old", "old", ready=True),
        make_pod("failed", hash_of(model), phase="Failed"),
        leaving,
    )
    status = _status(model, snapshot_of(model, deployment_of(model), pods=pods), settings=BuildSettings()).status
    assert (status["replicas"], status["readyReplicas"], status["servedName"]) == (2, 1, "chat")
    assert status["selector"] == "app.kubernetes.io/component=engine,capstan.dev/model=llama"
    assert status["endpoint"] == "http://capstan-gateway.capstan-system.svc:8080/v1"


@pytest.mark.parametrize(
    ("settings", "endpoint"),
    [
        (BuildSettings(gateway_url="https://llm.example.com/"), "https://llm.example.com/v1"),
        (BuildSettings(gateway_url="https://llm.example.com/v1"), "https://llm.example.com/v1"),
        (BuildSettings(gateway_service=""), None),
        (None, None),
    ],
)
def test_endpoint_is_the_gateways(settings: BuildSettings | None, endpoint: str | None) -> None:
    """Clients are sent to the gateway's URL, if there is a gateway."""
    model = make_model()
    assert _status(model, snapshot_of(model), settings=settings).status.get("endpoint") == endpoint


def test_container_that_came_back_is_no_problem() -> None:
    """What a container that is ready again once ended of does not explain why another one is not ready."""
    model = make_model()
    containers = [
        {"name": "worker", "ready": True, "restartCount": 5, "lastState": KILLED},
        {"name": "engine", "ready": False, "restartCount": 0, "state": {"running": {}}},
    ]
    assert _of(model, make_pod("p", hash_of(model), containerStatuses=containers))["Available"] == ("False", "Loading")


def test_refused_pod_of_a_rollout_calls_a_person() -> None:
    """Old pods serve on and never go by themselves: what refuses the new one needs a person, quota or not."""
    for said in ("exceeded quota: cpu, requested: requests.cpu=9", "violates PodSecurity"):
        model = make_model()
        live = deployment_of(model, conditions=[{"type": "ReplicaFailure", "status": "True", "message": said}])
        told = _told(_status(model, snapshot_of(model, live, pods=(make_pod("old", "old", ready=True),))))
        assert told["Degraded"] == ("True", "PodsRefused")
        assert told["Available"] == ("True", "ReplicasReady")


def test_quota_calls_nobody_while_a_pod_is_leaving() -> None:
    """A pod that is being stopped may be what fills the quota."""
    model = make_model()
    leaving = make_pod("old", "old", ready=True)
    leaving["metadata"]["deletionTimestamp"] = "2026-05-04T12:01:00Z"
    refused = [{"type": "ReplicaFailure", "status": "True", "message": "exceeded quota: cpu"}]
    result = _status(model, snapshot_of(model, deployment_of(model, conditions=refused), pods=(leaving,)))
    assert (_told(result)["Degraded"][0], result.recheck_after) == ("False", 60.0)


def test_rollout_that_fails_says_why_while_old_pods_serve() -> None:
    """A new template that crashes is what Ready speaks of, not the rollout that waits for it."""
    model = make_model(replicas=2)
    crashing = waiting_pod("new", hash_of(model), restarts=4, lastState=TERMINATED)
    told = _of(model, make_pod("old", "old", ready=True), crashing)
    assert (told["Available"], told["Ready"]) == (("True", "ReplicasReady"), ("False", "CrashLoop"))
    assert told["Degraded"] == ("True", "CrashLoop")


def test_deployment_whose_controller_is_behind_is_progress() -> None:
    """Until its controller has seen the Deployment, the pods that are there prove nothing about it."""
    model = make_model()
    live = deployment_of(model)
    live["metadata"]["generation"] = 2
    pods = (make_pod("p", hash_of(model), ready=True),)
    assert _told(_status(model, snapshot_of(model, live, pods=pods)))["Progressing"] == ("True", "RollingOut")


def test_another_reason_to_call_a_person_is_news() -> None:
    """Degraded for one reason and then for another is told twice."""
    model = make_model()
    first = _status(model, snapshot_of(model), problems=[Problem("SecretNotFound", "the Secret 'x' does not exist")])
    again = replace(model, status=first.status)
    second = _status(again, snapshot_of(again), problems=[Problem("ApplyRefused", "refused")])
    assert [t.reason for t in second.transitions] == ["ApplyRefused"]


# --- hosted models with several endpoints, and virtual models ---------------------------------------------------------

VIRTUAL = [
    {"router": {"members": [{"name": "a"}, {"name": "b"}]}},
    {"cascade": {"members": [{"name": "a"}, {"name": "b"}]}},
]


def _virtual_status(model: Model, *members: Model, **options: Any) -> StatusResult:
    verdict = compile_gateway([model, *members]).verdicts[model.key]
    return _status(model, Snapshot(models={one.key: one for one in (model, *members)}), verdict=verdict, **options)


@pytest.mark.parametrize("spec", VIRTUAL)
def test_virtual_model_is_ready_without_pods(spec: dict[str, Any]) -> None:
    """Its members answer: there are no pods, no selector, and nothing to roll out."""
    result = _virtual_status(make_model(**spec), make_member("a"), make_member("b"))
    assert _told(result) == {
        "Accepted": ("True", "Accepted"),
        "WeightsReady": ("True", "Virtual"),
        "Available": ("True", "Virtual"),
        "Progressing": ("False", "Virtual"),
        "Degraded": ("False", "AsExpected"),
        "Ready": ("True", "Serving"),
    }
    assert not {"replicas", "readyReplicas", "selector"} & result.status.keys()
    assert _message(result, "Ready") == "its members answer"


@pytest.mark.parametrize("spec", VIRTUAL)
def test_virtual_model_without_members_needs_a_person(spec: dict[str, Any]) -> None:
    """With no member left nothing answers, and the message says why of each member."""
    result = _virtual_status(make_model(**spec))
    told = _told(result)
    assert told["Accepted"] == told["Ready"] == ("False", "MembersMissing")
    assert told["Available"] == ("False", "NoMemberAvailable")
    assert told["Degraded"] == ("True", "MembersMissing")
    assert "names the LLMModel 'a', which does not exist" in _message(result, "Accepted")
    assert "names the LLMModel 'b', which does not exist" in _message(result, "Available")


@pytest.mark.parametrize("spec", VIRTUAL)
def test_virtual_model_that_lacks_a_member_serves_and_needs_a_person(spec: dict[str, Any]) -> None:
    """What is left answers; Accepted and Degraded name what is not."""
    result = _virtual_status(make_model(**spec), make_member("b"))
    told = _told(result)
    assert told["Accepted"] == ("True", "Accepted")
    assert (told["Available"], told["Ready"]) == (("True", "Virtual"), ("True", "Serving"))
    assert told["Degraded"] == ("True", "MembersMissing")
    for kind in ("Accepted", "Degraded"):
        assert "names the LLMModel 'a', which does not exist" in _message(result, kind)


def test_virtual_model_waits_for_the_gateway() -> None:
    """Ready is said when the gateway runs this generation, as of every model."""
    model = make_model(**VIRTUAL[0])
    pending = Acknowledgement(AckState.PENDING, acknowledged=1, ready=2)
    result = _virtual_status(model, make_member("a"), make_member("b"), ack=pending)
    assert _told(result)["Ready"] == ("False", "GatewayPending")


def test_hosted_model_with_one_key_of_two_is_ready_and_needs_a_person() -> None:
    """While another endpoint has its key the model answers, but somebody should look."""
    url = "https://api.example.com/v1"
    model = make_model(external={"endpoints": [{"name": "eu", "url": url}, {"name": "us", "url": url}]})
    problem = Problem("SecretNotFound", "the Secret 'keys' is not there", partial=True)
    told = _told(_status(model, snapshot_of(model), problems=[problem]))
    assert (told["Available"], told["Ready"]) == (("True", "External"), ("True", "Serving"))
    assert told["Degraded"] == ("True", "SecretNotFound")


def test_a_model_says_which_profile_it_has() -> None:
    """Its name and its ConfigMap are where people look first: in what is accepted."""
    model = profiled(make_model(profile="l4"), {"nodeSelector": {"gpu": "l4"}})
    said = _message(_status(model, snapshot_of(model)), "Accepted")
    assert said == "served as 'llama', with the profile 'l4' of the ConfigMap 'profiles'"
