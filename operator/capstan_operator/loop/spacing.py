"""How far apart batches start: pure.

A batch costs the same few LISTs however few its keys are. While small batches follow each other without a pause, as
when the cluster's own controllers work for minutes through what has changed, they are spaced wider and wider, and each
has more of the keys. A key that comes after a pause, or with many others, finds the narrow spacing.
"""

from typing import Final

FEW_KEYS: Final = 10
"""A batch of no more is small. Half again as many are still so few that their models are fetched by name."""
MANY_KEYS: Final = 64
"""A batch of more is worth its LISTs at any time."""
STEP: Final = 1.5
WIDEST: Final = 4
"""How many times the narrow spacing the widest is."""


class Spacing:
    """Gives the seconds between the starts of two batches."""

    def __init__(self, seconds: float) -> None:
        self._narrow = seconds
        self._seconds = seconds

    def after(self, keys: int, *, at_once: bool) -> float:
        """Give the seconds until the next batch may start. `at_once`: this one had keys as soon as it might."""
        if not at_once or keys > MANY_KEYS:
            self._seconds = self._narrow
        elif keys <= FEW_KEYS:
            self._seconds = min(self._seconds * STEP, self._narrow * WIDEST)
        else:
            self._seconds = max(self._seconds / STEP, self._narrow)
        return self._seconds
