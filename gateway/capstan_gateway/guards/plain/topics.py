"""Guards of type Topics: what must not be talked about, or anything beside what may be.

Phrases first, all of them in one pass; where one of a denied topic is there, that is found. Then, where topics have
examples, similarity to these (in the process, or by a model: `Scan.doubt`). Off topic is a text in which no phrase of
an allowed topic is, and which is similar to none of their examples.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import groupby
from typing import Final

from capstan_contract.guards import Source, Topic, TopicsGuard
from capstan_gateway.guards.plain.folding import Folded
from capstan_gateway.guards.plain.keywords import outermost
from capstan_gateway.guards.plain.words import Words, foreign_words, plain_words
from capstan_gateway.guards.port import NOTHING, Cost, Detector, Finding, Scan

OFF_TOPIC: Final = "off-topic"
"""The kind of what is of no allowed topic: the whole text."""
ASK: Final = 0.5
"""The doubt about a text that phrases say nothing of."""

Similar = Callable[[TopicsGuard], Detector | None]
"""Makes what finds texts that are similar to examples; None where a guard has none."""


class Phrases:
    """The phrases of some topics, and whose they are."""

    def __init__(self, topics: Sequence[Topic]) -> None:
        self._topics: dict[str, str] = {}
        for topic in topics:
            for phrase in plain_words(topic.phrases, what=f"phrases of {topic.name}") if topic.phrases else ():
                self._topics.setdefault(phrase, topic.name)
        foreign = foreign_words([phrase for topic in topics for phrase in topic.phrases])
        self.words = Words(list(self._topics), whole=True, foreign=foreign) if self._topics else None

    def findings(self, folded: Folded, length: int) -> list[Finding]:
        """Give where phrases of each topic stand, by where they begin."""
        if self.words is None:
            return []
        named = [
            (self._topics[self.words.words[number]], start, end) for start, end, number in self.words.places(folded)
        ]
        named.sort(key=lambda one: one[0])
        found = [
            Finding(topic, start, end)
            for topic, ones in groupby(named, key=lambda one: one[0])
            for start, end in outermost(sorted((one[1:] for one in ones), key=lambda span: (span[1], -span[0])), length)
        ]
        return sorted(found, key=lambda finding: (finding.start, finding.end))

    def there(self, folded: Folded) -> bool:
        """Say whether there is any."""
        return self.words is not None and next(self.words.places(folded), None) is not None


@dataclass(frozen=True, slots=True)
class PhrasesDetector:
    """Finds phrases of denied topics, where that is all that a guard has: also in texts that come in pieces."""

    deny: Phrases
    words: Words

    @property
    def cost(self) -> Cost:
        """One pass over the text."""
        return Cost.CHEAP

    @property
    def reach(self) -> int:
        """That of its phrases."""
        return self.words.reach

    def scan(self, text: str, source: Source) -> Scan:  # noqa: ARG002 - the same for all
        """Give where phrases stand."""
        found = self.deny.findings(Folded(text), len(text))
        return Scan(tuple(found)) if found else NOTHING

    def safe_end(self, text: str) -> int:
        """Give up to where a text of which more is to come is decided."""
        return self.words.safe_end(text)


@dataclass(frozen=True, slots=True)
class TopicsDetector:
    """Finds denied topics, and what is of no allowed one."""

    deny: Phrases
    allow: Phrases
    has_allowed: bool
    """Whether anything beside them is found."""
    similar: Detector | None
    """What compares with examples in the process; None where there are none, or a model does it."""
    asks: bool
    """Whether a model compares with examples."""
    asks_denied: bool
    """Whether there are denied ones among them."""

    @property
    def cost(self) -> Cost:
        """That of what compares, if anything does."""
        return Cost.CHEAP if self.similar is None else self.similar.cost

    def is_allowed(self, text: str) -> bool:
        """Say whether a phrase of an allowed topic is in a text, which then is not off topic whatever it is like."""
        return self.allow.there(Folded(text))

    def scan(self, text: str, source: Source) -> Scan:
        """Give what is found of a whole text."""
        folded = Folded(text)
        found = self.deny.findings(folded, len(text))
        if found or not folded.text.strip():
            return Scan(tuple(found)) if found else NOTHING
        allowed = self.allow.there(folded)
        off = (Finding(OFF_TOPIC, 0, len(text)),) if self.has_allowed and not allowed else ()
        if self.asks:
            return Scan(off, doubt=ASK) if off or self.asks_denied else NOTHING
        if self.similar is None:
            return Scan(off) if off else NOTHING
        like = self.similar.scan(text, source).findings
        # NB: who compares says that a text is like no allowed example; without any of these, phrases alone decide.
        return Scan([*(one for one in like if one.kind != OFF_TOPIC or off)]) if like else NOTHING


def build_topics_detector(guard: TopicsGuard, similar: Similar) -> PhrasesDetector | TopicsDetector:
    """Make what a guard asks for. Raises ValueError where it cannot be enforced, with the reason."""
    deny, allow = Phrases(guard.deny), Phrases(guard.allow)
    denied, allowed = _with_examples(guard.deny), _with_examples(guard.allow)
    if not guard.allow and not denied:
        if deny.words is None:
            raise ValueError("its topics have neither phrases nor examples")
        return PhrasesDetector(deny, deny.words)
    asks = guard.model is not None and bool(denied or allowed)
    compares = None if asks or not (denied or allowed) else similar(replace_topics(guard, denied, allowed))
    if compares is not None and guard.allow and not allowed:
        compares = _Also(compares)
    return TopicsDetector(deny, allow, bool(guard.allow), compares, asks, bool(denied))


def replace_topics(guard: TopicsGuard, deny: Sequence[Topic], allow: Sequence[Topic]) -> TopicsGuard:
    """Give the guard with these topics only."""
    return guard.model_copy(update={"deny": tuple(deny), "allow": tuple(allow)})


def _with_examples(topics: Sequence[Topic]) -> list[Topic]:
    return [topic for topic in topics if topic.examples]


@dataclass(frozen=True, slots=True)
class _Also:
    """Compares with denied examples, and takes everything to be off topic, where allowed topics have phrases alone."""

    detector: Detector

    @property
    def cost(self) -> Cost:
        """That of what compares."""
        return self.detector.cost

    def scan(self, text: str, source: Source) -> Scan:
        """Give what is similar, and that no allowed topic is."""
        found = self.detector.scan(text, source)
        return replace(found, findings=(*found.findings, Finding(OFF_TOPIC, 0, len(text))))
