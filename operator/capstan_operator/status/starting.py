"""Whether replicas that are wanted do not come up at all, so that nobody is to wait for them.

It is read off the pods each time anew: nothing has to be remembered, and a pod that gets on ends it. What fails once
may succeed a moment later, and nodes may be on their way, so it has to have lasted for about as long as a start takes.
Each pod is looked at by itself: as long as nothing keeps one of them from becoming ready, it may answer.
"""

from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from typing import Any, Final, NamedTuple

from capstan_operator.api.scaling import COLD_START_SECONDS
from capstan_operator.desired.pods import condition_of, is_ready
from capstan_operator.desired.shortage import moment_of
from capstan_operator.resources.resource import Manifest
from capstan_operator.status.conditions import conditions_by_type
from capstan_operator.status.facts import Facts
from capstan_operator.status.pod_problems import PATIENCE_SECONDS, find_pod_problem
from capstan_operator.status.scaling import PREEMPTED, Scaled
from capstan_operator.status.types import Problem

DEADLINE: Final = "RolloutDeadlineExceeded"
_GIVES_WAY: Final = Problem(PREEMPTED, "a model of a higher priority has work and lacks GPUs")
_UNPLACED: Final = frozenset({"Unschedulable", "InsufficientGPU", PREEMPTED})
_ACCIDENTS: Final = frozenset({"CrashLoop", "OutOfMemory"})
"""What may have happened once; that it goes on is what calls a person."""


class Start(NamedTuple):
    """What there is to say of a model's start."""

    failure: dict[str, Any] | None = None
    """`status.startFailure`; None while a replica may come up."""
    judge_after: float | None = None
    """Seconds until the same pods would be judged otherwise."""


def judge_start(facts: Facts, now: datetime, scaled: Scaled | None = None) -> Start:
    """Say whether no replica of a model comes up although some are wanted: also where that could not be written, or
    where the model may have none because it gives way to another one."""
    if facts.podless or facts.spec is None or facts.ready:
        return Start()
    pods = [pod for pod in (*facts.new, *facts.old) if not is_ready(pod)]
    if not pods and scaled is not None and scaled.denied_since is not None:
        return _judged([_GIVES_WAY], scaled.denied_since, facts, now)
    if not pods and (refused := _refusal(facts, scaled)) is not None:
        return _judged([refused], _without_pods_since(facts, now, scaled), facts, now)
    if facts.idle:
        return Start()
    problems = [_problem_of(pod, facts, now) for pod in pods]
    if None in problems or (not pods and facts.pod_problem is None):
        return _behind_deadline(facts)
    found = [problem for problem in (facts.pod_problem, *problems) if problem is not None]
    if any(problem.reason in _ACCIDENTS and not problem.needs_person for problem in found):
        return Start()
    return _judged(found, _since(facts, pods), facts, now)


def _judged(problems: list[Problem], since: datetime | None, facts: Facts, now: datetime) -> Start:
    """Judge by the first of the problems, and give each of them the time that it has."""
    if since is None:
        return Start()
    left = max(_grace(facts, problem.reason) for problem in problems) - (now - since).total_seconds()
    return Start(_failure(problems[0].reason, since)) if left <= 0 else Start(judge_after=left)


def _problem_of(pod: Manifest, facts: Facts, now: datetime) -> Problem | None:
    """Give what keeps one pod from becoming ready; None where it may."""
    if facts.spec is None:
        return None
    resources = facts.spec.resources
    found = find_pod_problem(
        [pod], gpus=resources.gpus, gpu_resource=resources.gpuResource, now=now, mounted=facts.mounted
    )
    return None if found and found.reason in _ACCIDENTS and _has_served(pod) else found


def _has_served(pod: Manifest) -> bool:
    """Whether the run that ended last was one that had become ready: an engine that served for weeks and ended once,
    whatever it had been through before, comes back."""
    since = moment_of((condition_of(pod, "Ready") or {}).get("lastTransitionTime"))
    began = [moment_of(one.get("startedAt")) for one in _endings(pod)]
    return since is not None and bool(began) and all(one is not None and one < since for one in began)


def _endings(pod: Manifest) -> Iterator[Mapping[str, Any]]:
    for container in (pod.get("status") or {}).get("containerStatuses") or ():
        state, last = container.get("state") or {}, container.get("lastState") or {}
        if ended := state.get("terminated") or last.get("terminated"):
            yield ended


def _refusal(facts: Facts, scaled: Scaled | None) -> Problem | None:
    """Give what the operator itself cannot do for replicas that are wanted: a Secret that is missing, a Deployment or a
    number that the API server refuses."""
    wanted = facts.wanted or (scaled is not None and scaled.desired)
    if not wanted and facts.deployment is not None:
        return None
    return next((problem for problem in facts.problems if not problem.partial), None)


def _grace(facts: Facts, reason: str) -> float:
    """Give how long it has to have lasted: `coldStartSeconds` where that is said. Else nodes get the time that they get
    before a person is called."""
    scaling = facts.spec.scaling if facts.spec else None
    if scaling is not None and scaling.coldStartSeconds is not None:
        return scaling.coldStartSeconds
    return PATIENCE_SECONDS if reason in _UNPLACED else COLD_START_SECONDS


def _since(facts: Facts, pods: list[Manifest]) -> datetime | None:
    """Give since when the first of the replicas is not ready, or is refused."""
    waiting = [
        (condition_of(pod, "Ready") or {}).get("lastTransitionTime") or pod["metadata"].get("creationTimestamp")
        for pod in pods
    ]
    refused = condition_of(facts.deployment, "ReplicaFailure") if facts.deployment and not waiting else None
    found = [moment_of(one) for one in (*waiting, (refused or {}).get("lastTransitionTime"))]
    return min((one for one in found if one is not None), default=None)


def _without_pods_since(facts: Facts, now: datetime, scaled: Scaled | None) -> datetime:
    """Give since when, at the earliest, there is no pod although one is wanted, and somebody is needed for it.

    NB: a condition keeps its time while only its reason changes; so the latest of all of these counts.
    """
    said = conditions_by_type(facts.model.status)
    if said.get("Degraded", {}).get("status") != "True":
        return now
    conditions = (said["Degraded"], said.get("Available"), condition_of(facts.deployment or {}, "Available"))
    found = [moment_of((one or {}).get("lastTransitionTime")) for one in conditions]
    return max((one for one in (*found, scaled.changed_at if scaled else None) if one is not None), default=now)


def _behind_deadline(facts: Facts) -> Start:
    live = facts.deployment or {}
    observed = int((live.get("status") or {}).get("observedGeneration") or 0)
    if not live or observed < int(live["metadata"].get("generation") or 0):
        return Start()  # What it says is of another template.
    condition = condition_of(live, "Progressing") or {}
    since = moment_of(condition.get("lastTransitionTime"))
    if condition.get("reason") != "ProgressDeadlineExceeded" or condition.get("status") != "False" or since is None:
        return Start()
    return Start(_failure(DEADLINE, since))


def _failure(reason: str, since: datetime) -> dict[str, Any]:
    return {"reason": reason, "since": since.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")}
