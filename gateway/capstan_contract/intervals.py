"""How sure a share is that was counted."""

import math
from typing import Final

Z: Final = 1.959963984540054
"""Of the normal distribution, for an interval that holds 95% of it."""


def wilson(hits: int, of: int) -> tuple[float, float]:
    """Give the 95% interval of a share: Wilson's score interval (1927), which holds for few cases and for shares near 0
    and 1 as well. All is possible where there are no cases."""
    if not of:
        return 0.0, 1.0
    share, square = hits / of, Z * Z
    middle = (share + square / (2 * of)) / (1 + square / of)
    half = Z * math.sqrt(share * (1 - share) / of + square / (4 * of * of)) / (1 + square / of)
    return max(0.0, middle - half), min(1.0, middle + half)
