"""How many replicas a model should have now, by what is and was asked of it.

Up at once, down slowly: more replicas come as soon as they are asked for (or have been for
`scaleUpStabilizationSeconds`; twice what there is does not wait for that), fewer when fewer have been enough for all of
`scaleDownStabilizationSeconds`. What is not known is never taken for nothing: without an answer of every gateway
replica nothing goes down, and without any nothing moves but into the bounds. Nothing goes to zero that this process has
not itself seen idle for a while: what a process before has told of it, requests may have made untrue meanwhile.
"""

from collections import deque
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from math import ceil
from typing import Final

from capstan_operator.api.scaling import Scaling
from capstan_operator.scaling.demand import Demand
from capstan_operator.scaling.load import load_of
from capstan_operator.scaling.schedules import fewest
from capstan_operator.scaling.windows import Window

TOLERANCE: Final = 1.1
"""What is asked for must be so many times what there is before there is more."""
PANIC: Final = 2.0
"""From so many times what there is on, more replicas do not wait for `scaleUpStabilizationSeconds`."""
GROWTH_SECONDS: Final = 10.0
"""Over what time it is looked whether a queue grows."""
LEAST_GROWTH_SECONDS: Final = 2.0
MISSED_SECONDS: Final = 15.0
"""For so long demand may be unknown without that being a break in what was known."""
MOST_RECENT: Final = 64
LEAST_SEEN_SECONDS: Final = 60.0
"""For so long at least nothing must have been asked for in the sight of this process before it takes a model to zero,
unless the model is to be idle for less."""


class Reason(StrEnum):
    """Why there should be as many replicas as there should be."""

    STEADY = "Steady"
    MORE = "ScalingUp"
    FEWER = "ScalingDown"
    WOKEN = "Woken"
    IDLE = "Idle"
    STABILIZING = "Stabilizing"
    UNKNOWN = "DemandUnknown"
    PREEMPTED = "Preempted"


class Limit(StrEnum):
    """What keeps the number from being what is asked for."""

    MAX = "Max"
    MIN = "Min"
    SCHEDULE = "Schedule"
    GPUS = "GPUs"
    PREEMPTED = "Preempted"


@dataclass(frozen=True)
class Decision:
    """How many replicas there should be."""

    desired: int
    reason: Reason
    least: int
    """The fewest at present."""
    load: float | None = None
    """How many demand asks for now, before bounds and stabilisation; None: not known."""
    limited_by: Limit | None = None
    idle_since: datetime | None = None
    """Since when nothing was asked of the model; None: something is, or it is not known."""


@dataclass(frozen=True)
class Now:
    """The moment of a decision, and what there is then."""

    time: datetime
    """With a time zone."""
    clock: float
    """Seconds of a clock that never goes back."""
    current: int
    """Replicas that are wanted."""
    ready: int
    """Replicas that take requests."""


@dataclass
class Scaler:
    """Decides for one model, again and again. It remembers what stabilisation needs, in bounded memory."""

    idle_since: datetime | None = None
    """At first what a process before has told of it. For telling: how long it is says a clock that nobody sets."""
    _recent: deque[tuple[float, Demand]] = field(default_factory=lambda: deque(maxlen=MOST_RECENT))
    _up: Window = field(default_factory=lambda: Window(0))
    _down: Window = field(default_factory=lambda: Window(0))
    _known_at: float | None = None
    _known_since: float | None = None
    """Since when everything was known, without a break."""
    _idle_from: float | None = None

    def decide(self, scaling: Scaling, demand: Demand | None, now: Now) -> Decision:
        """Give how many replicas there should be."""
        self._fit(scaling)
        least, scheduled = fewest(scaling, now.time)
        bounds = (min(least, scaling.max), scaling.max)
        if demand is None:
            self._miss(now)
            desired = min(max(now.current, bounds[0]), bounds[1])
            limit = _limit(now.current, bounds, scheduled)
            return Decision(desired, Reason.UNKNOWN, bounds[0], None, limit, self.idle_since)
        self._note_idle(demand, now)
        load = load_of(
            demand,
            scaling.aims,
            growth=self._growth(demand, now),
            current=now.current,
            ready=min(now.ready, now.current),
        )
        self._recent.append((now.clock, demand))
        desired, reason = self._choose(scaling, demand, load, bounds, now)
        return Decision(desired, reason, bounds[0], load, _limit(ceil(load), bounds, scheduled), self.idle_since)

    def idle_seconds(self, clock: float) -> float | None:
        """Give for how long it was seen that nothing is asked; None where something is, or it is not known now."""
        if self._idle_from is None or self._known_since is None or self._known_at != clock:
            return None
        return clock - max(self._idle_from, self._known_since)

    def _choose(
        self, scaling: Scaling, demand: Demand, load: float, bounds: tuple[int, int], now: Now
    ) -> tuple[int, Reason]:
        least, most = bounds
        asked = min(max(_whole(load, now.current), least, 1), most)
        self._up.add(asked, now.clock)
        # NB: what only some replicas say is too little.
        self._down.add(asked if demand.complete else max(asked, now.current), now.clock)
        if now.current == 0:
            if demand.is_pressing or demand.was_refused:
                return asked, Reason.WOKEN
            return least, Reason.MORE if least else Reason.IDLE
        if least == 0 and self._is_idle(scaling, now):
            return 0, Reason.IDLE
        if now.current < max(least, 1) or now.current > most:
            return min(max(now.current, least), most), Reason.MORE if now.current < least else Reason.FEWER
        return self._stabilised(asked, load, now)

    def _stabilised(self, asked: int, load: float, now: Now) -> tuple[int, Reason]:
        lasting = self._up.least if self._up.is_full(now.clock) or not self._up.seconds else now.current
        up = asked if load >= PANIC * now.current else lasting
        if up > now.current:
            return up, Reason.MORE
        if asked >= now.current:
            return now.current, Reason.STEADY
        down = self._down.most if self._down.is_full(now.clock) else now.current
        if down < now.current:
            return down, Reason.FEWER
        return now.current, Reason.STABILIZING

    def _fit(self, scaling: Scaling) -> None:
        """Begin anew where the stretches of time are others than they were."""
        if self._up.seconds != scaling.up_seconds:
            self._up = Window(scaling.up_seconds)
        if self._down.seconds != scaling.down_seconds:
            self._down = Window(scaling.down_seconds)

    def _miss(self, now: Now) -> None:
        if self._known_at is None or now.clock - self._known_at > MISSED_SECONDS:
            self.idle_since = self._idle_from = None
            self._recent.clear()
            self._up.clear()
            self._down.clear()

    def _growth(self, demand: Demand, now: Now) -> float:
        """Give by how much more wait per second."""
        within = [one for one in self._recent if now.clock - one[0] <= GROWTH_SECONDS]
        if not within or now.clock - within[0][0] < LEAST_GROWTH_SECONDS:
            return 0.0
        return (demand.waiting - within[0][1].waiting) / (now.clock - within[0][0])

    def _note_idle(self, demand: Demand, now: Now) -> None:
        """Remember since when nothing was asked: of which every replica must have said that it is so."""
        if demand.is_pressing or demand.came or demand.was_refused:
            self.idle_since = self._idle_from = None
        elif not demand.complete:
            self._miss(now)
            return
        elif self.idle_since is None:
            self.idle_since, self._idle_from = now.time, now.clock
        elif self._idle_from is None:
            self._idle_from = now.clock - max((now.time - self.idle_since).total_seconds(), 0.0)
        if demand.complete:
            if self._known_at is None or now.clock - self._known_at > MISSED_SECONDS:
                self._known_since = now.clock
            self._known_at = now.clock

    def _is_idle(self, scaling: Scaling, now: Now) -> bool:
        # NB: replicas that do not say anything now may have been given something since they last did.
        if self._idle_from is None or self._known_since is None or self._known_at != now.clock:
            return False
        seen = min(scaling.idle_for, max(scaling.down_seconds, LEAST_SEEN_SECONDS))
        return now.clock - self._idle_from >= scaling.idle_for and now.clock - self._known_since >= seen


def _whole(load: float, current: int) -> int:
    """Give the replicas for a load: what there is bears a little more than it should."""
    return current if current < load <= current * TOLERANCE else ceil(load)


def _limit(asked: int, bounds: tuple[int, int], scheduled: bool) -> Limit | None:
    if asked > bounds[1]:
        return Limit.MAX
    if asked < bounds[0]:
        return Limit.SCHEDULE if scheduled else Limit.MIN
    return None
