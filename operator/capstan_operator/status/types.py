"""What the status computation is told beside the Snapshot, and what it hands back to the shell."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Literal

from capstan_contract.config import ConfigReport


class AckState(StrEnum):
    """Whether the gateway runs a config that contains a generation of a model."""

    NOT_NEEDED = "NotNeeded"
    """No gateway is to acknowledge anything (`gateway_service` is empty)."""
    NO_GATEWAY = "NoGateway"
    """No gateway replica is ready."""
    UNKNOWN = "Unknown"
    """The gateway could not be asked."""
    PENDING = "Pending"
    """Some ready replicas do not run it yet."""
    ACKNOWLEDGED = "Acknowledged"
    """Every ready replica runs it."""


@dataclass(frozen=True)
class Acknowledgement:
    """What the gateway's replicas say about one generation of one model."""

    state: AckState
    acknowledged: int = 0
    """Ready replicas that run it."""
    ready: int = 0
    """Ready replicas."""


@dataclass(frozen=True)
class Problem:
    """Something in the cluster that keeps a model from being as it should: a missing Secret, a refused object, a pod
    that does not become ready.

    The message names objects and fields, never a value of a Secret or a ConfigMap, and is the same for the same cause.
    """

    reason: str
    """CamelCase: SecretNotFound, SecretKeyNotFound, StorageClassNotFound, ApplyRefused, ImagePullFailed, ..."""
    message: str
    partial: bool = False
    """Whether the model answers all the same: another endpoint has its credential."""
    needs_person: bool = True
    """False: it may pass by itself."""
    recheck_after: float | None = None
    """Seconds until it needs a person although nothing changes."""


@dataclass(frozen=True)
class Transition:
    """A change of a condition that is worth an Event."""

    type: Literal["Normal", "Warning"]
    reason: str
    message: str


@dataclass(frozen=True)
class StatusResult:
    """The status to write, if it differs, and what follows from it."""

    status: Mapping[str, Any]
    """The complete `status` of the LLMModel, with our own conditions only."""
    changed: bool
    """Whether it differs from the status that the model has now."""
    transitions: tuple[Transition, ...] = ()
    recheck_after: float | None = None
    """Seconds until the same facts would give another status."""


def judge_acknowledgement(
    model_id: str, *, generation: int, served: bool, reports: Sequence[ConfigReport | None]
) -> Acknowledgement:
    """Say how far the ready gateway replicas are with one generation of one model.

    `reports` has one item per ready replica, None for one that did not answer. `served` is whether the model belongs
    into the config at all: a replica has acknowledged a model that does not when it no longer has it.
    """
    if not reports:
        return Acknowledgement(AckState.NO_GATEWAY)
    answers = [report for report in reports if report is not None]
    if not answers:
        return Acknowledgement(AckState.UNKNOWN, ready=len(reports))
    if served:
        done = sum(report.generations.get(model_id, -1) >= generation for report in answers)
    else:
        done = sum(model_id not in report.generations for report in answers)
    state = AckState.ACKNOWLEDGED if done == len(reports) else AckState.PENDING
    return Acknowledgement(state, acknowledged=done, ready=len(reports))
