"""The table of words of `capstan_gateway/guards/attacks/lexical.py`, learned by logistic regression."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import numpy

from capstan_gateway.guards.attacks.lexical import BITS, Lexical, features

PASSES: Final = 3
RATE: Final = 0.05
WORDS: Final = 80
"""Of a text that are learned from, the first ones."""
SPAN: Final = 24
"""Words that are weighed together."""


def learn(
    texts: Sequence[str], attacks: "numpy.typing.NDArray[Any]", told: "numpy.typing.NDArray[Any]", seed: int
) -> "numpy.typing.NDArray[numpy.int8]":
    """Learn of texts in random order; `told` says of each for which of the two columns it is an example."""
    draw = numpy.random.default_rng(seed)
    weights = numpy.zeros((1 << BITS, 2))
    squares = numpy.full((1 << BITS, 2), 1e-2)
    bias = numpy.zeros(2)
    for _ in range(PASSES):
        for at in draw.permutation(len(texts)):
            places = features(texts[at])[0][:WORDS]
            if not len(places):
                continue
            flat, share = places.ravel(), 1 / numpy.sqrt(len(places))
            score = weights[flat].sum(0) * share + bias
            error = (1 / (1 + numpy.exp(-score)) - attacks[at]) * told[at]
            bias -= 0.01 * error
            step = error * share + 1e-6 * weights[flat]
            squares[flat] += step * step
            weights[flat] -= RATE * step / numpy.sqrt(squares[flat])
    scale = 127 / numpy.quantile(numpy.abs(weights[weights != 0]), 0.999)
    return numpy.clip(numpy.rint(weights * scale), -127, 127).astype(numpy.int8)


def most_telling(lexical: Lexical, text: str, column: int) -> tuple[int, int]:
    """Give the range of so many words of a text that weighs most, in characters; the first of several."""
    places, starts = features(text)
    sums = numpy.concatenate([[0], numpy.cumsum(lexical.weights(places, column).sum(1))])
    best = int((sums[numpy.minimum(numpy.arange(len(starts)) + SPAN, len(starts))] - sums[:-1]).argmax())
    return starts[best], starts[min(best + SPAN, len(starts) - 1)]


def write(table: "numpy.typing.NDArray[numpy.int8]", path: Path) -> Lexical:
    """Write the table, and give what reads it."""
    numpy.save(path, table, allow_pickle=False)
    return Lexical(table)
