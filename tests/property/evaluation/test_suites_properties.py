"""Suites, numbers, texts and verdicts, for any input."""

import csv
import io
import json
from fractions import Fraction
from typing import Any

import yaml
from hypothesis import assume, given
from hypothesis import strategies as st

from capstan_evaluation.errors import SuiteInvalid
from capstan_evaluation.judges.judging import consistent
from capstan_evaluation.judges.prompts import FIRST, SECOND, TIE, ask_pairwise, mark_for
from capstan_evaluation.judges.verdicts import read_verdict
from capstan_evaluation.records import Answer, ScoreState
from capstan_evaluation.scorers.build import build_scorer
from capstan_evaluation.scorers.numbers import number_in
from capstan_evaluation.scorers.texts import normalise
from capstan_evaluation.suites.load import load_suite_texts
from capstan_evaluation.suites.suite import Rubric, Suite
from support.evaluation import case_of

TEXT = st.text(st.characters(codec="utf-8", exclude_categories=["Cc", "Cs"], exclude_characters="\ufeff\ufffe\uffff"))
NAMES = st.text("abcdefgh-0123456789", min_size=1, max_size=8)
CHECKS = st.sampled_from(
    [
        {"type": "Exact"}, {"type": "Normalised", "values": ["x"]}, {"type": "Contains", "any": ["a", "b"]},
        {"type": "Regex", "pattern": "a+"}, {"type": "Numeric", "value": "3", "tolerance": 0.5}, {"type": "Refusal"},
        {"type": "JsonSchema", "jsonSchema": {"type": "object"}}, {"type": "Length", "maxWords": 3},
        {"type": "Judge", "criterion": "It is polite."}, {"type": "Pairwise"},
        {"type": "Function", "function": "f", "parameters": {"a": [1, None]}},
    ]
)  # fmt: skip
PLAIN = (
    {"type": "Exact"}, {"type": "Normalised"}, {"type": "Contains"}, {"type": "Refusal"}, {"type": "JsonSchema"},
    {"type": "Numeric", "value": "3"}, {"type": "Regex", "pattern": "(a|b)*c"},
)  # fmt: skip
CASES = st.fixed_dictionaries(
    {"prompt": TEXT.filter(bool), "expected": TEXT},
    optional={
        "system": TEXT,
        "tags": st.lists(NAMES, max_size=3, unique=True),
        "weight": st.floats(0.001, 1000),
        "repeats": st.integers(1, 9),
        "cluster": NAMES,
        "temperature": st.floats(0, 2),
        "maxTokens": st.integers(1, 9),
        "checks": st.lists(CHECKS, max_size=4, unique_by=lambda check: check["type"]),
    },
)
ATOMS = st.none() | st.booleans() | st.integers() | st.text()
FIELDS = st.sampled_from(
    ["name", "cases", "data", "defaults", "id", "prompt", "checks", "type", "file", "columns", "turns", "expected"]
)
SUITES = st.dictionaries(NAMES, CASES, min_size=1, max_size=4)


def load(document: dict[str, Any], **files: str) -> Suite:
    """The suite of a ConfigMap; `a_jsonl` is the key a.jsonl."""
    texts = {name.replace("_", "."): text for name, text in files.items()}
    return load_suite_texts({"suite.yaml": yaml.safe_dump(document, allow_unicode=True), **texts})


@given(SUITES)
def test_ways_to_write_a_suite(cases: dict[str, dict[str, Any]]) -> None:
    """The same cases in YAML, in any order, and as lines of JSON are the same suite, and the file of its cases as they
    are run gives itself."""
    rows = [{"id": name, **case} for name, case in cases.items()]
    suite = load({"name": "s", "cases": rows})
    assert {case.id: case.expected for case in suite.cases} == {name: case["expected"] for name, case in cases.items()}
    assert load({"name": "t", "cases": rows[::-1]}).suiteHash == suite.suiteHash
    lines = "".join(f"{json.dumps(row)}\n" for row in rows)
    assert load({"name": "s", "data": [{"file": "a.jsonl"}]}, a_jsonl=lines) == suite
    assert Suite.model_validate_json(suite.model_dump_json()) == suite


@given(st.lists(st.tuples(TEXT.filter(bool), TEXT, st.lists(NAMES, max_size=3, unique=True)), min_size=1, max_size=5))
def test_tables(rows: list[tuple[str, str, list[str]]]) -> None:
    """Whatever is in the cells of a table is in the cases."""
    table = io.StringIO()
    writer = csv.writer(table)
    writer.writerow(["question", "answer", "kind"])
    writer.writerows([question, answer, ";".join(tags)] for question, answer, tags in rows)
    columns = {"prompt": "question", "expected": "answer", "tags": "kind"}
    suite = load({"name": "s", "data": [{"file": "a.csv", "columns": columns}]}, a_csv=table.getvalue())
    found = [(case.conversation()[0]["content"], case.expected or "", list(case.tags)) for case in suite.cases]
    assert found == rows


@given(st.recursive(ATOMS, lambda inner: st.lists(inner) | st.dictionaries(FIELDS, inner)))
def test_anything_is_a_suite_or_told(document: Any) -> None:
    """Whatever a file holds, it is a suite, or what is wrong with it is told."""
    try:
        load_suite_texts({"suite.yaml": json.dumps(document)})
        told = None
    except SuiteInvalid as error:
        told = error.faults
    assert told is None or len(told) > 0


@given(st.text())
def test_normalised_text_stays(text: str) -> None:
    """Normalising is idempotent, and does not see case, punctuation at the ends, or the amount of space."""
    plain = normalise(text)
    assert normalise(plain) == plain
    assert normalise(f"  {text}!? ") == plain


@given(st.integers(-(10**12), 10**12), st.integers(0, 6), st.sampled_from(["", "$", "\u20ac"]), st.booleans(), TEXT)
def test_numbers_are_found(whole: int, decimals: int, currency: str, grouped: bool, before: str) -> None:
    """A number is found however it is written, behind any text without a number after it."""
    value = Fraction(whole, 10**decimals)
    written = f"{abs(whole) // 10**decimals:{',' if grouped else ''}}"
    if decimals:
        written += f".{abs(whole) % 10**decimals:0{decimals}}"
    text = f"{before} is {'-' if whole < 0 else ''}{currency}{written} apples."
    assume("#" not in before and "boxed" not in before)
    for answer in (text, f"{text}\n#### {'-' if whole < 0 else ''}{currency}{written}"):
        found = number_in(answer)
        assert found is not None
        assert found.value == value


@given(st.text(), st.text())
def test_any_answer_has_a_score(answer: str, expected: str) -> None:
    """No scorer raises for what is in an answer, and each gives a value from 0 to 1."""
    for check in PLAIN:
        case = case_of(check, expected="x")
        case = case.model_copy(update={"turns": (case.turns[0].model_copy(update={"expected": expected or "x"}),)})
        scorer = build_scorer(case.checks[0])
        assert scorer is not None
        found = scorer.score(case, Answer(text=answer))
        assert found.state is ScoreState.SCORED
        assert found.value in (0.0, 1.0)


@given(st.text())
def test_any_reply_has_a_verdict_or_none(reply: str) -> None:
    """Whatever a judge says is one of the verdicts, or that it could not tell."""
    assert read_verdict(reply, ("yes", "no")).verdict in ("yes", "no", None)


@given(st.text(), st.sampled_from(["yes", "no"]), st.sampled_from(["", "```json\n", "Well: "]))
def test_reason_is_no_verdict(reason: str, verdict: str, before: str) -> None:
    """Whatever stands in the reason, the verdict is that of the object."""
    reply = f"{before}{json.dumps({'reason': reason, 'verdict': verdict})}"
    assert read_verdict(reply, ("yes", "no")).verdict == verdict


@given(st.text(), st.text(), st.text())
def test_texts_stay_within_their_marks(question: str, first: str, second: str) -> None:
    """No text has the mark between which it stands, and what the judge is shown is the text."""
    asked = ask_pairwise(question, first, second, criterion="", rubric=Rubric()).document
    said = asked["messages"][1]["content"]
    mark = asked["messages"][0]["content"].partition("lines that read ")[2].partition(".")[0]
    assert said.count(mark) == 6
    shown = [json.loads(line) for line in said.split("\n") if line.startswith('"')]
    assert shown == [text.encode("utf-8", "replace").decode() for text in (question, first, second)]
    assert mark_for(said) not in said


@given(st.sampled_from([FIRST, SECOND, TIE, None]), st.sampled_from([FIRST, SECOND, TIE, None]))
def test_swapping_answers_mirrors_the_value(first: str | None, swapped: str | None) -> None:
    """Whoever asks about the other answer first gets the mirrored value."""
    value, other = consistent(first, swapped), consistent(swapped, first)
    assert (value is None) == (other is None)
    if value is not None and other is not None:
        assert value + other == 1
