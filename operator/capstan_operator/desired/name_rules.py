"""Which names a model may have, whoever else wants them, and which models it may fall back to."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from types import MappingProxyType
from typing import Final

from capstan_contract.config import ModelEntry
from capstan_contract.names import AUTO
from capstan_operator.desired.types import LostName
from capstan_operator.resources.resource import ObjectKey
from capstan_operator.settings import EVERY_OTHER_NAMESPACE, Settings

NAME_RESERVED: Final = "NameReserved"
NAME_NOT_ALLOWED: Final = "NameNotAllowed"
CONFLICTED: Final = "Conflicted"


@dataclass(frozen=True)
class NameRules:
    """What an administrator allows."""

    allowed: Mapping[str, tuple[str, ...]] = field(default_factory=lambda: MappingProxyType({}))
    """Patterns of names by namespace; under "*" those of every namespace that is not listed. Without it, such a
    namespace may claim any name."""
    shared_namespace: str = ""
    """Every namespace may fall back to the models of this one: the one that Capstan is installed in."""
    fallbacks_across_namespaces: bool = False
    """Whether a model may fall back to those of any other namespace."""
    auto_namespaces: tuple[str, ...] = ()
    """Patterns of the namespaces whose models the gateway's `auto` may choose; none: those of all."""
    one_person: bool = False
    """Whether all namespaces belong to one person, as in local mode."""

    @classmethod
    def from_settings(cls, settings: Settings) -> "NameRules":
        """Give the rules of an installation."""
        return cls(
            allowed=dict(settings.allowed_names),
            shared_namespace=settings.build.install_namespace,
            fallbacks_across_namespaces=settings.fallbacks_across_namespaces,
            auto_namespaces=settings.auto_namespaces,
        )

    def objection(self, namespace: str, name: str) -> tuple[str, str] | None:
        """Say why nobody in a namespace can have a name: the reason for programs, the sentence for people."""
        if name == AUTO:
            return NAME_RESERVED, f"the name '{AUTO}' is reserved: the gateway answers it with any model that can"
        patterns = self.allowed.get(namespace, self.allowed.get(EVERY_OTHER_NAMESPACE))
        if patterns is None or any(fnmatchcase(name, pattern) for pattern in patterns):
            return None
        allowed = ", ".join(f"'{pattern}'" for pattern in patterns) or "none"
        return NAME_NOT_ALLOWED, f"the name '{name}' is not allowed in the namespace '{namespace}' (allowed: {allowed})"

    def may_fall_back(self, namespace: str, to: ObjectKey) -> bool:
        """Say whether prompts of a namespace's models may go to a model as a fallback."""
        return self.fallbacks_across_namespaces or to.namespace in (namespace, self.shared_namespace)

    def may_be_auto(self, namespace: str) -> bool:
        """Say whether anybody's prompts to `auto` may go to the models of a namespace."""
        return not self.auto_namespaces or any(fnmatchcase(namespace, pattern) for pattern in self.auto_namespaces)

    def may_be_everywhere(self, namespace: str) -> bool:
        """Say whether a policy of a namespace that names no models is for those of all namespaces."""
        return self.one_person or namespace == self.shared_namespace


NO_RULES: Final = NameRules()
"""Every name but the reserved ones, and no fallback to another namespace."""
ONE_TENANT: Final = NameRules(fallbacks_across_namespaces=True, one_person=True)
"""For manifests that all belong to one person: a folder in local mode."""


def lost_to(field_: str, name: str, winner: ObjectKey) -> LostName:
    """Say that another model has a name."""
    return LostName(field_, name, CONFLICTED, f"the name '{name}' belongs to the LLMModel '{winner}'")


def name_fields(entry: ModelEntry) -> Iterator[tuple[str, str]]:
    """Give the names of an entry that it can do without, each with the field that names it."""
    for alias in entry.aliases:
        yield "spec.model.aliases", alias
    for adapter in entry.adapters:
        yield "spec.adapters", adapter.servedName
