"""Whether an estimate decides, or only the number of tokens that a prompt really has. Pure.

the fewest that it may have do not fit     refused, whatever it has
the most that it may have fit              admitted, whatever it has
else                                       open: somebody who knows is asked
"""

from collections.abc import Callable, Sequence
from typing import Final

from capstan_gateway.limits.port import Charge, Standing

FAR: Final = 16
"""Where this many times of what was taken is left, no prompt changes anything: none is more than four times as long as
its estimate (`tokens.ratios`), and 64 tokens; and no tier of prices more than four times as dear."""


def is_far(charges: Sequence[Charge], standings: Sequence[Standing], spending: Sequence[int]) -> bool:
    """Whether so much is left behind an admission that nothing needs to be reckoned."""
    return all(standings[place].remaining >= FAR * charges[place].amount for place in spending)


def fits(missing: Sequence[int], room: Sequence[int]) -> bool:
    """Whether there is what is missing of each counter."""
    return all(more <= 0 or more <= left for more, left in zip(missing, room, strict=True))


def is_open(missing: Callable[[int], Sequence[int]], room: Sequence[int], least: int, most: int) -> bool:
    """Whether a decision depends on how many tokens of input there are, from `least` to `most`.

    `missing` gives what a request with so many takes beyond what it holds already; `room` is what there is of each
    counter, or what there ever is: whether to wait helps depends on that.
    """
    return fits(missing(least), room) and not fits(missing(most), room)
