"""Caches."""

from capstan_operator.api.schema import Rule

REDIS = (
    Rule(
        cel="!has(self.encryptionKeyRef) || self.enabled",
        message="must not be set when `enabled` is false",
        holds=lambda self: self.encryptionKeyRef is None or self.enabled,
        field_path=".encryptionKeyRef",
    ),
)

SEMANTIC = (
    Rule(
        cel="!has(self.embedding) || has(self.similarity)",
        message="must be set together with `embedding`: nobody has measured the vectors of that model",
        holds=lambda self: self.embedding is None or self.similarity is not None,
        field_path=".similarity",
    ),
    Rule(
        cel="!(has(self.errorBudget) && has(self.similarity))",
        message="must not be set together with `errorBudget`",
        holds=lambda self: self.errorBudget is None or self.similarity is None,
        field_path=".similarity",
    ),
    Rule(
        cel="!has(self.errorBudget) || (double(self.errorBudget) > 0.0 && double(self.errorBudget) <= 0.2)",
        message="must be greater than 0 and at most 0.2",
        holds=lambda self: self.errorBudget is None or 0 < float(self.errorBudget) <= 0.2,
        field_path=".errorBudget",
    ),
    Rule(
        cel="!has(self.similarity) || double(self.similarity) > 0.0",
        message="must be greater than 0",
        holds=lambda self: self.similarity is None or float(self.similarity) > 0,
        field_path=".similarity",
    ),
)
