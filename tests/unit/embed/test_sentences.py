"""A text as one vector."""

from concurrent.futures import ThreadPoolExecutor

import numpy
import pytest

from capstan_gateway.embed.sentences import SentenceEmbedder

TEXTS = [
    "How do I reset my password?",
    "I forgot my login, how can I get a new one?",
    "The cat sleeps on the warm windowsill.",
    "A kitten naps in the sun by the window.",
    "",
]


@pytest.fixture(scope="module")
def embedder() -> SentenceEmbedder:
    """Load it once."""
    return SentenceEmbedder.load()


def test_what_means_the_same_is_nearer(embedder: SentenceEmbedder) -> None:
    """Sentences of one meaning are nearer to each other than to others; rows have length 1, and nothing is 0."""
    rows = embedder.embed(TEXTS)
    near = rows @ rows.T
    assert near[0, 1] > 0.5 > near[0, 2]
    assert near[2, 3] > 0.5 > near[1, 3]
    assert numpy.allclose(numpy.linalg.norm(rows, axis=1), [1, 1, 1, 1, 0], atol=1e-5)


def test_a_row_does_not_depend_on_its_neighbours(embedder: SentenceEmbedder) -> None:
    """A text has the same vector alone and among others."""
    alone = numpy.concatenate([embedder.embed([text]) for text in TEXTS])
    assert numpy.allclose(alone, embedder.embed(TEXTS), atol=1e-5)


def test_threads_may_ask_at_once(embedder: SentenceEmbedder) -> None:
    """What one thread asks changes nothing of what another is told."""
    wanted = embedder.embed(TEXTS)
    with ThreadPoolExecutor(4) as pool:
        for found in pool.map(embedder.embed, [TEXTS] * 8):
            assert (found == wanted).all()


def test_a_long_text_costs_no_more(embedder: SentenceEmbedder) -> None:
    """What is behind the pieces that count changes nothing."""
    text = "word " * 1000
    assert (embedder.embed([text]) == embedder.embed([text + "other " * 100_000])).all()
