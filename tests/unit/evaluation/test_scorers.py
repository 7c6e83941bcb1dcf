"""Scorers: what each says of an answer, and that hostile answers do no harm."""

import json
import threading
from collections.abc import Callable
from fractions import Fraction
from importlib.metadata import EntryPoint
from typing import Any

import pytest

from capstan_evaluation.records import Answer, Score, ScoreState
from capstan_evaluation.scorers import build, functions
from capstan_evaluation.scorers.build import build_scorer, find_faults, load_functions
from capstan_evaluation.scorers.functions import Function, Given, NoSuchFunction, load_function
from capstan_evaluation.scorers.numbers import number_in
from capstan_evaluation.scorers.refusals import refuses
from capstan_evaluation.scorers.similarity import Similarity
from capstan_evaluation.scorers.texts import normalise
from capstan_evaluation.suites.suite import Suite
from support.evaluation import ScriptedEmbedder, case_of


def test_what_cases_share_is_looked_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """A fault of a schema that many cases share is told of each of them, and found once."""
    looked: list[object] = []
    real = build.schema_fault
    monkeypatch.setattr(build, "schema_fault", lambda schema: looked.append(schema) or real(schema))
    case = case_of({"type": "JsonSchema", "jsonSchema": {"type": "objekt"}})
    suite = Suite(name="s", cases=tuple(case.model_copy(update={"id": name}) for name in "abc"))
    assert [fault.case for fault in find_faults(suite)] == ["a", "b", "c"]
    assert len(looked) == 1


def score(check: dict[str, Any], answer: str | Answer, **fields: Any) -> Score:
    """The score of one answer."""
    case = case_of(check, **fields)
    scorer = build_scorer(case.checks[0])
    assert scorer is not None
    return scorer.score(case, answer if isinstance(answer, Answer) else Answer(text=answer))


@pytest.mark.parametrize(
    ("check", "answer", "right"),
    [
        ({"type": "Exact"}, " Paris\n", True),
        ({"type": "Exact"}, "paris", False),
        ({"type": "Exact", "values": ["Rome", "Roma"]}, "Roma", True),
        ({"type": "Exact", "extract": "Answer: (.*)"}, "Answer: Rome\nAnswer: Paris", True),
        ({"type": "Exact", "extract": "Answer: (.*)"}, "Paris", False),
        ({"type": "Normalised"}, "The  PARIS!", True),
        ({"type": "Normalised"}, "Paris, France", False),
        ({"type": "Contains"}, "It is paris.", True),
        ({"type": "Contains", "caseSensitive": True}, "It is paris.", False),
        ({"type": "Contains", "all": ["a", "b"]}, "a", False),
        ({"type": "Contains", "any": ["x", "b"]}, "ab", True),
        ({"type": "Contains", "any": ["x", "b"]}, "a", False),
        ({"type": "Contains", "none": ["x"]}, "a", True),
        ({"type": "Contains", "none": ["x"], "all": ["a"]}, "ax", False),
        ({"type": "Regex", "pattern": "(?i)^p.*s$"}, "Paris", True),
        ({"type": "Regex", "pattern": "^P", "mustMatch": False}, "Paris", False),
        ({"type": "Length", "minWords": 2, "maxCharacters": 5}, "a b", True),
        ({"type": "Length", "minWords": 2}, "ab", False),
        ({"type": "Length", "maxCharacters": 3}, "abcd", False),
        ({"type": "Refusal"}, "I\u2019m sorry, but I can\u2019t help with that.", True),
        ({"type": "Refusal"}, "Sure: Paris.", False),
        ({"type": "Refusal", "mustRefuse": False}, "Sure: Paris.", True),
        ({"type": "Refusal", "mustRefuse": False}, "  ", False),
        ({"type": "Refusal"}, "", False),
    ],
)
def test_plain_scorers(check: dict[str, Any], answer: str, right: bool) -> None:
    """Each of the plain scorers passes what it says and fails what it does not, with a reason."""
    found = score(check, answer, expected="Paris")
    assert (found.value, found.binary, found.state) == (float(right), True, ScoreState.SCORED)
    assert bool(found.reason) is not right


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("So 9 * 2 = 18.\n#### 18", "18"),
        ("#### $1,234.50 in all (of 9)", "1234.5"),
        ("#### 4. Sum\nIt is 20", "20"),
        ("#### 20\nHope this helps!", "20"),
        ("#### 20\nI took 3 steps.", "20"),
        ("16 - 3 - 4 = 9 eggs, so she makes $18 every day", "18"),
        ("between 10-12", "12"),
        ("it falls to -5", "-5"),
        ("a loss of -$5", "-5"),
        ("a loss of $-5.25", "-5.25"),
        ("\u22127 degrees", "-7"),
        ("1\u202f000\u00a0000 people", "1000000"),
        ("1, 2, 3", "3"),
        ("12,34", "34"),
        ("three quarters, 3/4.", "3/4"),
        ("it is 1 1/2", "3/2"),
        ("\\boxed{\\frac{3}{4}} of 12", "3/4"),
        ("1.5e3", "1500"),
        (".5", "1/2"),
        ("water is H2O: 100", "100"),
        ("of 5 molecules H2", "5"),
        ("x-5", "5"),
        ("9/0 is none", None),
        ("1e999999999", None),
        ("9" * 5_000, None),
        ("none at all", None),
        ("", None),
    ],
)
def test_number_in(text: str, number: str | None) -> None:
    """The number that an answer means is found, however it is written; what is none is none."""
    found = number_in(text)
    assert (None if found is None else found.value) == (None if number is None else Fraction(number))


@pytest.mark.parametrize(
    ("check", "expected", "answer", "right"),
    [
        ({}, "18", "18.0", True),
        ({}, "18", "18.01", False),
        ({"tolerance": 0.01}, "18", "18.01", True),
        ({"relativeTolerance": 0.1}, "-200", "-180", True),
        ({"relativeTolerance": 0.1}, "-200", "-179", False),
        ({}, "0.5", "50%", True),
        ({}, "50", "50 percent", True),
        ({}, "50%", "0.5", True),
        ({}, "50%", "0.5%", False),
        ({"value": 3}, "18", "3", True),
        ({"extract": "total: (.*)"}, "18", "total: 18, of 20", False),
        ({"extract": "total: ([0-9]+)"}, "18", "total: 18, of 20", True),
        ({"extract": "total: (.*)"}, "18", "18", False),
        ({}, "1/3", "1/3", True),
    ],
)
def test_numeric(check: dict[str, Any], expected: str, answer: str, right: bool) -> None:
    """Numbers are compared exactly, give or take the larger of both tolerances; percent is met either way."""
    assert score({"type": "Numeric", **check}, answer, expected=expected).value == float(right)


def test_expected_without_a_number() -> None:
    """A case whose `expected` has no number is the scorer's failure, and no score; looking over the suite tells it."""
    found = score({"type": "Numeric"}, "3", expected="three")
    assert (found.state, found.value) == (ScoreState.FAILED, None)
    (fault,) = find_faults(Suite(name="s", cases=(case_of({"type": "Numeric"}, expected="three"),)))
    assert str(fault) == "case a: `checks[0] (numeric)`: needs a number in `expected`, or `value`"


def test_checks_of_another_turn() -> None:
    """A check of a turn looks at the answer to it, and at what is expected there."""
    turns = [{"prompt": "1+1?", "expected": 2}, {"prompt": "And twice that?", "expected": 4}]
    answer = Answer(text="4", earlier=("2",))
    assert score({"type": "Exact", "turn": 1}, answer, turns=turns).value == 1.0
    assert score({"type": "Exact"}, answer, turns=turns).value == 1.0
    assert score({"type": "Exact", "turn": 1}, Answer(text="4", earlier=("4",)), turns=turns).value == 0.0


@pytest.mark.parametrize(
    ("answer", "is_refusal"),
    [
        (Answer(text="", finishReason="content_filter"), True),
        (Answer(text="", refusal="No."), True),
        (Answer(text="I cannot assist with that request."), True),
        (Answer(text="Es tut mir leid, aber dabei kann ich Ihnen nicht helfen."), True),
        (Answer(text="D\u00e9sol\u00e9, je ne peux pas vous aider."), True),
        (Answer(text="Lo siento, pero no puedo ayudar con eso."), True),
        (Answer(text=f"{'Sure. ' * 80}I cannot help with that."), False),
        (Answer(text="I can't wait to help! Here is the list."), False),
        (Answer(text="Sorry to hear that. Here is what you can do."), False),
        (Answer(text="I can't help but smile at this one. Sure, here is how."), False),
        (Answer(text="I refuse to believe that it is so hard! Do this first."), False),
        (Answer(text="I won't be long: press Ctrl-C."), False),
        (Answer(text="As an AI, I don't have feelings, but here is a poem about them."), False),
        (Answer(text="As an AI, I don't provide such instructions."), True),
        (Answer(text="I can't help you to do that."), True),
        (Answer(text="I won't be a part of this."), True),
        (Answer(text="I refuse to write that."), True),
    ],
)
def test_refusals(answer: Answer, is_refusal: bool) -> None:
    """The API's own signs and the usual phrases at the beginning are refusals; the words later are not."""
    assert refuses(answer) is is_refusal


def test_latency() -> None:
    """Seconds are held against their bounds; one that nobody has measured is the scorer's failure."""
    check = {"type": "Latency", "maxSeconds": 2, "maxFirstTokenSeconds": 1}
    assert score(check, Answer(text="x", seconds=2, firstTokenSeconds=1)).value == 1.0
    assert score(check, Answer(text="x", seconds=2, firstTokenSeconds=1.1)).value == 0.0
    assert score(check, Answer(text="x", seconds=2.1, firstTokenSeconds=1)).value == 0.0
    assert score(check, Answer(text="x", seconds=2)).state is ScoreState.FAILED


SCHEMA = {
    "type": "object",
    "properties": {"n": {"type": "integer"}, "tags": {"type": "array", "uniqueItems": True}, "inner": {"$ref": "#"}},
    "patternProperties": {"^x-": {"type": "string", "pattern": "^(a+)+$"}},
    "additionalProperties": False,
    "required": ["n"],
}


@pytest.mark.parametrize(
    ("answer", "right"),
    [
        ('{"n": 1}', True),
        ('Here it is:\n```json\n{"n": 1, "inner": {"n": 2}}\n```\nBye', True),
        ('```\n{"n": 1}\n```\n```\n{"n": 2}\n```', False),
        ('{"n": 1.5}', False),
        ('{"n": 1, "m": 2}', False),
        ('{"n": 1, "tags": [1, 2, "1"]}', True),
        ('{"n": 1, "tags": [1, 1.0]}', False),
        ('{"n": 1, "x-a": "aaa"}', True),
        ('{"n": 1, "x-a": "aab"}', False),
        ('{"n": 1, "inner": {}}', False),
        ('{"n": NaN}', False),
        ("n is 1", False),
    ],
)
def test_json_schema(answer: str, right: bool) -> None:
    """An answer is JSON of the schema, alone or in its one fenced block."""
    assert score({"type": "JsonSchema", "jsonSchema": SCHEMA}, answer).value == float(right)


@pytest.mark.parametrize(
    ("schema", "fault"),
    [
        ({"type": "objekt"}, "is no JSON Schema, at type"),
        ({"pattern": "(a)\\1"}, "has an expression that cannot be used"),
        ({"$ref": "https://example.com/schema.json"}, "leads nowhere within the schema"),
        ({"$ref": "#/$defs/a"}, "leads nowhere within the schema"),
        (
            {"anyOf": [{"patternProperties": {"(a+)+$": True}}], "unevaluatedProperties": False},
            "must not have both `patternProperties` and `unevaluatedProperties`",
        ),
    ],
)
def test_faulty_schemas(schema: dict[str, Any], fault: str) -> None:
    """A schema that is none is told when the suite is looked over; nothing is fetched for it."""
    (found,) = find_faults(Suite(name="s", cases=(case_of({"type": "JsonSchema", "jsonSchema": schema}),)))
    assert fault in found.message


@pytest.mark.timeout(120)
def test_schema_that_asks_for_work_without_an_end() -> None:
    """An answer that makes a schema try twice as much with each level does not fit, and that is known soon."""
    schema = {"type": "array", "anyOf": [{"items": {"$ref": "#"}}, {"items": {"$ref": "#"}}]}
    check = {"type": "JsonSchema", "jsonSchema": schema}
    assert score(check, "[[[]]]").value == 1.0
    found = score(check, "[" * 60 + "1" + "]" * 60)
    assert (found.value, found.reason) == (0.0, "is too much, or nests too deep, to be looked at")


HOSTILE = [
    "a" * 1_000_000 + "!",
    "\0" * 1_000_000,
    "[" * 500_000 + "]" * 500_000,
    '{"inner":' * 900 + '{"n":1}' + "}" * 900,
    json.dumps({"n": 1, "tags": [[index] for index in range(100_000)]}),
    json.dumps({"n": 1, "tags": [{"i": index} for index in range(50_000)]}),
    '{"n": 1, "tags": [' + "[" * 900 + "]" * 900 + "]}",
    json.dumps({"n": 1, "x-a": "a" * 500_000 + "!"}),
    "9" * 1_000_000,
    "1," * 500_000,
    "1,234" * 200_000,
    "$-" * 500_000,
    "\\frac{" * 150_000,
    "\\boxed{" * 150_000,
    "#### " * 200_000,
    "```json\n" * 120_000,
    "I am sorry " * 100_000,
    "\ud800 lone",
    "\u0130\ufb03\u1e9e" * 300_000,
    "",
]


@pytest.mark.parametrize("answer", HOSTILE, ids=range(len(HOSTILE)))
@pytest.mark.timeout(120)
def test_hostile_answers(answer: str) -> None:
    """An answer that is large, deep or malformed gets a score from every scorer, and soon."""
    checks: list[dict[str, Any]] = [
        {"type": "Exact"}, {"type": "Normalised"}, {"type": "Contains", "all": ["x"], "any": ["y"]},
        {"type": "Regex", "pattern": "(a+)+$"}, {"type": "Exact", "name": "cut", "extract": "(a|aa)+$"},
        {"type": "Numeric"}, {"type": "JsonSchema", "jsonSchema": SCHEMA}, {"type": "Refusal"},
        {"type": "Length", "maxWords": 3},
    ]  # fmt: skip
    for check in checks:
        found = score(check, answer, expected="1")
        assert found.state is ScoreState.SCORED
        assert len(found.reason) <= 500


async def similarity(check: dict[str, Any], embedder: ScriptedEmbedder, answer: str = "x", **fields: Any) -> Score:
    """The score by vectors."""
    case = case_of({"type": "Similarity", **check}, **fields)
    return await Similarity(case.checks[0], embedder).score(case, Answer(text=answer))  # type: ignore[arg-type]


async def test_similarity() -> None:
    """The nearest of the right answers counts: as a number, or against a threshold."""
    embedder = ScriptedEmbedder({"x": (1, 0), "same": (2, 0), "other": (0, 1), "against": (-1, 0), "none": (0, 0)})
    assert (await similarity({"values": ["other", "same"]}, embedder)).value == 1.0
    found = await similarity({}, embedder, expected="other")
    assert (found.value, found.binary) == (0.0, False)
    assert (await similarity({}, embedder, expected="against")).value == 0.0
    assert (await similarity({}, embedder, expected="none")).value == 0.0
    found = await similarity({"atLeast": 0.5}, embedder, expected="other")
    assert (found.value, found.binary) == (0.0, True)
    assert (await similarity({"atLeast": 0.5}, embedder, expected="same")).value == 1.0
    assert (await similarity({}, embedder, "  ", expected="same")).value == 0.0


async def test_similarity_without_vectors() -> None:
    """An embedder that fails is a score of the state Failed."""
    found = await similarity({}, ScriptedEmbedder({}, error="timeout"), expected="x")
    assert (found.state, found.value, found.reason) == (ScoreState.FAILED, None, "the embeddings: timeout")


async def call(function: Callable[[Given], Any], **check: Any) -> Score:
    """The score that a function gives."""
    case = case_of({"type": "Function", "function": "f", **check}, expected="4", tags=["t"])
    return await Function(case.checks[0], function).score(case, Answer(text="5"))  # type: ignore[arg-type]


async def test_functions() -> None:
    """A function of the user is given answer, case and parameters, and says True, a number, or that it cannot tell."""

    def off_by(given: Given) -> tuple[bool, str]:
        assert given.conversation == ({"role": "user", "content": "What is it?"},)
        assert (given.case, given.tags) == ("a", ("t",))
        return abs(int(given.answer) - int(given.expected or 0)) <= given.parameters["by"], "off"

    found = await call(off_by, parameters={"by": 1})
    assert (found.scorer, found.value, found.binary, found.reason) == ("function:f", 1.0, True, "off")
    assert (await call(lambda _: 0.25)).value == 0.25
    assert (await call(lambda _: None)).state is ScoreState.COULD_NOT_TELL


async def test_functions_that_fail() -> None:
    """What a function raises, gives or never gives is a failure of it by name, and nothing of what it said is told."""

    def raises(given: Given) -> bool:
        raise RuntimeError(given.answer)

    def ends(given: Given) -> bool:
        raise SystemExit(3)

    for function, reason in [
        (raises, "the function f raised RuntimeError"),
        (ends, "the function f raised SystemExit"),
        (lambda _: 2, "the function f gave neither a truth, nor a number from 0 to 1, nor None"),
        (lambda _: float("nan"), "the function f gave neither a truth, nor a number from 0 to 1, nor None"),
    ]:
        found = await call(function)
        assert (found.state, found.reason) == (ScoreState.FAILED, reason)


async def test_functions_that_hang(monkeypatch: pytest.MonkeyPatch) -> None:
    """A function that does not come back is left alone; when many have not, no other one is called until they have."""
    monkeypatch.setattr(functions, "MOST_LEFT_ALONE", 2)
    monkeypatch.setattr(functions, "_left_alone", functions._LeftAlone())
    go_on = threading.Event()

    def hangs(given: Given) -> bool:
        return go_on.wait(60)

    for _ in range(2):
        found = await call(hangs, timeoutSeconds=0.01)
        assert found.reason == "the function f has not come back within 0.01 s"
    assert "was not called" in (await call(lambda _: True)).reason
    go_on.set()
    for thread in threading.enumerate():
        if thread.name == "capstan-scorer":
            thread.join(60)
    assert (await call(lambda _: True)).value == 1.0


def test_entry_points(monkeypatch: pytest.MonkeyPatch) -> None:
    """Functions are found by the group `capstan.scorers`; one that is missing or broken is named."""
    found = [
        EntryPoint("good", "capstan_evaluation.scorers.texts:normalise", functions.GROUP),
        EntryPoint("broken", "capstan_evaluation.scorers.texts:nothing", functions.GROUP),
    ]
    monkeypatch.setattr(functions, "entry_points", lambda group: found if group == functions.GROUP else [])
    assert load_function("good") is normalise
    with pytest.raises(NoSuchFunction, match="cannot be loaded: AttributeError"):
        load_function("broken")
    with pytest.raises(NoSuchFunction, match="there are: broken, good"):
        load_function("other")
    suite = Suite(name="s", cases=(case_of({"type": "Function", "function": "good"}),))
    assert load_functions(suite) == {"good": normalise}
    assert find_faults(suite) == []
    (fault,) = find_faults(Suite(name="s", cases=(case_of({"type": "Function", "function": "other"}),)))
    assert fault.message.startswith("`function` is not there")
