"""The number of replicas, and who says it."""

from typing import Final

from capstan_operator.api.schema import Rule

COLD_START_SECONDS: Final = 120
"""What `coldStartSeconds` is where nothing is said."""
PREEMPT_AFTER_SECONDS: Final = 15
"""What `preemptAfterSeconds` is where nothing is said: a pod that is leaving may be about to give its GPUs back."""
_SCALED = "!has(self.strategy) || self.strategy != 'External'"
_WHY_NOT_EXTERNAL = "must not be set together with `strategy: External`: somebody else says how many replicas there are"

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
    Rule(
        cel=f"!has(self.priority) || {_SCALED}",
        message=_WHY_NOT_EXTERNAL,
        holds=lambda self: self.priority is None or not self.is_external,
        field_path=".priority",
    ),
    Rule(
        cel=f"!has(self.preemptible) || {_SCALED}",
        message=_WHY_NOT_EXTERNAL,
        holds=lambda self: self.preemptible is None or not self.is_external,
        field_path=".preemptible",
    ),
    Rule(
        cel=f"!has(self.preemptAfterSeconds) || {_SCALED}",
        message=_WHY_NOT_EXTERNAL,
        holds=lambda self: self.preemptAfterSeconds is None or not self.is_external,
        field_path=".preemptAfterSeconds",
    ),
)

_TELL_KV_USE = ("vLLM", "SGLang", "Simulator")
"""Engines whose metrics say how full their KV cache is."""

SPEC = (
    Rule(
        cel="!has(self.scaling) || !has(self.scaling.targets) || !has(self.scaling.targets.kvCacheUtilization)"
        f" || self.engine.type in [{', '.join(repr(one) for one in _TELL_KV_USE)}]",
        message=f"needs an engine that tells it: `engine.type` must be one of {', '.join(_TELL_KV_USE)}",
        holds=lambda self: (
            self.scaling is None
            or self.scaling.targets is None
            or self.scaling.targets.kvCacheUtilization is None
            or self.engine.type in _TELL_KV_USE
        ),
        field_path=".scaling.targets.kvCacheUtilization",
    ),
)
