"""How the pods of an old template are replaced: nothing that serves goes before something else serves.

So every rollout begins with a surge, and a bad template never gets further: its pod does not become ready, and the
old ones serve on. The one thing that a surge cannot do is to find a GPU where the old pods hold them all. Then, and
only then, an old pod goes first: when the model has several replicas, so that others serve on, when the shortage has
lasted, since an autoscaler may be adding a node, and when what an old pod gives back is enough, and is where the new
one may run. A single replica goes in place only when its user has said so. With N replicas in place, a template that
turns out to be bad costs one pod, and the N - 1 others serve on.

It is decided afresh for each template. When the last old pod is gone, the strategy is a surge again.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from capstan_contract.names import GROUP
from capstan_operator.api.llmmodel import RolloutStrategy
from capstan_operator.desired.pods import condition_of, is_active, is_ready, pod_hash_of, template_hash, unschedulable
from capstan_operator.desired.shortage import Shortage, find_shortage, moment_of, seconds_since
from capstan_operator.desired.snapshot import PodHash
from capstan_operator.desired.types import Obstacle, Rollout, RolloutMode
from capstan_operator.resources.resource import Manifest

BEGAN_ANNOTATION: Final = f"{GROUP}/rollout-began"
"""On the Deployment: when its present template was written over another one."""
NO_ROOM: Final = "no room for a surge: pods are replaced in place"
CHOSEN: Final = "`spec.rollout.strategy` is InPlace"
WAY_OUT: Final = "set `spec.rollout.strategy` to InPlace to replace a replica before the new one is ready"
_CLAIM_SAYS: Final = ("ReadWriteOncePod", "volume node affinity conflict")
SURGE: Final = Rollout(RolloutMode.SURGE)


@dataclass(frozen=True)
class Policy:
    """What a model says about its rollouts."""

    strategy: RolloutStrategy
    patience: float
    replicas: int
    """How many there should be now."""
    gpu_resource: str
    exclusive_claim: str | None = None
    """A claim of the pods that only one node at a time can attach (ReadWriteOnce)."""


def decide_rollout(
    live: Manifest | None,
    pod_hash: PodHash,
    *,
    pods: Sequence[Manifest],
    policy: Policy,
    now: datetime | None,
    nodes: Mapping[str, Manifest] | None = None,
) -> Rollout:
    """Decide how pods of an old template are replaced. `now` None: nothing has lasted for long. `nodes` None: of the
    nodes of old pods nothing is known."""
    if policy.strategy is RolloutStrategy.IN_PLACE:
        return Rollout(RolloutMode.IN_PLACE, CHOSEN)
    if live is None or begins_rollout(live, pod_hash):
        return SURGE
    if all(pod_hash_of(pod) == pod_hash for pod in pods if is_active(pod)):
        return SURGE
    may_replace = policy.strategy is RolloutStrategy.AUTO and policy.replicas > 1
    if may_replace and _is_in_place(live):
        return Rollout(RolloutMode.IN_PLACE, NO_ROOM)
    shortage = find_shortage(live, pods, pod_hash, gpu_resource=policy.gpu_resource, began=_began(live), nodes=nodes)
    if shortage is None:
        return Rollout(RolloutMode.SURGE, obstacle=_held_claim(pods, pod_hash, policy, now))
    return _without_room(shortage, policy, now, may_replace=may_replace and shortage.is_mended_by_an_old_pod)


def begins_rollout(live: Manifest, pod_hash: PodHash) -> bool:
    """Say whether writing the template would make new pods."""
    return template_hash(live) != pod_hash


def rollout_annotations(live: Manifest | None, pod_hash: PodHash, now: datetime | None) -> dict[str, str]:
    """Give the annotation of the Deployment that says since when it has its template."""
    if live is None:
        return {}
    if begins_rollout(live, pod_hash):
        return {BEGAN_ANNOTATION: now.strftime("%Y-%m-%dT%H:%M:%SZ")} if now else {}
    known = (live["metadata"].get("annotations") or {}).get(BEGAN_ANNOTATION)
    return {BEGAN_ANNOTATION: known} if known else {}


def strategy(mode: RolloutMode) -> dict[str, Any]:
    """Give the Deployment's strategy."""
    surge = mode is RolloutMode.SURGE
    return {
        "type": "RollingUpdate",
        "rollingUpdate": {"maxSurge": 1 if surge else 0, "maxUnavailable": 0 if surge else 1},
    }


def _without_room(shortage: Shortage, policy: Policy, now: datetime | None, *, may_replace: bool) -> Rollout:
    left = policy.patience - seconds_since(shortage.since, now)
    if may_replace and left <= 0:
        return Rollout(RolloutMode.IN_PLACE, NO_ROOM)
    then = "if it lasts, pods are replaced in place" if may_replace else f"free a GPU, or {WAY_OUT}"
    if shortage.closed:
        then = f"nodes of the present replicas take no new pod, or it is not known whether they do; {then}"
    elif shortage.elsewhere:
        then = f"the new template asks for other nodes than those of the present replicas; {then}"
    message = f"there is no {policy.gpu_resource} for one more replica, and the present ones serve on; {then}"
    return Rollout(
        RolloutMode.SURGE,
        obstacle=Obstacle(
            "NoRoomForSurge",
            f"{message}; the cluster says: {shortage.says}",
            needs_person=left <= 0,
            recheck_after=left if left > 0 else None,
        ),
    )


def _held_claim(pods: Sequence[Manifest], pod_hash: PodHash, policy: Policy, now: datetime | None) -> Obstacle | None:
    """Say that a new pod waits for a claim that old pods on another node hold, if one does."""
    if policy.exclusive_claim is None:
        return None
    old = {_node(pod) for pod in pods if pod_hash_of(pod) != pod_hash and is_active(pod)}
    waiting = [pod for pod in pods if pod_hash_of(pod) == pod_hash and is_active(pod) and waits_for_claim(pod, old)]
    if not waiting:
        return None
    since = max((moment_of((condition_of(pod, "PodScheduled") or {}).get("lastTransitionTime")) for pod in waiting),
                key=lambda moment: seconds_since(moment, now))  # fmt: skip
    left = policy.patience - seconds_since(since, now)
    return Obstacle(
        "ClaimInUse",
        f"the claim '{policy.exclusive_claim}' can be attached to one node at a time, and the present replicas, which"
        f" serve on, hold it on another one; {WAY_OUT}",
        needs_person=left <= 0,
        recheck_after=left if left > 0 else None,
    )


def waits_for_claim(pod: Manifest, old_nodes: set[str]) -> bool:
    """Say whether a pod waits for a claim that pods on other nodes hold."""
    if refused := unschedulable(pod):
        return any(words in str(refused.get("message")) for words in _CLAIM_SAYS)
    prepared = condition_of(pod, "PodReadyToStartContainers") or {}
    return bool(_node(pod)) and _node(pod) not in old_nodes and not is_ready(pod) and prepared.get("status") == "False"


def _node(pod: Manifest) -> str:
    return str((pod.get("spec") or {}).get("nodeName") or "")


def _began(live: Manifest) -> datetime | None:
    return moment_of((live["metadata"].get("annotations") or {}).get(BEGAN_ANNOTATION))


def _is_in_place(live: Manifest) -> bool:
    return bool((live["spec"].get("strategy") or {}).get("rollingUpdate", {}).get("maxSurge") == 0)
