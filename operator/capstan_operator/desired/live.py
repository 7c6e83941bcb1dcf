"""The config that is live: what the gateways run now, which the next compile must not take from anybody."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from types import MappingProxyType

from capstan_contract.config import GatewayConfig, ModelEntry
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


def names_of(entry: ModelEntry) -> Iterator[str]:
    """Give every name under which an entry is served."""
    yield entry.servedName
    yield from entry.aliases
    yield from (adapter.servedName for adapter in entry.adapters)


def key_of(id_: str) -> ObjectKey:
    """Give the key of the model that an entry is of."""
    namespace, _, name = id_.partition("/")
    return ObjectKey(namespace, name)
