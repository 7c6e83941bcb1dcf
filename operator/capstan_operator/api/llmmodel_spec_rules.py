"""The rules of LLMModel that speak of several parts: what excludes what, and names that must differ."""

from collections.abc import Callable
from typing import Any

from capstan_operator.api.patterns import CHILD_NAME, HINTS, SOURCE
from capstan_operator.api.schema import Rule, matches

Check = Callable[[Any], bool]


_PODLESS = "has(self.external) || has(self.router) || has(self.cascade)"


def _excludes_podless(field: str, *, unset: str, holds: Check, also: str = "") -> Rule:
    """A hosted or virtual model has no pods, so nothing that describes them."""
    return Rule(
        cel=f"!({_PODLESS}) || ({unset})",
        message=f"must not be set together with `external`, `router` or `cascade`{also}",
        holds=lambda spec: spec.has_engine or holds(spec),
        field_path=f".{field}",
    )


def _empty(*fields: str) -> str:
    """CEL: lists and maps that are absent or empty."""
    return " && ".join(f"(!has(self.{field}) || size(self.{field}) == 0)" for field in fields)


def _absent(*fields: str) -> str:
    return " && ".join(f"!has(self.{field})" for field in fields)


PODLESS = (
    _excludes_podless(
        "model.source",
        unset=_absent("model.source"),
        holds=lambda spec: spec.model.source is None,
        also="; `external.model` is the provider's name of the model",
    ),
    _excludes_podless(
        "engine",
        unset="self.engine.type == 'vLLM' && "
        + _absent("engine.image", "engine.version")
        + " && "
        + _empty("engine.args", "engine.env"),
        holds=lambda spec: spec.engine == type(spec.engine)(),
    ),
    _excludes_podless(
        "resources",
        unset="self.resources.gpus == 0 && self.resources.gpuResource == 'nvidia.com/gpu' && "
        + _absent(*(f"resources.{name}" for name in ("cpu", "memory", "sharedMemory", "affinity")))
        + " && "
        + _absent("resources.runtimeClassName", "resources.priorityClassName")
        + " && "
        + _empty("resources.nodeSelector", "resources.tolerations"),
        holds=lambda spec: spec.resources == type(spec.resources)(),
    ),
    _excludes_podless(
        "parallelism",
        unset="!has(self.parallelism.tensor) && self.parallelism.pipeline == 1",
        holds=lambda spec: spec.parallelism == type(spec.parallelism)(),
    ),
    _excludes_podless("scaling", unset=_absent("scaling"), holds=lambda spec: spec.scaling is None),
    _excludes_podless("cache", unset=_absent("cache"), holds=lambda spec: spec.cache is None),
    _excludes_podless("adapters", unset=_empty("adapters"), holds=lambda spec: not spec.adapters),
    _excludes_podless("prefixes", unset=_empty("prefixes"), holds=lambda spec: not spec.prefixes),
    _excludes_podless("template", unset=_absent("template"), holds=lambda spec: spec.template is None),
)


def _adapter_names(spec: Any) -> list[str]:
    return [adapter.servedName for adapter in spec.adapters if adapter.servedName is not None]


def _own_names(spec: Any) -> list[str]:
    return [*spec.model.aliases, *([spec.model.servedName] if spec.model.servedName else [])]


def _stays(field: str) -> Rule:
    """What answers for a model cannot become something else."""
    return Rule(
        cel=f"has(self.{field}) == has(oldSelf.{field})",
        message="cannot be added or removed; make another LLMModel",
        field_path=f".{field}",
    )


VIRTUAL = (
    Rule(
        cel="[has(self.external), has(self.router), has(self.cascade)].filter(one, one).size() <= 1",
        message="must have at most one of `external`, `router` and `cascade`",
        holds=lambda self: [self.external, self.router, self.cascade].count(None) >= 2,
    ),
    Rule(
        cel="!(has(self.router) || has(self.cascade)) || !has(self.serving.price)",
        message="must not be set together with `router` or `cascade`: a request costs what the members cost",
        holds=lambda self: not self.is_virtual or self.serving.price is None,
        field_path=".serving.price",
    ),
    Rule(
        cel="!has(self.cascade) || self.model.task in ['chat', 'completion']",
        message="must be chat or completion when `cascade` is set",
        holds=lambda self: self.cascade is None or self.model.task in ("chat", "completion"),
        field_path=".model.task",
    ),
)

SPEC = (
    Rule(
        cel=f"{_PODLESS} || self.engine.type == 'OpenAICompatible' || has(self.model.source)",
        message="is required unless `external`, `router` or `cascade` is set or `engine.type` is OpenAICompatible:"
        f" {HINTS[SOURCE]}",
        holds=lambda self: (
            not self.has_engine or self.engine.type == "OpenAICompatible" or self.model.source is not None
        ),
        field_path=".model.source",
    ),
    *(_stays(field) for field in ("external", "router", "cascade")),
    Rule(
        cel="!has(self.scaling) || !has(oldSelf.scaling) || self.replicas == oldSelf.replicas",
        message="cannot change while `scaling` is set: the autoscaler says how many replicas there are",
        field_path=".replicas",
    ),
    *PODLESS,
    *VIRTUAL,
    Rule(
        cel="self.resources.gpus == 0 || self.resources.gpus % self.parallelism.pipeline == 0",
        message="must be a multiple of `parallelism.pipeline`",
        holds=lambda self: self.resources.gpus % self.parallelism.pipeline == 0,
        field_path=".resources.gpus",
    ),
    Rule(
        cel="self.resources.gpus == 0 || !has(self.parallelism.tensor)"
        " || self.parallelism.tensor * self.parallelism.pipeline == self.resources.gpus",
        message="must be `resources.gpus` divided by `parallelism.pipeline`",
        holds=lambda self: (
            self.resources.gpus == 0
            or self.parallelism.tensor is None
            or self.parallelism.tensor * self.parallelism.pipeline == self.resources.gpus
        ),
        field_path=".parallelism.tensor",
    ),
    Rule(
        cel=f"{_empty('prefixes')} || self.model.task in ['chat', 'completion']",
        message="must not be set unless `model.task` is chat or completion",
        holds=lambda self: not self.prefixes or self.model.task in ("chat", "completion"),
        field_path=".prefixes",
    ),
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


def _names_others(field: str) -> Check:
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
