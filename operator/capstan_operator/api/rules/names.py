"""Names that must differ, and what a name may look like."""

from collections.abc import Callable
from typing import Any

from capstan_operator.api.patterns import CHILD_NAME
from capstan_operator.api.schema import Rule, matches


def _adapter_names(spec: Any) -> list[str]:
    return [adapter.servedName for adapter in spec.adapters if adapter.servedName is not None]


def _own_names(spec: Any) -> list[str]:
    return [*spec.model.aliases, *([spec.model.servedName] if spec.model.servedName else [])]


MODEL_SOURCE = (
    Rule(
        cel="!has(self.servedName) || !has(self.aliases) || !(self.servedName in self.aliases)",
        message="must not repeat `servedName`",
        holds=lambda self: self.servedName not in self.aliases,
        field_path=".aliases",
    ),
)

SPEC = (
    Rule(
        cel="!has(self.serving.fallbacks) || self.serving.fallbacks.all(name,"
        " (!has(self.model.servedName) || name != self.model.servedName)"
        " && (!has(self.model.aliases) || !(name in self.model.aliases)))",
        message="must not name this model itself",
        holds=lambda self: not set(self.serving.fallbacks) & set(_own_names(self)),
        field_path=".serving.fallbacks",
    ),
    Rule(
        cel="!has(self.adapters) || self.adapters.all(one, !has(one.servedName) || self.adapters.exists_one(other,"
        " has(other.servedName) && other.servedName == one.servedName))",
        message="must have different `servedName`s",
        holds=lambda self: len(set(_adapter_names(self))) == len(_adapter_names(self)),
        field_path=".adapters",
    ),
    Rule(
        cel="!has(self.adapters) || self.adapters.all(one, !has(one.servedName) || ("
        "(!has(self.model.servedName) || one.servedName != self.model.servedName)"
        " && (!has(self.model.aliases) || !(one.servedName in self.model.aliases))))",
        message="must not have a `servedName` that is a name of the model itself",
        holds=lambda self: not set(_adapter_names(self)) & set(_own_names(self)),
        field_path=".adapters",
    ),
)

METADATA = (
    Rule(
        cel="size(self.metadata.name) <= 52",
        message="must have at most 52 characters, because the names of its objects begin with it",
        holds=lambda self: len(self.name) <= 52,
        field_path=".name",
    ),
    Rule(
        cel=f"self.metadata.name.matches('{CHILD_NAME}')",
        message="must be lower case letters, digits and '-', and begin with a letter, because its Service is named"
        " after it; the name for clients is `spec.model.servedName`",
        holds=lambda self: matches(CHILD_NAME, self.name),
        field_path=".name",
    ),
)
"""The CEL of these speaks of the whole object: a schema may not say more about metadata."""


def _names_others(field: str) -> Callable[[Any], bool]:
    def holds(model: Any) -> bool:
        part = getattr(model.spec, field)
        return part is None or all(one.name != model.metadata.name for one in part.members)

    return holds


ROOT = (
    Rule(
        cel="!has(self.spec.serving.fallbacks) || has(self.spec.model.servedName)"
        " || !(self.metadata.name in self.spec.serving.fallbacks)",
        message="must not name this model itself",
        holds=lambda self: (
            self.spec.model.servedName is not None or self.metadata.name not in self.spec.serving.fallbacks
        ),
        field_path=".spec.serving.fallbacks",
    ),
    *(
        Rule(
            cel=f"!has(self.spec.{field}) || !self.spec.{field}.members.exists(one, one.name == self.metadata.name)",
            message="must not name this model itself",
            holds=_names_others(field),
            field_path=f".spec.{field}.members",
        )
        for field in ("router", "cascade")
    ),
    Rule(
        cel="!has(self.spec.cascade) || !has(self.spec.cascade.estimator.judge)"
        " || self.spec.cascade.estimator.judge.name != self.metadata.name",
        message="must not be this model itself",
        holds=lambda self: (
            self.spec.cascade is None
            or self.spec.cascade.estimator.judge is None
            or self.spec.cascade.estimator.judge.name != self.metadata.name
        ),
        field_path=".spec.cascade.estimator.judge.name",
    ),
)
