"""A question as bytes, for stores outside of the process: a box (`caches/box.py`) with its text and its vector. Pure.

Vectors are of one file of weights, whose sum is in the checksum: what another release has made of other weights is not
read. They are written with half precision, whose error is a hundredth of what the weights' eight bits are off.
"""

from typing import TYPE_CHECKING, Final, NamedTuple, Protocol

import orjson

from capstan_gateway.caches.box import FIXED_BYTES, Box, Unreadable
from capstan_gateway.caches.port import CacheKey
from capstan_gateway.caches.semantic.index import DIMENSIONS
from capstan_gateway.caches.semantic.judge import MOST_CHARACTERS
from capstan_gateway.embed.files import SHA256

if TYPE_CHECKING:
    import numpy
    from numpy.typing import NDArray

MOST_BYTES: Final = 8192
"""Of a question as it is written: what is longer is none."""
_MAGIC: Final = b"CPQ"
_VERSION: Final = 1
_HALF: Final = "<f2"
_VECTOR_BYTES: Final = 2 * DIMENSIONS
_NEARLY: Final = 0.01
"""How far the length of a vector may be from 1."""


class StoredQuestion(NamedTuple):
    """A question that there is an answer to, as replicas share it."""

    key: CacheKey
    """Of the answer."""
    partition: str
    """What it is found within (`port.Alike`): it begins with the partition and the model of the key."""
    text: str
    created_ms: int
    """Unix time of the answer."""
    expires_ms: int
    vector: "NDArray[numpy.float32]"
    """Of length 1."""


class SharedQuestions(Protocol):
    """Questions that replicas share. No call raises."""

    @property
    def is_down(self) -> bool:
        """Whether nothing is known of what is shared just now."""
        ...

    async def put(self, question: StoredQuestion) -> None:
        """Have others find it, soon."""
        ...

    def close(self) -> None:
        """Take nothing in any more."""
        ...


class QuestionCodec(NamedTuple):
    """How questions are written."""

    secret: bytes = b""
    """32 bytes that they are sealed with; empty: they are not."""

    def write(self, question: StoredQuestion) -> bytes:
        """Give the bytes of a question."""
        head = orjson.dumps([question.partition, question.text, question.created_ms, question.expires_ms])
        return self._box().close(_belongs(question.key), question.vector.astype(_HALF).tobytes() + head)

    def read(self, key: CacheKey, data: bytes) -> StoredQuestion:
        """Give the question to the answer of this key again. Raises Unreadable."""
        if len(data) > MOST_BYTES:
            raise Unreadable("larger than a question is")
        text = self._box().open(_belongs(key), data)
        try:
            partition, asked, created, expires = orjson.loads(text[_VECTOR_BYTES:])
            partition, asked, created, expires = str(partition), str(asked), int(created), int(expires)
        except (orjson.JSONDecodeError, TypeError, ValueError):
            raise Unreadable("its head does not read") from None
        # NB: without a secret this is what keeps one tenant's question out of what another one asks.
        if not partition.startswith(f"{key.partition}.{key.model}."):
            raise Unreadable("of another partition")
        if not 0 < len(asked) <= MOST_CHARACTERS:
            raise Unreadable("none that is compared")
        return StoredQuestion(key, partition, asked, created, expires, _vector(text[:_VECTOR_BYTES]))

    def _box(self) -> Box:
        return Box(_MAGIC, _VERSION, b"question", self.secret, most_bytes=MOST_BYTES - FIXED_BYTES)


def _belongs(key: CacheKey) -> bytes:
    return f"{key.text} {SHA256}".encode()


def _vector(text: bytes) -> "NDArray[numpy.float32]":
    import numpy

    vector = numpy.frombuffer(text, _HALF).astype(numpy.float32)
    length = float(numpy.linalg.norm(vector))
    if not abs(length - 1.0) < _NEARLY:  # NB: nor is what is no number.
        raise Unreadable("its vector has not the length 1")
    unit: NDArray[numpy.float32] = vector / numpy.float32(length)
    return unit
