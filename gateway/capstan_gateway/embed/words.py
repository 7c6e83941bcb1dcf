"""A text as the word pieces of BERT, uncased; windows of them; and the vectors that MiniLM begins with.

The table of vectors stands in the weights' file, a row of bytes and a factor for each piece, and is mapped from there:
the classifier of attacks needs it and nothing else of that file.
"""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from capstan_gateway.embed.files import weights_path
from capstan_gateway.embed.windows import Reach, cut, slices_of

if TYPE_CHECKING:
    import numpy
    from numpy.typing import NDArray
    from tokenizers import Tokenizer

BEGIN: Final = 101
"""[CLS], which stands in front of every window."""
END: Final = 102
"""[SEP], which stands behind it."""
DIMENSIONS: Final = 384
_PIECES: Final = 30522
_HALVES: Final = re.compile("[\ud800-\udfff]")
_TABLE_AT: Final = 161_538
_FACTORS_AT: Final = 11_882_049
"""Where in the weights' file the two tensors begin, whose sum is checked before it is read."""


@dataclass(frozen=True, slots=True)
class Window:
    """Some word pieces of a text, in a row."""

    ids: tuple[int, ...]
    start: int
    """In characters of the text; so is `end`, which is behind the last one."""
    end: int


class Words:
    """Word pieces and their vectors. Made once, read only, asked from any thread."""

    def __init__(self, tokenizer: "Tokenizer", table: "NDArray[numpy.int8]", factors: "NDArray[numpy.float32]") -> None:
        self._tokenizer = tokenizer
        self._table = table
        self._factors = factors
        pieces = tokenizer.get_vocab().items()
        self._strange = frozenset(
            number for piece, number in pieces if piece == "[UNK]" or piece[:2] == "##" or not piece.isascii()
        )

    @classmethod
    def load(cls) -> "Words":
        """Load the vocabulary and map the table. Raises EmbeddingsMissing."""
        path = weights_path()
        import numpy

        # NB: only the table is mapped, so what is never looked up is never read into memory.
        table = numpy.memmap(path, numpy.int8, "r", _TABLE_AT, (_PIECES, DIMENSIONS))
        factors = numpy.memmap(path, numpy.uint8, "r", _FACTORS_AT, (_PIECES * 4,)).view("<f4")
        return cls(load_tokenizer(), table, factors.astype(numpy.float32))

    def windows(self, text: str, *, size: int, overlap: int, reach: Reach) -> list[Window]:
        """Cut what is looked at of a text into windows of at most `size` pieces, in order."""
        return self.windows_of(text, slices_of(len(text), reach), size=size, overlap=overlap)

    def windows_of(self, text: str, parts: Iterable[tuple[int, int]], *, size: int, overlap: int) -> list[Window]:
        """Cut such ranges of a text, in characters, into windows."""
        # NB: half a surrogate pair is a text in Python and none in UTF-8, which the library wants.
        plain = text if text.isascii() else _HALVES.sub("\ufffd", text)
        found: list[Window] = []
        for start, end in parts:
            encoded = self._tokenizer.encode(plain[start:end], add_special_tokens=False)
            ids, offsets = encoded.ids, encoded.offsets
            found.extend(
                Window(tuple(ids[begin:last]), start + offsets[begin][0], start + offsets[last - 1][1])
                for begin, last in cut(len(ids), size=size, overlap=overlap)
            )
        return found

    def strangeness(self, row: Sequence[int]) -> float:
        """Give the share of pieces that continue a word, or are of another script: a quarter at most of English."""
        return sum(piece in self._strange for piece in row) / max(len(row), 1)

    def numbers(self, rows: Sequence[Sequence[int]]) -> tuple["NDArray[numpy.int64]", "NDArray[numpy.int64]"]:
        """Give windows as one array, [CLS] and [SEP] around each and 0 behind it; and a second one: 1 but for that."""
        import numpy

        longest = max(len(row) for row in rows) + 2
        ids = numpy.zeros((len(rows), longest), numpy.int64)
        mask = numpy.zeros((len(rows), longest), numpy.int64)
        for number, row in enumerate(rows):
            ids[number, : len(row) + 2] = (BEGIN, *row, END)
            mask[number, : len(row) + 2] = 1
        return ids, mask

    def vectors(self, ids: "NDArray[numpy.int64]") -> "NDArray[numpy.float32]":
        """Give the vectors of `numbers`, as (windows, pieces, 384)."""
        import numpy

        return self._table[ids].astype(numpy.float32) * self._factors[ids][..., None]


def load_tokenizer() -> "Tokenizer":
    """Make the tokenizer of bert-base-uncased of its vocabulary."""
    from tokenizers import Tokenizer
    from tokenizers.models import WordPiece
    from tokenizers.normalizers import BertNormalizer
    from tokenizers.pre_tokenizers import BertPreTokenizer

    lines = Path(__file__).with_name("vocabulary.txt").read_text(encoding="utf-8").split("\n")
    pieces = {piece: number for number, piece in enumerate(lines[:_PIECES])}
    tokenizer = Tokenizer(WordPiece(pieces, unk_token="[UNK]"))  # noqa: S106
    tokenizer.normalizer = BertNormalizer(lowercase=True)
    tokenizer.pre_tokenizer = BertPreTokenizer()
    return tokenizer
