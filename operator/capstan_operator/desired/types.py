"""What the pure part hands to the shell."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from functools import cached_property
from types import MappingProxyType
from typing import Final

from capstan_contract.config import GatewayConfig
from capstan_operator.desired.snapshot import PodHash
from capstan_operator.resources.resource import Fault, Manifest, ObjectKey, PolicyKey, identity_of

MEMBERS_MISSING: Final = "MembersMissing"


class RolloutMode(StrEnum):
    """How pods of the old template are replaced."""

    SURGE = "Surge"
    """A new pod first, then one old pod less: needs room for one more."""
    IN_PLACE = "InPlace"
    """One old pod less first: for clusters with no spare GPU."""


@dataclass(frozen=True)
class Obstacle:
    """What keeps a rollout that surges from going on, while the old pods serve."""

    reason: str
    message: str
    needs_person: bool
    recheck_after: float | None = None
    """Seconds until it needs a person, or is decided otherwise, although nothing changes."""


@dataclass(frozen=True)
class Rollout:
    """How pods of an old template are replaced."""

    mode: RolloutMode
    message: str = ""
    """Why pods are replaced in place, for people; empty for a surge."""
    obstacle: Obstacle | None = None


class Action(StrEnum):
    """What is wanted of an object."""

    APPLY = "Apply"
    """It is to be as the manifest says."""
    HOLD = "Hold"
    """It stays as it is: it is neither written nor deleted."""
    PRUNE = "Prune"
    """It goes, if the model owns it."""


@dataclass(frozen=True)
class Wanted:
    """What is wanted of one object."""

    manifest: Manifest
    """To apply: complete, with owner reference, labels and the applied-hash annotation. Else the live one."""
    action: Action = Action.APPLY


class Pending(StrEnum):
    """Why a pod template that is newer than the one in force is not in force."""

    ADOPTION = "Adoption"
    """The settings of the install have changed, such as an image, or a prompt that models may share: it is adopted when
    its turn comes."""
    NEXT_CHANGE = "NextChange"
    """Only the operator has changed, or adoption is switched off: it comes with the next change of the spec."""


@dataclass(frozen=True)
class DesiredModel:
    """Everything that one LLMModel should own, and the decisions behind it that its status tells."""

    key: ObjectKey
    wanted: tuple[Wanted, ...]
    """One for each object that is to be there or is there, in the order to apply them. An external or virtual model
    holds nothing; one with a faulty spec holds what it has."""
    pod_hash: PodHash | None = None
    """Of the template in force."""
    rollout: Rollout | None = None
    pending: Pending | None = None
    replicas: int | None = None
    """With `scaling`: what to apply as the Deployment's `spec.replicas` under SCALE_MANAGER, before the objects when
    the Deployment exists (otherwise it would fall back to 1 for a moment), else after them. None: nothing to apply,
    because the number is as it should be, or because there is no `scaling` and the Deployment in `objects` says it.
    With `faults`: what to apply to the Deployment that is held.
    """
    selector: str = ""
    """Of the pods that serve; "" when nothing could be built."""
    faults: tuple[Fault, ...] = ()
    """Why nothing could be built: the model's own errors, and those of its pod template patch."""

    @property
    def objects(self) -> tuple[Manifest, ...]:
        """The manifests to apply, in order."""
        return tuple(wanted.manifest for wanted in self.wanted if wanted.action is Action.APPLY)

    @property
    def left(self) -> frozenset[tuple[str, str]]:
        """(kind, name) of what is left as it is."""
        return frozenset(identity_of(wanted.manifest) for wanted in self.wanted if wanted.action is Action.HOLD)


@dataclass(frozen=True)
class LeftOut:
    """A member that a virtual model has to do without."""

    field: str
    """Path of the field that names it."""
    key: ObjectKey
    reason: str
    """What is wrong with it: "does not exist"."""

    def __str__(self) -> str:
        return f"`{self.field}` names the LLMModel '{self.key.name}', which {self.reason}"


@dataclass(frozen=True)
class LostName:
    """An alias, or an adapter's name, that a model has to do without."""

    field: str
    name: str
    reason: str
    """Conflicted (another model has it), NameReserved or NameNotAllowed."""
    message: str

    def __str__(self) -> str:
        return self.message


@dataclass(frozen=True)
class LostFallback:
    """A fallback that a model has to do without."""

    field: str
    name: str
    message: str
    needs_person: bool = False
    """Whether the model is there and may not be used; one that is not there may still come."""

    def __str__(self) -> str:
        return f"`{self.field}` names '{self.name}', which {self.message}"


@dataclass(frozen=True)
class Verdict:
    """What became of one LLMModel in the gateway config."""

    accepted: bool
    reason: str
    """Accepted, Invalid, Conflicted (another LLMModel has its served name), as in GEP-713, NameReserved,
    NameNotAllowed, MembersMissing (a virtual model of which nothing is left) or Deleting."""
    message: str
    left_out: tuple[LeftOut, ...] = ()
    """Members that a virtual model has to do without; the message names them too."""
    lost_names: tuple[LostName, ...] = ()
    """Names that it has to do without; the message says so too."""
    lost_fallbacks: tuple[LostFallback, ...] = ()
    """Fallbacks that it has to do without; the message says so too."""
    kept: bool = False
    """Whether the entry that was accepted last is in the config although the model is not accepted as it is now."""
    kept_backend: str = ""
    """Kind of the backend of the entry that stays: Service, External, Router or Cascade."""
    price_source: str = ""
    """Where its price comes from: Spec, "Table PROVIDER/NAME", or Unknown; empty for virtual ones, and for those whose
    entry is that of another time."""
    held: str = ""
    """Why the gateway goes on with what was accepted before although the model is not accepted: many would be dropped
    that nobody has changed, and the brake holds their entries."""
    policies: tuple[str, ...] = ()
    """Ids of the policies that are in force on it."""

    @property
    def without(self) -> tuple[LeftOut | LostName | LostFallback, ...]:
        """Everything that it names and has to do without."""
        return (*self.left_out, *self.lost_names, *self.lost_fallbacks)

    @property
    def stays(self) -> bool:
        """Whether the live entry stays although the model is not accepted: it is kept, or held."""
        return self.kept or bool(self.held)

    @property
    def served(self) -> bool:
        """Whether the gateway has an entry of the model."""
        return self.accepted or self.stays


@dataclass(frozen=True)
class Loss:
    """A model that a policy is for, and on which it is not in force."""

    model: ObjectKey
    reason: str
    """Conflicted, Overridden, TargetNotFound or NotServed."""
    winner: str | None = None
    """Id of the policy that is in force instead."""


@dataclass(frozen=True)
class PolicyVerdict:
    """What became of one policy in the gateway config."""

    accepted: bool
    reason: str
    """Accepted, Invalid, Conflicted (on all of its models another policy is in force), TargetNotFound (nothing that it
    names is there) or Deleting."""
    message: str
    kept: bool = False
    """Whether what was accepted last stays in force although the policy is not accepted as it is now."""
    models: int = 0
    """Models that it is in force on."""
    lost: int = 0
    """Models that it is for and not in force on."""
    losses: tuple[Loss, ...] = ()
    """The first of those, by name."""
    in_config: bool = False
    """Whether the config has an entry of it."""


@dataclass(frozen=True)
class CompiledGateway:
    """The gateway config, and a verdict for each LLMModel and each policy."""

    config: GatewayConfig
    verdicts: Mapping[ObjectKey, Verdict]
    credentials: Mapping[str, tuple[str, str, str]]
    """What to copy into the gateway's Secret: file name -> (namespace, Secret, key)."""
    kept_credentials: frozenset[str] = frozenset()
    """Files of the gateway's Secret to leave as they are: nobody can say any more where they come from."""
    credential_owners: Mapping[str, PolicyKey] = field(default_factory=lambda: MappingProxyType({}))
    """Whose they are, of those that are not models'."""
    policies: Mapping[str, PolicyVerdict] = field(default_factory=lambda: MappingProxyType({}))
    """By the ids of their entries."""

    @cached_property
    def reserved(self) -> Mapping[str, ObjectKey]:
        """Names of models that have no entry for the moment, and that nobody else gets."""
        return {name: ObjectKey(*id_.split("/", 1)) for name, id_ in self.config.reserved.items()}
