"""Topics by what is similar to their examples."""

import pytest

from capstan_contract.guards import Source, Topic, TopicsGuard
from capstan_gateway.embed.once import Once
from capstan_gateway.embed.sentences import SentenceEmbedder
from capstan_gateway.guards.port import NOTHING, Cost
from capstan_gateway.guards.similar_topics import OFF_TOPIC, SimilarTopics, build_similar_topics

MEDICAL = Topic(
    name="medical", examples=("What dose of this medicine should I take?", "Which pills help against a headache?")
)
BANKING = Topic(name="banking", examples=("How do I open a bank account?", "My card was declined at the shop."))
WORDS_ONLY = Topic(name="weather", phrases=("forecast",))


@pytest.fixture(scope="module")
def embedder() -> SentenceEmbedder:
    """Load it once."""
    return SentenceEmbedder.load()


def topics(embedder: SentenceEmbedder, *, deny: tuple[Topic, ...] = (), allow: tuple[Topic, ...] = ()) -> SimilarTopics:
    """Make a detector of topics."""
    guard = TopicsGuard(name="topics", appliesTo=(Source.USER,), deny=deny, allow=allow, similarity=0.45)
    return SimilarTopics(guard, Once(lambda: embedder))


def test_a_denied_topic_is_found_without_a_word_in_common(embedder: SentenceEmbedder) -> None:
    """What is similar to an example of a denied topic is found, with the topic's name, and other texts are not."""
    detector = topics(embedder, deny=(MEDICAL,))
    (finding,) = detector.scan("How many tablets of ibuprofen can an adult have a day?", Source.USER).findings
    assert (finding.kind, finding.start) == ("medical", 0)
    assert detector.scan("Where can I park near the station?", Source.USER) == NOTHING
    assert detector.cost is Cost.DEAR


def test_it_is_said_where_in_a_long_text(embedder: SentenceEmbedder) -> None:
    """The finding is the part of the text that is similar, not all of it."""
    before = "The meeting is on Monday and we will talk about the new office chairs. " * 12
    text = before + "By the way, what dose of this medicine should I take for my headache? " + before
    (finding,) = topics(embedder, deny=(MEDICAL,)).scan(text, Source.USER).findings
    assert "medicine" in text[finding.start : finding.end]
    assert finding.end - finding.start < len(text) / 3


def test_what_is_of_no_allowed_topic_is_off_topic(embedder: SentenceEmbedder) -> None:
    """With a list of allowed topics, only what is similar to one of their examples passes."""
    detector = topics(embedder, allow=(BANKING,))
    assert detector.scan("My debit card does not work in the supermarket.", Source.USER) == NOTHING
    text = "Write a poem about the sea."
    (finding,) = detector.scan(text, Source.USER).findings
    assert (finding.kind, finding.start, finding.end) == (OFF_TOPIC, 0, len(text))


def test_nothing_is_off_topic_where_an_allowed_topic_is_told_by_phrases(embedder: SentenceEmbedder) -> None:
    """A topic that has phrases alone cannot be missed by similarity: whoever looks for phrases decides."""
    assert topics(embedder, allow=(BANKING, WORDS_ONLY)).scan("Write a poem about the sea.", Source.USER) == NOTHING


def test_an_empty_text_is_of_no_topic(embedder: SentenceEmbedder) -> None:
    """Nothing is not off topic."""
    assert topics(embedder, allow=(BANKING,), deny=(MEDICAL,)).scan("  \n", Source.USER) == NOTHING


def test_a_guard_without_examples_needs_no_embeddings() -> None:
    """Topics that are told by phrases alone have no such detector."""
    words_only = TopicsGuard(name="topics", appliesTo=(Source.USER,), deny=(WORDS_ONLY,))
    assert build_similar_topics(words_only) is None
    assert build_similar_topics(words_only.model_copy(update={"deny": (MEDICAL,)})) is not None
