"""What answers for a model, and what that excludes: a hosted or virtual model has no pods."""

from collections.abc import Callable
from typing import Any

from capstan_operator.api.rules.cel import absent, empty
from capstan_operator.api.rules.engine import ABLE
from capstan_operator.api.schema import Rule

PODLESS = "has(self.external) || has(self.router) || has(self.cascade)"
"""CEL: the model has no pods."""


def _excludes_podless(field: str, *, unset: str, holds: Callable[[Any], bool], also: str = "") -> Rule:
    """A hosted or virtual model has no pods, so nothing that describes them."""
    return Rule(
        cel=f"!({PODLESS}) || ({unset})",
        message=f"must not be set together with `external`, `router` or `cascade`{also}",
        holds=lambda spec: spec.has_engine or holds(spec),
        field_path=f".{field}",
    )


_WITHOUT_PODS = (
    _excludes_podless(
        "model.source",
        unset=absent("model.source"),
        holds=lambda spec: spec.model.source is None,
        also="; `external.model` is the provider's name of the model",
    ),
    _excludes_podless(
        "engine",
        unset="self.engine.type == 'vLLM' && "
        + absent("engine.image", "engine.version", "engine.kvCache", *(f"engine.{field}" for field in ABLE))
        + " && "
        + empty("engine.args", "engine.env", "engine.envFrom", "engine.files"),
        holds=lambda spec: spec.engine == type(spec.engine)(),
    ),
    _excludes_podless(
        "resources",
        unset="self.resources.gpus == 0 && self.resources.gpuResource == 'nvidia.com/gpu' && "
        + absent(*(f"resources.{name}" for name in ("cpu", "memory", "sharedMemory", "affinity")))
        + " && "
        + absent("resources.runtimeClassName", "resources.priorityClassName")
        + " && "
        + empty("resources.nodeSelector", "resources.tolerations", "resources.claims"),
        holds=lambda spec: spec.resources == type(spec.resources)(),
    ),
    _excludes_podless(
        "parallelism",
        unset="!has(self.parallelism.tensor) && self.parallelism.pipeline == 1",
        holds=lambda spec: spec.parallelism == type(spec.parallelism)(),
    ),
    _excludes_podless("pods", unset=absent("pods"), holds=lambda spec: spec.pods is None),
    _excludes_podless("profile", unset=absent("profile"), holds=lambda spec: spec.profile is None),
    _excludes_podless("scaling", unset=absent("scaling"), holds=lambda spec: spec.scaling is None),
    _excludes_podless("rollout", unset=absent("rollout"), holds=lambda spec: spec.rollout is None),
    _excludes_podless("cache", unset=absent("cache"), holds=lambda spec: spec.cache is None),
    _excludes_podless("adapters", unset=empty("adapters"), holds=lambda spec: not spec.adapters),
    _excludes_podless("prefixes", unset=empty("prefixes"), holds=lambda spec: not spec.prefixes),
    _excludes_podless("template", unset=absent("template"), holds=lambda spec: spec.template is None),
)


def _stays(field: str) -> Rule:
    """What answers for a model cannot become something else."""
    return Rule(
        cel=f"has(self.{field}) == has(oldSelf.{field})",
        message="cannot be added or removed; make another LLMModel",
        field_path=f".{field}",
    )


SPEC = (
    *(_stays(field) for field in ("external", "router", "cascade")),
    *_WITHOUT_PODS,
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
    Rule(
        cel="self.model.task != 'transcribe' || !(self.engine.type in ['TGI', 'SGLang'])",
        message="must not be transcribe when `engine.type` is TGI or SGLang: vLLM, and images of your own "
        "(OpenAICompatible), turn sound into text",
        holds=lambda self: self.model.task != "transcribe" or self.engine.type not in ("TGI", "SGLang"),
        field_path=".model.task",
    ),
    Rule(
        cel="self.model.task != 'transcribe' || !has(self.external) || self.external.provider != 'Anthropic'",
        message="must not be transcribe when `external.provider` is Anthropic, whose API takes no sound",
        holds=lambda self: (
            self.model.task != "transcribe" or self.external is None or self.external.provider != "Anthropic"
        ),
        field_path=".model.task",
    ),
)

EXTERNAL = (
    Rule(
        cel="has(self.url) != (has(self.endpoints) && size(self.endpoints) > 0)",
        message="must have exactly one of `url` and `endpoints`",
        holds=lambda self: (self.url is None) == bool(self.endpoints),
    ),
    Rule(
        cel="!has(self.secretRef) || has(self.url)",
        message="must not be set together with `endpoints`, which have a `secretRef` each",
        holds=lambda self: self.secretRef is None or self.url is not None,
        field_path=".secretRef",
    ),
    Rule(
        cel="!has(self.endpoints) || size(self.endpoints) == 0 || self.endpoints.exists(one, one.weight > 0)",
        message="must have an endpoint with a `weight` greater than 0",
        holds=lambda self: not self.endpoints or any(one.weight > 0 for one in self.endpoints),
        field_path=".endpoints",
    ),
)

ROUTER = (
    Rule(
        cel="self.strategy != 'Weighted' || self.members.exists(one, one.weight > 0)",
        message="must have a member with a `weight` greater than 0 when `strategy` is Weighted",
        holds=lambda self: self.strategy != "Weighted" or any(one.weight > 0 for one in self.members),
        field_path=".members",
    ),
)

CASCADE = (
    Rule(
        cel="self.members.all(one, self.members.exists_one(other, other.name == one.name))",
        message="must not name a model twice",
        holds=lambda self: len({one.name for one in self.members}) == len(self.members),
        field_path=".members",
    ),
)

ESTIMATOR = (
    Rule(
        cel="self.type != 'Judge' || has(self.judge)",
        message="is required when `type` is Judge",
        holds=lambda self: self.type != "Judge" or self.judge is not None,
        field_path=".judge",
    ),
    Rule(
        cel="!has(self.judge) || self.type in ['Judge', 'Ensemble']",
        message="must not be set unless `type` is Judge or Ensemble",
        holds=lambda self: self.judge is None or self.type in ("Judge", "Ensemble"),
        field_path=".judge",
    ),
)

MODEL_SOURCE = (
    Rule(cel="self.task == oldSelf.task", message="cannot change; make another LLMModel", field_path=".task"),
)
