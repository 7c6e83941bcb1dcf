"""Reports of a run for terminals, programs and CI."""

import json
from typing import Any
from xml.etree import ElementTree as Tree

import pytest
from hypothesis import given
from hypothesis import strategies as st

from capstan_evaluation.records import (
    Answer,
    Comparison,
    Outcome,
    Result,
    Run,
    RunHeader,
    Score,
    ScoreState,
    Stamp,
    Usage,
    Verdict,
)
from capstan_evaluation.reports.documents import render_json
from capstan_evaluation.reports.junit import render_junit
from capstan_evaluation.reports.summary import summarise
from capstan_evaluation.reports.table import cells, render_table
from capstan_operator.cli.eval_reports import complain, decide_code

HEADER = RunHeader(id="one", suite="sums", suiteHash="ab" * 32, target="llama", cases=2, repeats=1, began="2026-01-01")
JUDGE = Stamp(model="j", promptHash="p", rubric="1")


def result(case: str, *values: float | None, text: str = "4", repeat: int = 0, **fields: Any) -> Result:
    """A result scored by exact, and by a judge."""
    scores = [Score(scorer="exact", value=value, reason="not the same") for value in values[:1]]
    scores += [
        Score(scorer="judge", value=value, state=ScoreState.SCORED if value is not None else ScoreState.COULD_NOT_TELL,
              stamp=JUDGE) for value in values[1:]
    ]  # fmt: skip
    answer = Answer(text=text, seconds=1.5, firstTokenSeconds=0.5, usage=Usage(inputTokens=5, outputTokens=1))
    return Result(
        case=case, repeat=repeat, request="r", prompt="2 + 2?", expected="4", answer=answer, scores=tuple(scores)
    ).model_copy(update=fields)


def failed(case: str, code: str) -> Result:
    """A result without an answer."""
    return Result(case=case, request="r", answer=Answer(error=code))


def compared(outcome: Outcome, *regressions: str, gates: bool = True) -> Verdict:
    """A verdict of one scorer."""
    one = Comparison(
        scorer="exact", outcome=outcome, binary=True, cases=2, baseline=1, candidate=0.5, difference=-0.5, low=-0.9,
        high=-0.1, pValue=0.01, margin=0.05, regressions=regressions, flaky=("f",), detectable=0.2, neededCases=300,
        mayGate=gates, note="a note",
    )  # fmt: skip
    return Verdict(outcome=outcome, alpha=0.05, comparisons=(one,))


def test_a_case_is_one_however_often_it_was_asked() -> None:
    """Repeats are put together before cases are, by weight; what has no score is counted apart."""
    figures = summarise(
        Run(
            header=HEADER,
            results=(
                result("a", 1.0, 1.0),
                result("a", 0.0, None, repeat=1),
                result("b", 1.0, 0.0, weight=3.0),
                failed("c", "timeout"),
            ),
        )
    )
    exact, judge = figures.scorers
    assert (exact.mean, exact.cases, exact.low) == (0.875, 2, None)
    assert (judge.mean, judge.couldNotTell, judge.judged) == (0.25, 1, True)
    assert (figures.answers, figures.errors, figures.error_share) == (3, {"timeout": 1}, 0.25)


def test_a_share_has_its_interval() -> None:
    """Where each case passes or does not, Wilson's interval is told."""
    (exact,) = summarise(Run(header=HEADER, results=tuple(result(str(at), at % 2 * 1.0) for at in range(20)))).scorers
    assert (exact.mean, round(exact.low or 0, 3), round(exact.high or 0, 3)) == (0.5, 0.299, 0.701)


def test_no_name_speaks_to_the_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    """A run of somebody else may have escapes in every name: neither table nor complaint gives them to a terminal."""
    name = "\x1b]0;gone\x07\x1b[2J"
    verdict = compared(Outcome.FAIL, name)
    one = verdict.comparisons[0].model_copy(update={"scorer": name, "note": name, "flaky": (name,)})
    odd = result(name, 0.0).model_copy(update={"scores": (Score(scorer=name, value=0.0),)})
    run = Run(header=HEADER.model_copy(update={"suite": name, "target": name, "began": name}), results=(odd,))
    table = render_table(run, run, verdict.model_copy(update={"comparisons": (one,)}), width=80)
    assert complain(f"{name}\nsecond line") == 2
    for text in (table, capsys.readouterr().err):
        assert all(char.isprintable() or char == "\n" for char in text)


@given(st.text(), st.text(max_size=50), st.sampled_from([None, Outcome.FAIL, Outcome.PASS, Outcome.INCONCLUSIVE]))
def test_no_answer_breaks_a_report(text: str, case: str, outcome: Outcome | None) -> None:
    """Whatever a model says, control characters included, JSON and XML can be parsed, and no line is too wide."""
    run = Run(header=HEADER, results=(result(case, 0.0, text=text), failed(f"{case}x", "timeout")))
    verdict = None if outcome is None else compared(outcome, case)
    Tree.fromstring(render_junit(run, run, verdict))  # noqa: S314 - what we wrote
    assert json.loads(render_json(run, run, verdict))["results"][0]["case"] == case
    for width in (10, 40, 80, 200):
        table = render_table(run, run, verdict, width=width)
        assert all(cells(line) <= max(width, 40) for line in table.split("\n"))
        assert all(char.isprintable() or char == "\n" for char in table)


def test_junit_says_what_failed() -> None:
    """Without a baseline a case fails by a scorer that is no judge; without an answer it is an error."""
    run = Run(header=HEADER, results=(result("a", 0.0, 0.0), result("b", 1.0, 0.0), failed("c", "timeout")))
    tree = Tree.fromstring(render_junit(run, None, None))  # noqa: S314 - what we wrote
    suite = tree[0]
    assert (suite.get("tests"), suite.get("failures"), suite.get("errors"), suite.get("skipped")) == (
        "3",
        "1",
        "1",
        "0",
    )
    assert {test.get("name"): [one.tag for one in test] for test in suite.iter("testcase")} == {
        "a": ["failure"], "b": [], "c": ["error"],
    }  # fmt: skip
    told = suite.find("testcase/failure")
    assert told is not None
    assert "--- asked\n2 + 2?" in (told.text or "")


@pytest.mark.parametrize(
    ("outcome", "gates", "tags"),
    [
        (Outcome.FAIL, True, {"a": ["failure"], "exact": ["failure"]}),
        (Outcome.FAIL, False, {"a": [], "exact": ["skipped"]}),
        (Outcome.INCONCLUSIVE, True, {"a": ["failure"], "exact": ["skipped"]}),
        (Outcome.PASS, True, {"a": ["failure"], "exact": []}),
    ],
)
def test_junit_says_what_a_comparison_does(outcome: Outcome, gates: bool, tags: dict[str, list[str]]) -> None:
    """A case fails that is a regression of a scorer that gates; a comparison is a test case of its own."""
    run = Run(header=HEADER, results=(result("a", 0.0),))
    tree = Tree.fromstring(render_junit(run, run, compared(outcome, "a", gates=gates)))  # noqa: S314 - what we wrote
    assert {test.get("name"): [one.tag for one in test] for test in tree.iter("testcase")} == tags


def test_the_table_says_what_the_run_could_have_seen() -> None:
    """Beside the verdict stand the regressions, what is flaky, and how many cases the margin takes."""
    run = Run(header=HEADER, results=(result("a", 0.0),))
    table = render_table(run, run, compared(Outcome.FAIL, "a"), width=100)
    for told in ("Verdict: Fail", "worse: a", "flaky: f", "a drop of 20.0%", "takes 300 cases", "a note", "sums (ab"):
        assert told in table


@pytest.mark.parametrize(
    ("errors", "verdict", "least", "code"),
    [
        (0, None, None, 0),
        (0, None, 0.9, 1),
        (0, None, 0.5, 0),
        (0, compared(Outcome.PASS), None, 0),
        (0, compared(Outcome.FAIL), None, 1),
        (0, compared(Outcome.INCONCLUSIVE), None, 3),
        (9, compared(Outcome.PASS), None, 4),
        (9, None, None, 4),
    ],
)
def test_the_exit_code(errors: int, verdict: Verdict | None, least: float | None, code: int) -> None:
    """Too many asks without an answer come before every verdict, as they say nothing of the model's quality."""
    results = [result("a", 1.0, 0.0), result("b", 0.5), *(failed(str(at), "timeout") for at in range(errors))]
    run = Run(header=HEADER, results=tuple(results))
    assert decide_code(run, verdict, most_errors=0.05, least_score=least) == code


def test_a_run_without_scores_is_below_every_bar() -> None:
    """--min-score of a suite that scores nothing, or of nothing but a judge's scores, is not reached."""
    run = Run(header=HEADER, results=(result("a"),))
    assert decide_code(run, None, most_errors=0.05, least_score=0.0) == 1
    assert decide_code(run, None, most_errors=0.05, least_score=None) == 0
