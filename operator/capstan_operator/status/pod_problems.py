"""What keeps pods from becoming ready, told from their status.

Messages are the same for the same cause: no counters, no times, no names of pods.
"""

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from types import MappingProxyType
from typing import Any, Final

from capstan_operator.desired.mounts import Mounted, missing_of, mounted_by, waits_for_mounts
from capstan_operator.desired.pods import are_pods_refused, condition_of, unschedulable
from capstan_operator.desired.shortage import EXCEEDED_QUOTA
from capstan_operator.resources.resource import Manifest, ObjectKey
from capstan_operator.status.types import Problem

PATIENCE_SECONDS: Final = 300.0
"""How long a pod may find no node before a person is called: nodes may be on their way."""
LOOK_AGAIN_SECONDS: Final = 30.0
"""For something that a pod mounts and that was not there."""
CLAIMS_ARE_MADE: Final = "claims of devices are being made"
CRASHES: Final = 3
"""So many restarts are no accident."""
_PULL_REASONS: Final = frozenset(
    {"ErrImagePull", "ImagePullBackOff", "InvalidImageName", "ErrImageNeverPull", "ImageInspectError"}
)
_CONFIG_REASONS: Final = frozenset({"CreateContainerConfigError", "CreateContainerError", "RunContainerError"})
_NO_ACCOUNT: Final = re.compile(r'serviceaccount "([^"]*)" not found')
_NOT_THERE: Final = re.compile(r"not found$|^couldn't find key ")
_REFUSED_POD: Final = re.compile(r'pods "[^"]*" is forbidden: ')


@dataclass(frozen=True)
class _Container:
    """The status of one container."""

    name: str
    image: str
    ready: bool
    restarts: int
    waiting: Mapping[str, Any]
    last: Mapping[str, Any]
    """How it ended the last time; {} when it never did."""


def find_pod_problem(
    pods: Sequence[Manifest],
    *,
    gpus: int,
    gpu_resource: str,
    now: datetime,
    leaving: Sequence[Manifest] = (),
    mounted: Mapping[ObjectKey, Manifest | None] = MappingProxyType({}),
) -> Problem | None:
    """Give the first thing, in the order of certainty, that keeps one of these pods from becoming ready.

    `leaving` are pods that are being stopped and may still hold what these wait for: nobody is called before the end
    of their grace. `mounted` are ConfigMaps that were looked for; None: there is none of this name.
    """
    containers = sorted((c for pod in pods for c in _containers(pod)), key=lambda c: (c.name, c.image))
    for check in _CONTAINER_CHECKS:
        if found := [problem for container in containers if (problem := check(container))]:
            worst = _worst(found)
            return _with_pull_secrets(worst, pods) if worst and worst.reason == "ImagePullFailed" else worst
    grace = _grace(leaving, now)
    unplaced = [_unscheduled(pod, gpus, gpu_resource, now, grace) for pod in pods if unschedulable(pod)]
    unclaimed = [problem for pod in pods if (problem := _unclaimed(pod, now))]
    lacking = [problem for pod in pods if (problem := _lacks(pod, mounted))]
    unprepared = [problem for pod in pods if (problem := _unprepared(pod, now))]
    return _worst(unplaced) or _worst(unclaimed) or _worst(lacking) or _worst(unprepared)


def seconds_to_judge(pods: Sequence[Manifest], now: datetime) -> float | None:
    """Give how long until a pod that its node still prepares has taken too long, if there is such a pod."""
    left = [PATIENCE_SECONDS - _age(since, now) for pod in pods if (since := _preparing_since(pod))]
    return min((seconds for seconds in left if seconds > 0), default=None)


def find_refusal(deployment: Manifest | None, *, leaving: Sequence[Manifest], now: datetime) -> Problem | None:
    """Say why the API server refuses to make pods, if it does. Pods that are being stopped may be what fills a quota,
    and nobody is called before the end of their grace."""
    if deployment is None or not are_pods_refused(deployment):
        return None
    says = str((condition_of(deployment, "ReplicaFailure") or {}).get("message", ""))
    if missing := _NO_ACCOUNT.search(says):
        account = f"the ServiceAccount '{missing[1]}' does not exist in the namespace of the model"
        return Problem("ServiceAccountNotFound", f"{account}: create it, or change `spec.pods.serviceAccountName`")
    left = _grace(leaving, now) if EXCEEDED_QUOTA in says else 0.0
    return Problem(
        "PodsRefused",
        f"pods are refused: {_REFUSED_POD.sub('', says)}",
        needs_person=left <= 0,
        recheck_after=left if left > 0 else None,
    )


def _worst(found: Sequence[Problem]) -> Problem | None:
    """Give one of several, always the same one."""
    return max(found, key=lambda problem: (problem.needs_person, problem.message), default=None)


def _containers(pod: Manifest) -> Iterator[_Container]:
    status = pod.get("status") or {}
    for found in (*(status.get("initContainerStatuses") or ()), *(status.get("containerStatuses") or ())):
        state, last = found.get("state") or {}, found.get("lastState") or {}
        yield _Container(
            name=str(found.get("name")),
            image=str(found.get("image")),
            ready=bool(found.get("ready")),
            restarts=int(found.get("restartCount") or 0),
            waiting=state.get("waiting") or {},
            last=state.get("terminated") or last.get("terminated") or {},
        )


def _image_pull(container: _Container) -> Problem | None:
    if container.waiting.get("reason") not in _PULL_REASONS:
        return None
    return Problem("ImagePullFailed", f"the image '{container.image}' of container '{container.name}' cannot be pulled")


def _with_pull_secrets(problem: Problem, pods: Sequence[Manifest]) -> Problem:
    """Name the Secrets that are looked for: a node says nothing in a pod's status of one that is not there."""
    named = {str(one.get("name")) for pod in pods for one in (pod.get("spec") or {}).get("imagePullSecrets") or ()}
    if not named:
        return problem
    secrets = ", ".join(f"'{name}'" for name in sorted(named))
    return replace(problem, message=f"{problem.message}; Secrets of this namespace that it is pulled with: {secrets}")


def _configuration(container: _Container) -> Problem | None:
    reason = container.waiting.get("reason")
    if reason not in _CONFIG_REASONS:
        return None
    # Only this one speaks of the manifest; the others name containers and processes, differently each time.
    says = str(container.waiting.get("message", "")) if reason == "CreateContainerConfigError" else ""
    todo = "; create it in the namespace of the model, and the replica goes on" if _NOT_THERE.search(says) else ""
    detail = f": {says}{todo}" if says else ""
    return Problem("ContainerConfigError", f"container '{container.name}' cannot be started{detail}")


def _out_of_memory(container: _Container) -> Problem | None:
    if container.ready or container.last.get("reason") != "OOMKilled":
        return None
    message = f"container '{container.name}' was ended because it used more memory than its limit"
    return Problem("OutOfMemory", message, needs_person=container.restarts >= CRASHES)


def _crash(container: _Container) -> Problem | None:
    looping = container.waiting.get("reason") == "CrashLoopBackOff"
    failed = not container.ready and container.last.get("exitCode", 0) != 0
    if not looping and not failed:
        return None
    message = (
        f"container '{container.name}' keeps ending, the last time with exit code {container.last.get('exitCode')}"
    )
    return Problem("CrashLoop", message, needs_person=container.restarts >= CRASHES)


_CONTAINER_CHECKS: Final[tuple[Callable[[_Container], Problem | None], ...]] = (
    _image_pull,
    _configuration,
    _out_of_memory,
    _crash,
)


def _unscheduled(pod: Manifest, gpus: int, gpu_resource: str, now: datetime, grace: float) -> Problem:
    condition = unschedulable(pod) or {}
    says = str(condition.get("message", "")).strip()
    since = condition.get("lastTransitionTime") or pod["metadata"].get("creationTimestamp")
    left = max(grace, PATIENCE_SECONDS - _age(since, now))
    reason, what = "Unschedulable", "no node takes a replica"
    if gpus and f"Insufficient {gpu_resource}" in says:
        reason, what = "InsufficientGPU", f"no node has {gpus} {gpu_resource} free for a replica"
    return Problem(
        reason,
        f"{what}; the scheduler says: {says}",
        needs_person=left <= 0,
        recheck_after=left if left > 0 else None,
    )


def _unprepared(pod: Manifest, now: datetime) -> Problem | None:
    """A node took the pod and cannot even begin: mostly it waits for something to mount."""
    since = _preparing_since(pod)
    if since is None or _age(since, now) < PATIENCE_SECONDS:
        return None
    secrets = [_described(one) for one in mounted_by(pod) if one.kind == "Secret"]
    named = f"; of Secrets it mounts {', '.join(secrets)}" if secrets else ""
    message = "a node cannot prepare the pod: a ConfigMap, Secret or claim that it mounts may be missing or in use"
    return Problem("PodNotPrepared", f"{message}{named}")


def _unclaimed(pod: Manifest, now: datetime) -> Problem | None:
    """The scheduler does not look at a pod before all of its claims are there, and says nothing of it."""
    claims = (pod.get("spec") or {}).get("resourceClaims") or ()
    if not claims or condition_of(pod, "PodScheduled") is not None:
        return None
    left = LOOK_AGAIN_SECONDS - _age(pod["metadata"].get("creationTimestamp"), now)
    if left > 0:
        return Problem("Unschedulable", CLAIMS_ARE_MADE, needs_person=False, recheck_after=left)
    made = {one.get("name") for one in (pod.get("status") or {}).get("resourceClaimStatuses") or ()}
    wanted = [
        f"ResourceClaimTemplate '{claim['resourceClaimTemplateName']}'"
        if claim.get("resourceClaimTemplateName")
        else f"ResourceClaim '{claim.get('resourceClaimName')}'"
        for claim in claims
        if claim.get("name") not in made
    ]
    message = f"the scheduler waits for claims of devices that are not there: {', '.join(wanted)}"
    return Problem(
        "ResourceClaimNotFound",
        f"{message}; create what is missing in the namespace of the model",
        recheck_after=LOOK_AGAIN_SECONDS,
    )


def _described(one: Mounted) -> str:
    return f"'{one.name}'" + (f" (key {', '.join(map(repr, one.keys))})" if one.keys else "")


def _lacks(pod: Manifest, mounted: Mapping[ObjectKey, Manifest | None]) -> Problem | None:
    """A node took the pod, and what it mounts is known to be missing: no waiting ends that."""
    if not waits_for_mounts(pod):
        return None
    for one in mounted_by(pod):
        key = ObjectKey(str(pod["metadata"].get("namespace")), one.name)
        if one.kind == "ConfigMap" and key in mounted and (what := missing_of(one, mounted[key])):
            reason = "ConfigMapNotFound" if mounted[key] is None else "ConfigMapKeyNotFound"
            # NB: nothing of the pod changes with it before its node looks again.
            return Problem(reason, f"a replica mounts {what}", recheck_after=LOOK_AGAIN_SECONDS)
    return None


def _preparing_since(pod: Manifest) -> str | None:
    placed = condition_of(pod, "PodScheduled") or {}
    return str(placed.get("lastTransitionTime") or "") or None if waits_for_mounts(pod) else None


def _grace(leaving: Sequence[Manifest], now: datetime) -> float:
    return max((-_age(pod["metadata"].get("deletionTimestamp"), now) for pod in leaving), default=0.0)


def _age(since: object, now: datetime) -> float:
    return (now - datetime.fromisoformat(str(since))).total_seconds() if since else 0.0
