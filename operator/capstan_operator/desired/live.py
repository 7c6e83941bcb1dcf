"""The config that is live: what the gateways run now, which the next compile must not take from anybody."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from types import MappingProxyType

from capstan_contract.config import GatewayConfig, ModelEntry
from capstan_operator.api.kinds import Model
from capstan_operator.desired.naming import served_name
from capstan_operator.desired.types import MEMBERS_MISSING
from capstan_operator.resources.resource import ObjectKey


@dataclass(frozen=True)
class LiveConfig:
    """The entries of the config that was written last, and the names of models that have none for the moment."""

    entries: Mapping[str, ModelEntry] = field(default_factory=lambda: MappingProxyType({}))
    """By the id of the model."""
    reserved: Mapping[str, ObjectKey] = field(default_factory=lambda: MappingProxyType({}))
    """Names of accepted models without an entry: those of a virtual model whose members are all gone."""

    @classmethod
    def of(cls, config: GatewayConfig, reserved: Mapping[str, ObjectKey] = MappingProxyType({})) -> "LiveConfig":
        """Give the live config for a config that is written."""
        return cls(MappingProxyType({entry.id: entry for entry in config.models}), reserved)

    @cached_property
    def holders(self) -> Mapping[str, ObjectKey]:
        """Who has each name."""
        held = {name: key_of(entry.id) for entry in self.entries.values() for name in names_of(entry)}
        return MappingProxyType({**self.reserved, **held})


def reserved_by_status(models: Iterable[Model]) -> Mapping[str, ObjectKey]:
    """Give the served names of virtual models that lost their members before this process began: their status says so
    of what they are now."""
    found = {
        served_name(model): model.key
        for model in models
        if not model.deleting
        and model.spec is not None
        and model.status.get("observedGeneration") == model.generation
        and any(_lacks_members(one) for one in model.status.get("conditions") or ())
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
