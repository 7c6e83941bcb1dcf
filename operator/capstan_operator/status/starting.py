"""Whether replicas that are wanted do not come up at all, so that nobody is to wait for them.

It is read off the pods each time anew: nothing has to be remembered, and a pod that gets on ends it. What fails once
may succeed a moment later, and nodes may be on their way, so it has to have lasted for about as long as a start takes.
"""

from datetime import UTC, datetime
from typing import Any, Final, NamedTuple

from capstan_operator.api.scaling import COLD_START_SECONDS
from capstan_operator.desired.pods import condition_of, is_ready
from capstan_operator.desired.shortage import moment_of
from capstan_operator.status.facts import Facts
from capstan_operator.status.pod_problems import PATIENCE_SECONDS

DEADLINE: Final = "RolloutDeadlineExceeded"
_UNPLACED: Final = frozenset({"Unschedulable", "InsufficientGPU"})
_ACCIDENTS: Final = frozenset({"CrashLoop", "OutOfMemory"})
"""What may have happened once; that it goes on is what calls a person."""


class Start(NamedTuple):
    """What there is to say of a model's start."""

    failure: dict[str, Any] | None = None
    """`status.startFailure`; None while a replica may come up."""
    judge_after: float | None = None
    """Seconds until the same pods would be judged otherwise."""


def judge_start(facts: Facts, now: datetime) -> Start:
    """Say whether no replica of a model comes up although some are wanted."""
    if facts.podless or facts.spec is None or facts.idle or facts.ready:
        return Start()
    problem = facts.pod_problem
    if problem is None:
        return _behind_deadline(facts)
    since = _since(facts)
    if since is None or (problem.reason in _ACCIDENTS and not problem.needs_person):
        return Start()
    left = _grace(facts, problem.reason) - (now - since).total_seconds()
    return Start(_failure(problem.reason, since)) if left <= 0 else Start(judge_after=left)


def _grace(facts: Facts, reason: str) -> float:
    """Give how long it has to have lasted: `coldStartSeconds` where that is said. Else nodes get the time that they get
    before a person is called."""
    scaling = facts.spec.scaling if facts.spec else None
    if scaling is not None and scaling.coldStartSeconds is not None:
        return scaling.coldStartSeconds
    return PATIENCE_SECONDS if reason in _UNPLACED else COLD_START_SECONDS


def _since(facts: Facts) -> datetime | None:
    """Give since when the first of the replicas is not ready, or is refused."""
    waiting = [
        (condition_of(pod, "Ready") or {}).get("lastTransitionTime") or pod["metadata"].get("creationTimestamp")
        for pod in facts.new
        if not is_ready(pod)
    ]
    refused = condition_of(facts.deployment, "ReplicaFailure") if facts.deployment and not waiting else None
    found = [moment_of(one) for one in (*waiting, (refused or {}).get("lastTransitionTime"))]
    return min((one for one in found if one is not None), default=None)


def _behind_deadline(facts: Facts) -> Start:
    condition = (condition_of(facts.deployment, "Progressing") if facts.deployment else None) or {}
    since = moment_of(condition.get("lastTransitionTime"))
    if condition.get("reason") != "ProgressDeadlineExceeded" or condition.get("status") != "False" or since is None:
        return Start()
    return Start(_failure(DEADLINE, since))


def _failure(reason: str, since: datetime) -> dict[str, Any]:
    return {"reason": reason, "since": since.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")}
