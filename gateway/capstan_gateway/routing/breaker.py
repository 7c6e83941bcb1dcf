"""One breaker per endpoint: stops sending to what fails, and comes back slowly.

    closed --(consecutive failures)--> open --(time)--> half-open --(successes in a row)--> closed
                                        ^                   |
                                        +----(failure)------+   each time for twice as long

Failures are connections that do not come about or break, broken bodies, deadlines, 5xx, answers that are none, and a
key that is refused. Any other 4xx is the request's fault and counts as a success: the endpoint answered. While half-
open one trial runs at a time: the next one starts when it succeeded, or when its lease is over, so that a trial that
hangs does not keep the endpoint out for ever.

Every request takes a ticket, and its outcome counts only in the phase in which it began. What began before the breaker
opened says nothing new when it ends: its failure must not end a trial, nor its success bring a dead endpoint back. A
trial whose lease is over is late, and not a straggler: answers that take longer than a lease close the breaker too.

A breaker only says what it would rather not use. That the last endpoint of a model is used all the same is the
picker's rule. The clock is an argument everywhere.
"""

from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from capstan_gateway.life.pauses import doubled


class BreakerState(StrEnum):
    """For metrics and reports."""

    CLOSED = "closed"
    OPEN = "open"
    HALF_OPEN = "half-open"


@dataclass(frozen=True, slots=True)
class BreakerSettings:
    """When to open, for how long, and how to come back."""

    threshold: int = 3
    """Failures in a row that open it."""
    open_seconds: float = 1.0
    """How long it is open the first time; doubles with each time that it opens again."""
    max_open_seconds: float = 30.0
    trial_lease_seconds: float = 5.0
    """After how long a trial without an outcome makes room for another one."""
    successes_to_close: int = 3
    forget_seconds: float = 60.0
    """After how long without opening the doubling starts anew."""
    max_defer_seconds: float = 60.0
    """Most that an upstream's Retry-After is honoured for."""
    slow_start_seconds: float = 10.0
    """After how long an endpoint that is back has all of its traffic, where there are others to take it."""
    first_share: float = 0.1
    """Share of its traffic that it begins with."""


DEFAULT = BreakerSettings()
UNCOUNTED: Final = -1
"""The ticket of a request that goes to an endpoint whose breaker would rather not: there is no other one."""


class Breaker:
    """The breaker of one endpoint."""

    __slots__ = (
        "_closed_at",
        "_deferred_until",
        "_failures",
        "_next_trial",
        "_opens",
        "_phase",
        "_settings",
        "_successes",
        "_ticket",
        "_trial",
    )

    def __init__(self, settings: BreakerSettings = DEFAULT) -> None:
        self._settings = settings
        self._failures = 0
        self._opens = 0
        self._successes = 0
        self._next_trial: float | None = None
        """None: closed. Otherwise when the next trial may start."""
        self._ticket = 0
        """The latest ticket. While closed all requests have the same one; each trial has its own."""
        self._phase = 0
        """The first ticket since the breaker last opened or closed; smaller ones are those of stragglers."""
        self._trial = UNCOUNTED
        """The ticket of the latest trial, while that is under way."""
        self._deferred_until = 0.0
        self._closed_at = 0.0

    def allows(self, now: float) -> bool:
        """Whether a request should go to this endpoint now."""
        return (self._next_trial is None or now >= self._next_trial) and now >= self._deferred_until

    def share(self, now: float) -> float:
        """How much of its traffic the endpoint should get: after an absence it grows from a tenth to all of it."""
        back_at = max(self._closed_at, self._deferred_until)
        if self._next_trial is not None:
            return self._settings.first_share
        if not back_at:
            return 1.0
        grown = (now - back_at) / self._settings.slow_start_seconds
        return min(1.0, max(self._settings.first_share, grown))

    def state(self, now: float) -> BreakerState:
        """Name the state."""
        if self._next_trial is None:
            return BreakerState.CLOSED
        tried = self._trial != UNCOUNTED or self._successes
        return BreakerState.HALF_OPEN if tried or now >= self._next_trial else BreakerState.OPEN

    def begin(self, now: float) -> int:
        """Take note that a request goes to the endpoint (while half-open it is the trial), and give its ticket."""
        if self._next_trial is None:
            return self._ticket
        if now < self._next_trial:
            return UNCOUNTED
        self._ticket += 1
        self._trial = self._ticket
        self._next_trial = now + self._settings.trial_lease_seconds
        return self._ticket

    def counts(self, ticket: int) -> bool:
        """Whether an outcome of the request with this ticket would count: it is of the phase that is now."""
        return ticket >= self._phase

    def succeed(self, now: float, ticket: int | None = None) -> bool:
        """Take note that the endpoint answered; True when the breaker is closed after that, and the answer counted.

        Without a ticket the answer is that of a request of now: of the trial, if one is under way.
        """
        if ticket is None:
            ticket = self._of_now()
        if ticket < self._phase:
            return False
        self._failures = 0
        if self._next_trial is None:
            return True
        self._successes += 1
        if self._successes >= self._settings.successes_to_close:
            self._next_trial = None
            self._closed_at = now
            self._turn()
            return True
        if ticket == self._trial:
            self._trial = UNCOUNTED
            self._next_trial = now
        return False

    def fail(self, now: float, ticket: int | None = None) -> bool:
        """Take note that the endpoint failed; True when this opened the breaker. `ticket` as in `succeed`."""
        if ticket is None:
            ticket = self._of_now()
        if ticket < self._phase:
            return False
        if self._next_trial is None:
            self._failures += 1
            if self._failures < self._settings.threshold:
                return False
            if now - self._closed_at > self._settings.forget_seconds:
                self._opens = 0
        seconds = doubled(self._settings.open_seconds, self._settings.max_open_seconds, self._opens)
        self._opens += 1
        self._next_trial = now + seconds
        self._turn()
        return True

    def _turn(self) -> None:
        """Begin a new phase: nothing is known in it yet, and what began before counts no more."""
        self._ticket += 1
        self._phase = self._ticket
        self._trial = UNCOUNTED
        self._failures = self._successes = 0

    def _of_now(self) -> int:
        return self._ticket if self._next_trial is None else self._trial

    def defer(self, now: float, seconds: float) -> None:
        """Honour a Retry-After of the upstream, as far as the settings allow."""
        self._deferred_until = max(self._deferred_until, now + min(seconds, self._settings.max_defer_seconds))
