"""Guards of type Topics."""

import pytest

from capstan_contract.guards import Source, Topic, TopicsGuard
from capstan_gateway.guards.plain.topics import PhrasesDetector, TopicsDetector, build_topics_detector
from capstan_gateway.guards.port import Cost, Detector, Finding, Scan

WEAPONS = Topic(name="weapons", phrases=("make a bomb", "rifle"))
TAX = Topic(name="tax", phrases=("tax advice",))
COOKING = Topic(name="cooking", phrases=("recipe", "oven"))


class Similar:
    """Says that texts with `like-NAME` in them are similar to examples of NAME; else off topic if any is allowed."""

    cost = Cost.DEAR

    def __init__(self, guard: TopicsGuard) -> None:
        self.guard = guard

    def scan(self, text: str, source: Source) -> Scan:
        denied = [t.name for t in self.guard.deny if f"like-{t.name}" in text]
        allowed = [t.name for t in self.guard.allow if f"like-{t.name}" in text]
        found = [Finding(name, 0, 3, 0.7) for name in denied]
        if self.guard.allow and not allowed:
            found.append(Finding("off-topic", 0, len(text), 0.5))
        return Scan(found)


def _none(guard: TopicsGuard) -> Detector | None:
    raise AssertionError("nobody asked for similarity")


def _build(deny: tuple[Topic, ...] = (), allow: tuple[Topic, ...] = (), model: str | None = None) -> Detector:
    guard = TopicsGuard(name="t", appliesTo=(Source.USER,), deny=deny, allow=allow, model=model)
    examples = any(topic.examples for topic in (*deny, *allow))
    return build_topics_detector(guard, Similar if examples and model is None else _none)


def _kinds(detector: Detector, text: str) -> list[str]:
    return [finding.kind for finding in detector.scan(text, Source.USER).findings]


def _like(topic: Topic) -> Topic:
    return topic.model_copy(update={"examples": ("one",), "phrases": ()})


def test_phrases_of_denied_topics_are_found_by_their_topic() -> None:
    """Each phrase is found where it stands, without case, and is called by its topic."""
    text = "A RIFLE? Tax  advice: make a\nbomb."
    findings = _build((WEAPONS, TAX)).scan(text, Source.USER).findings
    assert [(finding.kind, text[finding.start : finding.end]) for finding in findings] == [
        ("weapons", "RIFLE"), ("tax", "Tax  advice"), ("weapons", "make a\nbomb"),
    ]  # fmt: skip


def test_a_phrase_within_another_of_its_topic_is_found_once() -> None:
    """Whatever other topic has a phrase there: of one topic the outermost phrases are found."""
    cars = Topic(name="cars", phrases=("old red car", "car"))
    colours = Topic(name="colours", phrases=("red",))
    findings = _build((cars, colours)).scan("an old red car", Source.USER).findings
    assert [(finding.kind, finding.start, finding.end) for finding in findings] == [("cars", 3, 14), ("colours", 7, 10)]


def test_phrases_alone_hold_no_stream_back() -> None:
    """Where a guard has only denied phrases, a stream is given out up to where one may begin."""
    detector = _build((WEAPONS,))
    assert isinstance(detector, PhrasesDetector)
    assert detector.cost is Cost.CHEAP
    assert detector.safe_end("now make a ") == 4
    assert detector.safe_end("now made a ") == 11


def test_beside_allowed_topics_all_is_off_topic() -> None:
    """With allowed topics, a text with none of their phrases is found as a whole; an empty one is about nothing."""
    detector = _build(allow=(COOKING,))
    text = "who wins the election?"
    assert detector.scan(text, Source.USER).findings == (Finding("off-topic", 0, len(text)),)
    assert _kinds(detector, "a RECIPE please") == []
    assert _kinds(detector, " \n") == []


def test_a_denied_phrase_is_found_in_what_is_allowed() -> None:
    """A text of an allowed topic with a phrase of a denied one is found for that."""
    assert _kinds(_build((WEAPONS,), (COOKING,)), "a recipe to make a bomb") == ["weapons"]


@pytest.mark.parametrize(
    ("deny", "allow", "text", "kinds"),
    [
        ((_like(TAX),), (), "like-tax", ["tax"]),
        ((_like(TAX),), (), "else", []),
        ((), (_like(COOKING),), "like-cooking", []),
        ((), (_like(COOKING),), "else", ["off-topic"]),
        ((), (COOKING, _like(TAX)), "else", ["off-topic"]),
        ((), (COOKING, _like(TAX)), "the oven", []),
        ((), (COOKING, _like(TAX)), "like-tax", []),
        ((_like(TAX),), (COOKING,), "else", ["off-topic"]),
        ((_like(TAX),), (COOKING,), "the oven", []),
        ((_like(TAX),), (COOKING,), "the oven, like-tax", ["tax"]),
        ((_like(TAX), WEAPONS), (_like(COOKING),), "rifle", ["weapons"]),
    ],
)
def test_off_topic_is_what_neither_phrases_nor_examples_allow(
    deny: tuple[Topic, ...], allow: tuple[Topic, ...], text: str, kinds: list[str]
) -> None:
    """A phrase or an example of any allowed topic is enough; a denied one is found in either way."""
    assert _kinds(_build(deny, allow), text) == kinds


def test_what_compares_is_asked_only_if_no_phrase_has_decided() -> None:
    """A denied phrase is enough, so the dear comparison is left out."""
    detector = _build((WEAPONS, _like(TAX)))
    assert isinstance(detector, TopicsDetector)
    assert detector.cost is Cost.DEAR
    assert _kinds(detector, "rifle like-tax") == ["weapons"]


def test_a_model_is_asked_about_what_phrases_say_nothing_of() -> None:
    """Where a model compares, every text without a denied phrase is in doubt, and off topic if nobody can be asked."""
    detector = _build((WEAPONS, _like(TAX)), (COOKING,), model="e5")
    assert detector.scan("hello", Source.USER) == Scan((Finding("off-topic", 0, 5),), doubt=0.5)
    assert detector.scan("the oven", Source.USER) == Scan((), doubt=0.5)
    assert detector.scan("a rifle", Source.USER).doubt is None
    allowing = _build((), (COOKING, _like(TAX)), model="e5")
    assert allowing.scan("the oven", Source.USER) == Scan()
    assert isinstance(allowing, TopicsDetector)
    assert allowing.is_allowed("the oven")
    assert not allowing.is_allowed("hello")


def test_topics_of_nothing_are_refused() -> None:
    """A guard whose topics have neither phrases nor examples could find nothing."""
    with pytest.raises(ValueError, match="neither"):
        _build((Topic(name="x"),))
