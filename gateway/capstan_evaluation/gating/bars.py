"""Absolute bars: how often something may go wrong, whatever another model does. Pure."""

from collections.abc import Callable, Sequence
from math import ceil, exp, lgamma, log, log1p
from typing import Final

from capstan_contract.gates import MOST_IDS, Bar, Outcome

_STEPS: Final = 60
"""Of a search by halves: to less than what a float tells apart."""


def decide_bar(failed: Sequence[str], cases: int, bar: float, *, unanswered: int = 0, alpha: float = 0.05) -> Bar:
    """Say whether a share of failures is surely above a bar, surely not, or neither.

    Each side has an exact one-sided bound of the level 1 - alpha (Clopper and Pearson, 1934). Cases without an answer
    are no failures for a Fail, and are failures for a Pass: nobody knows what they would have been.

    Args:
        failed: Ids of the cases that went wrong.
        cases: How many were answered.
        bar: The share that may go wrong.
        unanswered: Further cases, of which nobody knows.
        alpha: How often each bound may be wrong.
    """
    low, _ = bounds(len(failed), cases, alpha)
    _, high = bounds(len(failed) + unanswered, cases + unanswered, alpha)
    outcome = Outcome.FAIL if low > bar else Outcome.PASS if high <= bar else Outcome.INCONCLUSIVE
    return Bar(
        outcome=outcome,
        cases=cases,
        failures=len(failed),
        low=low,
        high=high,
        bar=bar,
        neededCases=needed_cases(bar, alpha),
        failed=tuple(failed[:MOST_IDS]),
    )


def bounds(failures: int, cases: int, alpha: float) -> tuple[float, float]:
    """Give the lower and the upper bound of a share, each of the level 1 - alpha; 0 and 1 of no cases."""
    if not cases:
        return 0.0, 1.0
    low = 0.0 if failures == 0 else _root(lambda share: 1 - at_most(failures - 1, cases, share) >= alpha)
    high = 1.0 if failures == cases else _root(lambda share: at_most(failures, cases, share) <= alpha)
    return low, high


def at_most(failures: int, cases: int, share: float) -> float:
    """Give the probability of so many failures or fewer."""
    if share <= 0:
        return 1.0
    if share >= 1:
        return float(failures >= cases)
    whole = lgamma(cases + 1)
    logs = [
        whole - lgamma(one + 1) - lgamma(cases - one + 1) + one * log(share) + (cases - one) * log1p(-share)
        for one in range(failures + 1)
    ]
    return min(1.0, sum(map(exp, logs)))


def needed_cases(bar: float, alpha: float) -> int:
    """Give how many cases without a failure it takes to pass."""
    return ceil(log(alpha) / log1p(-bar)) if 0 < bar < 1 else 0


def _root(holds: Callable[[float], bool]) -> float:
    """Give the smallest share from 0 to 1 for which something holds that then holds for all above."""
    low, high = 0.0, 1.0
    for _ in range(_STEPS):
        middle = (low + high) / 2
        low, high = (low, middle) if holds(middle) else (middle, high)
    return high
