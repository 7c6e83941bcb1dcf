"""Embeddings without a model: words and their three-letter pieces hashed into a vector of length one.

Equal texts get equal vectors in every process; texts that share words are nearer than texts that do not.
"""

import base64
import hashlib
import math
import re
from array import array
from collections.abc import Sequence
from functools import lru_cache

_WORD = re.compile(r"\w+")
_PLACES = 8
"""Places of the vector that one feature touches: few enough to be fast, enough that two words seldom look alike."""
_PIECE_WEIGHT = 0.25


def embed(text: str, size: int) -> list[float]:
    """Give the vector of a text."""
    vector = [0.0] * size
    words = _WORD.findall(text.casefold()) or ["\0" + text]
    for word in words:
        for place, weight in _features(word, size):
            vector[place] += weight
    length = math.sqrt(sum(value * value for value in vector))
    if length < 1e-12:
        vector[0], length = 1.0, 1.0
    return [value / length for value in vector]


def similarity(one: Sequence[float], other: Sequence[float]) -> float:
    """Give the cosine of two vectors of length one."""
    return sum(a * b for a, b in zip(one, other, strict=True))


def encode_base64(vector: Sequence[float]) -> str:
    """Encode as little-endian 32-bit floats, as OpenAI does."""
    packed = array("f", vector)
    if packed.itemsize != 4:
        raise RuntimeError("this platform has no 32-bit float array")
    return base64.b64encode(packed.tobytes()).decode()


@lru_cache(maxsize=4096)
def _features(word: str, size: int) -> tuple[tuple[int, float], ...]:
    features = list(_hashed("w" + word, size, 1.0))
    padded = f"^{word}$"
    for start in range(len(padded) - 2):
        features.extend(_hashed("p" + padded[start : start + 3], size, _PIECE_WEIGHT))
    return tuple(features)


def _hashed(feature: str, size: int, weight: float) -> list[tuple[int, float]]:
    digest = hashlib.shake_128(feature.encode("utf-8", "surrogatepass")).digest(4 * _PLACES)
    numbers = [int.from_bytes(digest[start : start + 4], "big") for start in range(0, len(digest), 4)]
    return [((number >> 1) % size, weight if number & 1 else -weight) for number in numbers]
