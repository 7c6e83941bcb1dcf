"""How the pods of an old template are replaced when GPUs are scarce.

A surge needs room for one more pod. On a cluster whose GPUs are all taken the new pod would wait for an old one to go,
and the old one for the new one to be ready: for ever. So the choice is made when a rollout begins, from the room that
there is, and corrected when a surge pod turns out to find no node. Between rollouts the choice stays as it is:
headroom comes and goes, and writing it down each time would never end.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

from capstan_operator.desired.pods import are_pods_refused, is_active, pod_hash_of, template_hash, unschedulable
from capstan_operator.desired.snapshot import NodeCapacity, PodHash
from capstan_operator.desired.types import RolloutMode
from capstan_operator.resources.resource import Manifest

NO_ROOM: Final = "no room for a surge: pods are replaced in place"


@dataclass(frozen=True)
class Rollout:
    """How pods are replaced, and why when it is in place."""

    mode: RolloutMode
    message: str = ""


SURGE: Final = Rollout(RolloutMode.SURGE)
IN_PLACE: Final = Rollout(RolloutMode.IN_PLACE, NO_ROOM)


def decide_rollout(
    live: Manifest | None,
    pod_hash: PodHash,
    *,
    pods: Sequence[Manifest],
    nodes: Sequence[NodeCapacity] | None,
    gpus: int,
    gpu_resource: str,
    exclusive_claim: str | None,
) -> Rollout:
    """Decide how pods of an old template are replaced.

    `exclusive_claim` is a claim that only one node at a time can attach (ReadWriteOnce): a surge pod on another node
    would wait for it as long as an old pod lives. `nodes` None: not known, so a surge is tried.
    """
    if exclusive_claim:
        message = f"the claim '{exclusive_claim}' is ReadWriteOnce: pods are replaced in place"
        return Rollout(RolloutMode.IN_PLACE, message)
    if live is None:
        return SURGE
    if begins_rollout(live, pod_hash):
        return SURGE if not gpus or nodes is None or has_room(nodes, gpus, gpu_resource) else IN_PLACE
    return IN_PLACE if _is_in_place(live) or is_surge_stuck(live, pods, pod_hash) else SURGE


def begins_rollout(live: Manifest, pod_hash: PodHash) -> bool:
    """Say whether writing the template would make new pods."""
    return template_hash(live) != pod_hash


def has_room(nodes: Sequence[NodeCapacity], gpus: int, gpu_resource: str) -> bool:
    """Say whether one node has the GPUs of one more pod free. Node selectors are not looked at: a surge pod that
    they keep out is found Unschedulable and ends the surge."""
    return any(node.free.get(gpu_resource, 0) >= gpus for node in nodes)


def is_surge_stuck(live: Manifest, pods: Sequence[Manifest], pod_hash: PodHash) -> bool:
    """Say whether a new pod finds no node, or no room in a quota, while old pods still hold theirs."""
    active = [pod for pod in pods if is_active(pod)]
    if all(pod_hash_of(pod) == pod_hash for pod in active):
        return False
    return are_pods_refused(live) or any(pod_hash_of(pod) == pod_hash and unschedulable(pod) for pod in active)


def strategy(mode: RolloutMode) -> dict[str, Any]:
    """Give the Deployment's strategy."""
    surge = mode is RolloutMode.SURGE
    return {
        "type": "RollingUpdate",
        "rollingUpdate": {"maxSurge": 1 if surge else 0, "maxUnavailable": 0 if surge else 1},
    }


def _is_in_place(live: Manifest) -> bool:
    return bool((live["spec"].get("strategy") or {}).get("rollingUpdate", {}).get("maxSurge") == 0)
