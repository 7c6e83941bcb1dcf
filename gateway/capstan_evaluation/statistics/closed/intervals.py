"""What all intervals here are."""

from math import inf
from statistics import NormalDist
from typing import Final, NamedTuple

ALPHA: Final = 0.05
_NORMAL: Final = NormalDist()


class Interval(NamedTuple):
    """From `low` to `high`, both inclusive; infinite where the numbers say nothing."""

    low: float
    high: float

    @property
    def width(self) -> float:
        """How much the numbers leave open."""
        return self.high - self.low

    def clip(self, least: float, most: float) -> "Interval":
        """Keep what can be, from `least` to `most`."""
        return Interval(min(max(self.low, least), most), max(min(self.high, most), least))


UNKNOWN: Final = Interval(-inf, inf)


def two_sided(alpha: float) -> float:
    """Give how many standard errors a normal interval at the level 1 - alpha reaches to each side."""
    check_alpha(alpha)
    return _NORMAL.inv_cdf(1 - alpha / 2)


def check_alpha(alpha: float) -> None:
    """Raise ValueError for what is no probability of an error."""
    if not 0 < alpha < 1:
        raise ValueError(f"alpha must be between 0 and 1, both exclusive, not {alpha}")


def check_share(successes: float, count: float) -> None:
    """Raise ValueError for what cannot have been counted."""
    if not 0 <= successes <= count < inf:
        raise ValueError(f"a share needs 0 <= successes <= count, not {successes} of {count}")
