"""Which requests a revision gets that is tried beside the stable one: as many as its weight says, and the same ones.

Every request has a place among PLACES: who asks has always the same one, in every replica and after every restart, and
nobody in particular takes the next of a sequence that spreads evenly. The canary has the first places, as many as its
weight says. So when the weight grows users only come to it, when it shrinks they only leave it, and with 0 it has none.
"""

from hashlib import blake2b
from typing import Final

PLACES: Final = 10_000
"""A weight is exact to a hundredth of a percent."""
STRIDE: Final = 6_181
"""Has no divisor in common with PLACES, so that so many requests in a row take each place once, and is nearly PLACES
times the golden ratio, which spreads the beginnings of the sequence most evenly (the three-distance theorem)."""


def places_of(weight: float) -> int:
    """Give how many places a weight in percent is."""
    return round(weight * PLACES / 100)


def is_canarys(place: int, places: int) -> bool:
    """Whether a place is among the first ones, which are so many."""
    return place < places


def place_of(key: bytes, *, epoch: str) -> int:
    """Give the place of who asks, by a hash of their key. Each try of a revision draws other users."""
    digest = blake2b(epoch.encode() + b"\0" + key, digest_size=8, person=b"canary").digest()
    return int.from_bytes(digest, "big") % PLACES


class Turns:
    """The places of those who are nobody in particular. Of so many requests in a row, whichever these are, the share
    that lies in any first places is off by a few requests at most."""

    __slots__ = ("_place",)

    def __init__(self, start: int = 0) -> None:
        """Begin anywhere: replicas that begin at different places do not go in step."""
        self._place = start % PLACES

    def next(self) -> int:
        """Give the place of one more request."""
        self._place = (self._place + STRIDE) % PLACES
        return self._place
