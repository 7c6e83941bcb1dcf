"""What is said of a judge beside people, from verdicts."""

import pytest

from capstan_evaluation.errors import CheckInvalid
from capstan_evaluation.judges.check import (
    JudgeCheck,
    Judged,
    check_judge,
    correlation,
    informing_scorers,
    read_check,
    report,
)
from capstan_evaluation.judges.labels import Pair
from capstan_evaluation.judges.prompts import FIRST, SECOND, TIE
from capstan_evaluation.suites.suite import Rubric, Suite
from support.evaluation import case_of

SHORT, LONG = "a", "a" * 9


def judged(label: int, first: str | None, swapped: str | None, *, longer: int = 1) -> Judged:
    """A pair whose longer answer is the first or the second one."""
    pair = Pair("q", LONG if longer == 1 else SHORT, SHORT if longer == 1 else LONG, label)
    return Judged(pair, first, swapped)


def checked(rows: list[Judged], minimum: float = 0.6) -> JudgeCheck:
    """The check of one file."""
    return check_judge([("a", rows)], model="j", prompt_hash="h", rubric="1", criterion="", minimum_kappa=minimum)


RIGHT = [judged(1, FIRST, SECOND), judged(2, SECOND, FIRST)]
WRONG = [judged(1, SECOND, FIRST), judged(2, FIRST, SECOND)]


def test_agreement_and_kappa() -> None:
    """Kappa is agreement beyond chance, of the pairs that were decided."""
    found = report("a", RIGHT * 30 + WRONG * 10 + [judged(1, FIRST, FIRST)] * 20)
    assert (found.agreement.hits, found.agreement.of) == (60, 80)
    assert found.kappa == pytest.approx(0.5)
    assert found.kappaLow < 0.5 < found.kappaHigh
    assert (found.couldNotTell.hits, found.contradicted) == (20, 20)


def test_ties_of_people_and_judges() -> None:
    """Where people see no difference, a judge agrees that sees none in both orders."""
    found = report("a", [judged(0, TIE, TIE), judged(0, FIRST, SECOND), judged(1, TIE, TIE), judged(1, TIE, None)])
    assert (found.agreement.hits, found.agreement.of, found.couldNotTell.hits, found.contradicted) == (1, 3, 1, 0)
    assert found.length.judge.of == 0


def test_position_bias_of_few() -> None:
    """Five contradictions in one direction may be chance; a sixth is not, as the exact test says."""
    rows = RIGHT * 50
    assert not report("a", [*rows, *[judged(1, FIRST, FIRST)] * 5]).position.bias.found
    found = report("a", [*rows, *[judged(1, FIRST, FIRST)] * 6]).position
    assert (found.bias.found, found.first, found.second) == (True, 6, 0)
    assert found.share == pytest.approx(0.5 + found.bias.value)
    assert report("a", [*rows, *[judged(1, FIRST, FIRST)] * 6, *[judged(1, SECOND, SECOND)] * 4]).position.second == 4


def test_length_bias() -> None:
    """A judge that errs towards length only likes it more than people do; one that errs both ways does not."""
    towards = [judged(2, FIRST, SECOND, longer=1)] * 10
    away = [judged(1, SECOND, FIRST, longer=1)] * 10
    found = report("a", RIGHT * 30 + towards).length
    assert (found.bias.found, found.bias.value) == (True, pytest.approx(10 / 70))
    assert (found.judge.hits, found.people.hits, found.judge.of) == (40, 30, 70)
    assert found.agreementWherePeopleLikeLonger.share == 1.0
    assert not report("a", RIGHT * 30 + towards + away).length.bias.found


def test_failures_are_in_no_number() -> None:
    """A pair that the judge did not answer is counted, and is in no share."""
    found = report("a", [*RIGHT, Judged(Pair("q", "a", "b", 1), failed=True)])
    assert (found.pairs, found.failed, found.couldNotTell.of, found.agreement.of) == (3, 1, 2, 2)


@pytest.mark.parametrize(
    ("rows", "minimum", "reason"),
    [
        (RIGHT * 60, 0.6, "kappa is 1.00, at least 0.6"),
        (RIGHT * 45, 0.6, "it decided 90 pairs; at least 100 are needed"),
        (RIGHT * 60 + WRONG * 20, 0.6, "kappa is 0.50, less than 0.6"),
        (RIGHT * 60 + WRONG * 20, 0.5, "kappa is 0.50, at least 0.5"),
        (RIGHT * 60 + [judged(1, FIRST, FIRST)] * 130, 0.6, "it could not tell of 52% of the pairs"),
        ([], 0.6, "it decided 0 pairs; at least 100 are needed"),
    ],
)
def test_who_may_gate(rows: list[Judged], minimum: float, reason: str) -> None:
    """A judge may gate with enough pairs that it decided, most of them, and enough agreement beyond chance."""
    found = checked(rows, minimum)
    assert found.reason == reason
    assert found.mayGate is (", at least" in reason)


def test_scorers_that_inform() -> None:
    """Scores of a judge gate only where a check of that judge, with the suite's rubric, has the suite's kappa."""
    case = case_of({"type": "Judge", "criterion": "x"}, {"type": "Pairwise"}, {"type": "Refusal"})
    suite = Suite(name="s", cases=(case,), rubric=Rubric(version="1"), minimumKappa=0.6)
    good = checked(RIGHT * 60)
    assert informing_scorers(suite, judge="j", check=good) == {}
    for judge, found, wanted in [
        ("j", None, suite),
        ("other", good, suite),
        ("j", good, suite.model_copy(update={"rubric": Rubric(version="2")})),
        ("j", checked(RIGHT * 60 + WRONG * 20, 0.1), suite),
    ]:
        told = informing_scorers(wanted, judge=judge, check=found)
        assert list(told) == ["judge:x", "pairwise"]
        assert all(reason.startswith("the judge may inform, and not gate: ") for reason in told.values())


def test_file_of_a_check() -> None:
    """A check is read as it was written; another file, and one of another release, is told as such."""
    found = checked(RIGHT * 60)
    assert read_check(found.model_dump_json(), "c.json") == found
    with pytest.raises(CheckInvalid, match="is no file of"):
        read_check("{}", "c.json")
    with pytest.raises(CheckInvalid, match="is of version 2"):
        read_check(found.model_copy(update={"version": 2}).model_dump_json(), "c.json")


def test_correlation() -> None:
    """Pearson's: 1 and -1 on a line, none where nothing changes."""
    assert correlation([1, 2, 3], [2, 4, 6]) == pytest.approx(1)
    assert correlation([1, 2, 3], [3, 2, 1]) == pytest.approx(-1)
    assert correlation([1, 1], [1, 2]) is None
    assert correlation([], []) is None
