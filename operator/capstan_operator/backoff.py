"""How long to wait before a call is made again: pure, with the random number as an argument."""

from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True)
class Backoff:
    """Exponential, with full jitter in the upper half: between half of the step and the step."""

    first: float = 0.2
    factor: float = 2.0
    most: float = 10.0

    def delay(self, attempt: int, *, random: Callable[[], float]) -> float:
        """Seconds to wait after failure number `attempt`, counted from 1."""
        # NB: the exponent is bounded, because 2.0 ** 2000 is an OverflowError.
        step = min(self.most, self.first * self.factor ** min(attempt - 1, 64))
        return step * (0.5 + 0.5 * random())


DEFAULT_BACKOFF = Backoff()
