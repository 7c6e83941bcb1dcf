"""Which scores of two runs belong together."""

from collections.abc import Sequence

from capstan_evaluation.records import Answer, Outcome, Result, Run, RunHeader, Score, ScoreState
from capstan_evaluation.statistics.compare import compare_runs
from capstan_evaluation.statistics.pairing import EVEN, Missing, Pairs, pair_runs


def _run(*results: Result) -> Run:
    header = RunHeader(id="r", suite="s", suiteHash="h", target="m", cases=len(results), repeats=1)
    return Run(header=header, results=results)


def _result(
    case: str, *scores: Score, repeat: int = 0, request: str = "", error: str = "", cluster: str = ""
) -> Result:
    return Result(
        case=case, repeat=repeat, request=request or case, answer=Answer(error=error), scores=scores, cluster=cluster
    )


def _score(value: float | None, scorer: str = "exact", *, pairwise: bool = False) -> Score:
    state = ScoreState.COULD_NOT_TELL if value is None else ScoreState.SCORED
    return Score(scorer=scorer, value=value, state=state, pairwise=pairwise)


def _values(pairs: Pairs) -> Sequence[tuple[object, object]]:
    return [(case.baseline, case.candidate) for case in pairs.cases]


def test_scores_are_paired_by_scorer_and_case() -> None:
    """Each scorer has the cases that it scored, in the order of the suite, with what each run has of them."""
    old = _run(_result("a", _score(1.0), _score(0.5, "judge")), _result("b", _score(0.0)))
    new = _run(_result("a", _score(0.0), _score(1.0, "judge")), _result("b", _score(1.0)))
    exact, judge = pair_runs(old, new)
    assert (exact.scorer, _values(exact)) == ("exact", [((1.0,), (0.0,)), ((0.0,), (1.0,))])
    assert (judge.scorer, _values(judge)) == ("judge", [((0.5,), (1.0,))])


def test_repeats_are_kept_together() -> None:
    """All repeats of a case are one pair, and need not be as many on both sides."""
    old = _run(*(_result("a", _score(value), repeat=repeat) for repeat, value in enumerate((1.0, 0.0, 1.0))))
    [pairs] = pair_runs(old, _run(_result("a", _score(1.0))))
    assert _values(pairs) == [((1.0, 0.0, 1.0), (1.0,))]


def test_what_is_missing_says_why() -> None:
    """An answer that failed is another thing than a judge who could not tell, and a case may be in one run only."""
    old = _run(
        _result("a", _score(1.0)), _result("b", _score(1.0)), _result("c", _score(1.0)), _result("d", error="timeout")
    )
    new = _run(_result("a", error="timeout"), _result("b", _score(None)), _result("d", error="timeout"))
    [pairs] = pair_runs(old, new)
    assert _values(pairs) == [
        ((1.0,), (Missing.UNANSWERED,)),
        ((1.0,), (Missing.UNSCORED,)),
        ((1.0,), ()),
        ((Missing.UNANSWERED,), (Missing.UNANSWERED,)),
    ]


def test_a_scorer_of_some_cases_misses_no_others() -> None:
    """A scorer that a part of the cases has is asked about those alone."""
    old = _run(_result("a", _score(1.0), _score(1.0, "json")), _result("b", _score(1.0)), _result("c", error="timeout"))
    exact, json = pair_runs(old, old)
    assert [len(pairs.cases) for pairs in (exact, json)] == [3, 1]


def test_another_question_is_no_pair() -> None:
    """A case whose request changed between the runs is left out: its answers cannot be compared."""
    old = _run(_result("a", _score(1.0)), _result("b", _score(1.0)))
    new = _run(_result("a", _score(0.0), request="changed"), _result("b", _score(1.0)))
    [pairs] = pair_runs(old, new)
    assert [case.case for case in pairs.cases] == ["b"]


def test_a_pairwise_score_stands_against_even() -> None:
    """A judge who saw both answers has scored the difference; what it could not tell is missing on both sides."""
    old = _run(*(_result(case) for case in "abcd"))
    new = _run(
        _result("a", _score(1.0, pairwise=True)),
        _result("b", _score(None, pairwise=True)),
        _result("c", error="timeout"),
    )
    [pairs] = pair_runs(old, new)
    assert not pairs.binary
    assert _values(pairs) == [
        ((EVEN,), (1.0,)),
        ((Missing.UNSCORED,), (Missing.UNSCORED,)),
        ((EVEN,), (Missing.UNANSWERED,)),
        ((EVEN,), ()),
    ]
    # What the baseline answered and the candidate was not asked is lost; what neither answered is not.
    old = _run(*(_result(case) for case in "ab"), _result("c", error="timeout"))
    new = _run(_result("a", _score(1.0, pairwise=True)), _result("c", error="timeout"))
    [pairs] = pair_runs(old, new)
    assert _values(pairs) == [
        ((EVEN,), (1.0,)),
        ((EVEN,), ()),
        ((Missing.UNANSWERED,), (Missing.UNANSWERED,)),
    ]


def test_a_judge_that_prefers_the_baseline_fails_the_candidate() -> None:
    """When a pairwise judge prefers the baseline's answer in most cases, that is a failure."""
    old = _run(*(_result(str(index)) for index in range(60)))
    values = [0.0] * 40 + [0.5] * 10 + [1.0] * 10
    new = _run(*(_result(str(index), _score(value, pairwise=True)) for index, value in enumerate(values)))
    verdict = compare_runs(old, new)
    assert verdict.outcome is Outcome.FAIL
    assert verdict.comparisons[0].difference == -0.25
    assert compare_runs(old, new, informing={"exact"}).outcome is Outcome.INCONCLUSIVE


def test_two_runs_that_have_nothing_are_inconclusive() -> None:
    """Runs without results, and runs in which nothing was answered, say nothing."""
    dead = _run(_result("a", error="refused"))
    for old, new in ((_run(), _run()), (dead, dead)):
        verdict = compare_runs(old, new)
        assert (verdict.outcome, verdict.comparisons) == (Outcome.INCONCLUSIVE, ())
