"""Which requests are sampled. Pure, but for the clock that it is given."""

from hashlib import blake2b
from typing import Final

from capstan_contract.evaluation import Evaluation

_BYTES: Final = 8
_ALL: Final = 1 << (8 * _BYTES)
HOUR_SECONDS: Final = 3600.0
BURST_SECONDS: Final = 60.0
"""How long a time without requests may be made up for."""


class Share:
    """A share of the requests, by the hash (BLAKE2b) of their ids: the same ones on every replica, and at every try.

    What is asked on behalf of one request has its id, so that it is in as a whole, or out.
    """

    __slots__ = ("_below",)

    def __init__(self, rate: float) -> None:
        self._below: Final = round(rate * _ALL)

    def takes(self, request_id: bytes, now: float) -> bool:  # noqa: ARG002 - of Chance
        """Whether this request is sampled."""
        return int.from_bytes(blake2b(request_id, digest_size=_BYTES, person=b"sample").digest()) < self._below


class Pace:
    """So many an hour of this replica, evenly spread: the first request after each pause of an hour's part.

    What was not taken while nobody asked is made up for, as far as BURST_SECONDS go.
    """

    __slots__ = ("_at", "_most", "_per_second", "_tokens")

    def __init__(self, per_hour: int) -> None:
        self._per_second: Final = per_hour / HOUR_SECONDS
        self._most: Final = max(1.0, self._per_second * BURST_SECONDS)
        self._tokens = 1.0
        self._at: float | None = None

    def takes(self, request_id: bytes, now: float) -> bool:  # noqa: ARG002 - of Chance
        """Whether a request is sampled that comes now, in seconds of a clock that never goes back."""
        if self._at is not None:
            self._tokens = min(self._most, self._tokens + (now - self._at) * self._per_second)
        self._at = now
        if self._tokens < 1.0:
            return False
        self._tokens -= 1.0
        return True


Chance = Share | Pace


def chance_of(evaluation: Evaluation) -> Chance:
    """Give what decides for a model."""
    if evaluation.perHour is not None:
        return Pace(evaluation.perHour)
    return Share(evaluation.sampleRate or 0.0)
