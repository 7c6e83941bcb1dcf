"""What guesses tokens: which methods need weights of their own, and which engines know which."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

from capstan_operator.api.patterns import DOTS, HF_SOURCE, PVC_SOURCE
from capstan_operator.api.rules.able import listed, one_of, value_of
from capstan_operator.api.rules.cel import quoted
from capstan_operator.api.schema import Rule, matches

METHODS: Final[Mapping[str, tuple[str, ...]]] = MappingProxyType(
    {
        "SGLang": ("NGram", "DraftModel", "EAGLE", "EAGLE3", "MTP"),
        "TGI": ("NGram", "Medusa"),
    }
)
"""The methods of engines that do not know all of them."""
WITH_WEIGHTS: Final = ("DraftModel", "EAGLE", "EAGLE3")
"""Methods that guess by weights which the model does not have."""


def _known_to(engine: str, methods: tuple[str, ...]) -> Rule:
    return Rule(
        cel=f"self.type != '{engine}' || !has(self.speculative) || self.speculative.method in {listed(methods)}",
        message=f"must be {one_of(methods)} when `type` is {engine}",
        holds=lambda self: self.type != engine or self.speculative is None or self.speculative.method in methods,
        field_path=".speculative.method",
    )


ENGINE = (
    *(_known_to(engine, methods) for engine, methods in METHODS.items()),
    Rule(
        cel="self.type != 'vLLM' || !has(self.speculative) || self.speculative.method != 'Medusa'"
        " || has(self.speculative.model)",
        message="is required for Medusa when `type` is vLLM",
        holds=lambda self: (
            self.type != "vLLM"
            or value_of(self, "speculative.method") != "Medusa"
            or self.speculative.model is not None
        ),
        field_path=".speculative.model",
    ),
    Rule(
        cel="self.type != 'TGI' || !has(self.speculative) || !has(self.speculative.model)",
        message="must not be set when `type` is TGI, which takes Medusa's heads from `spec.model.source`",
        holds=lambda self: self.type != "TGI" or value_of(self, "speculative.model") is None,
        field_path=".speculative.model",
    ),
    Rule(
        cel="self.type == 'vLLM' || !has(self.speculative) || !has(self.speculative.ngram)",
        message="must not be set unless `type` is vLLM; what another engine has belongs into `args`",
        holds=lambda self: self.type == "vLLM" or value_of(self, "speculative.ngram") is None,
        field_path=".speculative.ngram",
    ),
)

SPEC = (
    Rule(
        cel="!has(self.engine.speculative) || self.model.task in ['chat', 'completion']",
        message="must not be set unless `model.task` is chat or completion",
        holds=lambda self: self.engine.speculative is None or self.model.task in ("chat", "completion"),
        field_path=".engine.speculative",
    ),
)

SPECULATIVE = (
    Rule(
        cel=f"!(self.method in {listed(WITH_WEIGHTS)}) || has(self.model)",
        message=f"is required for {', '.join(WITH_WEIGHTS[:-1])} and {WITH_WEIGHTS[-1]}",
        holds=lambda self: self.method not in WITH_WEIGHTS or self.model is not None,
        field_path=".model",
    ),
    Rule(
        cel="self.method != 'NGram' || !has(self.model)",
        message="must not be set for NGram, which looks into the prompt alone",
        holds=lambda self: self.method != "NGram" or self.model is None,
        field_path=".model",
    ),
    Rule(
        cel="self.method == 'NGram' || !has(self.ngram)",
        message="must not be set unless `method` is NGram",
        holds=lambda self: self.method == "NGram" or self.ngram is None,
        field_path=".ngram",
    ),
    Rule(
        cel=f"!has(self.model) || self.model.matches('{quoted(HF_SOURCE)}')"
        f" || self.model.matches('{quoted(PVC_SOURCE)}')",
        message="must be hf://ORG/NAME, or pvc://CLAIM/PATH where CLAIM is the name of a PersistentVolumeClaim",
        holds=lambda self: self.model is None or matches(HF_SOURCE, self.model) or matches(PVC_SOURCE, self.model),
        field_path=".model",
    ),
    Rule(
        cel=f"!has(self.model) || !self.model.matches('{quoted(DOTS)}')",
        message="must not have `.` or `..` in its path",
        holds=lambda self: self.model is None or not matches(DOTS, self.model),
        field_path=".model",
    ),
)

NGRAM = (
    Rule(
        cel="!has(self.min) || !has(self.max) || self.min <= self.max",
        message="must be greater than or equal to `min`",
        holds=lambda self: self.min is None or self.max is None or self.min <= self.max,
        field_path=".max",
    ),
)
