"""Guards of type Format."""

from typing import Any

import pytest

from capstan_contract.guards import FormatGuard, Source
from capstan_gateway.guards.build import build_detector
from capstan_gateway.guards.plain import format as form
from capstan_gateway.guards.plain import language
from capstan_gateway.guards.plain.again import asked_again
from capstan_gateway.guards.plain.format import FormatDetector, build_format_detector
from capstan_gateway.guards.plain.schema import NotChecked
from capstan_gateway.guards.port import Cost

PRICES = {
    "type": "object", "required": ["items"], "additionalProperties": False,
    "properties": {"items": {"type": "array", "items": {"$ref": "#/$defs/item"}, "minItems": 1}},
    "$defs": {"item": {"type": "object", "properties": {"price": {"type": "number", "minimum": 0}}, "required": ["price"]}},
}  # fmt: skip


def _build(**fields: Any) -> FormatDetector:
    return build_format_detector(FormatGuard(name="f", appliesTo=(Source.TEXT,), **fields))


def _said(detector: FormatDetector, text: str) -> list[tuple[str, str]]:
    return [(lack.kind, lack.said) for lack in detector.lacks(text)]


def test_an_answer_must_be_json_and_nothing_else() -> None:
    """Text around the document, or none at all, is a fault."""
    detector = _build(jsonSchema=PRICES)
    assert _said(detector, '{"items": [{"price": 1.5}]}') == []
    for text in ('Here: {"items": []}', '```json\n{"items": [{"price": 1}]}\n```', "", "{"):
        assert [kind for kind, _ in _said(detector, text)] == ["not-json"]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[]", "the answer must be of type object"),
        ("{}", "the answer must have `items`"),
        ('{"items": []}', "`items` must have at least 1 items"),
        ('{"items": [{"price": 1}, {"price": "2"}]}', "`items[1].price` must be of type number"),
        ('{"items": [{"price": -1}]}', "`items[0].price` must be at least 0"),
        ('{"items": [{"price": 1}], "total": 1}', "`total` must not be there"),
    ],
)
def test_it_is_said_where_an_answer_is_wrong(text: str, said: str) -> None:
    """The fault names the place and what must be there, so that the model can do better."""
    ((kind, words),) = _said(_build(jsonSchema=PRICES), text)
    assert kind == "schema"
    assert words.startswith(said)


def test_the_whole_text_must_match() -> None:
    """A pattern that matches a part only is not kept."""
    detector = _build(pattern=r"(?s)- .*\n?")
    assert _said(detector, "- one\n- two") == []
    assert [kind for kind, _ in _said(detector, "so:\n- one")] == ["pattern"]


def test_length_is_counted_in_characters() -> None:
    """What has several bytes is one character."""
    detector = _build(maxCharacters=3)
    assert detector.cost is Cost.CHEAP
    assert _said(detector, "äöü") == []
    assert _said(detector, "äöüß") == [("too-long", "it has 4 characters; at most 3 are allowed")]


def test_all_that_is_set_must_hold() -> None:
    """Each fault is a finding of the whole text."""
    detector = _build(maxCharacters=3, pattern=r"\d+", jsonSchema={"type": "number"})
    findings = detector.scan("hello", Source.TEXT).findings
    assert [finding.kind for finding in findings] == ["too-long", "pattern", "not-json"]
    assert {(finding.start, finding.end) for finding in findings} == {(0, 5)}


def test_a_schema_that_asks_too_much_is_not_kept_silently() -> None:
    """What cannot be decided within the steps raises, so that the guard fails instead of passing it."""
    way: Any = {"anyOf": [{"items": {"const": 1}}, {"items": {"const": 2}}]}
    for _ in range(10):
        way = {"anyOf": [{"allOf": [way, {"maxItems": 1}]}, {"allOf": [way, {"maxItems": 2}]}]}
    with pytest.raises(NotChecked):
        _build(jsonSchema=way).scan("[" + "2," * 200 + "3]", Source.TEXT)
    with pytest.raises(NotChecked):
        _build(jsonSchema={"$ref": "#"}).scan("1", Source.TEXT)
    with pytest.raises(NotChecked):
        _build(jsonSchema={"items": {"$ref": "#"}}).scan("[" * 500 + "]" * 500, Source.TEXT)


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({}, "nothing of the form"), ({"pattern": "("}, "`pattern`"), ({"languages": ("en", "tlh")}, "tlh"),
        ({"jsonSchema": {"$ref": "https://example.com/schema"}}, "within the schema"), ({"jsonSchema": {"$ref": "#/$defs/no"}}, "names nothing"),
        ({"jsonSchema": {"properties": {"a": {"unevaluatedProperties": False}}}}, "unevaluatedProperties"), ({"jsonSchema": {"type": "text"}}, "type"),
        ({"jsonSchema": {"properties": {"a": {"pattern": "(?=x)"}}}}, r"properties\.a"), ({"jsonSchema": {"minimum": "1"}}, "minimum"),
        ({"jsonSchema": {"required": "a"}}, "required"), ({"jsonSchema": {"items": [{}]}}, "items"), ({"jsonSchema": {"anyOf": {}}}, "anyOf"),
    ],
)  # fmt: skip
def test_what_cannot_be_checked_is_refused(fields: dict[str, Any], said: str) -> None:
    """A guard that says nothing, or what this release would pass over, cannot be enforced, and it is said why."""
    with pytest.raises(ValueError, match=said):
        _build(**fields)


class Ranked:
    """Gives the same languages for every text."""

    labels = ("de", "en", "fr", "zh", "wuu", "zxx")

    def __init__(self, *ranked: tuple[str, float]) -> None:
        self.ranked = ranked

    def rank(self, text: str) -> list[tuple[str, float]]:
        return list(self.ranked)


@pytest.mark.parametrize(
    ("ranked", "found"),
    [
        ([("de", 0.99), ("en", 0.01)], True), ([("en", 0.9)], False), ([("de", 0.6), ("en", 0.1)], False), ([("de", 0.75), ("en", 0.2)], False),
        ([("zxx", 0.99)], False), ([("fr", 0.8), ("de", 0.1), ("en", 0.05)], True),
    ],
)  # fmt: skip
def test_a_language_is_only_told_where_it_is_sure(
    ranked: list[tuple[str, float]], *, found: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A text is in another language only if one is probable and those that are allowed are not; numbers are in none."""
    monkeypatch.setattr(language, "identifier", lambda: Ranked(*ranked))
    text = "a text that is long enough to tell its language"
    assert [kind for kind, _ in _said(_build(languages=("en",)), text)] == (["language"] if found else [])


def test_of_a_short_text_nothing_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    """A word or two may be of any language; a few signs of Chinese are enough."""
    monkeypatch.setattr(language, "identifier", lambda: Ranked(("de", 1.0)))
    detector = _build(languages=("en",))
    assert _said(detector, "Guten Tag, 12345 67890 12345 !!!") == []
    assert _said(detector, "你好世界你好世界") != []


def test_variants_of_a_language_are_one(monkeypatch: pytest.MonkeyPatch) -> None:
    """Who allows Chinese allows what is written in it by those who speak Wu."""
    monkeypatch.setattr(language, "identifier", lambda: Ranked(("wuu", 0.9), ("zh", 0.1)))
    assert _said(_build(languages=("zh",)), "你好世界你好世界") == []


def test_languages_are_told() -> None:
    """The real identifier tells usual sentences apart, and says nothing of code."""
    detector = _build(languages=("en",))
    assert _said(detector, "The delivery will arrive tomorrow between nine and eleven.") == []
    ((kind, said),) = _said(detector, "Die Lieferung kommt morgen zwischen neun und elf Uhr an.")
    assert kind == "language"
    assert "`de`" in said
    assert _said(detector, "for (int i = 0; i < n; i++) { total += price[i] * count[i]; }") == []


def _answer(content: Any, **more: Any) -> dict[str, Any]:
    return {"choices": [{"index": 0, "message": {"role": "assistant", "content": content, **more}}]}


def test_the_model_is_asked_once_more_with_the_fault_named() -> None:
    """The request is the same but for its answer and what was wrong, and is no stream."""
    document = {
        "model": "m",
        "messages": [{"role": "user", "content": "list prices"}],
        "stream": True,
        "stream_options": {},
        "temperature": 0,
    }
    lacks = list(_build(jsonSchema=PRICES).lacks('{"items": []}'))
    again = asked_again(document, _answer('{"items": []}'), lacks)
    assert again is not None
    assert {name: again[name] for name in again if name != "messages"} == {"model": "m", "temperature": 0}
    assert again["messages"][:2] == [*document["messages"], {"role": "assistant", "content": '{"items": []}'}]  # type: ignore[misc]
    assert again["messages"][2]["role"] == "user"
    assert "`items` must have at least 1 items" in again["messages"][2]["content"]


@pytest.mark.parametrize(
    ("document", "answer"),
    [
        ({"prompt": "x"}, {"choices": [{"text": "y"}]}),
        ({"messages": []}, _answer(None, tool_calls=[{"id": "1"}])),
        ({"messages": []}, {"choices": [*_answer("a")["choices"], *_answer("b")["choices"]]}),
        ({"messages": [], "n": 2}, _answer("a")),
        ({"messages": []}, {"choices": []}),
        ({"messages": []}, _answer([{"type": "text"}])),
    ],
)
def test_what_is_no_single_answer_of_text_is_not_asked_again(document: dict[str, Any], answer: dict[str, Any]) -> None:
    """Where no turn can be made of the answer, nothing is asked."""
    assert asked_again(document, answer, []) is None


def test_policies_have_it() -> None:
    """A guard of type Format is built by what builds all detectors."""
    guard = FormatGuard(name="f", appliesTo=(Source.TEXT,), maxCharacters=1)
    assert isinstance(build_detector(guard), form.FormatDetector)


BY_OTHERS: list[tuple[dict[str, Any], str, str]] = [
    ({"if": {"required": ["a"]}, "then": {"required": ["b"]}, "else": {"required": ["c"]}}, '{"a": 1, "b": 1}', '{"a": 1, "c": 1}'),
    ({"if": {"required": ["a"]}, "then": {"required": ["b"]}, "else": {"required": ["c"]}}, '{"c": 1}', '{"b": 1}'),
    ({"dependentRequired": {"a": ["b"]}}, '{"a": 1, "b": 1}', '{"a": 1}'),
    ({"dependentSchemas": {"a": {"required": ["b"]}}}, '{"c": 1}', '{"a": 1}'),
    ({"patternProperties": {"^n": {"type": "number"}}}, '{"n1": 1, "x": ""}', '{"n1": ""}'),
]  # fmt: skip


@pytest.mark.parametrize(("schema", "good", "bad"), BY_OTHERS)
def test_what_a_schema_makes_of_other_fields(schema: dict[str, Any], good: str, bad: str) -> None:
    """What must be there may depend on what else is, and on how it is called."""
    detector = _build(jsonSchema=schema)
    assert _said(detector, good) == []
    assert [kind for kind, _ in _said(detector, bad)] == ["schema"]


@pytest.mark.parametrize(
    "schema", [{"dependentRequired": []}, {"dependentRequired": {"a": "b"}}, {"patternProperties": {"(": True}}]
)
def test_what_is_no_schema_of_other_fields_is_refused(schema: dict[str, Any]) -> None:
    """It is refused when the policy is read, and not when an answer comes."""
    with pytest.raises(ValueError, match=r"^`schema"):
        _build(jsonSchema=schema)


def test_all_languages_that_may_be_are_named() -> None:
    """A model that is asked again is told which one it has used, and each that it may."""
    text = "Das ist eine ganz gewöhnliche Antwort auf eine Frage, die niemand gestellt hat, und sie ist auf Deutsch."
    ((kind, said),) = _said(_build(languages=("en", "fr")), text)
    assert (kind, said) == ("language", "it is in the language `de`; it must be in en or fr (ISO 639-1)")


def test_the_longest_answer_that_may_be_is_in_form() -> None:
    """So many characters are allowed, and not one more."""
    assert _said(_build(maxCharacters=3), "abc") == []
    assert [kind for kind, _ in _said(_build(maxCharacters=3), "abcd")] == ["too-long"]


def test_a_pattern_is_of_the_whole_answer() -> None:
    """What begins as it must, and goes on otherwise, does not match."""
    assert _said(_build(pattern="[a-z]+"), "abc") == []
    assert [kind for kind, _ in _said(_build(pattern="[a-z]+"), "abc1")] == ["pattern"]
