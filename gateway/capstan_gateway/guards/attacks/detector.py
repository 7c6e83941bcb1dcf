"""Tells attacks from what only sounds like one: patterns first, then a classifier in the process, then doubt.

    patterns   decide where they are enough: score at least `ENOUGH`
    classifier decides the rest, by thresholds of its own; weak signs of the patterns tip what it is nearly sure of
    doubt      what neither of them can decide: a model may be asked (`Scan.doubt`)

Of a text that is too long for the classifier it sees both ends, the places that sound likeliest, and what is around the
strongest signs of the patterns. Where that says nothing there is a doubt, since the rest has been seen by patterns
only. What it finds has to be surer there: the likeliest of hundreds of places is odd in a harmless text, too.

Without the classifier (its libraries or weights are not installed) patterns alone decide, and what is not enough but
more than `WEAK` is in doubt. docs/guards.md says what that costs.
"""

import logging
from collections.abc import Iterator, Sequence
from functools import cache
from typing import Final, Literal, Protocol

from capstan_contract.guards import AttackGuard, Sensitivity, Source
from capstan_gateway.embed.files import EmbeddingsMissing, check_libraries
from capstan_gateway.guards.attacks.classifier import REACH, AttackThresholds, SharedClassifier
from capstan_gateway.guards.attacks.evidence import Evidence, Sign, gather, prepare, weigh
from capstan_gateway.guards.patience import go_on
from capstan_gateway.guards.port import NOTHING, Cost, Finding, Scan
from capstan_gateway.guards.text.readable import readable

log = logging.getLogger(__name__)

ENOUGH: Final = {Sensitivity.LOW: 0.8, Sensitivity.MEDIUM: 0.65, Sensitivity.HIGH: 0.45}
"""Score of patterns from which on nobody else is heard."""
WEAK: Final = {Sensitivity.LOW: 0.5, Sensitivity.MEDIUM: 0.35, Sensitivity.HIGH: 0.25}
"""Score from which on patterns leave a doubt."""
STRICTER: Final = {
    Sensitivity.HIGH: Sensitivity.MEDIUM, Sensitivity.MEDIUM: Sensitivity.LOW, Sensitivity.LOW: Sensitivity.LOW,
}  # fmt: skip
"""Whose threshold of the classifier is taken for a text of which it sees the likeliest places."""
SHORTEST: Final = 12
"""Characters that a classifier needs."""
MOST_SAID: Final = 8
"""Decoded texts of one that are shown to the classifier, the longest of them."""

MOST_AROUND: Final = 8
"""Signs of a text that is too long for the classifier, the strongest of them, whose surroundings are shown to it."""
AROUND: Final = 400
"""Characters on both sides of such a sign: one window of the classifier, as a rule."""


class Hit(Protocol):
    """What a classifier says."""

    @property
    def score(self) -> float:
        """How likely it is, from 0 to 1."""
        ...

    @property
    def start(self) -> int:
        """Where the part begins that it is most sure of."""
        ...

    @property
    def end(self) -> int:
        """Where that ends."""
        ...


class Classifier(Protocol):
    """Tells how likely a text is an attack."""

    def score(self, text: str, source: Source) -> Hit:
        """Judge one text."""
        ...


class Thresholds(Protocol):
    """What a classifier's score means."""

    def found(self, sensitivity: Sensitivity, source: Source) -> float:
        """Give the score that is enough."""
        ...

    def doubt(self, sensitivity: Sensitivity, source: Source) -> float:
        """Give the score that is not enough, and too much for nothing."""
        ...


class AttackDetector:
    """Finds prompt injections, or jailbreaks."""

    def __init__(
        self,
        kind: Literal["PromptInjection", "Jailbreak"],
        sensitivity: Sensitivity,
        classifier: Classifier | None = None,
        thresholds: Thresholds | None = None,
    ) -> None:
        self._jailbreak = kind == "Jailbreak"
        self._name = "jailbreak" if self._jailbreak else "prompt-injection"
        self._sensitivity = sensitivity
        self._judge = (classifier, thresholds) if classifier is not None and thresholds is not None else None

    @property
    def cost(self) -> Cost:
        """Patterns are cheap, a classifier is not."""
        return Cost.CHEAP if self._judge is None else Cost.DEAR

    def scan(self, text: str, source: Source) -> Scan:
        """Give where the text attacks: the patterns that say so, or the part that the classifier means."""
        if not text.strip():
            return NOTHING
        evidence = gather(text, source)
        score, signs = weigh(evidence.signs, jailbreak=self._jailbreak)
        if score >= ENOUGH[self._sensitivity]:
            return Scan(findings=_told(signs, score))
        # NB: developers give orders, which is what a classifier takes for an attack; they may.
        if self._judge is None or source is Source.SYSTEM:
            return Scan(doubt=score) if score >= WEAK[self._sensitivity] else NOTHING
        return self._judged(*self._judge, text, evidence, source, score, signs)

    def _judged(
        self,
        classifier: Classifier,
        thresholds: Thresholds,
        text: str,
        evidence: Evidence,
        source: Source,
        score: float,
        signs: Sequence[Sign],
    ) -> Scan:
        seen = (*_asked(classifier, evidence, source), *_asked_around(classifier, text, evidence.signs, source))
        likely, start, end = max(seen, default=(0.0, 0, 0))
        long = len(text) > REACH.everything
        found = thresholds.found(STRICTER[self._sensitivity] if long else self._sensitivity, source)
        unsure = thresholds.doubt(self._sensitivity, source)
        weak = score >= WEAK[self._sensitivity]
        if likely >= found or (likely >= unsure and weak):
            told = _told(signs, max(score, likely)) if weak else [Finding(self._name, start, end, likely)]
            return Scan(findings=told)
        # NB: of a longer text nobody has looked at all, and a model that is asked may.
        if likely >= unsure or weak or long:
            return Scan(doubt=max(likely, score))
        return NOTHING


def _asked(classifier: Classifier, evidence: Evidence, source: Source) -> Iterator[tuple[float, int, int]]:
    first, *decoded = evidence.said
    for said in (first, *sorted(decoded, key=lambda said: -len(said.view.text))[:MOST_SAID]):
        go_on()
        text, back = readable(said.view.text)
        if len(text.strip()) >= SHORTEST:
            hit = classifier.score(text, source)
            yield hit.score, *said.view.back(*back(hit.start, hit.end))


def _asked_around(
    classifier: Classifier, text: str, signs: Sequence[Sign], source: Source
) -> Iterator[tuple[float, int, int]]:
    """Show it what is around the strongest signs of a text of which it does not see all."""
    if len(text) <= REACH.everything:
        return
    strongest = sorted(signs, key=lambda sign: (-max(sign.injection, sign.jailbreak), sign.start))
    for sign in strongest[:MOST_AROUND]:
        front = max(0, sign.start - AROUND)
        around, back = readable(text[front : min(sign.end, sign.start + AROUND) + AROUND])
        if len(around.strip()) >= SHORTEST:
            hit = classifier.score(around, source)
            start, end = back(hit.start, hit.end)
            yield hit.score, front + start, front + end


def _told(signs: Sequence[Sign], score: float) -> list[Finding]:
    return [Finding(kind=sign.kind, start=sign.start, end=sign.end, score=score) for sign in signs]


@cache
def installed_judge() -> tuple[Classifier, Thresholds] | None:
    """Give the classifier, which loads when it is first asked; None, and said in the log, where it is not installed."""
    try:
        check_libraries()
    except EmbeddingsMissing as error:
        log.warning("patterns alone look for attacks", extra={"reason": str(error)})
        return None
    return SharedClassifier(), AttackThresholds.load()


def attack_detector(guard: AttackGuard) -> AttackDetector:
    """Make the detector of a guard. The first one compiles the patterns, which takes some 200 ms."""
    prepare()
    judge = installed_judge()
    if judge is None:
        return AttackDetector(guard.type, guard.sensitivity)
    return AttackDetector(guard.type, guard.sensitivity, *judge)
