"""The number of replicas, and who says it."""

from typing import Final

from capstan_operator.api.schema import Rule

COLD_START_SECONDS: Final = 120
"""What `coldStartSeconds` is where nothing is said."""

SCALING = (
    Rule(
        cel="self.min <= self.max",
        message="must be less than or equal to `max`",
        holds=lambda self: self.min <= self.max,
        field_path=".min",
    ),
    Rule(
        cel="!has(self.idleSeconds) || self.idleSeconds > "
        f"(has(self.coldStartSeconds) ? self.coldStartSeconds : {COLD_START_SECONDS})",
        message=f"must be greater than `coldStartSeconds`, which is {COLD_START_SECONDS} where it is not set",
        holds=lambda self: self.idleSeconds is None or self.idleSeconds > (self.coldStartSeconds or COLD_START_SECONDS),
        field_path=".idleSeconds",
    ),
    Rule(
        cel="!has(self.schedules) || self.schedules.all(one, one.min <= self.max)",
        message="must each have a `min` that is less than or equal to `max`",
        holds=lambda self: all(one.min <= self.max for one in self.schedules),
        field_path=".schedules",
    ),
)

SPEC = (
    Rule(
        # NB: 1 is what the schema fills in where the field is not written, so it stands for that.
        cel="!has(self.scaling) || self.replicas == 1"
        " || (has(self.scaling.strategy) && self.scaling.strategy == 'External')",
        message="must not be set together with `scaling`, unless `scaling.strategy` is External: it has no effect,"
        " because the scaler says how many replicas there are",
        holds=lambda self: self.scaling is None or self.replicas == 1 or self.scaling.is_external,
        field_path=".replicas",
    ),
)
