"""Whether HPAs can be used, by how long an APIService has been available or has not: counted, and nothing asked.

One that is not available is worse than none: as long as it is there, the API server cannot say what a namespace has,
and no namespace of the cluster can be deleted. So it is tried for a minute, taken away, and tried again after a pause
that grows: what keeps the API server from the operator's pods, such as a firewall, seldom goes by itself.
"""

from typing import Final

from capstan_operator.autoscaling.standing import UNKNOWN, USABLE, Standing

PATIENCE: Final = 60.0
"""Seconds for which the API may be not available, or for which nothing may be known of it, before that is believed."""
FIRST_PAUSE: Final = 600.0
LAST_PAUSE: Final = 6 * 3600.0
"""Seconds between two tries: the first time, and at most."""


class Trials:
    """Is told what was seen, and when; seconds of one clock that never goes back."""

    def __init__(self) -> None:
        self._since: float | None = None
        self._standing = UNKNOWN
        self._pause = FIRST_PAUSE
        self._again_at: float | None = None

    def rests(self, now: float) -> bool:
        """Whether it should not be there for now."""
        return self._again_at is not None and now < self._again_at

    @property
    def standing(self) -> Standing:
        """What was found last; what has failed once is not usable before it is available."""
        return self._standing

    def available(self, now: float) -> Standing:
        """It was there, and available."""
        self._since, self._again_at, self._pause, self._standing = now, None, FIRST_PAUSE, USABLE
        return self._standing

    def unavailable(self, why: str, now: float) -> Standing:
        """It was there, and not available: after PATIENCE of that it rests."""
        if self._lasts(now):
            self._standing = Standing(False, why)
            self._since, self._again_at = None, now + self._pause
            self._pause = min(2 * self._pause, LAST_PAUSE)
        return self._standing

    def failed(self, why: str, now: float) -> Standing:
        """Nothing could be seen, or done. What was usable stays so: nothing was learned of it."""
        if self._standing.usable:
            self._since = now
        elif self._lasts(now):
            self._standing = Standing(False, why)
        return self._standing

    def _lasts(self, now: float) -> bool:
        self._since = now if self._since is None else self._since
        return now - self._since >= PATIENCE
