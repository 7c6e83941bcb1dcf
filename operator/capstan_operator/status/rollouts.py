"""What is seen of a rollout in steps, and what conditions say of it."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from capstan_contract.evaluation import TrackScores
from capstan_contract.gates import read_gate_summary
from capstan_contract.names import CANARY, COMPONENT_LABEL, TRACK_LABEL
from capstan_contract.tracks import Counters
from capstan_operator.api.kinds import Model
from capstan_operator.api.llmmodel import LLMModelSpec
from capstan_operator.api.rollout import RolloutStatus
from capstan_operator.desired.adoption import PAST_DEADLINE, is_rolling
from capstan_operator.desired.model import live_deployment
from capstan_operator.desired.naming import workload_name
from capstan_operator.desired.pods import condition_of, find_child, is_active, is_ready, pod_hash_of, template_hash
from capstan_operator.desired.replicas import wanted_replicas
from capstan_operator.desired.rollouts.machine import (
    Seen,
    SeenCanary,
    SeenJob,
    Split,
    read_action,
    try_of,
)
from capstan_operator.desired.rollouts.memory import State
from capstan_operator.desired.rollouts.objects import EVALUATION, TRY_ANNOTATION, job_name
from capstan_operator.desired.rollouts.revisions import SPEC_LABEL, asked_of
from capstan_operator.desired.shortage import moment_of
from capstan_operator.desired.snapshot import Snapshot
from capstan_operator.desired.types import DesiredModel
from capstan_operator.names import ROLLOUT_ACTION_ANNOTATION, ROLLOUT_BY_ANNOTATION
from capstan_operator.resources.api_resource import DEPLOYMENTS, JOBS
from capstan_operator.resources.resource import Manifest, is_owned
from capstan_operator.settings import BuildSettings
from capstan_operator.status.conditions import Finding
from capstan_operator.status.pod_problems import CLAIMS_ARE_MADE, find_pod_problem, find_refusal
from capstan_operator.status.types import Problem

BREAKS: Final = frozenset({"CrashLoop", "OutOfMemory"})
"""What no waiting mends. An image that cannot be pulled may be there in a moment: that has until the deadline."""
INTERRUPTED: Final = "Interrupted"
"""What `capstan eval gate` says when it was told to end."""
NO_ROOM: Final = frozenset({"InsufficientGPU", "Unschedulable"})


@dataclass(frozen=True)
class Tracks:
    """What the gateways, and the scorer, say of the model's rollout."""

    split: Split | None = None
    stable: Counters | None = None
    canary: Counters | None = None
    scores: tuple[TrackScores, ...] = ()


@dataclass(frozen=True)
class Pods:
    """The pods that carry the model's labels, by what they are for."""

    stable: tuple[Manifest, ...]
    canary: tuple[Manifest, ...]
    jobs: tuple[Manifest, ...]


def sort_pods(pods: Iterable[Manifest]) -> Pods:
    """Tell pods of the canary and of Jobs from those that serve."""
    stable: list[Manifest] = []
    canary: list[Manifest] = []
    jobs: list[Manifest] = []
    for pod in pods:
        labels = pod["metadata"].get("labels") or {}
        if labels.get(COMPONENT_LABEL) == EVALUATION:
            jobs.append(pod)
        else:
            (canary if labels.get(TRACK_LABEL) == CANARY else stable).append(pod)
    return Pods(tuple(stable), tuple(canary), tuple(jobs))


def see(
    model: Model,
    newest: LLMModelSpec,
    own: Snapshot,
    pods: Pods,
    *,
    memory: RolloutStatus | None,
    desired: DesiredModel | None,
    tracks: Tracks,
    settings: BuildSettings,
    now: datetime,
    is_its_turn: bool = True,
) -> Seen:
    """Give what the decision looks at. `model` is with the spec that its stable pods follow from, `newest` what the
    LLMModel says, `desired` what is wanted of the stable pods; None: it is not known yet. `is_its_turn`: whether a
    change of its profile may begin."""
    live, asked = live_deployment(model.key, own), asked_of(model, newest)
    replicas = wanted_replicas(newest, live)
    made_room = memory is not None and bool(memory.replacesOne) and replicas > 1
    said = newest.rollouts
    patience = settings.rollout_patience_seconds if said.patienceSeconds is None else float(said.patienceSeconds)
    selector = ((live or {}).get("spec", {}).get("selector") or {}).get("matchLabels") or {}
    return Seen(
        now=now,
        asked=asked,
        rollout=said,
        replicas=replicas,
        rolled_out=model.tried is None
        and desired is not None
        and _is_rolled_out(live, desired, pods.stable, replicas - made_room),
        kept=_is_kept(model, own, asked.revision),
        can_split=live is None or TRACK_LABEL in selector,
        patience=patience,
        surge_lacks_room_since=_surge_lacks_room_since(newest, live, desired, pods.stable, now),
        canary=_canary(model, newest, own, pods.canary, now),
        job=_job(model, own, pods.jobs, memory),
        split=tracks.split,
        stable_counts=tracks.stable,
        canary_counts=tracks.canary,
        scores=tracks.scores,
        is_its_turn=is_its_turn,
        action=read_action(model.asked, ROLLOUT_ACTION_ANNOTATION, ROLLOUT_BY_ANNOTATION),
    )


def progress_of(memory: RolloutStatus | None) -> Finding | None:
    """Say under Progressing what a rollout is at."""
    if memory is None or memory.state in (State.COMPLETE, State.PROMOTING):
        return None
    reason = {State.PAUSED: "RolloutPaused", State.ROLLED_BACK: "RolledBack"}.get(State(memory.state))
    if reason:
        return Finding("False", reason, _words(memory))
    return Finding("True", "CanaryRollout", _words(memory))


def trouble_of(memory: RolloutStatus | None) -> Finding | None:
    """Say under Degraded that a rollout needs a person."""
    if memory is None or memory.state not in (State.PAUSED, State.ROLLED_BACK):
        return None
    return Finding("True", "RolloutPaused" if memory.state == State.PAUSED else "RolledBack", _words(memory))


def _words(memory: RolloutStatus) -> str:
    return f"revision {memory.candidate}: {memory.message or memory.state}"


def _is_rolled_out(live: Manifest | None, desired: DesiredModel, pods: Iterable[Manifest], replicas: int) -> bool:
    if live is None or desired.pod_hash is None or template_hash(live) != desired.pod_hash or is_rolling(live):
        return False
    active = [pod for pod in pods if is_active(pod)]
    ready = sum(map(is_ready, active))
    return ready >= replicas and all(pod_hash_of(pod) == desired.pod_hash for pod in active)


def _surge_lacks_room_since(
    newest: LLMModelSpec, live: Manifest | None, desired: DesiredModel | None, pods: Iterable[Manifest], now: datetime
) -> datetime | None:
    if live is None or desired is None:
        return None
    new = [pod for pod in pods if is_active(pod) and not is_ready(pod) and pod_hash_of(pod) == desired.pod_hash]
    gpus, of = newest.resources.gpus, newest.resources.gpuResource
    problem = find_pod_problem(new, gpus=gpus, gpu_resource=of, now=now) or find_refusal(live, leaving=(), now=now)
    return _since(new, live) if problem and _lacks_room(problem) else None


def _lacks_room(problem: Problem) -> bool:
    # NB: of a pod whose claims are not made yet no scheduler has said anything.
    is_unplaced = problem.reason in NO_ROOM and problem.message != CLAIMS_ARE_MADE
    return is_unplaced or "exceeded quota" in problem.message


def _is_kept(model: Model, own: Snapshot, revision: str) -> bool:
    revisions = (own.revisions or {}).get(model.key, ())
    labels = [item["metadata"].get("labels") or {} for item in revisions if is_owned(item, model.uid)]
    return any(found.get(SPEC_LABEL) == revision for found in labels)


def _canary(
    model: Model, newest: LLMModelSpec, own: Snapshot, pods: tuple[Manifest, ...], now: datetime
) -> SeenCanary | None:
    children = own.children.get(model.key, ())
    live = find_child(children, DEPLOYMENTS.kind, workload_name(model.key.name, CANARY))
    if live is None:
        return None
    active = [pod for pod in pods if is_active(pod)]
    own_hash = template_hash(live)
    current = [pod for pod in active if pod_hash_of(pod) == own_hash]
    problem = find_pod_problem(
        [pod for pod in current if not is_ready(pod)],
        gpus=newest.resources.gpus,
        gpu_resource=newest.resources.gpuResource,
        now=now,
        mounted=own.mounted,
    ) or find_refusal(live, leaving=(), now=now)
    waits = problem is not None and _lacks_room(problem)
    progress = condition_of(live, "Progressing") or {}
    return SeenCanary(
        candidate=str((live["metadata"].get("annotations") or {}).get(TRY_ANNOTATION, "")),
        wanted=int(live["spec"].get("replicas", 1)),
        ready=sum(map(is_ready, current)),
        trouble=problem.reason if problem and problem.needs_person and problem.reason in BREAKS else "",
        message=problem.message if problem else "",
        lacks_room=waits,
        lacks_room_since=_since(current, live) if waits else None,
        late=progress.get("reason") == PAST_DEADLINE,
    )


def _since(pods: Iterable[Manifest], live: Manifest) -> datetime | None:
    """Give since when the first of the pods finds no room; where a quota lets none be made, since when that is so."""
    found = [(condition_of(pod, "PodScheduled") or {}).get("lastTransitionTime") for pod in pods if not is_ready(pod)]
    known = [str(one) for one in found if one]
    refused = (condition_of(live, "ReplicaFailure") or {}).get("lastTransitionTime")
    return moment_of(min(known) if known else refused)


def _job(model: Model, own: Snapshot, pods: tuple[Manifest, ...], memory: RolloutStatus | None) -> SeenJob | None:
    if memory is None:
        return None
    name = job_name(model.key.name, try_of(memory))
    live = find_child(own.children.get(model.key, ()), JOBS.kind, name)
    if live is None:
        return None
    for pod in pods:
        said = _terminated(pod) if _owner(pod) == live["metadata"].get("uid") else None
        summary = read_gate_summary(str(said.get("message") or "")) if said else None
        if summary is not None and not (summary.reason == INTERRUPTED and _is_thrown_out(pod)):
            return SeenJob(ended=True, summary=summary)
    failed = condition_of(live, "Failed") or {}
    if failed.get("status") == "True":
        return SeenJob(ended=True, message=str(failed.get("message") or failed.get("reason") or ""))
    return SeenJob(ended=(condition_of(live, "Complete") or {}).get("status") == "True")


def _is_thrown_out(pod: Manifest) -> bool:
    """Whether a node, or somebody for a node, has ended it: the Job makes another one."""
    return (condition_of(pod, "DisruptionTarget") or {}).get("status") == "True"


def _owner(pod: Manifest) -> str:
    owners = pod["metadata"].get("ownerReferences") or ()
    return next((str(one.get("uid")) for one in owners if one.get("kind") == JOBS.kind), "")


def _terminated(pod: Manifest) -> Mapping[str, Any] | None:
    statuses = (pod.get("status") or {}).get("containerStatuses") or ()
    found = ((one.get("state") or {}).get("terminated") for one in statuses)
    return next((one for one in found if one), None)
