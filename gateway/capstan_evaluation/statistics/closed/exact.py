"""Intervals of shares that hold at every number of observations and at all of them together.

For each share p that could be the true one, a bet against it is kept: the likelihood of what was seen, averaged over
shares near p (a beta prior around p itself), beside its likelihood under p. If p is true, the bet is a martingale that
begins with 1, and by Ville's inequality it ever reaches 1 / alpha with a probability of alpha at most, however often
somebody looks. The interval is what has not been bet down: the beta-binomial mixture of Howard, Ramdas, McAuliffe and
Sekhon (2021), Annals of Statistics 49:1055. It is a bet as well for values between 0 and 1 (a score), since the
likelihood ratio is convex in them; it then takes them to vary as much as a share could.

For two shares the bets are multiplied: what is left of the plane of both is projected on their difference. That costs
a tenth of the width beside what is asymptotic, and needs no number of observations before it holds.
"""

from collections.abc import Callable
from math import inf, lgamma, log, log1p, sqrt
from typing import Final

from capstan_evaluation.statistics.closed.intervals import ALPHA, Interval, check_alpha, check_share

TUNED: Final = 1000
"""The number of observations at which intervals are narrowest, where nobody names another. They hold at all others as
well, and are little wider within a factor of ten."""
_EDGE: Final = 1e-12
_GOLDEN: Final = (sqrt(5) - 1) / 2
_STEPS: Final = 30
"""Of a search that narrows by the golden ratio, or by half: to a millionth of what can be."""


def peak(alpha: float) -> float:
    """Give rho^2 times n for the mixture that is narrowest at n observations.

    Waudby-Smith and others (2024), Annals of Statistics 52:2613, appendix B.2.
    """
    check_alpha(alpha)
    return -2 * log(alpha) + log1p(-2 * log(alpha))


def proportion(successes: float, count: float, *, alpha: float = ALPHA, tuned: float = TUNED) -> Interval:
    """Give the always-valid interval of a share, or of the mean of scores from 0 to 1 (`successes`: their sum).

    `tuned` must not be chosen by what was seen.
    """
    check_share(successes, count)
    bet, limit = _bet(alpha, tuned), -log(alpha)
    if not count:
        return Interval(0.0, 1.0)
    share = successes / count

    def open_to(share: float) -> bool:
        return bet.against(share, successes, count) < limit

    return Interval(_last(share, 0.0, open_to), _last(share, 1.0, open_to))


def proportion_difference(
    baseline_successes: float,
    baseline_count: float,
    candidate_successes: float,
    candidate_count: float,
    *,
    alpha: float = ALPHA,
    tuned: float = TUNED,
) -> Interval:
    """Give the always-valid interval of the candidate's share minus the baseline's, for two groups that share nothing.

    It holds at every pair of counts, whatever decided which group came next, as long as that was not the answer itself.
    Scores from 0 to 1 are taken as well; `successes` is then their sum. `tuned` (observations of each group) must not
    be chosen by what was seen.
    """
    check_share(baseline_successes, baseline_count)
    check_share(candidate_successes, candidate_count)
    bet, limit = _bet(alpha, tuned), -log(alpha)
    if not baseline_count or not candidate_count:
        return Interval(-1.0, 1.0)
    old, new = (baseline_successes, baseline_count), (candidate_successes, candidate_count)

    def open_to(difference: float) -> bool:
        return bet.against_difference(difference, old, new) < limit

    seen = candidate_successes / candidate_count - baseline_successes / baseline_count
    return Interval(_last(seen, -1.0, open_to), _last(seen, 1.0, open_to))


def rules_out(
    difference: float,
    baseline_successes: float,
    baseline_count: float,
    candidate_successes: float,
    candidate_count: float,
    *,
    alpha: float = ALPHA,
    tuned: float = TUNED,
) -> bool:
    """Whether `proportion_difference` has no such difference: the same at a fortieth of the work."""
    check_share(baseline_successes, baseline_count)
    check_share(candidate_successes, candidate_count)
    old, new = (baseline_successes, baseline_count), (candidate_successes, candidate_count)
    bet = _bet(alpha, tuned)
    return abs(difference) > 1 or bet.against_difference(difference, old, new) >= -log(alpha)


class _Bet:
    """Logarithms of the bets against shares. `weight` is the strength of the prior around each, in observations."""

    def __init__(self, weight: float) -> None:
        self._weight = weight

    def against(self, share: float, successes: float, count: float) -> float:
        """Convex in `share`, and not above 0 at the share that was seen."""
        failures = count - successes
        share = min(max(share, _EDGE), 1 - _EDGE)
        right, wrong = share * self._weight, (1 - share) * self._weight
        mixture = lgamma(right + successes) - lgamma(right) + lgamma(wrong + failures) - lgamma(wrong)
        mixture += lgamma(self._weight) - lgamma(self._weight + count)
        return mixture - successes * log(share) - failures * log1p(-share)

    def against_difference(self, difference: float, old: tuple[float, float], new: tuple[float, float]) -> float:
        """Against every pair of shares that is so far apart: what the least of those bets has won."""

        def both(share: float) -> float:
            return self.against(share, *old) + self.against(share + difference, *new)

        return _least(both, max(0.0, -difference), min(1.0, 1.0 - difference))


def _bet(alpha: float, tuned: float) -> _Bet:
    """The beta prior whose variance is that of the normal mixture which is narrowest at `tuned` observations."""
    if not 1 <= tuned < inf:
        raise ValueError(f"tuned is a number of observations, 1 or more, not {tuned}")
    return _Bet(max(tuned / peak(alpha) - 1, 1.0))


def _last(seen: float, end: float, open_to: Callable[[float], bool]) -> float:
    """Give how far from `seen` towards `end` shares are open; never less than that."""
    if open_to(end):
        return end
    inside, outside = seen, end
    for _ in range(_STEPS):
        middle = (inside + outside) / 2
        inside, outside = (middle, outside) if open_to(middle) else (inside, middle)
    return outside


def _least(function: Callable[[float], float], low: float, high: float) -> float:
    """Give the least value of a convex function."""
    left, right = high - _GOLDEN * (high - low), low + _GOLDEN * (high - low)
    at_left, at_right = function(left), function(right)
    for _ in range(_STEPS):
        if at_left < at_right:
            high, right, at_right = right, left, at_left
            left = high - _GOLDEN * (high - low)
            at_left = function(left)
        else:
            low, left, at_left = left, right, at_right
            right = low + _GOLDEN * (high - low)
            at_right = function(right)
    return min(at_left, at_right, function(low), function(high))
