"""Pairs of questions as the semantic cache sees them: which rule refuses them, and what the score is made of."""

import gzip
import pickle
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy
from cache_sets import Pair

from capstan_gateway.caches.semantic.language import ENGLISH, language_of
from capstan_gateway.caches.semantic.score import measures
from capstan_gateway.caches.semantic.verifier import differs_said
from capstan_gateway.caches.semantic.words import read
from capstan_gateway.embed.sentences import Sentence, SentenceEmbedder


class Measured(NamedTuple):
    """One pair."""

    pair: Pair
    language: str | None
    """Why it is not compared at all: another language than English, or two; None: it is."""
    refused: str | None
    """The rule that refuses it."""
    measures: tuple[float, ...]


class Vectors:
    """Sentences of texts, kept in a file between runs: that is all that takes long."""

    def __init__(self, file: Path | None) -> None:
        self._file = file
        self._had: dict[str, Sentence] = {}
        self._embedder: SentenceEmbedder | None = None
        if file is not None and file.exists():
            with gzip.open(file, "rb") if file.suffix == ".gz" else file.open("rb") as packed:
                self._had = pickle.load(packed)  # noqa: S301 - our own file

    def of(self, text: str) -> Sentence:
        """Give one."""
        if text not in self._had:
            self._embedder = self._embedder or SentenceEmbedder.load()
            found = self._embedder.read(text)
            if found is None:
                raise ValueError("a question without any word")
            self._had[text] = found._replace(pieces=found.pieces.astype(numpy.float16))
        kept = self._had[text]
        return kept._replace(pieces=kept.pieces.astype(numpy.float32))

    def save(self) -> None:
        """Write the file."""
        if self._file is not None and self._embedder is not None:
            with self._file.open("wb") as packed:
                pickle.dump(self._had, packed)


def measured(pairs: Sequence[Pair], vectors: Vectors) -> list[Measured]:
    """Measure them all."""
    found = []
    for pair in pairs:
        mine, theirs = language_of(pair.one), language_of(pair.other)
        apart = "languages" if mine != theirs else "not English" if mine != ENGLISH else None
        refused = differs_said(read(pair.one), read(pair.other))
        found.append(Measured(pair, apart, refused, measures(vectors.of(pair.one), vectors.of(pair.other))))
    return found
