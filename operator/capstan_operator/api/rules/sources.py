"""Where weights come from."""

from typing import Any

from capstan_operator.api.patterns import (
    DOTS,
    GS_SOURCE,
    HF_SOURCE,
    HINTS,
    OCI_SOURCE,
    OSS_SOURCE,
    PVC_SOURCE,
    S3_SOURCE,
    SOURCE,
)
from capstan_operator.api.rules.answers import PODLESS
from capstan_operator.api.rules.cel import quoted
from capstan_operator.api.schema import Rule, matches


def _shape(scheme: str, pattern: str, shape: str) -> Rule:
    """After its scheme, a source has the shape that the scheme wants."""
    prefix = f"{scheme}://"

    def holds(part: Any) -> bool:
        return part.source is None or not part.source.startswith(prefix) or matches(pattern, part.source)

    return Rule(
        cel=f"!has(self.source) || !self.source.startsWith('{prefix}') || self.source.matches('{quoted(pattern)}')",
        message=f"must be {shape} when it begins with {prefix}",
        holds=holds,
        field_path=".source",
    )


STAYS_IN_VOLUME = Rule(
    cel=f"!has(self.source) || !self.source.matches('{quoted(DOTS)}')",
    message="must not have `.` or `..` in its path",
    holds=lambda self: self.source is None or not matches(DOTS, self.source),
    field_path=".source",
)
SHAPES = (
    _shape("hf", HF_SOURCE, "hf://ORG/NAME"),
    _shape("pvc", PVC_SOURCE, "pvc://CLAIM or pvc://CLAIM/PATH, where CLAIM is the name of a PersistentVolumeClaim"),
    _shape("s3", S3_SOURCE, "s3://BUCKET or s3://BUCKET/PATH"),
    _shape("gs", GS_SOURCE, "gs://BUCKET or gs://BUCKET/PATH"),
    _shape("oss", OSS_SOURCE, "oss://BUCKET or oss://BUCKET/PATH"),
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
)

ADAPTER = SHAPES

SPEC = (
    Rule(
        cel=f"{PODLESS} || self.engine.type == 'OpenAICompatible' || has(self.model.source)",
        message="is required unless `external`, `router` or `cascade` is set or `engine.type` is OpenAICompatible:"
        f" {HINTS[SOURCE]}",
        holds=lambda self: (
            not self.has_engine or self.engine.type == "OpenAICompatible" or self.model.source is not None
        ),
        field_path=".model.source",
    ),
)
