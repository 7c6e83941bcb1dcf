"""How far two raters agree: Cohen's kappa."""

from collections.abc import Sequence
from dataclasses import dataclass
from math import sqrt

from capstan_evaluation.statistics.closed.intervals import ALPHA, Interval, two_sided


@dataclass(frozen=True)
class Agreement:
    """How far two raters of the same things agree."""

    count: int
    """Things that both rated."""
    share: float
    """Of which both say the same."""
    kappa: float
    """The same beyond chance: 1 always, 0 as often as by chance, less than 0 less often."""
    interval: Interval
    """Of kappa."""


def agreement(table: Sequence[Sequence[int]], *, alpha: float = ALPHA) -> Agreement:
    """Compare two raters by `table[i][j]`: how many things the first called i and the second j.

    Cohen (1960); the interval is that of Fleiss, Cohen and Everitt (1969), Psychological Bulletin 72:323, eq. 13, which
    wants some 50 things or more. Where both only ever say the same one thing, chance alone explains all of it: kappa is
    0, and its interval everything from -1 to 1. Raises ValueError for what is no square table of counts.
    """
    z, size = two_sided(alpha), len(table)
    if any(len(row) != size or min(row) < 0 for row in table):
        raise ValueError("a table of agreement is square, and its counts are 0 or more")
    count = sum(map(sum, table))
    if not count:
        return Agreement(0, 0.0, 0.0, Interval(-1.0, 1.0))
    cells = [[value / count for value in row] for row in table]
    first = [sum(row) for row in cells]
    second = [sum(row[j] for row in cells) for j in range(size)]
    seen = sum(cells[i][i] for i in range(size))
    chance = sum(first[i] * second[i] for i in range(size))
    if chance > 1 - 1e-12:
        return Agreement(count, seen, 0.0, Interval(-1.0, 1.0))
    kappa = (seen - chance) / (1 - chance)
    own = sum(cells[i][i] * (1 - (first[i] + second[i]) * (1 - kappa)) ** 2 for i in range(size))
    others = sum(cells[i][j] * (second[i] + first[j]) ** 2 for i in range(size) for j in range(size) if i != j)
    variance = own + (1 - kappa) ** 2 * others - (kappa - chance * (1 - kappa)) ** 2
    error = sqrt(max(variance, 0.0) / count) / (1 - chance)
    return Agreement(count, seen, kappa, Interval(kappa - z * error, kappa + z * error).clip(-1.0, 1.0))
