"""GPUs, how a replica is spread over them, and the nodes that it may run on."""

from capstan_operator.api.parts import are_label_keys
from capstan_operator.api.patterns import LABEL_KEY
from capstan_operator.api.schema import Rule

RESOURCES = (
    Rule(
        cel=f"!has(self.nodeSelector) || self.nodeSelector.all(key, size(key) <= 316 && key.matches('{LABEL_KEY}'))",
        message="must have label keys as keys, such as example.com/name",
        holds=lambda self: are_label_keys(self.nodeSelector),
        field_path=".nodeSelector",
    ),
)

SPEC = (
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
)
