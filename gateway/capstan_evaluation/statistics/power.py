"""What a number of cases can see, and how many it takes."""

from collections.abc import Callable
from math import ceil, sqrt
from typing import Final

import numpy as np
from scipy.stats import binom

from capstan_evaluation.statistics.closed.intervals import ALPHA, two_sided
from capstan_evaluation.statistics.resampling import Differences

POWER: Final = 0.8
MOST_CASES: Final = 10_000_000
PRIOR: Final = 0.2
"""The discordance of a suite of which nothing is known: models of one family differ in one case of five."""
_TAILS: Final = 8.0
_STEPS: Final = 16
"""Of a search by halves: to a hundred thousandth of what can be."""


def likely_discordance(differing: int, count: int) -> float:
    """Give the share of pairs that differ to reckon with: one standard error above what was seen (Wilson).

    A number of cases that is asked for by what was seen is too small as often as it is too large, and loses more by the
    one than it wins by the other.
    """
    if not count:
        return PRIOR
    seen = differing / count
    return (seen + 1 / (2 * count) + sqrt(seen * (1 - seen) / count + 1 / (4 * count * count))) / (1 + 1 / count)


def likely_variance(pooled: Differences, count: int) -> float:
    """Give the variance of a case's difference around 0 to reckon with: one standard error above what was seen.

    It is what makes the error of the mean what it is. With clusters, repeats and weights the cases are worth fewer, or
    more, than they are.
    """
    return min(count * pooled.error**2 * (1 + pooled.spread) + pooled.mean**2, float(count))


def normal_needed(drop: float, variance: float, *, alpha: float = ALPHA, power: float = POWER) -> int:
    """Give the number of pairs whose mean difference shows a drop, both directions tested, by the normal approximation.

    Miettinen (1968), Biometrics 24:339, for discordant pairs. `variance` is that of a difference around 0, for pairs
    that pass or do not the discordance; it is at least drop^2.
    """
    z, reach = two_sided(alpha), two_sided(2 * (1 - power))
    variance = max(variance, drop * drop)
    root = z * sqrt(variance) + reach * sqrt(variance - drop * drop)
    return min(ceil((root / drop) ** 2), MOST_CASES)


def mcnemar_power(count: int, drop: float, discordance: float, *, alpha: float = ALPHA) -> float:
    """Give the probability that the exact test of `count` pairs finds a drop, and says that it is one."""
    discordance = min(max(discordance, drop), 1.0)
    spread = _TAILS * sqrt(count * discordance * (1 - discordance)) + 1
    least = max(int(count * discordance - spread), 0)
    differing = np.arange(least, min(int(count * discordance + spread), count) + 1)
    # The test finds something from one more than the quantile on: then both tails together have alpha at most.
    found = binom.sf(binom.isf(alpha / 2, differing, 0.5), differing, (discordance + drop) / 2 / discordance)
    return float((binom.pmf(differing, count, discordance) * found).sum())


def needed_binary(drop: float, discordance: float, *, alpha: float = ALPHA) -> int:
    """Give the number of pairs that show a drop by the exact test, which takes some more than the normal one says."""
    discordance = min(max(discordance, drop), 1.0)
    start = normal_needed(drop, discordance, alpha=alpha)
    if start >= MOST_CASES:
        return MOST_CASES
    return _first(
        lambda count: mcnemar_power(count, drop, discordance, alpha=alpha) >= POWER, start // 2, 2 * start + 50
    )


def detectable_binary(count: int, discordance: float, *, alpha: float = ALPHA) -> float:
    """Give the smallest drop that the exact test of `count` pairs finds with the power; 1: none."""
    return _smallest(lambda drop: mcnemar_power(count, drop, discordance, alpha=alpha) >= POWER)


def needed_scores(drop: float, variance: float, *, alpha: float = ALPHA) -> int:
    """Give the number of cases that show a drop in a mean of scores.

    Two more than by the normal approximation, for Student's t; and so many that the interval is narrower than the drop
    when all scores are alike (`Differences.interval`).
    """
    z = two_sided(alpha)
    return min(max(normal_needed(drop, variance, alpha=alpha) + 2, ceil(z * z * (1 / drop - 1))), MOST_CASES)


def detectable_scores(count: int, variance: float, *, alpha: float = ALPHA) -> float:
    """Give the smallest drop in a mean of scores that `count` cases show with the power; 1: none."""
    return _smallest(lambda drop: needed_scores(drop, variance, alpha=alpha) <= count)


def _first(enough: Callable[[int], bool], low: int, high: int) -> int:
    """Give the first number that is enough; `high` when none below is. Above it all are, but for what is discrete."""
    while low < high:
        middle = (low + high) // 2
        low, high = (low, middle) if enough(middle) else (middle + 1, high)
    return high


def _smallest(seen: Callable[[float], bool]) -> float:
    low, high = 0.0, 1.0
    if not seen(high):
        return 1.0
    for _ in range(_STEPS):
        middle = (low + high) / 2
        low, high = (low, middle) if seen(middle) else (middle, high)
    return high
