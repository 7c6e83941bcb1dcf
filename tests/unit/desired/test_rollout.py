"""How pods of an old template are replaced: what is healthy goes only where nothing else helps."""

from datetime import datetime, timedelta
from typing import Any

import pytest

from capstan_operator.api.kinds import Model
from capstan_operator.desired.model import build_model
from capstan_operator.desired.rollout import BEGAN_ANNOTATION
from capstan_operator.desired.shortage import asks_for_nodes
from capstan_operator.desired.types import Rollout, RolloutMode
from capstan_operator.resources.resource import Manifest
from support.plainmodels import (
    NOW,
    SETTINGS,
    deployment_of,
    gpu_pod,
    hash_of,
    make_model,
    make_pod,
    snapshot_of,
    unschedulable_pod,
)

GPU = "0/1 nodes are available: 1 Insufficient nvidia.com/gpu. preemption: 0/1 nodes are available: 1 No preemption"
LONG_AGO = "2026-05-04T11:50:00Z"
QUOTA = (
    'pods "llama-model-x-y" is forbidden: exceeded quota: gpus, requested: requests.nvidia.com/gpu=1,'
    " used: requests.nvidia.com/gpu=8, limited: requests.nvidia.com/gpu=8"
)
SECURITY = 'pods "llama-model-x-y" is forbidden: violates PodSecurity "restricted:latest": host namespaces'


def _model(replicas: int = 2, *, gpus: int = 1, **spec: Any) -> Model:
    return make_model(resources={"gpus": gpus, **spec.pop("resources", {})}, replicas=replicas, **spec)


def _refused(model: Model, message: str, *, at: str = LONG_AGO, **status: Any) -> Manifest:
    condition = {"type": "ReplicaFailure", "status": "True", "message": message, "lastTransitionTime": at}
    return deployment_of(model, conditions=[condition], **status)


def _waiting(model: Model, message: str, *, since: str = LONG_AGO) -> Manifest:
    return unschedulable_pod("new", hash_of(model), message, since=since)


def _rollout(model: Model, *pods: Manifest, live: Manifest | None = None, **snapshot: Any) -> Rollout:
    found = snapshot_of(model, live or deployment_of(model), pods=pods, **{"now": NOW, **snapshot})
    rollout = build_model(model, found, SETTINGS).rollout
    assert rollout
    return rollout


def _holders(count: int, gpus: int = 1, **resources: str) -> tuple[Manifest, ...]:
    return tuple(gpu_pod(f"old-{number}", "old", gpus, **resources) for number in range(count))


def test_lasting_shortage_of_gpus_ends_in_place() -> None:
    """When no node has had the GPUs of one more pod for the patience, an old pod of several gives way."""
    model = _model()
    assert _rollout(model, *_holders(2), _waiting(model, GPU)).mode is RolloutMode.IN_PLACE


def test_quota_on_gpus_ends_in_place() -> None:
    """A quota that has no GPU left is as full as a cluster."""
    model = _model()
    assert _rollout(model, *_holders(2), live=_refused(model, QUOTA)).mode is RolloutMode.IN_PLACE


def test_patience_comes_first() -> None:
    """An autoscaler may be adding a node: until the patience ends the surge waits, and it is looked at again then."""
    model = _model()
    rollout = _rollout(model, *_holders(2), _waiting(model, GPU, since="2026-05-04T11:57:00Z"))
    assert rollout.mode is RolloutMode.SURGE
    assert rollout.obstacle
    assert (rollout.obstacle.needs_person, rollout.obstacle.recheck_after) == (False, 120.0)
    patient = _model(rollout={"patienceSeconds": 3600})
    assert _rollout(patient, *_holders(2), _waiting(patient, GPU)).mode is RolloutMode.SURGE
    hasty = _model(rollout={"patienceSeconds": 0})
    assert (
        _rollout(hasty, *_holders(2), _waiting(hasty, GPU, since="2026-05-04T12:00:00Z")).mode is RolloutMode.IN_PLACE
    )


def test_single_replica_is_never_given_away() -> None:
    """With one replica a rollout in place is an outage, which only its user may choose."""
    model = _model(1)
    rollout = _rollout(model, *_holders(1), _waiting(model, GPU))
    assert rollout.mode is RolloutMode.SURGE
    assert rollout.obstacle
    assert (rollout.obstacle.reason, rollout.obstacle.needs_person) == ("NoRoomForSurge", True)
    chosen = _model(1, rollout={"strategy": "InPlace"})
    assert _rollout(chosen, *_holders(1)).mode is RolloutMode.IN_PLACE


def test_surge_by_choice_never_goes_in_place() -> None:
    """Who says Surge waits for a GPU, however many replicas there are."""
    model = _model(3, rollout={"strategy": "Surge"})
    assert _rollout(model, *_holders(3), _waiting(model, GPU)).mode is RolloutMode.SURGE


@pytest.mark.parametrize(
    "message",
    [
        "0/1 nodes are available: 1 node(s) didn't match Pod's node affinity/selector.",
        "0/1 nodes are available: 1 Insufficient memory.",
        "0/1 nodes are available: 1 Insufficient amd.com/gpu.",
        "0/1 nodes are available: 1 node(s) had untolerated taint {x: y}.",
    ],
)
def test_no_other_reason_of_the_scheduler_counts(message: str) -> None:
    """Only the GPU resource of the model, by its name, is worth an old pod."""
    model = _model()
    assert _rollout(model, *_holders(2), _waiting(model, message)).mode is RolloutMode.SURGE


@pytest.mark.parametrize(
    "message",
    [
        SECURITY,
        'admission webhook "policy.example.com" denied the request: Insufficient nvidia.com/gpu',
        'pods "x" is forbidden: exceeded quota: cpu, requested: requests.cpu=9, used: requests.cpu=1, limited: 2',
        'pods "x" is forbidden: exceeded quota: all, requested: requests.cpu=9,requests.nvidia.com/gpu=1, used: x',
        'pods "x" is forbidden: PriorityClass: no PriorityClass with name typo was found',
    ],
)
def test_no_other_refusal_counts(message: str) -> None:
    """Pod Security, webhooks, other quotas and unknown classes refuse the next pod just as well."""
    model = _model()
    assert _rollout(model, *_holders(2), live=_refused(model, message)).mode is RolloutMode.SURGE


def test_old_pod_that_gives_back_too_little_is_kept() -> None:
    """A template that asks for more than an old pod holds would not fit in its place either."""
    bigger = _model(gpus=2)
    assert _rollout(bigger, *_holders(2), _waiting(bigger, GPU)).mode is RolloutMode.SURGE
    fatter = _model(resources={"memory": "900Gi"})
    both = "0/1 nodes are available: 1 Insufficient memory, 1 Insufficient nvidia.com/gpu."
    assert _rollout(fatter, *_holders(2, memory="10Gi"), _waiting(fatter, both)).mode is RolloutMode.SURGE
    assert _rollout(fatter, *_holders(2, memory="900Gi"), _waiting(fatter, both)).mode is RolloutMode.IN_PLACE


ELSEWHERE = (
    "0/4 nodes are available: 1 Insufficient nvidia.com/gpu, 3 node(s) didn't match Pod's node affinity/selector."
    " preemption: 0/4 nodes are available: 1 No preemption victims found for incoming pod."
)


@pytest.mark.parametrize(
    "asks",
    [
        {"nodeSelector": {"pool": "b"}},
        {"affinity": {"nodeAffinity": {"preferredDuringSchedulingIgnoredDuringExecution": [{"weight": 1}]}}},
        {"tolerations": [{"key": "pool", "operator": "Equal", "value": "b"}]},
        {"runtimeClassName": "other"},
        {"topologySpreadConstraints": [{"topologyKey": "zone", "maxSkew": 1, "whenUnsatisfiable": "DoNotSchedule"}]},
        {"hostNetwork": True},
        {"volumes": [{"name": "cache", "persistentVolumeClaim": {"claimName": "zone-b"}}]},
        {"containers": [{"ports": [{"hostPort": 8000}], "resources": {"limits": {"nvidia.com/gpu": "1"}}}]},
    ],
)
def test_gpu_of_another_pool_costs_no_pod(asks: dict[str, Any]) -> None:
    """A new pod that may run only where no old pod is gets nothing when an old one goes; whoever looks is told so."""
    model = _model()
    waiting = _waiting(model, ELSEWHERE)
    assert _rollout(model, *_holders(2), waiting).mode is RolloutMode.IN_PLACE
    waiting["spec"] = {**waiting.get("spec", {}), **asks}
    rollout = _rollout(model, *_holders(2), waiting)
    assert rollout.mode is RolloutMode.SURGE
    assert rollout.obstacle
    assert "asks for other nodes" in rollout.obstacle.message
    waiting["status"]["conditions"][0]["message"] = GPU
    assert _rollout(model, *_holders(2), waiting).mode is RolloutMode.IN_PLACE, "no node lacks anything else"


def test_what_the_api_server_adds_to_a_pod_is_no_other_place() -> None:
    """Tolerations that every pod has, the one for the GPU's own taint, and the usual scheduler's name."""
    model = _model()
    waiting, holders = _waiting(model, ELSEWHERE), _holders(2)
    for holder in holders:
        holder["spec"] |= {
            "schedulerName": "default-scheduler",
            "tolerations": [
                {"key": "node.kubernetes.io/not-ready", "operator": "Exists", "tolerationSeconds": 300},
                {"key": "nvidia.com/gpu", "operator": "Exists"},
            ],
        }
    assert _rollout(model, *holders, waiting).mode is RolloutMode.IN_PLACE


_TAINT = {"key": "drain", "value": "soon", "effect": "NoSchedule"}


@pytest.mark.parametrize(
    ("spec", "takes"),
    [
        ({}, True),
        ({"unschedulable": True}, False),
        ({"taints": [_TAINT]}, False),
        ({"taints": [{"key": "node.kubernetes.io/disk-pressure", "effect": "NoSchedule"}]}, False),
        ({"taints": [{**_TAINT, "effect": "PreferNoSchedule"}]}, True),
        ({"taints": [{"key": "nvidia.com/gpu", "value": "present", "effect": "NoSchedule"}]}, True),
        (None, False),
    ],
)
def test_gpu_of_a_node_that_takes_nobody_costs_no_pod(spec: dict[str, Any] | None, takes: bool) -> None:
    """What an old pod gives back on a cordoned or tainted node helps no new pod; in doubt it is one."""
    model = _model()
    says = "0/3 nodes are available: 1 Insufficient nvidia.com/gpu, 2 node(s) were unschedulable."
    waiting = _waiting(model, says)
    waiting["spec"]["tolerations"] = [{"key": "nvidia.com/gpu", "operator": "Exists"}]
    places = None if spec is None else {"node-1": {"metadata": {"name": "node-1"}, "spec": spec}}
    assert asks_for_nodes([*_holders(2), waiting])
    rollout = _rollout(model, *_holders(2), waiting, places=places)
    assert rollout.mode is (RolloutMode.IN_PLACE if takes else RolloutMode.SURGE)
    if not takes:
        assert rollout.obstacle
        assert "take no new pod" in rollout.obstacle.message


def test_nodes_are_not_listed_for_what_the_scheduler_says_clearly() -> None:
    """A full cluster, and nodes that the selector leaves out, need no look at the nodes."""
    model = _model()
    for says in (GPU, ELSEWHERE):
        assert not asks_for_nodes([*_holders(2), _waiting(model, says)])


def test_quota_does_not_help_a_template_that_fits_nowhere() -> None:
    """A quota that an old pod would free is no reason when the new pod asks for other nodes."""
    model = _model(resources={"nodeSelector": {"pool": "typo"}})
    assert _rollout(model, *_holders(2), live=_refused(model, QUOTA)).mode is RolloutMode.SURGE


def test_pod_that_is_leaving_may_mend_it() -> None:
    """While an old pod is still being stopped, no other one is asked to go."""
    model = _model()
    leaving = gpu_pod("leaving", "old")
    leaving["metadata"]["deletionTimestamp"] = "2026-05-04T12:05:00Z"
    assert _rollout(model, *_holders(2), leaving, _waiting(model, GPU)).mode is RolloutMode.SURGE


def test_refusal_of_an_earlier_template_does_not_count() -> None:
    """A Deployment keeps the words of the last refusal: what was said before this template was written is not of it."""
    model = _model()
    for began, mode in (("2026-05-04T11:55:00Z", RolloutMode.SURGE), ("2026-05-04T11:45:00Z", RolloutMode.IN_PLACE)):
        live = _refused(model, QUOTA)
        live["metadata"]["annotations"][BEGAN_ANNOTATION] = began
        assert _rollout(model, *_holders(2), live=live).mode is mode


def _in_place(deployment: Manifest) -> Manifest:
    strategy = {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 0, "maxUnavailable": 1}}
    return {**deployment, "spec": {**deployment["spec"], "strategy": strategy}}


def test_in_place_holds_for_one_template() -> None:
    """Once in place a rollout goes on so; the next template, and the end of the rollout, bring the surge back."""
    model, other = _model(), _model(engine={"args": ["--other"]})
    live = _in_place(deployment_of(model))
    going = make_pod("new", hash_of(model))
    assert _rollout(model, *_holders(1), going, live=live).mode is RolloutMode.IN_PLACE
    assert _rollout(other, *_holders(1), going, live=live).mode is RolloutMode.SURGE
    assert _rollout(model, make_pod("new", hash_of(model), ready=True), live=live).mode is RolloutMode.SURGE
    single = _model(1)
    assert _rollout(single, *_holders(1), live=_in_place(deployment_of(single))).mode is RolloutMode.SURGE


def test_the_moment_of_a_new_template_is_kept() -> None:
    """The Deployment says when it got its template, until it gets another one."""
    old, new = _model(), _model(engine={"args": ["--new"]})

    def annotations(model: Model, live: Manifest, now: datetime | None) -> dict[str, str]:
        objects = build_model(model, snapshot_of(model, live, now=now), SETTINGS).objects
        found: dict[str, str] = next(item for item in objects if item["kind"] == "Deployment")["metadata"][
            "annotations"
        ]
        return found

    began = annotations(new, deployment_of(old), NOW)
    assert began[BEGAN_ANNOTATION] == "2026-05-04T12:00:00Z"
    live = deployment_of(new)
    live["metadata"]["annotations"] = began
    later = annotations(new, live, NOW + timedelta(hours=1))
    assert later[BEGAN_ANNOTATION] == "2026-05-04T12:00:00Z"


def test_claim_that_another_node_holds_is_said() -> None:
    """A surge pod that waits on another node for a ReadWriteOnce claim says so, with the way out, and nothing goes."""
    model = _model(1, cache={"size": "1Gi"})
    conditions = [
        {"type": "PodScheduled", "status": "True", "lastTransitionTime": LONG_AGO},
        {"type": "PodReadyToStartContainers", "status": "False"},
    ]
    new = make_pod("new", hash_of(model), spec={"nodeName": "node-2"}, conditions=conditions)
    rollout = _rollout(model, *_holders(1), new)
    assert rollout.mode is RolloutMode.SURGE
    assert rollout.obstacle
    assert (rollout.obstacle.reason, rollout.obstacle.needs_person) == ("ClaimInUse", True)
    assert "InPlace" in rollout.obstacle.message


def test_nothing_lasts_without_a_clock() -> None:
    """Where there is no time, as in `capstan render`, no patience ever ends."""
    model = _model()
    assert _rollout(model, *_holders(2), _waiting(model, GPU), now=None).mode is RolloutMode.SURGE
