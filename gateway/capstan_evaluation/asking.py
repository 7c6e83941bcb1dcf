"""How a model is asked: the port through which runs, judges and embedders reach it. `runs/client.py` speaks HTTP."""

import hashlib
from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from capstan_contract.entries import Document, canonical
from capstan_evaluation.records import Answer, Usage


class Vectors(Document):
    """What an embedder answered."""

    vectors: tuple[tuple[float, ...], ...] = ()
    """One for each text, in their order; empty when there is an error."""
    usage: Usage = Usage()
    error: str = ""


class Chat(Protocol):
    """One model that answers conversations."""

    async def chat(self, document: Mapping[str, Any], *, repeat: int = 0) -> Answer:
        """Ask once, and give the answer, or the code of the error in it: nothing that a model or network does raises.

        `document` is a chat request without `model` and `stream`. Asks that are equal, `repeat` included, may be given
        the same answer; another `repeat` is another ask. A prompt that the gateway or the provider blocks is answered:
        the finish reason is then `content_filter`, and there is no text.
        """


class Embedder(Protocol):
    """One model that makes vectors of texts."""

    async def embed(self, texts: Sequence[str]) -> Vectors:
        """Give the vector of each text, or the code of the error."""


def request_hash(document: object) -> str:
    """Name a request: SHA-256 of its canonical JSON, in hexadecimal."""
    return hashlib.sha256(canonical(document)).hexdigest()
