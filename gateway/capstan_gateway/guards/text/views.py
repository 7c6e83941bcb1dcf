"""A text made of another one, and the way back to it."""

from bisect import bisect_right
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, NamedTuple

Back = Callable[[int, int], tuple[int, int]]
"""From a place (start and end) in a view to one in the text that it was made of, which holds all that it came from."""


class Piece(NamedTuple):
    """Something that a text says in another way than it is written."""

    start: int
    end: int
    """Where it stands there."""
    text: str
    """What it says."""
    exact: bool = False
    """Whether `text` is just what stands there."""


@dataclass(frozen=True, slots=True)
class View:
    """What a text says."""

    text: str
    back: Back
    """To the text that the request holds."""
    how: tuple[str, ...] = ()
    """The codecs that it was taken through, the outer one first; empty: it is the text itself."""
    loose: bool = False
    """Whether one cannot tell where its words end."""


def same_place(start: int, end: int) -> tuple[int, int]:
    """Be the way back to a text of the same length."""
    return start, end


def through(inner: Back, outer: Back) -> Back:
    """Give the way back from what was made of something that was made of a text: `inner` first, then `outer`."""
    if outer is same_place:
        return inner
    return lambda start, end: outer(*inner(start, end))


class Joined:
    """Pieces as one text, and the way back."""

    def __init__(self, pieces: list[Piece], *, between: str = "") -> None:
        self._pieces = pieces
        self._at: Final[list[int]] = []
        at = 0
        for piece in pieces:
            self._at.append(at)
            at += len(piece.text) + len(between)
        self.text: Final = between.join(piece.text for piece in pieces)

    def back(self, start: int, end: int) -> tuple[int, int]:
        """Give where a place in the joined text comes from."""
        if not self._pieces:
            return 0, 0
        first = self._index(start)
        last = self._index(max(start, end - 1))
        places = (self._origin(first, start, end), self._origin(last, start, end))
        return min(start for start, _ in places), max(end for _, end in places)

    def _origin(self, number: int, start: int, end: int) -> tuple[int, int]:
        piece, at = self._pieces[number], self._at[number]
        if not piece.exact:
            return piece.start, piece.end
        length = len(piece.text)
        return piece.start + min(max(start - at, 0), length), piece.start + min(max(end - at, 0), length)

    def _index(self, at: int) -> int:
        return max(0, bisect_right(self._at, at) - 1)
