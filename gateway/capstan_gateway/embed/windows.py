"""What of a text is looked at by a network: windows that overlap; of a very long text, slices. Pure numbers."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Reach:
    """How much of a text is looked at: all of one that is not longer than `everything`, else slices of it."""

    ends: int
    """Characters at the beginning, and as many at the end."""
    slices: int
    """How many slices between, at equal distances."""
    length: int
    """Characters of a slice."""

    @property
    def everything(self) -> int:
        """Characters up to which a text is looked at as a whole."""
        return 2 * self.ends + self.slices * self.length


def slices_of(characters: int, reach: Reach) -> list[tuple[int, int]]:
    """Give the ranges of a text of so many characters that are looked at: apart from each other, in order.

    They are the same whatever the text says, and together at most `reach.everything` long.
    """
    if characters <= reach.everything:
        return [(0, characters)] if characters else []
    between = characters - 2 * reach.ends - reach.slices * reach.length
    found = [(0, reach.ends)]
    for number in range(reach.slices):
        begin = reach.ends + number * reach.length + (number + 1) * between // (reach.slices + 1)
        found.append((begin, begin + reach.length))
    return [*found, (characters - reach.ends, characters)]


def joined(ranges: Iterable[tuple[int, int]]) -> list[tuple[int, int]]:
    """Give the same in order, with those that touch or overlap as one."""
    found: list[tuple[int, int]] = []
    for start, end in sorted(ranges):
        if found and start <= found[-1][1]:
            found[-1] = (found[-1][0], max(end, found[-1][1]))
        else:
            found.append((start, end))
    return found


def cut(pieces: int, *, size: int, overlap: int) -> list[tuple[int, int]]:
    """Cut a row of pieces into ranges of at most `size`, each beginning `overlap` before the end of the one before.

    All pieces are in one, and every run of at most `overlap` of them is whole in one. None of no pieces.
    """
    step = size - overlap
    return [(begin, min(begin + size, pieces)) for begin in range(0, max(pieces - overlap, min(pieces, 1)), step)]


def batches(lengths: Sequence[int], *, most: int) -> list[list[int]]:
    """Put rows of such lengths together, similar ones first, so that a batch is padded to at most `most` in all.

    Gives their numbers; a row that is longer than `most` is alone.
    """
    found: list[list[int]] = []
    for number in sorted(range(len(lengths)), key=lambda at: (lengths[at], at)):
        if found and lengths[number] * (len(found[-1]) + 1) <= most:
            found[-1].append(number)
        else:
            found.append([number])
    return found
