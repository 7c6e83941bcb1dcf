"""What the gateway tells clients of a model of which no replica comes up.

The model's status says why and since when (`status.starting` decides it), so that a compile needs to know no pod.
Clients are told in words of ours, by the reason: what a scheduler, an admission webhook or a registry says names nodes,
images and other people's objects.
"""

from collections.abc import Mapping
from datetime import datetime
from typing import Any, Final

from capstan_contract.config import StartFailure

START_FAILURE: Final = "startFailure"
"""The field of the status."""
CRASH_LOOP: Final = "CrashLoop"
_OTHER: Final = "no replica becomes ready"
_WORDS: Final[Mapping[str, str]] = {
    "ImagePullFailed": "its image cannot be pulled",
    "ContainerConfigError": "its container cannot be started",
    "OutOfMemory": "it needs more memory than it may have",
    CRASH_LOOP: "its engine ends again each time that it is started",
    "Unschedulable": "no node takes a replica",
    "InsufficientGPU": "no GPU is free for a replica",
    "Preempted": "the GPUs for a replica are needed for others",
    "PodNotPrepared": "a node cannot prepare a replica",
    "ConfigMapNotFound": "a node cannot prepare a replica",
    "ConfigMapKeyNotFound": "a node cannot prepare a replica",
    "ResourceClaimNotFound": "no node takes a replica",
    "ServiceAccountNotFound": "the cluster takes no replica",
    "PodsRefused": "the cluster takes no replica",
    "ApplyRefused": "its replicas cannot be made",
    "OperatorForbidden": "its replicas cannot be made",
    "NameTaken": "its replicas cannot be made",
    "RolloutDeadlineExceeded": "no replica has become ready in the time that it has",
}


def start_failure_of(status: Mapping[str, Any]) -> StartFailure | None:
    """Read it off a status; None where that says nothing, or nothing that can be read."""
    said = status.get(START_FAILURE)
    if not isinstance(said, Mapping):
        return None
    reason = said.get("reason")
    try:
        since = int(datetime.fromisoformat(str(said.get("since"))).timestamp())
    except ValueError:
        return None
    if not isinstance(reason, str) or not reason.isalnum() or not reason.isascii() or since < 0:
        return None
    return StartFailure(reason=reason[:64], message=_WORDS.get(reason, _OTHER), since=since)
