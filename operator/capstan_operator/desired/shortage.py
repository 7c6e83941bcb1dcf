"""New pods that find no GPU while old ones of the same model hold theirs: what makes it worth to replace in place.

Nothing else does. A refusal by Pod Security or a webhook, a node selector that no node has, an image that cannot be
pulled: for all of these an old pod would be given away for nothing. Nor does a shortage that no old pod can mend,
such as of a template that asks for more GPUs, or for more memory, than an old pod would give back, or for other nodes
than those where the old pods are. Nor does an old pod of a node that takes no new one, cordoned or tainted as it is.
"""

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Any, Final

from capstan_operator.desired.placement import is_placed_alike, takes_new_pods
from capstan_operator.desired.pods import (
    condition_of,
    is_active,
    is_ready,
    pod_hash_of,
    requested,
    unschedulable,
)
from capstan_operator.resources.resource import Manifest

EXCEEDED_QUOTA: Final = "exceeded quota"
_INSUFFICIENT: Final = re.compile(r"Insufficient ([^\s,;]+)")
_VERDICT: Final = re.compile(r"0/\d+ nodes are available: (.+?)\.?(?: preemption: .*)?$", re.DOTALL)
_LACK: Final = re.compile(r"\d+ Insufficient [^\s,;]+")
_MISMATCH: Final = re.compile(r"\d+ node\(s\) didn't match (?:Pod's node affinity/selector|node selector)")
_REQUESTED: Final = re.compile(r"requested: ([^ ]+?)(?:, used: |$)")

_Asks = Callable[[Mapping[str, Any]], Decimal]


@dataclass(frozen=True)
class Shortage:
    """GPUs that a new pod lacks and old pods hold."""

    says: str
    """The words of the scheduler or the quota."""
    since: datetime | None
    """Since when no node takes the pod. The API does not say when the GPUs became the reason: a pod that was refused
    for something else before has used up some of the patience."""
    is_mended_by_an_old_pod: bool
    """Whether any old pod that goes gives back enough of everything that is lacking, where the new pod can use it."""
    elsewhere: bool = False
    """The new pod asks for other nodes than those where the old ones are, and those are no help to it."""
    closed: bool = False
    """Nodes where the old ones are take no new pod, or may not: what is given back there helps nobody."""


def find_shortage(
    live: Manifest,
    pods: Sequence[Manifest],
    pod_hash: str,
    *,
    gpu_resource: str,
    began: datetime | None,
    nodes: Mapping[str, Manifest] | None = None,
) -> Shortage | None:
    """Give the shortage that stops a rollout to the template with `pod_hash`, which `live` has already.

    None while a pod is still leaving: it may be about to give back what is lacking. `began` is when the template was
    written: what the Deployment says of pods that were refused before that, it says of another template. `nodes` are
    asked where the scheduler's words leave open whether they are about the nodes of old pods.
    """
    holders = [pod for pod in pods if pod_hash_of(pod) != pod_hash and _holds(pod, gpu_resource)]
    if not [pod for pod in holders if is_active(pod)] or not all(map(is_active, holders)):
        return None
    new = [pod for pod in pods if pod_hash_of(pod) == pod_hash and is_active(pod)]
    found = _told_by_scheduler(new, gpu_resource) or _told_by_quota(live, new, gpu_resource, began)
    if found is None:
        return None
    says, since, asks = found
    template = (live["spec"].get("template") or {}).get("spec") or {}
    mended = all(ask(pod["spec"]) >= ask(template) > 0 for ask in asks for pod in holders)
    wants = next((pod["spec"] for pod in new if unschedulable(pod)), template)
    alike = all(is_placed_alike(wants, pod["spec"], gpu_resource=gpu_resource) for pod in holders)
    elsewhere = not alike and not _lacks_nothing_else(says)
    closed = _leaves_nodes_open(says) and not all(_takes(nodes, holder, wants) for holder in holders)
    return Shortage(says, since, mended and not elsewhere and not closed, elsewhere, closed)


def find_starved(pods: Iterable[Manifest], gpu_resource: str) -> tuple[int, tuple[datetime, ...]]:
    """Give how many pods a node has taken, and since when none takes each of those that lack GPUs."""
    active = [pod for pod in pods if is_active(pod)]
    placed = sum(bool((pod.get("spec") or {}).get("nodeName")) for pod in active)
    found = [_told_by_scheduler([pod], gpu_resource) for pod in active]
    return placed, tuple(sorted(told[1] for told in found if told is not None and told[1] is not None))


def asks_for_nodes(pods: Iterable[Manifest]) -> bool:
    """Say whether a rollout may depend on what the nodes of its old pods are like."""
    active = [pod for pod in pods if is_active(pod)]
    verdicts = [str((unschedulable(pod) or {}).get("message")) for pod in active]
    waits = any(_INSUFFICIENT.search(says) and _leaves_nodes_open(says) for says in verdicts)
    return waits and any((pod.get("spec") or {}).get("nodeName") for pod in active)


def seconds_since(moment: datetime | None, now: datetime | None) -> float:
    """Give how long ago it was; 0 when one of them is not known."""
    return (now - moment).total_seconds() if moment and now else 0.0


def moment_of(text: object) -> datetime | None:
    """Read a time as Kubernetes writes it."""
    return datetime.fromisoformat(str(text)) if text else None


def _told_by_scheduler(new: Iterable[Manifest], gpu_resource: str) -> tuple[str, datetime | None, list[_Asks]] | None:
    for pod in new:
        condition = unschedulable(pod)
        says = str((condition or {}).get("message")).strip()
        lacking = {name.rstrip(".") for name in _INSUFFICIENT.findall(says)}
        if condition and gpu_resource in lacking:
            since = condition.get("lastTransitionTime") or pod["metadata"].get("creationTimestamp")
            return says, moment_of(since), [_asks(name) for name in sorted(lacking)]
    return None


def _lacks_nothing_else(says: str) -> bool:
    """Whether the scheduler has looked at all nodes and finds nothing but resources lacking, on any of them."""
    verdict = _VERDICT.match(says)
    return verdict is not None and all(_LACK.fullmatch(reason.strip()) for reason in verdict[1].split(","))


def _leaves_nodes_open(says: str) -> bool:
    """Whether the scheduler refuses nodes for what may be the matter with those of old pods too: a taint, a cordon.

    A selector or affinity that does not match is not: it is that of the old pods, or `elsewhere` says so.
    """
    verdict = _VERDICT.match(says)
    if verdict is None:
        return says.startswith("0/")
    reasons = (reason.strip() for reason in verdict[1].split(","))
    return not all(_LACK.fullmatch(reason) or _MISMATCH.fullmatch(reason) for reason in reasons)


def _takes(nodes: Mapping[str, Manifest] | None, holder: Manifest, wants: Mapping[str, Any]) -> bool:
    node = (nodes or {}).get(str(holder["spec"].get("nodeName")))
    return node is not None and takes_new_pods(node, wants)


def _told_by_quota(
    live: Manifest, new: Sequence[Manifest], gpu_resource: str, began: datetime | None
) -> tuple[str, datetime | None, list[_Asks]] | None:
    condition = condition_of(live, "ReplicaFailure") or {}
    says = str(condition.get("message"))
    if condition.get("status") != "True" or EXCEEDED_QUOTA not in says or not all(map(is_ready, new)):
        return None
    since = moment_of(condition.get("lastTransitionTime"))
    names = {one.partition("=")[0] for group in _REQUESTED.findall(says) for one in group.split(",")}
    if f"requests.{gpu_resource}" not in names or (since and began and since < began):
        return None
    return says[says.index(EXCEEDED_QUOTA) :], since, [_quota_asks(name) for name in sorted(names)]


def _holds(pod: Manifest, resource: str) -> bool:
    spec = pod.get("spec") or {}
    finished = (pod.get("status") or {}).get("phase") in ("Succeeded", "Failed")
    return bool(spec.get("nodeName")) and not finished and requested(spec, resource) > 0


def _asks(resource: str, of: str = "requests") -> _Asks:
    return lambda spec: requested(spec, resource, of=of)


def _quota_asks(name: str) -> _Asks:
    """Give what a pod takes of a resource, by the name that quotas have for it."""
    kind, dot, resource = name.partition(".")
    if dot and kind in ("requests", "limits"):
        return _asks(resource, kind)
    if name in ("pods", "count/pods"):
        return lambda _: Decimal(1)
    return _asks(name)
