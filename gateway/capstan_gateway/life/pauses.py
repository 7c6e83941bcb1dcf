"""How long to wait before something is tried again that has failed. Pure: the caller adds jitter of its own."""

from typing import Final

MOST_DOUBLINGS: Final = 16
"""Only keeps the power from overflowing: every pause has reached its most long before."""


def doubled(first: float, most: float, times: int) -> float:
    """Give the pause in seconds that begins with `first` and was doubled so many times, up to `most`."""
    return min(first * 2.0 ** min(times, MOST_DOUBLINGS), most)
