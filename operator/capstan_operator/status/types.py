"""What the status computation is told beside the Snapshot, and what it hands back to the shell."""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Final, Literal

CONFIG_TOO_LARGE: Final = "ConfigTooLarge"
CONFIG_HELD: Final = "ConfigHeld"


class AckState(StrEnum):
    """Whether the gateway runs a config that contains a generation of a model."""

    NOT_NEEDED = "NotNeeded"
    """No gateway is to acknowledge anything (`gateway_service` is empty)."""
    NO_GATEWAY = "NoGateway"
    """No gateway replica is ready."""
    UNKNOWN = "Unknown"
    """No replica runs something else, but of some it is not known what they run."""
    BLOCKED = "Blocked"
    """The config that is written does not have it, and the one that does cannot be written."""
    REFUSED = "Refused"
    """Some ready replicas run the config, but are of a release that does not know what this entry requires."""
    PENDING = "Pending"
    """Some ready replicas do not run it yet."""
    ACKNOWLEDGED = "Acknowledged"
    """Every ready replica runs it."""


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
class Acknowledgement:
    """What the gateway's replicas say about one generation of one model."""

    state: AckState
    acknowledged: int = 0
    """Ready replicas that run it."""
    ready: int = 0
    """Ready replicas."""
    missing: tuple[str, ...] = ()
    """What a release that refuses it does not know."""
    problem: Problem | None = None
    """Why the config cannot be written."""


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
