"""A text as one vector: texts that mean the same are near to each other. all-MiniLM-L6-v2, English in the main."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Final, NamedTuple

from capstan_gateway.embed.files import weights_path
from capstan_gateway.embed.once import Once
from capstan_gateway.embed.session import Session
from capstan_gateway.embed.windows import Reach, batches
from capstan_gateway.embed.words import DIMENSIONS, Words

if TYPE_CHECKING:
    import numpy
    from numpy.typing import NDArray

MOST_PIECES: Final = 126
"""Word pieces of a text that are looked at: the model was trained with 128, two of which are marks."""
_BATCH: Final = 1024
"""Pieces that are computed at once: more is not faster on one thread, and takes more memory."""
_BEGINNING: Final = 4000
"""Characters of a text that are cut into pieces at all: more than MOST_PIECES of words that anybody would write."""
_ALL: Final = Reach(ends=_BEGINNING, slices=0, length=0)


class Sentence(NamedTuple):
    """A text as vectors."""

    vector: "NDArray[numpy.float32]"
    """Of length 1."""
    pieces: "NDArray[numpy.float32]"
    """A row of length 1 for each word piece, as it is meant where it stands."""
    ids: tuple[int, ...]
    """Of the pieces."""


class SentenceEmbedder:
    """Makes vectors of texts. Made once, never changes, asked from any thread."""

    def __init__(self, words: Words, session: Session) -> None:
        self._words = words
        self._session = session

    @classmethod
    def load(cls) -> "SentenceEmbedder":
        """Load the weights: some 100 MB of memory. Raises EmbeddingsMissing."""
        path = weights_path()
        return cls(Words.load(), Session(path))

    @property
    def words(self) -> Words:
        """How it cuts texts."""
        return self._words

    def embed(self, texts: Sequence[str]) -> "NDArray[numpy.float32]":
        """Give one row of 384 for each text, of length 1 (of an empty text: 0); what is behind 126 pieces is left out.

        The cosine of two texts is the product of their rows.
        """
        import numpy

        found = numpy.zeros((len(texts), DIMENSIONS), numpy.float32)
        first = [self._words.windows(text[:_BEGINNING], size=MOST_PIECES, overlap=0, reach=_ALL)[:1] for text in texts]
        asked = [number for number, windows in enumerate(first) if windows]
        found[asked] = self.embed_ids([first[number][0].ids for number in asked])
        return found

    def read(self, text: str) -> Sentence | None:
        """Give a text as one vector and as one for each of its pieces; None of a text in which there is none."""
        import numpy

        windows = self._words.windows(text[:_BEGINNING], size=MOST_PIECES, overlap=0, reach=_ALL)[:1]
        if not windows:
            return None
        ids, mask = self._words.numbers([windows[0].ids])
        (states,) = self._session.run(input_ids=ids, attention_mask=mask, token_type_ids=numpy.zeros_like(ids))
        return Sentence(_unit(states.mean(0)), _unit(states[1:-1]), windows[0].ids)

    def embed_ids(self, rows: Sequence[Sequence[int]]) -> "NDArray[numpy.float32]":
        """Do the same for windows of pieces, none of which is empty."""
        import numpy

        found = numpy.zeros((len(rows), DIMENSIONS), numpy.float32)
        for batch in batches([len(row) + 2 for row in rows], most=_BATCH):
            found[batch] = self._pooled([rows[number] for number in batch])
        return found

    def _pooled(self, rows: Sequence[Sequence[int]]) -> "NDArray[numpy.float32]":
        import numpy

        ids, mask = self._words.numbers(rows)
        states = self._session.run(input_ids=ids, attention_mask=mask, token_type_ids=numpy.zeros_like(ids))
        weight = mask[..., None].astype(numpy.float32)
        mean = (states * weight).sum(1) / weight.sum(1)
        return _unit(mean)


def _unit(rows: "NDArray[numpy.float32]") -> "NDArray[numpy.float32]":
    import numpy

    length = numpy.maximum(numpy.linalg.norm(rows, axis=-1, keepdims=True), 1e-9)
    unit: NDArray[numpy.float32] = (rows / length).astype(numpy.float32)
    return unit


EMBEDDER: Final = Once(SentenceEmbedder.load)
"""That of the process: all policies share it."""
