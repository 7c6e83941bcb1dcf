"""How alike two answers are, by their vectors: computed in the process, beside the loop."""

from collections.abc import Callable, Sequence
from typing import Any, Final, Protocol

from capstan_gateway.life.threads import Threads


class Embedder(Protocol):
    """Makes vectors of length 1; `embed.sentences.SentenceEmbedder` is one."""

    def embed(self, texts: Sequence[str]) -> Any:
        """Give one row for each text."""
        ...


class Likeness:
    """Compares texts."""

    def __init__(self, embedder: Callable[[], Embedder], threads: Threads) -> None:
        """Make it. `embedder` is called in a thread, and may take its time to load weights."""
        self._embedder: Final = embedder
        self._threads: Final = threads

    async def __call__(self, one: str, other: str) -> float:
        """Give the cosine of two texts. Raises Busy, and EmbeddingsMissing where there are no weights."""
        return await self._threads.run(self._cosine, one, other)

    def _cosine(self, one: str, other: str) -> float:
        rows = self._embedder().embed((one, other))
        return float(rows[0] @ rows[1])


def packaged() -> Embedder:
    """Give the embedder whose weights are installed: loaded once. Raises EmbeddingsMissing."""
    from capstan_gateway.embed.sentences import EMBEDDER

    return EMBEDDER.get()
