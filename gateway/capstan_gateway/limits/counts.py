"""The arithmetic of one bucket: what there is, what is taken, what comes back. Pure: the time is told.

Each kind is written as what is *missing* from the bucket, so that a bucket of which nothing is known is a full one, and
a changed rule counts what was had under the old one:

    Rate    a leaky bucket: `level` rises with what is taken and falls with time, down to 0; beside it what somebody
            holds for later, which no time lets fall
    Quota   what was spent of the period that is under way
    Slots   what is held

All numbers are whole and below 2^53; `script.py` does the same in Lua, step by step, and a property test holds the two
equal. A count is made of what was stored (`stored`, None when nothing was), changed, and stored again.

**What a Rate takes back.** Time has refilled a part of what was taken: that cannot come back once more. Had a
reservation taken less from the beginning, the level would be lower by that much, but for what time would then have
found missing: lower by the lowest level since then at most. So a count remembers, by its `mark`s (the number of a
change), the lowest levels since each of its latest changes, as a list in which both rise; `give` lowers the level by no
more than that. What is admitted in any time is then within the rule by what was really used, whatever was reserved
meanwhile.
"""

from bisect import bisect_right
from collections.abc import Sequence
from typing import Final, Protocol

from capstan_gateway.limits.pace import MOST_LEVEL, Pace
from capstan_gateway.limits.port import Standing

BACK_MS: Final = 60_000
"""A clock that steps back by up to this much stands still until it is there again; after a longer step its new time
counts, so that nobody waits for hours."""
MOST_AMOUNT: Final = MOST_LEVEL
"""Amounts above it are this much: no rule has so many."""
MOST_DEBT: Final = 2 * MOST_LEVEL
"""No level, and nothing spent or held, is above it."""
MOST_LOWS: Final = 64
"""Beyond it those that are near each other become one: so many changes that had more and more missing came without a
pause, and all of them together give back a few parts of `PARTS` less then than they took."""
PARTS: Final = 32
ASK_AGAIN_MS: Final = 1_000
"""When to ask again for what somebody holds: nobody knows when it is given back."""
_HEAD: Final = 8
_MARKS_OF_A_MS: Final = 1_000

Stored = tuple[int, ...]


class Count(Protocol):
    """One bucket at one moment."""

    mark: int
    """What is taken now has to be given back with this number."""

    def wait_for(self, amount: int) -> int:
        """Give after how many milliseconds there is this much, if nobody takes anything; 0: now; -1: never."""
        ...

    def take(self, amount: int) -> None:
        """Take it, whatever there is."""
        ...

    def give(self, amount: int, mark: int) -> None:
        """Take back what was taken with this mark."""
        ...

    def standing(self) -> Standing:
        """Say what there is, and when what time brings back is there."""
        ...

    def terms(self) -> Stored:
        """Give what a reservation has to know to change it later: how it goes on, but not its limit."""
        ...

    def keep_until(self, until: int) -> None:
        """Who holds some of it is known until then, at least."""
        ...

    def stored(self) -> tuple[Stored, int] | None:
        """Give what is to be stored, and until when, in the time of the store; None when the bucket is full."""
        ...


class RateCount:
    """A token bucket.

    Stored are: level, tick, small units of a unit, length of a tick, first mark, marks since, what is held and until
    when anybody can hold it, and then the lows.
    """

    __slots__ = ("_born", "_held", "_level", "_lows", "_marks", "_now", "_tick", "_until", "mark", "pace")

    def __init__(self, stored: Stored | None, pace: Pace, now: int) -> None:
        self.pace, self._now = pace, now
        self._tick = now // pace.tick_ms
        self._level = self._held = self._until = 0
        self._born = now * _MARKS_OF_A_MS
        self._marks: list[int] = []
        self._lows: list[int] = []
        self.mark = self._born
        if stored is not None:
            self._go_on_from(stored)
        self._note_low()

    def _go_on_from(self, stored: Stored) -> None:
        level, tick, unit, tick_ms, self._born, marks, held, self._until = stored[:_HEAD]
        self.mark = self._born + marks + 1
        self._marks, self._lows = list(stored[_HEAD::2]), list(stored[_HEAD + 1 :: 2])
        self._held = held if self._until > self._now else 0
        pace = self.pace
        if unit != pace.unit or tick_ms != pace.tick_ms:  # The rule has changed: to the next whole unit, and tick.
            level = min(-(-level // unit) * pace.unit, MOST_DEBT)
            self._held = min(-(-self._held // unit) * pace.unit, MOST_DEBT)
            tick = -(-tick * tick_ms // pace.tick_ms)
            self._lows = [min(low // unit * pace.unit, MOST_DEBT) for low in self._lows]
        if self._tick > tick:
            level = max(level - (self._tick - tick) * pace.gain, 0)
        elif level > 0 and tick * pace.tick_ms - self._now <= BACK_MS:
            self._tick = tick
        self._level = level

    def _note_low(self) -> None:
        marks, lows = self._marks, self._lows
        while lows and lows[-1] >= self._level:
            marks.pop()
            lows.pop()
        marks.append(self.mark - self._born)
        lows.append(self._level)
        if len(lows) > MOST_LOWS:
            self._thin_out()

    def _thin_out(self) -> None:
        """Make one of those lows that are near each other: the last mark with the lowest level is true of all."""
        marks, lows = [self._marks[0]], [self._lows[0]]
        step = (self._lows[-1] - self._lows[0]) // PARTS
        for mark, low in zip(self._marks[1:], self._lows[1:], strict=True):
            if low - lows[-1] < step:
                marks[-1] = mark
            else:
                marks.append(mark)
                lows.append(low)
        self._marks, self._lows = marks, lows

    def wait_for(self, amount: int) -> int:
        """See `Count`."""
        pace = self.pace
        taken = amount * pace.unit
        if amount == 0 or self._level + self._held + taken <= pace.full:
            return 0
        if taken > pace.full:
            return -1
        if self._held + taken > pace.full:  # Who holds it says when.
            return max(self._time_for(self._level), ASK_AGAIN_MS)
        return self._time_for(self._level + self._held + taken - pace.full)

    def _time_for(self, level: int) -> int:
        """Give after how many milliseconds this much has come in."""
        return (self._tick + -(-level // self.pace.gain)) * self.pace.tick_ms - self._now

    def take(self, amount: int) -> None:
        """See `Count`."""
        self._level = min(self._level + amount * self.pace.unit, MOST_DEBT)

    def hold(self, amount: int) -> None:
        """Take it for somebody who may use it at any later time."""
        self._held = min(self._held + amount * self.pace.unit, MOST_DEBT)

    def use(self, amount: int) -> None:
        """It was held and is used now."""
        self.free(amount)
        self.take(amount)

    def free(self, amount: int) -> None:
        """It was held and is not needed."""
        self._held = max(self._held - amount * self.pace.unit, 0)

    def keep_until(self, until: int) -> None:
        """See `Count`."""
        self._until = max(self._until, until)

    def give(self, amount: int, mark: int) -> None:
        """See `Count`."""
        given = min(amount * self.pace.unit, self._level)
        since = bisect_right(self._marks, mark - self._born)
        if since < len(self._lows):
            given = min(given, self._lows[since])
        if mark > self.mark:  # It is older than this count, by a clock that has stepped back.
            given = 0
        self._level -= given
        for place in range(since, len(self._lows)):
            self._lows[place] -= given
        while 0 < since < len(self._lows) and self._lows[since - 1] >= self._lows[since]:
            since -= 1
            del self._marks[since], self._lows[since]

    def terms(self) -> Stored:
        """See `Count`."""
        return self.pace.gain, self.pace.unit, self.pace.tick_ms

    def standing(self) -> Standing:
        """See `Count`."""
        remaining = (self.pace.full - self._level - self._held) // self.pace.unit
        return Standing(remaining=remaining, reset_ms=self._time_for(self._level) if self._level else 0)

    def stored(self) -> tuple[Stored, int] | None:
        """See `Count`."""
        if self._level == 0 and self._held == 0:
            return None
        marks = self.mark - self._born
        head = (self._level, self._tick, self.pace.unit, self.pace.tick_ms, self._born, marks, self._held, self._until)
        lows = [number for pair in zip(self._marks, self._lows, strict=True) for number in pair]
        full = self._now + self._time_for(self._level) + 1
        return (*head, *lows), max(full, self._until) if self._held else full


class QuotaCount:
    """A count for a period. Stored are: when the period began, and what was spent."""

    __slots__ = ("_end", "_limit", "_now", "_spent", "mark")

    def __init__(self, stored: Stored | None, limit: int, starts: Sequence[int], now: int) -> None:
        self._limit, self._now = limit, now
        self.mark = starts[max(bisect_right(starts, now) - 1, 0)]
        self._spent = 0
        if stored is not None:
            began, spent = stored
            if began > now + BACK_MS:  # By a clock that has gone back since, and counts again.
                self._spent = spent
            elif began >= self.mark:
                self.mark, self._spent = began, spent
        later = bisect_right(starts, self.mark)
        self._end = starts[later] if later < len(starts) else self.mark + starts[-1] - starts[-2]

    def wait_for(self, amount: int) -> int:
        """See `Count`."""
        if amount == 0 or self._spent + amount <= self._limit:
            return 0
        return -1 if amount > self._limit else max(self._end - self._now, 1)

    def take(self, amount: int) -> None:
        """See `Count`."""
        self._spent = min(self._spent + amount, MOST_DEBT)

    def give(self, amount: int, mark: int) -> None:
        """See `Count`: what was taken from another period is not of this one."""
        if mark == self.mark:
            self._spent = max(self._spent - amount, 0)

    def terms(self) -> Stored:
        """See `Count`."""
        return self.mark, self._end

    def keep_until(self, until: int) -> None:
        """See `Count`: nobody's holding it makes a period longer."""

    def standing(self) -> Standing:
        """See `Count`."""
        reset_ms = max(self._end - self._now, 1) if self._spent else 0
        return Standing(remaining=self._limit - self._spent, reset_ms=reset_ms)

    def stored(self) -> tuple[Stored, int] | None:
        """See `Count`."""
        until = self._end + BACK_MS
        return ((self.mark, self._spent), until) if self._spent and until > self._now else None


class SlotsCount:
    """What may be under way at once. Stored are: what is held, and until when anybody can hold it."""

    __slots__ = ("_held", "_limit", "_now", "_until", "mark")

    def __init__(self, stored: Stored | None, limit: int, now: int) -> None:
        self._limit, self._now = limit, now
        self._held, self._until = stored if stored is not None and stored[1] > now else (0, 0)
        self.mark = 0

    def keep_until(self, until: int) -> None:
        """See `Count`."""
        self._until = max(self._until, until)

    def wait_for(self, amount: int) -> int:
        """See `Count`."""
        if amount == 0 or self._held + amount <= self._limit:
            return 0
        return -1 if amount > self._limit else ASK_AGAIN_MS

    def take(self, amount: int) -> None:
        """See `Count`."""
        self._held = min(self._held + amount, MOST_DEBT)

    def give(self, amount: int, mark: int) -> None:  # noqa: ARG002 - one count is like another
        """See `Count`."""
        self._held = max(self._held - amount, 0)

    def terms(self) -> Stored:
        """See `Count`."""
        return ()

    def standing(self) -> Standing:
        """See `Count`."""
        return Standing(remaining=self._limit - self._held, reset_ms=ASK_AGAIN_MS if self._held else 0)

    def stored(self) -> tuple[Stored, int] | None:
        """See `Count`."""
        return ((self._held, self._until), self._until) if self._held else None
