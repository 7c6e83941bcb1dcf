"""How many times a quantile of one group is that of another, from two histograms, however often somebody looks.

"The candidate's 95th percentile is more than r times the baseline's" fails to be true only if there is a value x that
at least 5 % of the baseline exceed while at most 5 % of the candidate exceed r x. Against each x two bets are kept, as
in `exact`, and multiplied: one that fewer of the baseline exceed x, one that more of the candidate exceed r x. When
every x is bet down to alpha, r is too small to be the ratio. No x is chosen and nothing is estimated first, so nothing
has to be divided among steps. "Less than r times" is the mirror image; together they give an interval of the ratio.

A histogram does not know where in a bucket its values are. They count as spread evenly in the logarithm, so the
interval is of the quantiles of that, which differ from the true ones by the ratio of two bounds at most: 1.1 or less
is fine, such as eight bounds for each doubling. Requests count as independent; where neighbours are alike (a burst
makes all that wait slow), `design_effect` says how many of them are worth one.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate, pairwise
from math import ceil, exp, inf, log, log1p
from typing import Final

from capstan_evaluation.statistics.closed.intervals import ALPHA, Interval, check_alpha

STEP: Final = 0.01
"""How finely values are looked at, as a logarithm: ratios are known to a hundredth."""
_ODDS: Final = (0.1, 0.2, 0.4, 0.8, 1.6, 3.2)
"""How far the shares that are bet on are from the quantile's, as logarithms of the odds."""
_KEPT: Final = 1 / (len(_ODDS) + 1)
"""What is not bet, and each bet: a lost bet then does not take along what the other one won."""


@dataclass(frozen=True)
class QuantileRatio:
    """One quantile of two groups."""

    baseline: float | None
    """The quantile, in the unit of the bounds; None: nothing was counted, or it lies beyond the last bound."""
    candidate: float | None
    ratio: float | None
    interval: Interval
    """Of the ratio, always valid: from 0 to infinity while too little was seen."""


def quantile(bounds: Sequence[float], counts: Sequence[int], at: float = 0.95) -> float | None:
    """Give a quantile of a histogram; None when nothing was counted, or when it lies beyond the last bound.

    `bounds` are the upper bounds of the buckets, from low to high; `counts` has one number more, of what is above all.
    """
    spread = _Spread(bounds, counts)
    return spread.quantile(at)


def quantile_ratio(
    bounds: Sequence[float],
    baseline: Sequence[int],
    candidate: Sequence[int],
    *,
    at: float = 0.95,
    alpha: float = ALPHA,
    design_effect: float = 1.0,
) -> QuantileRatio:
    """Compare a quantile of two groups that share nothing and are counted in the same buckets.

    "Is the 95th percentile of the candidate more than 1.2 times the baseline's?" Surely yes when the whole interval is
    above 1.2, surely no when it is below. Raises ValueError for histograms that do not fit their bounds.
    """
    check_alpha(alpha)
    if not 0 < at < 1:
        raise ValueError(f"a quantile is between 0 and 1, both exclusive, not {at}")
    if design_effect < 1:
        raise ValueError(f"a design effect is 1 or more, not {design_effect}")
    old, new = _Spread(bounds, baseline), _Spread(bounds, candidate)
    first, second = old.quantile(at), new.quantile(at)
    ratio = second / first if first is not None and second is not None else None
    if not old.count or not new.count:
        return QuantileRatio(first, second, ratio, Interval(0.0, inf))
    limit = log(2 / alpha)
    below, above = _Bet(1 - at, old.count / design_effect), _Bet(1 - at, new.count / design_effect)
    first_step, last_step = min(old.ends[0], new.ends[0]), max(old.ends[1], new.ends[1])
    steps = [first_step + STEP * index for index in range(ceil((last_step - first_step) / STEP) + 1)]
    # A value above the last bound may be anywhere above it: it counts for what takes evidence away.
    low = _last_step(
        [below.fewer(share) for share in old.above(steps, beyond=True)],
        [above.more(share) for share in new.above(steps, beyond=False)],
        limit,
    )
    high = _last_step(
        [above.fewer(share) for share in new.above(steps, beyond=True)],
        [below.more(share) for share in old.above(steps, beyond=False)],
        limit,
    )
    interval = Interval(0.0 if low is None else exp(STEP * low), inf if high is None else exp(-STEP * high))
    return QuantileRatio(first, second, ratio, interval)


class _Spread:
    """A histogram whose values are spread evenly in the logarithm within each bucket."""

    def __init__(self, bounds: Sequence[float], counts: Sequence[int]) -> None:
        if len(counts) != len(bounds) + 1 or len(bounds) < 2:
            raise ValueError("a histogram has two bounds or more, and one count more than bounds")
        if bounds[0] <= 0 or any(low >= high for low, high in pairwise(bounds)):
            raise ValueError("bounds are above 0 and rise")
        if min(counts) < 0:
            raise ValueError("counts are 0 or more")
        self._edges = [2 * log(bounds[0]) - log(bounds[1]), *map(log, bounds)]
        self._counts = counts
        self._cumulated = [0, *accumulate(counts)]
        self.count = self._cumulated[-1]

    def quantile(self, at: float) -> float | None:
        """Give the value that a share `at` does not exceed."""
        wanted = at * self.count
        for index, count in enumerate(self._counts[:-1]):
            if count and self._cumulated[index + 1] >= wanted:
                part = max(wanted - self._cumulated[index], 0.0) / count
                return exp(self._edges[index] + part * (self._edges[index + 1] - self._edges[index]))
        return None

    @property
    def ends(self) -> tuple[float, float]:
        """Give the logarithms between which all values are that are not above the last bound."""
        held = [index for index, count in enumerate(self._counts[:-1]) if count]
        return (self._edges[held[0]], self._edges[held[-1] + 1]) if held else (self._edges[-1], self._edges[-1])

    def above(self, steps: Sequence[float], *, beyond: bool) -> list[float]:
        """Give the share above each step, and then above what is beyond all of them: what lies there counts or not."""
        shares, index = [], 0
        lost = 0 if beyond else self._counts[-1]
        for step in steps:
            while index + 2 < len(self._edges) and self._edges[index + 1] <= step:
                index += 1
            part = (step - self._edges[index]) / (self._edges[index + 1] - self._edges[index])
            under = self._cumulated[index] + min(part, 1.0) * self._counts[index]
            above = self.count - under - (lost if step > self._edges[-1] else 0)
            shares.append(above / self.count)
        return [*shares, (self._counts[-1] - lost) / self.count]


class _Bet:
    """Bets, as logarithms, against a share of `share` above a value, after `count` observations."""

    def __init__(self, share: float, count: float) -> None:
        self._count = count
        self._more = [_against(share, _moved(share, odds)) for odds in _ODDS]
        self._fewer = [_against(share, _moved(share, -odds)) for odds in _ODDS]

    def more(self, seen: float) -> float:
        """Against at most as many."""
        return self._won(self._more, seen)

    def fewer(self, seen: float) -> float:
        """Against at least as many."""
        return self._won(self._fewer, seen)

    def _won(self, rates: Sequence[tuple[float, float]], seen: float) -> float:
        won = [self._count * (seen * hit + (1 - seen) * miss) for hit, miss in rates]
        most = max(0.0, *won)
        return most + log(_KEPT * (exp(-most) + sum(exp(value - most) for value in won)))


def _moved(share: float, odds: float) -> float:
    moved = exp(log(share) - log1p(-share) + odds)
    return moved / (1 + moved)


def _against(share: float, bet: float) -> tuple[float, float]:
    """What a bet on `bet` wins for each that is above, and for each that is not."""
    return log(bet / share), log1p(-bet) - log1p(-share)


def _last_step(fewer: Sequence[float], more: Sequence[float], limit: float) -> int | None:
    """Give the largest shift at which every pair of bets, `more` so many steps further on, is won; None: none is.

    The last of each list is that of all steps beyond; below the first step everything is above. What lies between two
    steps is held by the lower one's `fewer` and the upper one's `more`, so that one step is taken off.
    """
    size = len(fewer) - 1

    def won(shift: int) -> bool:
        return all(
            fewer[min(index, size)] + more[min(max(index + shift, 0), size)] >= limit
            for index in range(max(size, size - shift) + 1)
        )

    low, high = -size, size
    if not won(low):
        return None
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if won(middle) else (low, middle)
    return (high if won(high) else low) - 1
