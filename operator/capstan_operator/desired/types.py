"""What the pure part hands to the shell."""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum

from capstan_contract.config import GatewayConfig
from capstan_operator.snapshot import Manifest, ModelKey, PodHash


class RolloutMode(StrEnum):
    """How pods of the old template are replaced."""

    SURGE = "Surge"
    """A new pod first, then one old pod less: needs room for one more."""
    IN_PLACE = "InPlace"
    """One old pod less first: for clusters with no spare GPU."""


@dataclass(frozen=True)
class DesiredModel:
    """Everything that one LLMModel should own, and the decisions behind it that its status tells."""

    key: ModelKey
    objects: tuple[Manifest, ...]
    """Complete manifests with owner reference, labels and the applied-hash annotation, in the order to apply them.
    Empty for an external model and for one with a faulty spec (then nothing is pruned either: `keep` is True)."""
    keep: bool = False
    """Do not prune what is owned and not listed here."""
    pod_hash: PodHash | None = None
    rollout: RolloutMode | None = None
    replicas: int | None = None
    """Replicas to hand to the Deployment; None when an autoscaler owns them and they are within bounds."""
    selector: str = ""


@dataclass(frozen=True)
class Verdict:
    """What became of one LLMModel in the gateway config."""

    accepted: bool
    reason: str
    """Accepted, Invalid or Conflicted (a served name that an older LLMModel has), as in GEP-713."""
    message: str


@dataclass(frozen=True)
class CompiledGateway:
    """The gateway config and a verdict per LLMModel."""

    config: GatewayConfig
    verdicts: Mapping[ModelKey, Verdict]
    credentials: Mapping[str, tuple[str, str, str]]
    """What to copy into the gateway's Secret: file name -> (namespace, Secret, key)."""
