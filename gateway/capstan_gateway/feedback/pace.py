"""How often one tenant may say something of answers: a bucket for each, in memory. Pure."""

from collections import OrderedDict
from collections.abc import Callable
from typing import Final

PER_SECOND: Final = 10.0
AT_ONCE: Final = 200.0
MOST_TENANTS: Final = 4096


class Pace:
    """One bucket for each of the tenants that said something lately."""

    def __init__(self, *, clock: Callable[[], float], per_second: float = PER_SECOND, at_once: float = AT_ONCE) -> None:
        self._clock: Final = clock
        self._per_second: Final = per_second
        self._at_once: Final = at_once
        self._left: OrderedDict[str, tuple[float, float]] = OrderedDict()
        """By tenant how much was left and when, the one that asked last at the end."""

    def wait(self, tenant: str) -> float:
        """Take one, and give 0; or give in how many seconds there is one."""
        now = self._clock()
        left, at = self._left.get(tenant, (self._at_once, now))
        left = min(self._at_once, left + (now - at) * self._per_second)
        takes = left >= 1
        self._left[tenant] = left - takes, now
        self._left.move_to_end(tenant)
        if len(self._left) > MOST_TENANTS:
            self._left.popitem(last=False)
        return 0.0 if takes else (1 - left) / self._per_second
