"""Embeddings that a model gives, and how similar they are."""

import math
from collections.abc import Mapping, Sequence
from operator import mul
from typing import Any, Final

from capstan_gateway.guards.prompts.asked import Question, Way, many_at_once
from capstan_gateway.guards.prompts.replies import rows_of
from capstan_gateway.guards.prompts.unreadable import Unreadable

WINDOW_TOKENS: Final = 480
MOST_DIMENSIONS: Final = 16_384
Vector = tuple[float, ...]


def questions(texts: Sequence[str]) -> list[Question]:
    """Ask for the embeddings of many texts at once."""
    return many_at_once(Way.EMBED, texts, encoding_format="float")


def read_vectors(answer: Mapping[str, Any], count: int) -> list[Vector]:
    """Give the embeddings, each of length 1."""
    return [_vector(row.get("embedding")) for row in rows_of(answer, count)]


def _vector(found: object) -> Vector:
    if not isinstance(found, list) or not 0 < len(found) <= MOST_DIMENSIONS:
        raise Unreadable("the model answered without an embedding")
    if not all(isinstance(value, int | float) and not isinstance(value, bool) for value in found):
        raise Unreadable("the model answered with an embedding that is not of numbers")
    length = math.hypot(*found)
    if not math.isfinite(length) or length == 0.0:
        raise Unreadable("the model answered with an embedding without a direction")
    return tuple(value / length for value in found)


def cosine(one: Vector, other: Vector) -> float:
    """Give how similar they are, from -1 to 1; Unreadable for vectors of two models."""
    if len(one) != len(other):
        raise Unreadable("the model answered with embeddings of several lengths")
    return float(sum(map(mul, one, other)))
