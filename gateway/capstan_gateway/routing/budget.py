"""One retry budget for the whole process: what is retried is a share of what is asked.

A count per request multiplies the load of an upstream that is in trouble, just when it has too much. Every request
puts a share of a retry into the budget, time adds a few so that little traffic can retry as well, and a retry takes
one out. Over any time the retries are at most `burst + share * requests + floor_per_second * seconds`.

Not everything that is tried again is a retry in this sense: a request that was never sent (refused connection) made
nobody work, and does not take from the budget.
"""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class BudgetSettings:
    """How much may be retried."""

    share: float = 0.2
    """Retries per request."""
    floor_per_second: float = 10.0
    burst: float = 100.0
    """Most that is saved up."""


class RetryBudget:
    """A token bucket that requests and time fill. The clock is an argument."""

    __slots__ = ("_deposits", "_settings", "_tokens", "_updated_at")

    def __init__(self, settings: BudgetSettings | None = None) -> None:
        self._settings = settings or BudgetSettings()
        self._tokens = self._settings.burst
        self._deposits = 0
        """Requests that are not in `_tokens` yet: each is counted, and few ever ask what is there."""
        self._updated_at: float | None = None

    def deposit(self) -> None:
        """Count a request."""
        self._deposits += 1

    def spend(self, now: float) -> bool:
        """Take one retry; False when there is none, and then nothing is taken."""
        tokens, self._deposits = self.tokens, 0
        if self._updated_at is not None and now > self._updated_at:
            refill = (now - self._updated_at) * self._settings.floor_per_second
            tokens = min(tokens + refill, self._settings.burst)
        self._tokens = tokens
        self._updated_at = now if self._updated_at is None else max(now, self._updated_at)
        if self._tokens < 1.0:
            return False
        self._tokens -= 1.0
        return True

    @property
    def tokens(self) -> float:
        """How many retries are left, for metrics."""
        return min(self._tokens + self._deposits * self._settings.share, self._settings.burst)
