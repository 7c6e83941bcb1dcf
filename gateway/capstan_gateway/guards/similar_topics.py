"""Texts that are similar to examples of a topic: the part of a Topics guard that needs no words in common."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from capstan_contract.guards import Source, Topic, TopicsGuard
from capstan_gateway.embed.files import check_libraries
from capstan_gateway.embed.once import Once
from capstan_gateway.embed.sentences import EMBEDDER, SentenceEmbedder
from capstan_gateway.embed.windows import Reach
from capstan_gateway.embed.words import Window
from capstan_gateway.guards.port import NOTHING, Cost, Finding, Scan

if TYPE_CHECKING:
    import numpy
    from numpy.typing import NDArray

OFF_TOPIC: Final = "off-topic"
"""The kind of what is of no allowed topic."""
WINDOW: Final = 64
OVERLAP: Final = 16
"""Word pieces. An example is a sentence or two; what is compared with it should be about as long."""
REACH: Final = Reach(ends=4000, slices=16, length=400)
"""All of a text of 14,000 characters is compared, some 65 windows; of a longer one both ends, and slices between."""


@dataclass(frozen=True, slots=True)
class _Examples:
    """The examples of some topics, as rows."""

    names: tuple[str, ...]
    """Of the topic of each row."""
    rows: "NDArray[numpy.float32]"


class SimilarTopics:
    """Finds denied topics, and what is of no allowed one, by their examples. A `Detector`.

    A denied topic is found where a window of the text is similar to one of its examples. Whether a text is of an
    allowed topic is told of the text as a whole: one window that is similar is enough. Topics without examples are
    looked for by their phrases, elsewhere; where an allowed topic has only such, nothing is off topic here.
    """

    cost = Cost.DEAR

    def __init__(self, guard: TopicsGuard, embedder: Once[SentenceEmbedder]) -> None:
        self._embedder = embedder
        self._least = guard.similarity
        told = all(topic.examples for topic in guard.allow)
        allow = guard.allow if told else ()
        self._deny = Once(lambda: _rows(guard.deny, embedder.get()))
        self._allow = Once(lambda: _rows(allow, embedder.get()))

    def scan(self, text: str, source: Source) -> Scan:  # noqa: ARG002
        """See `Detector.scan`. Who has written the text makes no difference."""
        embedder = self._embedder.get()
        windows = embedder.words.windows(text, size=WINDOW, overlap=OVERLAP, reach=REACH)
        if not windows:
            return NOTHING
        rows = embedder.embed_ids([window.ids for window in windows])
        found = [*self._denied(windows, rows), *self._off_topic(rows, text)]
        return Scan(tuple(sorted(found, key=lambda finding: (finding.start, finding.end)))) if found else NOTHING

    def _denied(self, windows: Sequence[Window], rows: "NDArray[numpy.float32]") -> list[Finding]:
        deny = self._deny.get()
        if not deny.names:
            return []
        near = rows @ deny.rows.T
        best: dict[str, Finding] = {}
        for window, similarities in zip(windows, near, strict=True):
            at = int(similarities.argmax())
            score = min(float(similarities[at]), 1.0)
            name = deny.names[at]
            if score >= self._least and (name not in best or score > best[name].score):
                best[name] = Finding(name, window.start, window.end, score)
        return list(best.values())

    def _off_topic(self, rows: "NDArray[numpy.float32]", text: str) -> list[Finding]:
        allow = self._allow.get()
        if not allow.names:
            return []
        nearest = float((rows @ allow.rows.T).max())
        return [] if nearest >= self._least else [Finding(OFF_TOPIC, 0, len(text), min(1.0 - max(nearest, 0.0), 1.0))]


def _rows(topics: Sequence[Topic], embedder: SentenceEmbedder) -> _Examples:
    pairs = [(topic.name, example) for topic in topics for example in topic.examples]
    return _Examples(tuple(name for name, _ in pairs), embedder.embed([example for _, example in pairs]))


def build_similar_topics(guard: TopicsGuard) -> SimilarTopics | None:
    """Make the detector of a guard; None where no topic has examples. It loads nothing yet.

    Raises EmbeddingsMissing where what it needs is not installed.
    """
    if not any(topic.examples for topic in (*guard.deny, *guard.allow)):
        return None
    check_libraries()
    return SimilarTopics(guard, EMBEDDER)
