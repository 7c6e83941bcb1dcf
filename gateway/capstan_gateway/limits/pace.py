"""How fast a token bucket fills, in whole numbers that a Lua number holds exactly. Pure."""

from dataclasses import dataclass
from functools import lru_cache
from math import gcd
from typing import Final

from capstan_gateway.limits.port import Rate

MOST_LEVEL: Final = 2**51
"""Most that a full bucket may come to in its own small units: sums and quotients of twice as much are exact in a
double, whose whole numbers end at 2^53."""
_MOST_TRIES: Final = 5_000
_KNOWN_PACES: Final = 4_096


@dataclass(frozen=True, slots=True)
class Pace:
    """A Rate in small units, of which `gain` come in with every tick."""

    gain: int
    unit: int
    """Small units of one unit."""
    tick_ms: int
    full: int
    """Small units of the capacity."""


@lru_cache(_KNOWN_PACES)
def pace_of(rule: Rate) -> Pace:
    """Choose small units and ticks for a rule: exact by the millisecond wherever the numbers allow that.

    `amount / window_ms` in lowest terms says what comes in within a millisecond. Where a full bucket is too much in
    units that small, time goes in longer ticks, as short as the numbers allow and such that the window is a whole
    number of them. Where none of that kind is near, the window counts as longer than it is by less than a tick: such a
    rule never gives more than it says. All of the contract's rules have at least 2,000 ticks in a window. Raises
    ValueError for numbers that are not positive or too large.
    """
    if not (0 < rule.amount <= MOST_LEVEL and 0 < rule.capacity <= MOST_LEVEL and 0 < rule.window_ms <= MOST_LEVEL):
        raise ValueError(f"the numbers of a Rate must be above 0 and at most {MOST_LEVEL}: {rule}")
    common = gcd(rule.amount, rule.window_ms)
    if rule.capacity * (rule.window_ms // common) <= MOST_LEVEL:
        return _pace(rule, rule.window_ms, 1)
    ticks = min(MOST_LEVEL // rule.capacity, rule.window_ms)
    whole = range(ticks, max(ticks // 2, ticks - _MOST_TRIES), -1)
    even = next((number for number in whole if rule.window_ms % number == 0), None)
    tick_ms = rule.window_ms // even if even is not None else -(-rule.window_ms // ticks)
    return _pace(rule, -(-rule.window_ms // tick_ms), tick_ms)


def _pace(rule: Rate, ticks: int, tick_ms: int) -> Pace:
    common = gcd(rule.amount, ticks)
    unit = ticks // common
    return Pace(gain=rule.amount // common, unit=unit, tick_ms=tick_ms, full=rule.capacity * unit)
