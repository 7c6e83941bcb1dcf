"""Intervals of means, and of differences of two, that hold however often somebody looks, and whenever they stop.

They are asymptotic confidence sequences: Waudby-Smith, Arbour, Sinha, Kennedy and Ramdas (2024), "Time-uniform central
limit theory and asymptotic confidence sequences", Annals of Statistics 52:2613, theorem 2.2. What that theory takes for
granted, few observations do not keep, so three things make them wider where numbers are small:

- the variance is an estimate: the boundary is that of Lai's t-mixture (1976; Wang and Ramdas, 2025, "Anytime-valid
  t-tests and confidence sequences for Gaussian means with unknown variance"), which becomes the theorem's as the
  degrees of freedom grow, and is infinite while there are too few of them to say anything;
- what is rare may not have been seen: with `span` (how far two values can be apart at most: 1 for scores from 0 to 1)
  the sum of squared deviations is taken for `UNSEEN` times span^2 more than was seen, so that no interval has no width
  because all values were alike as yet;
- users ask more than once, and their requests are alike: from `Bucket`s (the sums of a fixed number of groups of users)
  the variance is that between buckets, with as many degrees of freedom as there are buckets, less one.

Without `span` (seconds, dollars) nothing is promised before the central limit theorem holds for values so skewed;
`FEWEST` observations are the least that anything is said for. For shares use `exact`, which promises without any of
that.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from math import expm1, inf, isfinite, log, log1p, sqrt
from typing import Final

from capstan_evaluation.statistics.closed.exact import TUNED, peak
from capstan_evaluation.statistics.closed.intervals import ALPHA, UNKNOWN, Interval, check_alpha

UNSEEN: Final = 5.0
FEWEST: Final = 100


@dataclass(frozen=True, slots=True)
class Bucket:
    """One group of users."""

    count: float
    total: float
    """The sum of its values."""


@dataclass(frozen=True, slots=True)
class Moments:
    """All that is kept of the values of one group."""

    count: float = 0
    total: float = 0.0
    squares: float = 0.0
    """The sum of the values' squares."""

    def __post_init__(self) -> None:
        if self.count < 0 or self.squares < 0 or not all(map(isfinite, (self.count, self.total, self.squares))):
            raise ValueError(f"moments are finite, and the count and the squares 0 or more, not {self}")

    @classmethod
    def of(cls, values: Iterable[float]) -> "Moments":
        """Sum up values."""
        held = tuple(values)
        return cls(len(held), sum(held), sum(value * value for value in held))

    @property
    def mean(self) -> float:
        """0 when nothing was counted."""
        return self.total / self.count if self.count else 0.0

    @property
    def deviations(self) -> float:
        """The sum of squared deviations from the mean."""
        return max(self.squares - self.total * self.mean, 0.0)


@dataclass(frozen=True, slots=True)
class _Estimate:
    """A mean, and how well it is known."""

    count: float
    mean: float
    variance: float
    """Of the mean."""
    freedom: float
    """Degrees of freedom of the variance."""


def mean(values: Moments, *, alpha: float = ALPHA, tuned: float = TUNED, span: float | None = None) -> Interval:
    """Give the always-valid interval of a mean; infinite while too little was seen.

    `tuned`, the number of observations at which the interval is narrowest, must not be chosen by what was seen.
    """
    return _around(_single(values, span), alpha, tuned)


def mean_difference(
    baseline: Moments,
    candidate: Moments,
    *,
    factor: float = 1.0,
    alpha: float = ALPHA,
    tuned: float = TUNED,
    span: float | None = None,
) -> Interval:
    """Give the always-valid interval of the candidate's mean minus `factor` times the baseline's.

    The groups share nothing. "More than 1.2 times as dear" is `factor=1.2`, and an interval above 0.
    """
    return _apart(_single(baseline, span), _single(candidate, span), factor, alpha, tuned)


def mean_ratio(baseline: Moments, candidate: Moments, *, alpha: float = ALPHA, tuned: float = TUNED) -> Interval:
    """Give the always-valid interval of the candidate's mean as a multiple of the baseline's.

    For what is never negative: all multiples that `mean_difference` does not rule out (Fieller, 1954), from 0 to
    infinity while it says nothing.
    """
    return _multiples(_single(baseline, None), _single(candidate, None), alpha, tuned)


def clustered_mean(
    buckets: Sequence[Bucket], *, alpha: float = ALPHA, tuned: float = TUNED, span: float | None = None
) -> Interval:
    """Do as `mean`, from the sums of groups whose members may be alike."""
    return _around(_clustered(buckets, span), alpha, tuned)


def clustered_difference(
    baseline: Sequence[Bucket],
    candidate: Sequence[Bucket],
    *,
    factor: float = 1.0,
    alpha: float = ALPHA,
    tuned: float = TUNED,
    span: float | None = None,
) -> Interval:
    """Do as `mean_difference`, from the sums of groups whose members may be alike. No user is on both sides."""
    return _apart(_clustered(baseline, span), _clustered(candidate, span), factor, alpha, tuned)


def clustered_ratio(
    baseline: Sequence[Bucket], candidate: Sequence[Bucket], *, alpha: float = ALPHA, tuned: float = TUNED
) -> Interval:
    """Do as `mean_ratio`, from the sums of groups whose members may be alike."""
    return _multiples(_clustered(baseline, None), _clustered(candidate, None), alpha, tuned)


def boundary(count: float, *, alpha: float, tuned: float, freedom: float = inf) -> float:
    """Give how many standard errors the interval reaches to each side after `count` observations.

    With infinite `freedom` it is the theorem's: sqrt((1 + 1/u) log((1 + u) / alpha^2)) with u = rho^2 count.
    """
    check_alpha(alpha)
    if not 1 <= tuned < inf:
        raise ValueError(f"tuned is a number of observations, 1 or more, not {tuned}")
    if count <= 0 or freedom <= 0:
        return inf
    mixed = peak(alpha) * count / tuned
    evidence = log1p(mixed) - 2 * log(alpha)
    if freedom == inf:
        return sqrt((1 + 1 / mixed) * evidence)
    grown = evidence / (freedom + 1)
    if grown >= log1p(mixed):
        return inf
    return sqrt(freedom * expm1(grown) / -expm1(grown - log1p(mixed)))


def _single(values: Moments, span: float | None) -> _Estimate:
    if values.count < 2 or (span is None and values.count < FEWEST):
        return _Estimate(values.count, values.mean, inf, 0.0)
    deviations = values.deviations + _unseen(span)
    variance = deviations / (values.count - 1) / values.count
    return _Estimate(values.count, values.mean, variance, values.count - 1)


def _clustered(buckets: Sequence[Bucket], span: float | None) -> _Estimate:
    """The variance of a ratio of sums (Cochran, 1977, Sampling Techniques, 6.4): by the buckets' residuals."""
    held = [bucket for bucket in buckets if bucket.count > 0]
    count = sum(bucket.count for bucket in held)
    middle = sum(bucket.total for bucket in held) / count if held else 0.0
    if len(held) < 2 or (span is None and count < FEWEST):
        return _Estimate(count, middle, inf, 0.0)
    residuals = sum((bucket.total - middle * bucket.count) ** 2 for bucket in held) * len(held) / (len(held) - 1)
    return _Estimate(count, middle, (residuals + _unseen(span)) / count**2, len(held) - 1)


def _unseen(span: float | None) -> float:
    return 0.0 if span is None else UNSEEN * span**2


def _around(estimate: _Estimate, alpha: float, tuned: float) -> Interval:
    reach = boundary(estimate.count, alpha=alpha, tuned=tuned, freedom=estimate.freedom)
    if reach == inf:
        return UNKNOWN
    half = reach * sqrt(estimate.variance)
    return Interval(estimate.mean - half, estimate.mean + half)


def _apart(baseline: _Estimate, candidate: _Estimate, factor: float, alpha: float, tuned: float) -> Interval:
    if not baseline.freedom or not candidate.freedom:
        check_alpha(alpha)
        return UNKNOWN
    scaled = replace(baseline, mean=factor * baseline.mean, variance=factor**2 * baseline.variance)
    together = _Estimate(
        _together(baseline, candidate),
        candidate.mean - scaled.mean,
        candidate.variance + scaled.variance,
        _welch(scaled, candidate),
    )
    return _around(together, alpha, tuned)


def _multiples(baseline: _Estimate, candidate: _Estimate, alpha: float, tuned: float) -> Interval:
    """The multiples r with (candidate - r baseline)^2 <= reach^2 (variance of that): a quadratic inequality in r."""
    freedom = min(baseline.freedom, candidate.freedom)
    reach = boundary(_together(baseline, candidate), alpha=alpha, tuned=tuned, freedom=freedom)
    if reach == inf:
        return Interval(0.0, inf)
    square = baseline.mean**2 - reach**2 * baseline.variance
    constant = candidate.mean**2 - reach**2 * candidate.variance
    product = baseline.mean * candidate.mean
    if square <= 0 or baseline.mean <= 0:
        # NB: the baseline's mean may be 0 for all that is known, and then no multiple is too large.
        return Interval(0.0, inf)
    root = sqrt(max(product**2 - square * constant, 0.0))
    return Interval(max((product - root) / square, 0.0), (product + root) / square)


def _together(baseline: _Estimate, candidate: _Estimate) -> float:
    """The number of observations of each of two equal groups whose difference would be known as well."""
    both = baseline.count + candidate.count
    return 2 * baseline.count * candidate.count / both if both else 0.0


def _welch(first: _Estimate, second: _Estimate) -> float:
    """Degrees of freedom of a sum of two variances (Welch and Satterthwaite)."""
    total = first.variance + second.variance
    if not total:
        return min(first.freedom, second.freedom)
    parts = [(one.variance / total) ** 2 / one.freedom for one in (first, second)]
    return 1 / sum(parts)
