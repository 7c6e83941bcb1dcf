"""How often hits by meaning were wrong, and what follows from it. Pure.

    of a policy    hits that were compared, and the wrong ones ─► a rate with its interval ─► off, when even the lower
                   bound is more than the policy lets be wrong
    of an entry    what was wrong about it, and how alike it was ─► it must be more alike than that, from then on; one
                   that is wrong again and again is no neighbour of anything any more

That what is alike enough differs from place to place, and is learned where it is, is the idea of vCache (Schroeder et
al., arXiv 2502.03771). It only ever makes a threshold higher than the one that was measured for all.
"""

from collections import OrderedDict
from collections.abc import Iterable
from typing import Final, NamedTuple

from capstan_contract.intervals import wilson

LEAST_SAMPLES: Final = 5
LEAST_WRONG: Final = 3
"""What is believed against a policy: fewer wrong ones may be errors of who compares. Three of five are, with a budget
of 0.01, what comes about once in a hundred thousand times by chance."""
MARGIN: Final = 0.005
"""How much more alike than a wrong hit the next one must be: half of what the vectors' eight bits may be off."""
SHUT_WRONG: Final = 2
"""Wrong hits of one entry after which its own rate is asked."""
SHUT: Final = 2.0
"""A likeness that nothing has."""
MOST_NEAR: Final = 10_000
"""Entries of a policy about which something is known."""


class Rate(NamedTuple):
    """The share of hits that are wrong, between its bounds of 95%."""

    low: float
    mid: float
    high: float


def rate_of(sampled: int, wrong: int) -> Rate:
    """Give the rate; 0 with anything possible where nothing was compared."""
    low, high = wilson(wrong, sampled)
    mid = wrong / sampled if sampled else 0.0
    return Rate(min(low, mid), mid, max(high, mid))  # NB: the bounds are rounded, too.


def is_off(sampled: int, wrong: int, budget: float) -> bool:
    """Whether it is as good as sure that more hits are wrong than may be."""
    return sampled >= LEAST_SAMPLES and wrong >= LEAST_WRONG and wilson(wrong, sampled)[0] > budget


class Near(NamedTuple):
    """What is known of the hits of one entry."""

    sampled: int = 0
    wrong: int = 0
    reported: int = 0
    """Those that a client has said to be wrong."""
    above: float = 0.0
    """The likeness of the wrong hit that was the most alike."""


def with_hit(near: Near, similarity: float, *, wrong: bool, reported: bool = False) -> Near:
    """Add one that was compared or, with `reported`, of which a client has said that it is wrong."""
    return Near(
        near.sampled + (not reported),
        near.wrong + (wrong and not reported),
        near.reported + reported,
        max(near.above, similarity) if wrong or reported else near.above,
    )


def least_of(near: Near, calibrated: float, budget: float) -> float:
    """Give the likeness that a hit of this entry needs: never less than the one that was measured for all."""
    wrong = near.wrong + near.reported
    if not wrong:
        return calibrated
    # NB: right hits say nothing for a lower one. What was wrong once at a likeness may be so at every lower one.
    if wrong >= SHUT_WRONG and wilson(wrong, near.sampled + near.reported)[0] > budget:
        return SHUT
    return max(calibrated, near.above + MARGIN)


class Places:
    """What is known of entries, by their keys. Bounded: the ones of which nothing was heard the longest go first."""

    def __init__(self, *, most: int = MOST_NEAR) -> None:
        self._most: Final = most
        self._near: OrderedDict[str, Near] = OrderedDict()

    def __len__(self) -> int:
        return len(self._near)

    def note(self, keys: Iterable[str], similarity: float, *, wrong: bool, reported: bool = False) -> None:
        """Note a hit at both of its ends: what was asked is as little an answer to the other one's question."""
        for key in keys:
            near = self._near.get(key, Near())
            self._near[key] = with_hit(near, similarity, wrong=wrong, reported=reported)
            self._near.move_to_end(key)
        while len(self._near) > self._most:
            self._near.popitem(last=False)

    def least(self, key: str, calibrated: float, budget: float) -> float:
        """Give the likeness that a hit of this entry needs."""
        near = self._near.get(key)
        return calibrated if near is None else least_of(near, calibrated, budget)

    def clear(self) -> None:
        """Forget all of it."""
        self._near.clear()
