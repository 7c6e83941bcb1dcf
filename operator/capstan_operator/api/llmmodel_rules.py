"""The rules of LLMModel's parts: each in CEL for the API server and in Python for everything else, side by side.

A message follows the field's path in both: ``spec.engine.image: must not be set together with `version```.
"""

from typing import Any

from capstan_operator.api.parts import are_label_keys
from capstan_operator.api.patterns import DOTS, HF_SOURCE, LABEL_KEY, OCI_SOURCE, PVC_SOURCE, S3_SOURCE
from capstan_operator.api.schema import Rule, matches


def _shape(scheme: str, pattern: str, shape: str) -> Rule:
    """After its scheme, a source has the shape that the scheme wants."""
    prefix = f"{scheme}://"

    def holds(part: Any) -> bool:
        return part.source is None or not part.source.startswith(prefix) or matches(pattern, part.source)

    return Rule(
        cel=f"!has(self.source) || !self.source.startsWith('{prefix}') || self.source.matches('{_quoted(pattern)}')",
        message=f"must be {shape} when it begins with {prefix}",
        holds=holds,
        field_path=".source",
    )


def _quoted(pattern: str) -> str:
    return pattern.replace("\\", "\\\\")


STAYS_IN_VOLUME = Rule(
    cel=f"!has(self.source) || !self.source.matches('{_quoted(DOTS)}')",
    message="must not have `.` or `..` in its path",
    holds=lambda self: self.source is None or not matches(DOTS, self.source),
    field_path=".source",
)
SHAPES = (
    _shape("hf", HF_SOURCE, "hf://ORG/NAME"),
    _shape("pvc", PVC_SOURCE, "pvc://CLAIM or pvc://CLAIM/PATH, where CLAIM is the name of a PersistentVolumeClaim"),
    _shape("s3", S3_SOURCE, "s3://BUCKET or s3://BUCKET/PATH"),
    STAYS_IN_VOLUME,
)

MODEL_SOURCE = (
    *SHAPES,
    _shape("oci", OCI_SOURCE, "oci://REGISTRY/REPOSITORY with an optional :TAG and @sha256:DIGEST"),
    Rule(
        cel="!has(self.revision) || (has(self.source) && self.source.startsWith('hf://'))",
        message="must not be set unless `source` begins with hf://",
        holds=lambda self: self.revision is None or (self.source or "").startswith("hf://"),
        field_path=".revision",
    ),
    Rule(
        cel="!has(self.servedName) || !has(self.aliases) || !(self.servedName in self.aliases)",
        message="must not repeat `servedName`",
        holds=lambda self: self.servedName not in self.aliases,
        field_path=".aliases",
    ),
    Rule(cel="self.task == oldSelf.task", message="cannot change; make another LLMModel", field_path=".task"),
)

ADAPTER = SHAPES

ENGINE = (
    Rule(
        cel="!has(self.image) || !has(self.version)",
        message="must not be set together with `image`, which has a tag of its own",
        holds=lambda self: self.image is None or self.version is None,
        field_path=".version",
    ),
    Rule(
        cel="self.type != 'OpenAICompatible' || has(self.image)",
        message="is required when `type` is OpenAICompatible",
        holds=lambda self: self.type != "OpenAICompatible" or self.image is not None,
        field_path=".image",
    ),
    Rule(
        cel="self.type != 'Simulator' || !has(self.version)",
        message="must not be set when `type` is Simulator, which comes with the worker's image",
        holds=lambda self: self.type != "Simulator" or self.version is None,
        field_path=".version",
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

RESOURCES = (
    Rule(
        cel=f"!has(self.nodeSelector) || self.nodeSelector.all(key, size(key) <= 316 && key.matches('{LABEL_KEY}'))",
        message="must have label keys as keys, such as example.com/name",
        holds=lambda self: are_label_keys(self.nodeSelector),
        field_path=".nodeSelector",
    ),
)

SCALING = (
    Rule(
        cel="self.min <= self.max",
        message="must be less than or equal to `max`",
        holds=lambda self: self.min <= self.max,
        field_path=".min",
    ),
)

PRICE = (
    Rule(
        cel="!has(self.cachedInputPerMillion) || double(self.cachedInputPerMillion) <= double(self.inputPerMillion)",
        message="must be less than or equal to `inputPerMillion`",
        holds=lambda self: (
            self.cachedInputPerMillion is None or float(self.cachedInputPerMillion) <= float(self.inputPerMillion)
        ),
        field_path=".cachedInputPerMillion",
    ),
)

SERVING = (
    Rule(
        cel="!has(self.maxOutputTokens) || !has(self.contextWindow) || self.maxOutputTokens <= self.contextWindow",
        message="must be less than or equal to `contextWindow`",
        holds=lambda self: (
            self.maxOutputTokens is None or self.contextWindow is None or self.maxOutputTokens <= self.contextWindow
        ),
        field_path=".maxOutputTokens",
    ),
)

_THROW_AWAY = "cannot change; to throw the volume away delete the claim, or remove `cache` with `retain: false`"
_SIZED = "has(self.size) && has(oldSelf.size)"
CACHE = (
    Rule(
        cel="has(self.claimName) != has(self.size)",
        message="must have exactly one of `claimName` and `size`",
        holds=lambda self: (self.claimName is None) != (self.size is None),
    ),
    Rule(
        cel="!has(self.storageClassName) || has(self.size)",
        message="must not be set without `size`",
        holds=lambda self: self.storageClassName is None or self.size is not None,
        field_path=".storageClassName",
    ),
    Rule(
        cel="self.accessMode == 'ReadWriteOnce' || has(self.size)",
        message="must not be set without `size`",
        holds=lambda self: self.accessMode == "ReadWriteOnce" or self.size is not None,
        field_path=".accessMode",
    ),
    Rule(
        cel="!has(self.retain) || has(self.size)",
        message="must not be set without `size`: an existing claim is never deleted",
        holds=lambda self: self.retain is None or self.size is not None,
        field_path=".retain",
    ),
    Rule(
        cel=f"!({_SIZED}) || quantity(self.size).compareTo(quantity(oldSelf.size)) >= 0",
        message="cannot shrink; a volume only grows",
        field_path=".size",
    ),
    Rule(
        cel=f"!({_SIZED}) || (has(self.storageClassName) == has(oldSelf.storageClassName)"
        " && (!has(self.storageClassName) || self.storageClassName == oldSelf.storageClassName))",
        message=_THROW_AWAY,
        field_path=".storageClassName",
    ),
    Rule(
        cel=f"!({_SIZED}) || self.accessMode == oldSelf.accessMode",
        message=_THROW_AWAY,
        field_path=".accessMode",
    ),
)
