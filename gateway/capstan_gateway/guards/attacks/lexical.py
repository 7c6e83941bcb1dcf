"""Which parts of a long text are likeliest to attack, by their words alone: what the network is to look at first.

A table of weights of single words, pairs and triples, by their hash, learned by scripts/train_guards.py on the texts
that the network learns from. It decides nothing: a text that is too long to be looked at as a whole is ranked by it,
and what the network says of the likeliest places counts. What a text says again and again tells little: each weight is
divided by how often the text has what it is of, so that an order stands out from a long document about attacks. Linear
in the length of a text.
"""

import re
import zlib
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Final

from capstan_gateway.guards.patience import go_on

if TYPE_CHECKING:
    import numpy
    from numpy.typing import NDArray

BITS: Final = 17
"""Of the hash: places in the table."""
SPAN: Final = 16
"""Words that are ranked together: an order."""
LONGEST: Final = 500
"""Characters of a place, at most."""
_WORD: Final = re.compile(r"\w+|[^\w\s]")
_FIRST: Final = 0x9E3779B1
_SECOND: Final = 0x85EBCA6B
_SHIFT: Final = 32 - BITS
_AT_ONCE: Final = 65_536


@lru_cache(maxsize=20_000)
def _hash(word: str) -> int:
    return zlib.crc32(word.encode("utf-8", "surrogatepass"))


def features(text: str) -> tuple["NDArray[numpy.uint32]", list[int]]:
    """Give for each word the places in the table of it, and of the pair and triple that it ends; and where it begins.

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

    def weights(self, places: "NDArray[numpy.uint32]", column: int) -> "NDArray[numpy.int32]":
        """Give the weight of each of `features`."""
        import numpy

        return self._table[:, column].astype(numpy.int32)[places]

    def likeliest(self, text: str, column: int, *, most: int, beside: int) -> list[tuple[int, int]]:
        """Give at most `most` places of a text, the likeliest to attack first, with `beside` characters on both sides.

        Each is at most LONGEST characters long, and no two begin within `beside` of each other. `column`: 0 for what
        somebody asks, 1 for what is only read.
        """
        import numpy

        parts = list(_features_of(text))
        if not parts:
            return []
        places, starts = (numpy.concatenate(part) for part in zip(*parts, strict=True))
        often = numpy.bincount(places.ravel(), minlength=1 << BITS)[places]
        sums = numpy.concatenate([[0.0], numpy.cumsum((self.weights(places, column) / often).sum(1))])
        last = numpy.minimum(numpy.arange(len(starts)) + SPAN, len(starts))
        ranks = sums[last] - sums[:-1]
        ends = numpy.append(starts, len(text))[last]
        return [
            (max(0, start - beside), min(end + beside, start - beside + LONGEST, len(text)))
            for start, end in _apart(ranks, starts, ends, most=most, apart=2 * beside)
        ]


def _features_of(text: str) -> "Iterator[tuple[NDArray[numpy.uint32], NDArray[numpy.int64]]]":
    import numpy

    for begin in range(0, len(text), _AT_ONCE):
        go_on()
        places, starts = features(text[begin : begin + _AT_ONCE])
        if starts:
            yield places, numpy.array(starts, numpy.int64) + begin


def _apart(
    ranks: "NDArray[numpy.float64]",
    starts: "NDArray[numpy.int64]",
    ends: "NDArray[numpy.int64]",
    *,
    most: int,
    apart: int,
) -> "Iterator[tuple[int, int]]":
    """Give the places of the highest ranks, none that begins near one that was given."""
    import numpy

    for _ in range(most):
        best = int(ranks.argmax())
        if ranks[best] == -numpy.inf:
            return
        yield int(starts[best]), int(ends[best])
        near = slice(*numpy.searchsorted(starts, (starts[best] - apart, starts[best] + apart + 1)))
        ranks[near] = -numpy.inf
