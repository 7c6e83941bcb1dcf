"""Pairs of scores whose distribution nobody knows: what chance makes of them is tried out.

The interval is a bootstrap of whole clusters (cases of one source are drawn together), the p-value a permutation test
(if both models were the same, each cluster's difference could as well have the other sign). Both are seeded, and do not
depend on the order of what they are given.
"""

from collections.abc import Iterable, Sequence
from math import fsum, inf, sqrt
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.stats import norm, t

from capstan_evaluation.statistics.closed.intervals import ALPHA, Interval, two_sided

DRAWS: Final = 10_000
SEED: Final = 20_241_101
_ALL: Final = 13
"""Up to so many clusters that differ all signs are tried (8,192), and above it `DRAWS` of them by chance."""
_AT_ONCE: Final = 2_000_000
"""Numbers in memory."""
_EQUAL: Final = 1e-9
"""Sums that differ by less are the same, added up in another order."""

Numbers = NDArray[np.float64]


class Case(NamedTuple):
    """How much better the candidate did than the baseline, from -1 to 1, and how much that counts."""

    difference: float
    weight: float = 1.0


class Differences:
    """Candidate minus baseline, of clusters of cases that share a source. Raises ValueError when there are none."""

    def __init__(self, clusters: Iterable[Sequence[Case]]) -> None:
        # NB: sorted, and added up exactly: the order of what is given must not change a digit.
        held = sorted(sorted(cluster) for cluster in clusters)
        if not held:
            raise ValueError("there is no cluster to compare")
        self._sums: Numbers = np.array([fsum(one.weight * one.difference for one in cluster) for cluster in held])
        self._weights: Numbers = np.array([fsum(one.weight for one in cluster) for cluster in held])
        self._cases: Numbers = np.array([case for cluster in held for case in cluster])

    @property
    def mean(self) -> float:
        """The weighted mean."""
        return float(self._sums.sum() / self._weights.sum())

    @property
    def error(self) -> float:
        """Standard error of the mean; infinite with one cluster."""
        return _error(self._residuals, self._weights)

    @property
    def spread(self) -> float:
        """How far the square of `error` may be off, as a share of it: its own standard error."""
        squares = self._residuals**2
        size, middle = len(squares), float(squares.mean())
        # Of a normal distribution at least: few clusters do not know their own tails.
        least = sqrt(2 / max(size - 1, 1))
        return max(float(squares.std()) / middle / sqrt(size), least) if middle else least

    @property
    def worth(self) -> float:
        """How many independent cases of equal weight say as much: not more than there are, nor fewer than clusters.

        The number for weights is Kish's, divided by the design effect that is seen; when no case differs from another,
        none is.
        """
        differences, weights = self._cases.T
        alone = _error(weights * (differences - self.mean), weights)
        effect = (self.error / alone) ** 2 if 0 < alone < inf else 1.0
        return max(_kish(weights) / max(effect, 1.0), _kish(self._weights))

    @property
    def _residuals(self) -> Numbers:
        return self._sums - self.mean * self._weights

    def p_value(self) -> float:
        """Give the p-value, for both directions, of the mean under changes of sign."""
        differing = self._sums[np.abs(self._sums) > _EQUAL]
        if not len(differing):
            return 1.0
        seen = abs(float(differing.sum())) - _EQUAL * len(differing)
        if len(differing) <= _ALL:
            signs = np.arange(2 ** len(differing))[:, None] >> np.arange(len(differing)) & 1
            return float(np.mean(np.abs((2.0 * signs - 1) @ differing) >= seen))
        random, extreme = np.random.default_rng(SEED), 0
        for draws in _pieces(len(differing)):
            signs = random.integers(0, 2, size=(draws, len(differing)), dtype=np.int8)
            extreme += int(np.sum(np.abs((2.0 * signs - 1) @ differing) >= seen))
        return (1 + extreme) / (1 + DRAWS)

    def interval(self, *, alpha: float = ALPHA) -> Interval:
        """Give the interval of the mean, within -1 and 1.

        The percentiles of the bootstrap, further out for few clusters as Student's t is (Hesterberg, 2015, The American
        Statistician 69:371, "expanded percentile"), and widened by z^2 / (n + z^2), put together by squares: what is
        rare may not have been among n cases at all, and a bootstrap never draws what it has not seen.
        """
        z, size = two_sided(alpha), len(self._sums)
        if size < 2:
            return Interval(-1.0, 1.0)
        tail = float(norm.cdf(-sqrt(size / (size - 1)) * t.ppf(1 - alpha / 2, size - 1)))
        low, high = np.quantile(self._means(), (tail, 1 - tail))
        middle, unseen = self.mean, z**2 / (self.worth + z**2)
        found = Interval(
            middle - sqrt(max(middle - float(low), 0.0) ** 2 + unseen**2),
            middle + sqrt(max(float(high) - middle, 0.0) ** 2 + unseen**2),
        )
        return found.clip(-1.0, 1.0)

    def _means(self) -> Numbers:
        random, size = np.random.default_rng(SEED), len(self._sums)
        means = []
        for draws in _pieces(size):
            drawn = random.integers(0, size, size=(draws, size))
            means.append(self._sums[drawn].sum(axis=1) / self._weights[drawn].sum(axis=1))
        return np.concatenate(means)


def _error(residuals: Numbers, weights: Numbers) -> float:
    size = len(residuals)
    if size < 2:
        return inf
    return sqrt(float((residuals**2).sum()) * size / (size - 1)) / float(weights.sum())


def _kish(weights: Numbers) -> float:
    return float(weights.sum() ** 2 / (weights**2).sum())


def _pieces(size: int) -> Iterable[int]:
    """Cut the draws so that no piece takes much memory."""
    most = max(_AT_ONCE // size, 1)
    return [min(most, DRAWS - done) for done in range(0, DRAWS, most)]
