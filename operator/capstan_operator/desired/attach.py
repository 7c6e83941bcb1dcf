"""Which policies are in force on which models: one pure function for every kind of policy.

A policy is for models of its own namespace that it names or selects by labels, or, as one of the installation, for all
models of all namespaces. Of one kind and one mode at most one is in force on a model. One that is for the model itself
beats one of the installation, unless its kind is a floor: then both are in force. At one level the one that is in force
already stays, then the oldest has it, then the first by namespace and name. Modes compete each by themselves, so that a
policy can be tried beside the one in force.

The order of what is given never matters, and no policy of one namespace reaches a model of another but those of the
installation.
"""

from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from enum import IntEnum
from types import MappingProxyType
from typing import Final

from capstan_contract.entries import LabelRequirement, PolicyTargets
from capstan_operator.desired.types import Loss
from capstan_operator.resources.resource import ObjectKey

CONFLICTED: Final = "Conflicted"
OVERRIDDEN: Final = "Overridden"


class Level(IntEnum):
    """How near to a model a policy is attached; the lower one wins."""

    MODEL = 0
    INSTALL = 1


@dataclass(frozen=True)
class Attachable:
    """What attaching needs to know of a policy."""

    id: str
    kind: str
    key: ObjectKey
    created: str
    mode: str
    targets: PolicyTargets
    is_floor: bool = False
    """Whether one of the installation is in force beside one that is for the model itself."""

    @property
    def level(self) -> Level:
        """Where it attaches."""
        return Level.INSTALL if self.targets.everywhere else Level.MODEL

    @property
    def slot(self) -> tuple[str, ...]:
        """What at most one policy has on a model."""
        return (self.kind, self.mode, self.level.name) if self.is_floor else (self.kind, self.mode)


@dataclass(frozen=True)
class Present:
    """What is in force now."""

    on: Mapping[ObjectKey, Collection[str]] = field(default_factory=lambda: MappingProxyType({}))
    """Ids of the policies, by model."""
    modes: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))
    """The mode of each policy: one whose mode has changed is in force nowhere in its new one."""

    def has(self, model: ObjectKey, policy: Attachable) -> bool:
        """Whether a policy is in force on a model in the mode that it has now."""
        return policy.id in self.on.get(model, ()) and self.modes.get(policy.id) == policy.mode


@dataclass(frozen=True)
class Attachments:
    """Who is in force where, and who is not although it is for a model."""

    on: Mapping[ObjectKey, tuple[str, ...]]
    """Ids, sorted, by model: of those models alone on which a policy is in force."""
    counts: Mapping[str, int]
    """On how many models each policy is in force, by its id."""
    losses: Mapping[str, tuple[Loss, ...]]
    """Where each policy is not in force, by model; of those policies alone of which there is something to say."""


def attach(
    policies: Iterable[Attachable], models: Mapping[ObjectKey, Mapping[str, str]], *, present: Present = Present()
) -> Attachments:
    """Attach policies to models, which are given with their labels. A named model that is not given is passed over."""
    index = _Index(policies)
    on: dict[ObjectKey, tuple[str, ...]] = {}
    counts: defaultdict[str, int] = defaultdict(int)
    losses: defaultdict[str, list[Loss]] = defaultdict(list)
    for model in sorted(models):
        winners = []
        for rivals in _by_slot(index.candidates(model, models[model])):
            winner, *losers = sorted(rivals, key=lambda one: _rank(one, model, present))
            winners.append(winner.id)
            counts[winner.id] += 1
            for loser in losers:
                reason = CONFLICTED if loser.level == winner.level else OVERRIDDEN
                losses[loser.id].append(Loss(model, reason, winner.id))
        if winners:
            on[model] = tuple(sorted(winners))
    return Attachments(on, dict(counts), {id_: tuple(found) for id_, found in losses.items()})


def _rank(policy: Attachable, model: ObjectKey, present: Present) -> tuple[Level, bool, str, ObjectKey]:
    return policy.level, not present.has(model, policy), policy.created, policy.key


def _by_slot(candidates: Iterable[Attachable]) -> Collection[list[Attachable]]:
    slots: defaultdict[tuple[str, ...], list[Attachable]] = defaultdict(list)
    for candidate in candidates:
        slots[candidate.slot].append(candidate)
    return slots.values()


class _Index:
    """Policies by what they could be for: with many namespaces nobody looks at those of the others."""

    def __init__(self, policies: Iterable[Attachable]) -> None:
        self._named: defaultdict[ObjectKey, list[Attachable]] = defaultdict(list)
        self._selecting: defaultdict[str, list[Attachable]] = defaultdict(list)
        self._everywhere: list[Attachable] = []
        for policy in policies:
            if policy.targets.everywhere:
                self._everywhere.append(policy)
            elif policy.targets.names:
                for name in set(policy.targets.names):
                    self._named[ObjectKey(policy.key.namespace, name)].append(policy)
            else:
                self._selecting[policy.key.namespace].append(policy)

    def candidates(self, model: ObjectKey, labels: Mapping[str, str]) -> Iterator[Attachable]:
        """Give the policies that are for a model."""
        yield from self._named.get(model, ())
        yield from (one for one in self._selecting.get(model.namespace, ()) if selects(one.targets, labels))
        yield from self._everywhere


def selects(targets: PolicyTargets, labels: Mapping[str, str]) -> bool:
    """Whether labels are as a selector asks, by the rules of Kubernetes; one that asks nothing selects everything."""
    return all(labels.get(key) == value for key, value in targets.labels.items()) and all(
        _holds(one, labels) for one in targets.expressions
    )


def _holds(requirement: LabelRequirement, labels: Mapping[str, str]) -> bool:
    match requirement.operator:
        case "In":
            return labels.get(requirement.key) in requirement.values
        case "NotIn":
            return labels.get(requirement.key) not in requirement.values
        case "Exists":
            return requirement.key in labels
        case "DoesNotExist":
            return requirement.key not in labels
