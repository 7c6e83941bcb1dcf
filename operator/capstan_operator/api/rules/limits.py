"""Limits and budgets."""

from typing import Final

from capstan_operator.api.schema import Rule
from capstan_operator.resources.durations import seconds_of

LONGEST_SECONDS: Final = 366 * 86_400
MOST_DOLLARS: Final = 1_000_000


def _bounded(field: str, *words: str) -> Rule:
    """A duration is of at least a second and at most a leap year."""
    listed = ", ".join(f"'{word}'" for word in words)

    def holds(part: object) -> bool:
        value = getattr(part, field)
        return value is None or value in words or 1 <= seconds_of(value) <= LONGEST_SECONDS

    return Rule(
        cel=f"!has(self.{field}) || self.{field} in [{listed}] || (duration(self.{field}) >= duration('1s')"
        f" && duration(self.{field}) <= duration('{LONGEST_SECONDS}s'))",
        message="must be at least 1s and at most 8784h when it is a duration",
        holds=holds,
        field_path=f".{field}",
    )


LIMIT = (
    Rule(
        cel="has(self.requests) || has(self.tokens) || has(self.concurrency)",
        message="must have at least one of `requests`, `tokens` and `concurrency`",
        holds=lambda self: any(one is not None for one in (self.requests, self.tokens, self.concurrency)),
    ),
    Rule(
        cel="!has(self.burst) || has(self.requests) != has(self.tokens)",
        message="must not be set unless there is exactly one of `requests` and `tokens`",
        holds=lambda self: self.burst is None or (self.requests is None) != (self.tokens is None),
        field_path=".burst",
    ),
    Rule(
        cel="!has(self.tokenType) || has(self.tokens)",
        message="must not be set without `tokens`",
        holds=lambda self: self.tokenType is None or self.tokens is not None,
        field_path=".tokenType",
    ),
    Rule(
        cel="!has(self.window) || has(self.requests) || has(self.tokens)",
        message="must not be set without `requests` or `tokens`",
        holds=lambda self: self.window is None or self.requests is not None or self.tokens is not None,
        field_path=".window",
    ),
    _bounded("window", "minute", "hour", "day"),
)

BUDGET = (
    Rule(
        cel=f"double(self.dollars) > 0.0 && double(self.dollars) <= {MOST_DOLLARS}.0",
        message=f"must be greater than 0 and at most {MOST_DOLLARS}",
        holds=lambda self: 0 < float(self.dollars) <= MOST_DOLLARS,
        field_path=".dollars",
    ),
    _bounded("period", "day", "week", "month"),
    Rule(
        cel="!has(self.resetTimeZone) || self.period in ['day', 'week', 'month']",
        message="must not be set when `period` is a duration",
        holds=lambda self: self.resetTimeZone is None or self.period in ("day", "week", "month"),
        field_path=".resetTimeZone",
    ),
    Rule(
        cel="(self.onExhausted == 'Downgrade') == has(self.downgradeTo)",
        message="must be set exactly when `onExhausted` is Downgrade",
        holds=lambda self: (self.onExhausted == "Downgrade") == (self.downgradeTo is not None),
        field_path=".downgradeTo",
    ),
)

SPEC = (
    Rule(
        cel="(has(self.limits) && size(self.limits) > 0) || (has(self.budgets) && size(self.budgets) > 0)",
        message="must have at least one of `limits` and `budgets`",
        holds=lambda self: bool(self.limits or self.budgets),
    ),
)
