"""The config that is live: what the gateways run now, which the next compile must not take from anybody."""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from types import MappingProxyType

from capstan_contract.config import GatewayConfig, ModelEntry
from capstan_contract.entries import PolicyEntry
from capstan_operator.api.kinds import Model
from capstan_operator.desired.naming import served_name
from capstan_operator.desired.types import MEMBERS_MISSING
from capstan_operator.resources.resource import ObjectKey


@dataclass(frozen=True)
class LiveConfig:
    """What is in the config that was written last."""

    entries: Mapping[str, ModelEntry] = field(default_factory=lambda: MappingProxyType({}))
    """By the id of the model."""
    reserved: Mapping[str, ObjectKey] = field(default_factory=lambda: MappingProxyType({}))
    """Names of models without an entry: those of a virtual model whose members are all gone."""
    policies: Mapping[str, PolicyEntry] = field(default_factory=lambda: MappingProxyType({}))
    """By their ids."""

    @classmethod
    def of(cls, config: GatewayConfig, reserved: Mapping[str, ObjectKey] = MappingProxyType({})) -> "LiveConfig":
        """Give the live config for a config that is written; `reserved` is what is reserved besides."""
        own = {name: key_of(id_) for name, id_ in config.reserved.items()}
        entries = {entry.id: entry for entry in config.models}
        policies = {policy.id: policy for policy in config.policies}
        return cls(MappingProxyType(entries), MappingProxyType({**reserved, **own}), MappingProxyType(policies))

    @cached_property
    def holders(self) -> Mapping[str, ObjectKey]:
        """Who has each name."""
        held = {name: key_of(entry.id) for entry in self.entries.values() for name in names_of(entry)}
        return MappingProxyType({**self.reserved, **held})

    @cached_property
    def reserved_for(self) -> Mapping[ObjectKey, tuple[str, ...]]:
        """The names that are reserved for each model."""
        found: defaultdict[ObjectKey, list[str]] = defaultdict(list)
        for name, key in self.reserved.items():
            found[key].append(name)
        return {key: tuple(sorted(names)) for key, names in found.items()}


def reserved_by_status(models: Iterable[Model]) -> Mapping[str, ObjectKey]:
    """Give the names of virtual models that lost their members while an operator of an earlier release worked, which
    reserved them nowhere: their status says so of what they are now."""
    found = {
        name: model.key
        for model in models
        if not model.deleting
        and model.spec is not None
        and model.status.get("observedGeneration") == model.generation
        and any(_lacks_members(one) for one in model.status.get("conditions") or ())
        for name in (*model.spec.model.aliases, served_name(model))
    }
    return MappingProxyType(found)


def _lacks_members(condition: Mapping[str, object]) -> bool:
    return (condition.get("type"), condition.get("status"), condition.get("reason")) == (
        "Accepted",
        "False",
        MEMBERS_MISSING,
    )


def names_of(entry: ModelEntry) -> Iterator[str]:
    """Give every name under which an entry is served."""
    yield entry.servedName
    yield from entry.aliases
    yield from (adapter.servedName for adapter in entry.adapters)


def key_of(id_: str) -> ObjectKey:
    """Give the key of the model that an entry is of."""
    namespace, _, name = id_.partition("/")
    return ObjectKey(namespace, name)
