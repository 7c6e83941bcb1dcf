"""What people read in the status of representative LLMModels: every condition with its message.

Write the expected file again, and look at the difference, with: UPDATE_GOLDEN=1 pytest tests/golden/status
"""

import os
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import yaml

from capstan_operator.api.kinds import Model
from capstan_operator.desired.compile import compile_gateway
from capstan_operator.desired.model import build_model
from capstan_operator.desired.snapshot import Snapshot
from capstan_operator.desired.types import LostFallback, LostName, Pending, Verdict
from capstan_operator.resources.resource import Manifest, ObjectKey
from capstan_operator.status.compute import compute_status
from capstan_operator.status.types import Acknowledgement, AckState, Problem
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

EXPECTED = Path(__file__).parent / "expected.yaml"
RUNS = Acknowledgement(AckState.ACKNOWLEDGED, acknowledged=2, ready=2)
Told = dict[str, Any]
FILE = {"files": [{"path": "/templates/chat", "configMapKeyRef": {"name": "templates", "key": "chat"}}]}
HIDDEN_FILE = {"files": [{"path": "/etc/key", "secretKeyRef": {"name": "hidden", "key": "key"}}]}


def tell(model: Model, snapshot: Snapshot, ack: Acknowledgement = RUNS, *, minutes: int = 0, **options: Any) -> Told:
    """Give the status as people see it, and what becomes an Event."""
    now = NOW + timedelta(minutes=minutes)
    snapshot = replace(snapshot, now=now)
    verdict = options.pop("verdict", None) or compile_gateway(snapshot.models.values()).verdicts[model.key]
    desired = replace(build_model(model, snapshot, SETTINGS), **options.pop("desired", {}))
    result = compute_status(model, desired, snapshot, verdict, ack, now, **options)
    told = {c["type"]: f"{c['status']} {c['reason']}: {c['message']}" for c in result.status["conditions"]}
    told |= {key: value for key, value in result.status.items() if key in ("replicas", "readyReplicas", "servedName")}
    told["events"] = [f"{one.type} {one.reason}: {one.message}" for one in result.transitions]
    if result.recheck_after is not None:
        told["looksAgainAfter"] = result.recheck_after
    return told


def live(model: Model, *pods: Manifest, children: tuple[Manifest, ...] = (), **status: Any) -> Snapshot:
    """Give the world of a model whose Deployment is written."""
    return snapshot_of(model, deployment_of(model, **status), *children, pods=pods)


def serving(**spec: Any) -> Told:
    """A model with one pod that is ready."""
    model = make_model(**spec)
    return tell(model, live(model, make_pod("p", hash_of(model), ready=True)))


def acknowledged(ack: Acknowledgement) -> Told:
    """The same, by what the gateway says."""
    model = make_model()
    return tell(model, live(model, make_pod("p", hash_of(model), ready=True)), ack)


def judged(verdict: Verdict) -> Told:
    """The same, by what the compiler says."""
    model = make_model()
    return tell(model, live(model, make_pod("p", hash_of(model), ready=True)), verdict=verdict)


def container(*, restarts: int = 0, **state: Any) -> Told:
    """A model whose only pod has a container in this state."""
    model = make_model()
    return tell(model, live(model, waiting_pod("p", hash_of(model), restarts=restarts, **state)))


def claimed(phase: str | None, **spec: Any) -> Told:
    """A model whose weights are on a claim that is in this phase, or not there."""
    model = make_model(**(spec or {"model": {"source": "pvc://weights/llama"}}))
    claims = {ObjectKey("team", "weights"): {"status": {"phase": phase}}} if phase else {}
    own = {"kind": "PersistentVolumeClaim", "metadata": {"name": "llama-weights"}, "status": {"phase": phase}}
    return tell(model, replace(snapshot_of(model, *((own,) if spec and phase else ())), claims=claims))


def unplaced(says: str, *, minutes: int = 0, replicas: int = 1) -> Told:
    """A model with GPUs, a pod that no node takes and one of the generation before."""
    model = make_model(resources={"gpus": 2}, replicas=replicas)
    pods = (gpu_pod("old", "old", 2), unschedulable_pod("new", hash_of(model), says))
    return tell(model, live(model, *pods), minutes=minutes)


def unprepared(minutes: int) -> Told:
    """A pod that its node cannot prepare."""
    model = make_model()
    conditions = [
        {"type": "PodScheduled", "status": "True", "lastTransitionTime": "2026-05-04T11:56:00Z"},
        {"type": "PodReadyToStartContainers", "status": "False"},
    ]
    return tell(model, live(model, make_pod("new", hash_of(model), conditions=conditions)), minutes=minutes)


def lacking(found: Manifest | None, **spec: Any) -> Told:
    """A pod that its node cannot prepare, and what was found of the ConfigMap that it mounts."""
    model = make_model(**spec)
    volumes = deployment_of(model)["spec"]["template"]["spec"]["volumes"]
    conditions = [
        {"type": "PodScheduled", "status": "True", "lastTransitionTime": "2026-05-04T11:56:00Z"},
        {"type": "PodReadyToStartContainers", "status": "False"},
    ]
    pod = make_pod("new", hash_of(model), spec={"volumes": volumes}, conditions=conditions)
    snapshot = replace(live(model, pod), mounted={ObjectKey("team", "templates"): found})
    return tell(model, snapshot, minutes=1)


def dropped_claims() -> Told:
    """An API server without Dynamic Resource Allocation."""
    model = make_model(resources={"claims": [{"name": "gpus", "resourceClaimTemplateName": "pair"}]})
    deployment = deployment_of(model)
    del deployment["spec"]["template"]["spec"]["resourceClaims"]
    return tell(model, snapshot_of(model, deployment))


def unclaimed(minutes: int, *made: str) -> Told:
    """A pod at which no scheduler looks, because of its claims; those of `made` are there."""
    claims = [
        {"name": "gpus", "resourceClaimTemplateName": "pair"},
        {"name": "net", "resourceClaimName": "nic"},
    ]
    model = make_model(resources={"claims": claims})
    pod = make_pod(
        "new",
        hash_of(model),
        spec={"resourceClaims": claims},
        phase="Pending",
        conditions=[],
        resourceClaimStatuses=[{"name": one, "resourceClaimName": f"new-{one}"} for one in made],
    )
    created = {**pod["metadata"], "creationTimestamp": "2026-05-04T12:00:00Z"}
    return tell(model, live(model, {**pod, "metadata": created}), minutes=minutes)


def unpulled() -> Told:
    """A pod with pull secrets whose image cannot be pulled."""
    model = make_model(pods={"imagePullSecrets": [{"name": "registry"}]})
    pod = waiting_pod("p", hash_of(model), state={"waiting": {"reason": "ImagePullBackOff"}})
    return tell(model, live(model, {**pod, "spec": {"imagePullSecrets": [{"name": "registry"}, {"name": "team"}]}}))


def overdue(*, ready: bool = False) -> Told:
    """A rollout that has made no progress for too long."""
    model = make_model()
    condition = {"type": "Progressing", "status": "False", "reason": "ProgressDeadlineExceeded"}
    return tell(model, live(model, make_pod("new", hash_of(model), ready=ready), conditions=[condition]))


def written_before() -> Told:
    """A Deployment that has not got its new template yet."""
    return tell(make_model(engine={"args": ["--new"]}), live(make_model()))


def uncounted() -> Told:
    """A Deployment that says nothing of generations."""
    model = make_model()
    deployment = deployment_of(model, observedGeneration=None)
    del deployment["metadata"]["generation"]
    return tell(model, snapshot_of(model, deployment, pods=(make_pod("p", hash_of(model), ready=True),)))


def refused(says: str) -> Told:
    """A Deployment whose pods the API server refuses."""
    model = make_model()
    condition = {
        "type": "ReplicaFailure",
        "status": "True",
        "message": f'pods "llama-model-5d4f-x" is forbidden: {says}',
    }
    return tell(model, live(model, conditions=[condition]))


def dropped_image() -> Told:
    """An API server that does not know image volumes."""
    model = make_model(model={"source": "oci://registry.example.com/models/tiny:1"})
    deployment = deployment_of(model)
    spec = deployment["spec"]["template"]["spec"]
    spec["volumes"] = [volume for volume in spec["volumes"] if volume["name"] != "image"]
    return tell(model, snapshot_of(model, deployment))


def rolling(replicas: int, *pods: tuple[str, bool]) -> Told:
    """A model with pods of the old and the new template, ready or not."""
    model = make_model(replicas=replicas)
    made = [
        make_pod(f"p{number}", hash_of(model) if template == "new" else template, ready=ready)
        for number, (template, ready) in enumerate(pods)
    ]
    return tell(model, live(model, *made))


def outdated(pending: Pending) -> Told:
    """A model that runs what its spec asks for, and the operator would do it otherwise by now."""
    model = make_model()
    return tell(model, live(model, make_pod("p", hash_of(model), ready=True)), desired={"pending": pending})


def rolling_in_place() -> Told:
    """Old pods give way, and the new one is starting."""
    model = make_model(replicas=2, rollout={"strategy": "InPlace"})
    pods = (make_pod("old", "old", ready=True), make_pod("new", hash_of(model)))
    return tell(model, live(model, *pods))


def giving_way(*old: Manifest, says: str, minutes: int = 9) -> Told:
    """Old pods are to give way, if there are any, and no node takes the new one."""
    model = make_model(rollout={"strategy": "InPlace"}, resources={"gpus": 1})
    return tell(model, live(model, *old, unschedulable_pod("new", hash_of(model), says)), minutes=minutes)


def crashing_before() -> Told:
    """A rollout whose old pod keeps ending, and whose new one is on its way."""
    model = make_model()
    old = waiting_pod("old", "old", restarts=9, state=BACKS_OFF, lastState=ENDED)
    return tell(model, live(model, old, make_pod("new", hash_of(model))))


def kept(backend: str, *pods: Manifest) -> Told:
    """A faulty model of which the gateway goes on with what was accepted last."""
    model = make_model(replicas=-1)
    verdict = Verdict(False, "Invalid", "`spec.replicas` is wrong", kept=True, kept_backend=backend)
    return tell(model, live(make_model(), *pods), verdict=verdict)


def unpatchable() -> Told:
    """A model whose spec is one, with a patch that has no meaning."""
    model = make_model(template={"spec": {"$nothing": 1}})
    return tell(model, live(make_model(), make_pod("p", "old", ready=True)))


def hosted_now() -> Told:
    """A model that a hosted API answers by now, whose Deployment of before was overdue."""
    condition = {"type": "Progressing", "status": "False", "reason": "ProgressDeadlineExceeded"}
    deployment = deployment_of(make_model(), conditions=[condition])
    model = make_model(external={"url": "https://api.example.com/v1"})
    return tell(model, snapshot_of(model, deployment))


def sharing(*pods: tuple[str, str, bool]) -> Told:
    """Several replicas on a claim of one node: pods by template, node, and whether they are ready."""
    model = make_model(cache={"size": "1Gi"}, replicas=2)

    def pod(template: str, node: str, ready: bool) -> Manifest:
        conditions = [
            {"type": "Ready", "status": str(ready)},
            {"type": "PodReadyToStartContainers", "status": str(ready)},
        ]
        hash_ = hash_of(model) if template == "new" else template
        return make_pod(node, hash_, spec={"nodeName": node}, conditions=conditions)

    return tell(model, live(model, *(pod(*one) for one in pods)))


def unseen() -> Told:
    """A Deployment that its controller has not looked at."""
    model = make_model()
    return tell(model, live(model, make_pod("p", hash_of(model), ready=True), observedGeneration=0))


def virtual(*members: Model) -> Told:
    """A router over these."""
    model = make_model("router", router={"members": [{"name": one.key.name} for one in members]})
    return tell(model, Snapshot(models={one.key: one for one in (model, *members)}))


def without_judge() -> Told:
    """A cascade whose judge takes no requests, and will not by itself."""
    cascade = {"members": [{"name": "a"}, {"name": "b"}], "estimator": {"type": "Judge", "judge": {"name": "j"}}}
    model = make_model("cascade", cascade=cascade)
    members = (make_member("a"), make_member("b"), make_member("j", "False", "CrashLoop", degraded=True))
    return tell(model, Snapshot(models={one.key: one for one in (model, *members)}))


def lost_names() -> Told:
    """A model that lost an alias and a fallback."""
    name = LostName("spec.aliases[0]", "big", "Conflicted", "the name 'big' belongs to 'a/b'")
    fallback = LostFallback("spec.fallbacks[0]", "far", "is in a namespace that may not be used", needs_person=True)
    return judged(Verdict(True, "Accepted", "", lost_names=(name,), lost_fallbacks=(fallback,)))


def lost_fallback() -> Told:
    """A model that lost a fallback alone."""
    fallback = LostFallback("spec.fallbacks[0]", "far", "is in a namespace that may not be used", needs_person=True)
    return judged(Verdict(True, "Accepted", "", lost_fallbacks=(fallback,)))


ENDED = {"terminated": {"exitCode": 2, "reason": "Error"}}
BACKS_OFF = {"waiting": {"reason": "CrashLoopBackOff"}}
SCENES: dict[str, Callable[[], Told]] = {
    "new": lambda: tell(make_model(), snapshot_of(make_model())),
    "serving": serving,
    "serving, weights in the engine's image": lambda: serving(
        engine={"type": "OpenAICompatible", "image": "registry.example.com/engine:1", "args": ["--port", "8000"]},
        model={"source": None},
    ),
    "serving, a simulator": lambda: serving(engine={"type": "Simulator"}),
    "serving, with options in a file": lambda: serving(engine={"args": ["--config", "/x.yaml"]}),
    "idle": lambda: tell(make_model(replicas=0), live(make_model(replicas=0))),
    "faulty": lambda: tell(make_model(replicas=-1), snapshot_of(make_model(replicas=-1))),
    "faulty, its pods serve on": lambda: kept("Service", make_pod("p", "old", ready=True)),
    "faulty, it has no ready pod": lambda: kept("Service"),
    "faulty, a hosted API answers still": lambda: kept("External"),
    "faulty, its members answer still": lambda: kept("Router"),
    "faulty, its cascade is asked still": lambda: kept("Cascade"),
    "patched without meaning": unpatchable,
    "external, with a Deployment of before": hosted_now,
    "external": lambda: tell(
        make_model(external={"url": "https://api.example.com/v1"}),
        snapshot_of(make_model(external={"url": "https://api.example.com/v1"})),
    ),
    "no gateway": lambda: acknowledged(Acknowledgement(AckState.NO_GATEWAY)),
    "gateway that does not answer": lambda: acknowledged(Acknowledgement(AckState.UNKNOWN, ready=2)),
    "gateway of which half answers": lambda: acknowledged(Acknowledgement(AckState.UNKNOWN, acknowledged=1, ready=2)),
    "gateway that is behind": lambda: acknowledged(Acknowledgement(AckState.PENDING, acknowledged=1, ready=2)),
    "gateway that is too old": lambda: acknowledged(
        Acknowledgement(AckState.REFUSED, acknowledged=1, ready=2, missing=("guards", "limits"))
    ),
    "gateway that runs this while the newest config is too large": lambda: acknowledged(
        Acknowledgement(
            AckState.ACKNOWLEDGED, acknowledged=2, ready=2, problem=Problem("ConfigTooLarge", "the config is too large")
        )
    ),
    "gateway whose config is too large": lambda: acknowledged(
        Acknowledgement(AckState.BLOCKED, problem=Problem("ConfigTooLarge", "the config is too large"))
    ),
    "conflict": lambda: judged(Verdict(False, "Conflicted", "the name 'llama' belongs to 'a/b'")),
    "lost names": lost_names,
    "lost fallback": lost_fallback,
    "held back": lambda: judged(Verdict(False, "Conflicted", "lost it", held="the config that would drop it is held")),
    "claim that does not exist": lambda: claimed(None),
    "claim that waits": lambda: claimed("Pending"),
    "claim that is lost": lambda: claimed("Lost"),
    "claim that is bound": lambda: claimed("Bound"),
    "own claim that does not exist yet": lambda: claimed(None, cache={"size": "1Gi"}),
    "own claim that waits": lambda: claimed("Pending", cache={"size": "1Gi"}),
    "own claim that is lost": lambda: claimed("Lost", cache={"size": "1Gi"}),
    "own claim that is bound": lambda: claimed("Bound", cache={"size": "1Gi"}),
    "own claim that nobody has listed": lambda: tell(
        make_model(cache={"size": "1Gi"}), Snapshot(models={make_model().key: make_model(cache={"size": "1Gi"})})
    ),
    "replicas on a claim of one node": lambda: sharing(("new", "a", True), ("new", "b", False)),
    "rollout on a claim of one node": lambda: sharing(("old", "a", True), ("new", "b", False)),
    "storage class that does not exist": lambda: tell(
        make_model(cache={"size": "1Gi", "storageClassName": "fast"}),
        snapshot_of(make_model(cache={"size": "1Gi", "storageClassName": "fast"})),
        problems=[Problem("StorageClassNotFound", "the StorageClass 'fast' does not exist")],
    ),
    "image volume that is dropped": dropped_image,
    "image that cannot be pulled": lambda: container(state={"waiting": {"reason": "ErrImagePull"}}),
    "container whose config is wrong": lambda: container(
        state={"waiting": {"reason": "CreateContainerConfigError", "message": "secret 'x' not found"}}
    ),
    "container that cannot be made": lambda: container(
        state={"waiting": {"reason": "RunContainerError", "message": "id 1234: no such device"}}
    ),
    "container that ended": lambda: container(state=BACKS_OFF, lastState=ENDED, restarts=1),
    "container that keeps ending": lambda: container(state=BACKS_OFF, lastState=ENDED, restarts=3),
    "container that keeps ending well": lambda: container(
        state=BACKS_OFF, lastState={"terminated": {"exitCode": 0}}, restarts=3
    ),
    "container that used too much memory": lambda: container(
        state={"terminated": {"exitCode": 137, "reason": "OOMKilled"}}, restarts=3
    ),
    "container that used too much memory once": lambda: container(
        state={"terminated": {"exitCode": 137, "reason": "OOMKilled"}}, restarts=1
    ),
    "pod without a GPU": lambda: unplaced("0/1 nodes are available: 1 Insufficient nvidia.com/gpu."),
    "pod without a GPU for long": lambda: unplaced(
        "0/1 nodes are available: 1 Insufficient nvidia.com/gpu.", minutes=9
    ),
    "pods without a GPU for long": lambda: unplaced("1 Insufficient nvidia.com/gpu.", minutes=9, replicas=2),
    "pod without a node for long": lambda: unplaced("0/1 nodes are available: 1 had a taint.", minutes=9),
    "pod that waits for its node": lambda: unprepared(0),
    "pod that waits too long for its node": lambda: unprepared(1),
    "pod whose template file is not there": lambda: lacking(None, engine=FILE),
    "pod whose template file has another key": lambda: lacking({"data": {"other": "x"}}, engine=FILE),
    "pod whose template file is there": lambda: lacking({"data": {"chat": "x"}}, engine=FILE),
    "pod whose hidden file may be missing": lambda: lacking({}, engine=HIDDEN_FILE),
    "pod with pull secrets that cannot be pulled": unpulled,
    "pod whose claims are being made": lambda: unclaimed(0),
    "pod whose claims cannot be made": lambda: unclaimed(1),
    "pod of whose claims one cannot be made": lambda: unclaimed(1, "gpus"),
    "claims of devices that are dropped": dropped_claims,
    "pods of an account that is not there": lambda: refused(
        'error looking up service account team/models: serviceaccount "models" not found'
    ),
    "pods that a quota refuses": lambda: refused("exceeded quota: gpus"),
    "pods that are refused": lambda: refused("violates PodSecurity"),
    "rollout that is overdue": overdue,
    "rollout that was overdue and has come up": lambda: overdue(ready=True),
    "Deployment of the template before": written_before,
    "Deployment without generations": uncounted,
    "rollout, half done": lambda: rolling(2, ("old", True), ("new", True)),
    "rollout, nothing ready": lambda: rolling(2, ("old", False), ("new", False)),
    "rollout, old pods serve": lambda: rolling(2, ("old", True), ("new", False)),
    "rollout in place, old pods serve": rolling_in_place,
    "rollout in place, an old pod will give its GPU": lambda: giving_way(
        gpu_pod("old", "old"), says="0/1 nodes are available: 1 Insufficient nvidia.com/gpu."
    ),
    "rollout in place, an old pod will give its GPU soon": lambda: giving_way(
        gpu_pod("old", "old"), says="0/1 nodes are available: 1 Insufficient nvidia.com/gpu.", minutes=0
    ),
    "rollout, the old pod keeps ending": crashing_before,
    "rollout in place, no old pod is left": lambda: giving_way(
        says="0/1 nodes are available: 1 Insufficient nvidia.com/gpu."
    ),
    "rollout in place, what is lacking no old pod has": lambda: giving_way(
        gpu_pod("old", "old"), says="0/1 nodes are available: 1 had a taint."
    ),
    "newer template that waits for its turn": lambda: outdated(Pending.ADOPTION),
    "newer template that waits for a change": lambda: outdated(Pending.NEXT_CHANGE),
    "two problems": lambda: tell(
        make_model(),
        live(make_model()),
        problems=[Problem("SecretNotFound", "the Secret 'a' is missing"), Problem("ApplyRefused", "the quota is full")],
    ),
    "scaling up": lambda: rolling(2, ("new", True), ("new", False)),
    "scaling down": lambda: rolling(1, ("new", True), ("new", True)),
    "Deployment that was not looked at": unseen,
    "router": lambda: virtual(make_member("a"), make_member("b")),
    "router, one member down": lambda: virtual(make_member("a"), make_member("b", "False", "CrashLoop", degraded=True)),
    "router, all members down": lambda: virtual(
        make_member("a", "False", "Idle"), make_member("b", "False", "CrashLoop")
    ),
    "router, all members idle": lambda: virtual(make_member("a", "False", "Idle"), make_member("b", "False", "Idle")),
    "router, no member will come back": lambda: virtual(
        make_member("a", "False", "CrashLoop", degraded=True), make_member("b", "False", "CrashLoop", degraded=True)
    ),
    "cascade without its judge": without_judge,
}


def test_what_people_read_is_what_was_reviewed() -> None:
    """Each condition of each scene says what was reviewed, word by word."""
    written = yaml.safe_dump({name: scene() for name, scene in SCENES.items()}, sort_keys=False, width=1000)
    if os.environ.get("UPDATE_GOLDEN"):
        EXPECTED.write_text(written)
    expected = yaml.safe_load(EXPECTED.read_text())
    assert yaml.safe_load(written) == expected


@pytest.mark.parametrize("name", SCENES)
def test_nothing_is_told_twice(name: str) -> None:
    """A fact that several conditions tell is one Event."""
    events = SCENES[name]()["events"]
    assert len(events) == len(set(events))
