"""The number of replicas, and who says it."""

from capstan_operator.api.schema import Rule

SCALING = (
    Rule(
        cel="self.min <= self.max",
        message="must be less than or equal to `max`",
        holds=lambda self: self.min <= self.max,
        field_path=".min",
    ),
)

SPEC = (
    Rule(
        # NB: 1 is what the schema fills in when the field is removed, which is how a user mends that it is there.
        cel="!has(self.scaling) || !has(oldSelf.scaling) || self.replicas == oldSelf.replicas || self.replicas == 1",
        message="cannot change while `scaling` is set, only go: the autoscaler says how many replicas there are",
        field_path=".replicas",
    ),
)
