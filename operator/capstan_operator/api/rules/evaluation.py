"""Which answers are sampled, and who may judge them."""

from capstan_operator.api.schema import Rule

EVALUATION = (
    Rule(
        cel="has(self.sampleRate) != has(self.perHour)",
        message="must have exactly one of `sampleRate` and `perHour`",
        holds=lambda self: (self.sampleRate is None) != (self.perHour is None),
    ),
)

WINDOW = (
    Rule(
        cel="self.minimumCount <= self.count",
        message="must be less than or equal to `count`",
        holds=lambda self: self.minimumCount <= self.count,
        field_path=".minimumCount",
    ),
)

SPEC = (
    Rule(
        cel="!has(self.evaluation) || self.model.task in ['chat', 'completion']",
        message="must not be set unless `model.task` is chat or completion",
        holds=lambda self: self.evaluation is None or self.model.task in ("chat", "completion"),
        field_path=".evaluation",
    ),
    Rule(
        cel="!has(self.evaluation) || (!has(self.router) && !has(self.cascade))",
        message="must not be set together with `router` or `cascade`: an answer is a sample of the member that gave it",
        holds=lambda self: self.evaluation is None or not self.is_virtual,
        field_path=".evaluation",
    ),
)

ROOT = (
    Rule(
        cel="!has(self.spec.evaluation) || self.spec.evaluation.judge.name != self.metadata.name",
        message="must not be this model itself",
        holds=lambda self: self.spec.evaluation is None or self.spec.evaluation.judge.name != self.metadata.name,
        field_path=".spec.evaluation.judge.name",
    ),
)
