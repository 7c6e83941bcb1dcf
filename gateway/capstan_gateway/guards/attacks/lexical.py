"""Which parts of a long text are likeliest to attack, by their words alone: what the network is to look at first.

A table of weights of single words, pairs and triples, by their hash, learned by scripts/train_guards.py on the texts that
the network learns from. It decides nothing: a text that is too long to be looked at as a whole is ranked by it, and what
the network says of the likeliest places counts. Linear in the length of a text: some 20 ms for 100 KB.
"""

import re
import zlib
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    import numpy
    from numpy.typing import NDArray

BITS: Final = 17
"""Of the hash: places in the table."""
SPAN: Final = 24
"""Words that are ranked together: an order, or two."""
_WORD: Final = re.compile(r"\w+|[^\w\s]")
_FIRST: Final = 0x9E3779B1
_SECOND: Final = 0x85EBCA6B
_SHIFT: Final = 32 - BITS


@lru_cache(maxsize=20_000)
def _hash(word: str) -> int:
    return zlib.crc32(word.encode("utf-8", "surrogatepass"))


def features(text: str) -> tuple["NDArray[numpy.uint32]", list[int]]:
    """Give for each word the places in the table of it, of the pair and of the triple that it ends; and where it begins.

    The first is (words, 3); what would begin before the text has the place of a shorter one.
    """
    import numpy

    found = list(_WORD.finditer(text))
    words = numpy.fromiter((_hash(match.group().lower()[:24]) for match in found), numpy.uint32, len(found))
    places = numpy.empty((len(found), 3), numpy.uint32)
    places[:, 0] = words * numpy.uint32(_FIRST)
    for number in (1, 2):
        places[:, number] = places[:, number - 1]
        before = places[:-1, number - 1] * numpy.uint32(_SECOND)
        places[1:, number] = (before ^ words[1:]) * numpy.uint32(_FIRST) + numpy.uint32(number)
    return places >> numpy.uint32(_SHIFT), [match.start() for match in found]


class Lexical:
    """The table. Made once, read only."""

    def __init__(self, table: "NDArray[numpy.int8]") -> None:
        self._table = table

    @classmethod
    def load(cls, path: Path) -> "Lexical":
        """Read it: two columns, for prompts and for what is read."""
        import numpy

        return cls(numpy.load(path, allow_pickle=False))

    def likeliest(self, text: str, column: int, *, most: int, around: int) -> list[tuple[int, int]]:
        """Give at most `most` ranges of a text, the likeliest to attack first: where, with `around` characters beside.

        No two begin within `around` characters of each other.
        """
        import numpy

        places, starts = features(text)
        if not starts:
            return []
        weights = self._table[:, column].astype(numpy.int32)[places].sum(1)
        sums = numpy.concatenate([[0], numpy.cumsum(weights)])
        ends = numpy.minimum(numpy.arange(len(starts)) + SPAN, len(starts))
        ranks = sums[ends] - sums[:-1]
        found: list[tuple[int, int]] = []
        for number in numpy.argsort(-ranks, kind="stable"):
            start = starts[number]
            if all(abs(start - (other + around)) > around for other, _ in found):
                last = starts[min(int(number) + SPAN, len(starts) - 1)]
                found.append((start - around, last + around))
                if len(found) == most:
                    break
        return [(max(0, start), min(end, len(text))) for start, end in found]
