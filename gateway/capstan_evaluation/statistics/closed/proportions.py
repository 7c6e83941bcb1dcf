"""Intervals of shares, where the number of cases was settled before anybody looked."""

from math import sqrt

from capstan_evaluation.statistics.closed.intervals import ALPHA, Interval, check_alpha, check_share, two_sided


def wilson(successes: float, count: float, *, alpha: float = ALPHA) -> Interval:
    """Give the interval of a share; 0 to 1 when nothing was counted.

    The score interval of Wilson (1927). It holds near 0 and 1, where the share plus or minus some standard errors is of
    no width at all.
    """
    check_share(successes, count)
    z = two_sided(alpha)
    if not count:
        return Interval(0.0, 1.0)
    share, square = successes / count, z * z / count
    middle = (share + square / 2) / (1 + square)
    half = z * sqrt((share * (1 - share) + square / 4) / count) / (1 + square)
    # NB: at 0 and at `count` the formula is exactly 0 and 1, and rounding is not.
    return Interval(
        0.0 if successes == 0 else max(middle - half, 0.0), 1.0 if successes == count else min(middle + half, 1.0)
    )


def newcombe(
    baseline_successes: float,
    baseline_count: float,
    candidate_successes: float,
    candidate_count: float,
    *,
    alpha: float = ALPHA,
) -> Interval:
    """Give the interval of the candidate's share minus the baseline's, for two groups that share no cases.

    Newcombe (1998), Statistics in Medicine 17:873, method 10: the Wilson intervals of both, put together by squares.
    -1 to 1 when one of them counted nothing.
    """
    before = wilson(baseline_successes, baseline_count, alpha=alpha)
    after = wilson(candidate_successes, candidate_count, alpha=alpha)
    if not baseline_count or not candidate_count:
        return Interval(-1.0, 1.0)
    old, new = baseline_successes / baseline_count, candidate_successes / candidate_count
    low = new - old - sqrt((new - after.low) ** 2 + (before.high - old) ** 2)
    high = new - old + sqrt((after.high - new) ** 2 + (old - before.low) ** 2)
    return Interval(low, high)


def zero_failures(count: int, *, alpha: float = ALPHA) -> float:
    """Give the largest share of failures that is still to be believed when none of `count` failed: about 3 / count.

    Exact and one-sided (Clopper and Pearson): the share at which no failure at all has the probability alpha. 1 when
    nothing was counted.
    """
    check_alpha(alpha)
    if count < 0:
        raise ValueError(f"a count is 0 or more, not {count}")
    return 1 - float(alpha ** (1 / count)) if count else 1.0
