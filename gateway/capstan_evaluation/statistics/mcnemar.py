"""Pairs that pass or do not pass: what they say is in those where the two differ."""

from math import sqrt

from scipy.stats import binomtest

from capstan_evaluation.statistics.closed.intervals import ALPHA, Interval, two_sided

_STEPS = 60
"""Of a search by halves: as exact as a float is."""


def mcnemar(worse: int, better: int) -> float:
    """Give the p-value, for both directions, of as many pairs that differ, if both directions were as likely.

    The exact test of McNemar: a binomial test of the discordant pairs. 1 when there are none.
    """
    return float(binomtest(worse, worse + better, 0.5).pvalue) if worse + better else 1.0


def tango(worse: int, better: int, count: int, *, alpha: float = ALPHA) -> Interval:
    """Give the interval of the share that the candidate passes minus the baseline's, of `count` pairs.

    The score interval of Tango (1998), Statistics in Medicine 17:891. It has a width when no pair differs: z^2 / (n +
    z^2) to each side. -1 to 1 without pairs. Raises ValueError for counts that cannot be.
    """
    if min(worse, better) < 0 or worse + better > count:
        raise ValueError(f"discordant pairs are 0 or more, and not more than all: {worse} + {better} of {count}")
    z = two_sided(alpha)
    if not count:
        return Interval(-1.0, 1.0)
    seen = (better - worse) / count

    def end(limit: float) -> float:
        inside, outside = seen, limit
        for _ in range(_STEPS):
            middle = (inside + outside) / 2
            near = abs(_score(worse, better, count, middle)) < z
            inside, outside = (middle, outside) if near else (inside, middle)
        return outside

    return Interval(end(-1.0), end(1.0))


def _score(worse: int, better: int, count: int, difference: float) -> float:
    """How many standard errors what was seen is away from a true difference, with the most likely share of `worse`."""
    first = 2 * count
    second = -better - worse + (2 * count - better + worse) * difference
    third = -worse * difference * (1 - difference)
    share = (sqrt(max(second * second - 4 * first * third, 0.0)) - second) / (2 * first)
    variance = count * (2 * share + difference * (1 - difference))
    away = better - worse - count * difference
    if variance <= 0:
        return 0.0 if away == 0 else float("inf") if away > 0 else float("-inf")
    return away / sqrt(variance)
