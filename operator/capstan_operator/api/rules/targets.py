"""What a policy is about."""

from capstan_operator.api.parts import are_label_keys
from capstan_operator.api.patterns import LABEL_KEY
from capstan_operator.api.schema import Rule

EXPRESSION = (
    Rule(
        cel="(self.operator in ['In', 'NotIn']) == (has(self.values) && size(self.values) > 0)",
        message="must have items exactly when `operator` is In or NotIn",
        holds=lambda self: (self.operator in ("In", "NotIn")) == bool(self.values),
        field_path=".values",
    ),
)

SELECTOR = (
    Rule(
        cel=f"!has(self.matchLabels) || self.matchLabels.all(key, size(key) <= 316 && key.matches('{LABEL_KEY}'))",
        message="must have label keys as keys, such as example.com/name",
        holds=lambda self: are_label_keys(self.matchLabels),
        field_path=".matchLabels",
    ),
)

SPEC = (
    Rule(
        cel="!has(self.targetRefs) || size(self.targetRefs) == 0 || !has(self.targetSelector)",
        message="must not be set together with `targetRefs`",
        holds=lambda self: not self.targetRefs or self.targetSelector is None,
        field_path=".targetSelector",
    ),
)
"""Of every kind of policy."""
