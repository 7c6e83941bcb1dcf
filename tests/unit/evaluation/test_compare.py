"""What two runs say of each other: Pass, Fail or Inconclusive."""

from collections.abc import Sequence
from math import nan

import pytest

from capstan_evaluation.records import Outcome, Verdict
from capstan_evaluation.statistics.compare import compare
from capstan_evaluation.statistics.pairing import Missing, PairedCase, Pairs, Repeats


def _pairs(worse: int, better: int, same: int, *, scorer: str = "exact", repeats: int = 1) -> Pairs:
    kinds = [(1.0, 0.0)] * worse + [(0.0, 1.0)] * better + [(1.0, 1.0)] * same
    cases = [PairedCase(f"c{index}", (old,) * repeats, (new,) * repeats) for index, (old, new) in enumerate(kinds)]
    return Pairs(scorer, True, tuple(cases))


def _with(pairs: Pairs, more: Sequence[PairedCase]) -> Pairs:
    return Pairs(pairs.scorer, pairs.binary, (*pairs.cases, *more))


def _lost(count: int, baseline: Repeats, candidate: Repeats) -> list[PairedCase]:
    return [PairedCase(f"lost{index}", baseline, candidate) for index in range(count)]


def _outcomes(verdict: Verdict) -> list[Outcome]:
    return [comparison.outcome for comparison in verdict.comparisons]


@pytest.mark.parametrize("repeats", [1, 2])
def test_as_many_worse_as_better_is_a_pass(repeats: int) -> None:
    """400 cases of which 20 became worse and 20 better are surely within a margin of 5 points."""
    verdict = compare([_pairs(20, 20, 360, repeats=repeats)])
    [found] = verdict.comparisons
    assert verdict.outcome is Outcome.PASS
    assert (found.cases, found.difference, found.pValue) == (400, 0.0, 1.0)
    assert -0.05 < found.low < 0 < found.high
    assert (len(found.regressions), len(found.improvements)) == (20, 20)


@pytest.mark.parametrize("repeats", [1, 2])
def test_more_worse_than_chance_is_a_failure(repeats: int) -> None:
    """30 cases worse and 10 better are a failure: so unequal a division has a probability of 0.2 %."""
    verdict = compare([_pairs(30, 10, 360, repeats=repeats)])
    [found] = verdict.comparisons
    assert verdict.outcome is Outcome.FAIL
    assert found.difference == pytest.approx(-0.05)
    assert found.pValue == pytest.approx(0.0022, abs=0.0006)
    assert found.low < -0.05 < found.high < 0


@pytest.mark.parametrize("repeats", [1, 2])
def test_too_few_cases_say_nothing(repeats: int) -> None:
    """Three cases that all became worse are no proof, and ten that are all the same neither."""
    for pairs in (_pairs(3, 0, 0, repeats=repeats), _pairs(0, 0, 10, repeats=repeats)):
        verdict = compare([pairs])
        assert verdict.outcome is Outcome.INCONCLUSIVE
        assert verdict.comparisons[0].note == "too few cases to say"
        assert verdict.comparisons[0].neededCases > len(pairs.cases)


def test_a_loss_within_the_margin_is_put_up_with() -> None:
    """A candidate that is surely worse, and surely by less than the margin, passes, and that is said."""
    pairs = _pairs(200, 100, 9700)
    [found] = compare([pairs], margin=0.05).comparisons
    assert found.pValue < 0.001
    assert (found.outcome, found.note) == (Outcome.PASS, "worse, by less than the margin")
    assert compare([pairs], margin=0.005).outcome is Outcome.FAIL


def test_without_a_margin_nothing_passes_that_is_not_better() -> None:
    """A margin of 0 asks for a better candidate; no number of cases shows that there is no loss at all."""
    [found] = compare([_pairs(0, 0, 1000)], margin=0.0).comparisons
    assert (found.outcome, found.neededCases) == (Outcome.INCONCLUSIVE, 0)
    assert compare([_pairs(5, 50, 345)], margin=0.0).outcome is Outcome.PASS


def test_nothing_in_common_is_inconclusive() -> None:
    """Without a scorer, without a case, or without one that both runs scored, there is nothing to say."""
    one_sided = Pairs("exact", True, tuple(_lost(50, (1.0,), (Missing.UNSCORED,))))
    assert compare([]).outcome is Outcome.INCONCLUSIVE
    for pairs in (Pairs("exact", True, ()), one_sided):
        verdict = compare([pairs])
        [found] = verdict.comparisons
        assert verdict.outcome is Outcome.INCONCLUSIVE
        assert (found.cases, found.low, found.high, found.detectable) == (0, -1.0, 1.0, 1.0)
        assert found.note == "no case has a score in both runs"


def test_a_candidate_that_does_not_answer_cannot_pass() -> None:
    """What the candidate did not answer and the baseline did counts as lost before a Pass is given."""
    same = _pairs(0, 0, 400)
    unanswered = _lost(30, (1.0,), (Missing.UNANSWERED,))
    [found] = compare([_with(same, unanswered)]).comparisons
    assert found.outcome is Outcome.INCONCLUSIVE
    assert (found.cases, found.missing, found.lost) == (400, 30, pytest.approx(30 / 430))
    assert "had it failed them" in found.note
    # 15 of 415 are less than the margin, and not surely so.
    assert compare([_with(same, _lost(15, (1.0,), (Missing.UNANSWERED,)))]).outcome is Outcome.INCONCLUSIVE
    assert compare([_with(same, _lost(2, (1.0,), ()))]).outcome is Outcome.PASS
    assert compare([_with(same, _lost(30, (1.0,), ()))]).outcome is Outcome.INCONCLUSIVE


def test_repeats_that_are_not_answered_count_as_lost_too() -> None:
    """A candidate that answers one time of three is not as good as one that answers each time."""
    partly = [
        PairedCase(str(index), (1.0, 1.0, 1.0), (1.0, Missing.UNANSWERED, Missing.UNANSWERED)) for index in range(400)
    ]
    [found] = compare([Pairs("exact", True, tuple(partly))]).comparisons
    assert (found.outcome, found.missing, found.lost) == (Outcome.INCONCLUSIVE, 0, pytest.approx(2 / 3))


def test_a_judge_that_cannot_tell_on_either_side_is_against_nobody() -> None:
    """What a scorer could not score counts as lost only where it is more for the candidate than for the baseline."""
    same = _pairs(0, 0, 400)
    old = [PairedCase(f"old{index}", (Missing.UNSCORED,), (1.0,)) for index in range(30)]
    new = [PairedCase(f"new{index}", (1.0,), (Missing.UNSCORED,)) for index in range(30)]
    both = compare([_with(same, old + new)])
    assert (both.outcome, both.comparisons[0].lost) == (Outcome.PASS, 0.0)
    assert compare([_with(same, new)]).outcome is Outcome.INCONCLUSIVE


def test_too_much_missing_is_no_pass_and_hides_no_failure() -> None:
    """With a fifth of the cases and more missing on both sides nothing passes; what fails by the rest still fails."""
    gone = _lost(120, (Missing.UNANSWERED,), (Missing.UNANSWERED,))
    [found] = compare([_with(_pairs(0, 0, 400), gone)]).comparisons
    assert (found.outcome, found.note) == (
        Outcome.INCONCLUSIVE,
        "120 of 520 cases have no score in one of the runs",
    )
    assert compare([_with(_pairs(60, 10, 330), gone)]).outcome is Outcome.FAIL


def test_a_score_that_is_no_number_is_missing() -> None:
    """NaN is left out and counted; it makes nothing else unknown."""
    [found] = compare([_with(_pairs(20, 20, 360), _lost(1, (nan,), (1.0,)))]).comparisons
    assert (found.outcome, found.cases, found.missing) == (Outcome.PASS, 400, 1)


def test_flaky_cases_are_named_and_stay_in_the_mean() -> None:
    """A case that contradicts itself on the baseline is no regression; it counts, since leaving it out would bias."""
    steady = [PairedCase(f"s{index}", (1.0, 1.0, 1.0), (1.0, 1.0, 1.0)) for index in range(100)]
    flaky = [PairedCase(f"f{index}", (1.0, 0.0, 1.0), (0.0, 0.0, 0.0)) for index in range(3)]
    broken = [PairedCase("b", (1.0, 1.0, 1.0), (1.0, 0.0, 1.0))]
    [found] = compare([Pairs("exact", True, (*steady, *flaky, *broken))]).comparisons
    assert found.flaky == ("f0", "f1", "f2")
    assert found.regressions == ("b",)
    assert found.difference == pytest.approx(-(3 * 2 / 3 + 1 / 3) / 104)


def test_scorers_that_may_not_gate_decide_nothing() -> None:
    """A judge that agrees with people too little says what it found, and neither fails nor passes anything."""
    bad, good = _pairs(60, 10, 330, scorer="judge:polite"), _pairs(20, 20, 360)
    verdict = compare([bad, good], informing={"judge:polite"})
    assert verdict.outcome is Outcome.PASS
    assert _outcomes(verdict) == [Outcome.FAIL, Outcome.PASS]
    assert [comparison.mayGate for comparison in verdict.comparisons] == [False, True]
    assert compare([bad, good]).outcome is Outcome.FAIL
    assert compare([good], informing={"exact"}).outcome is Outcome.INCONCLUSIVE


def test_one_scorer_of_which_nothing_is_known_prevents_a_pass() -> None:
    """A verdict passes when every scorer that may gate does."""
    assert compare([_pairs(20, 20, 360), _pairs(1, 1, 8, scorer="json")]).outcome is Outcome.INCONCLUSIVE


def test_several_scorers_are_adjusted_for() -> None:
    """A p-value of 4 % is no failure when it is one of three."""
    doubtful = _pairs(25, 12, 363)
    assert compare([doubtful]).outcome is Outcome.FAIL
    verdict = compare([doubtful, *(_pairs(20, 20, 360, scorer=name) for name in ("a", "b"))])
    assert verdict.outcome is not Outcome.FAIL
    assert verdict.comparisons[0].pValue == pytest.approx(3 * compare([doubtful]).comparisons[0].pValue)


def test_cases_of_one_source_are_not_independent() -> None:
    """Ten sources with ten cases each say as much as ten cases, when the cases of a source go together."""
    cases = [
        PairedCase(f"{source}-{index}", (1.0,), (0.0 if source < 3 else 1.0,), cluster=f"source{source}")
        for source in range(10)
        for index in range(10)
    ]
    alone = [PairedCase(one.case, one.baseline, one.candidate) for one in cases]
    [clustered] = compare([Pairs("exact", True, tuple(cases))]).comparisons
    [single] = compare([Pairs("exact", True, tuple(alone))]).comparisons
    assert (single.outcome, clustered.outcome) == (Outcome.FAIL, Outcome.INCONCLUSIVE)
    assert clustered.pValue == pytest.approx(0.25)
    assert clustered.neededCases > 5 * single.neededCases


def test_weights_count() -> None:
    """A case of weight 3 counts as much as three, in the means and in the difference."""
    cases = (PairedCase("a", (1.0,), (0.0,), weight=3.0), *_pairs(0, 0, 7).cases)
    [found] = compare([Pairs("exact", True, cases)]).comparisons
    assert (found.baseline, found.candidate, found.difference) == (1.0, pytest.approx(0.7), pytest.approx(-0.3))


def test_scores_between_are_compared_by_their_means() -> None:
    """Scores of a judge that fall in most cases are a failure, and are no regressions of single cases."""
    cases = [PairedCase(str(index), (0.8,), (0.8 - 0.02 * (index % 7),)) for index in range(200)]
    verdict = compare([Pairs("judge:polite", False, tuple(cases))], margin=0.01)
    [found] = verdict.comparisons
    assert (verdict.outcome, found.binary, found.regressions, found.flaky) == (Outcome.FAIL, False, (), ())
    assert found.low < found.difference < found.high < 0


@pytest.mark.parametrize("margin", [-0.1, 1.0, nan])
def test_a_margin_is_a_share(margin: float) -> None:
    """A margin that is none is refused, and the message says what is allowed."""
    with pytest.raises(ValueError, match="from 0 to less than 1"):
        compare([_pairs(1, 1, 1)], margin=margin)


def test_scores_and_weights_have_bounds() -> None:
    """A score beyond 0 and 1 and a weight of nothing are refused by the name of their case."""
    with pytest.raises(ValueError, match=r"case 'x': a score is from 0 to 1, not 1\.5"):
        PairedCase("x", (1.5,), (0.0,))
    with pytest.raises(ValueError, match="case 'x': a weight is above 0"):
        PairedCase("x", (1.0,), (0.0,), weight=0.0)


@pytest.mark.parametrize("margin", [0.0, 0.01])
def test_one_interval_below_the_margin_is_no_failure_among_many_scorers(margin: float) -> None:
    """An interval below -margin fails nothing that Holm takes for chance: of twenty scorers one has it by chance."""
    others = [_pairs(20, 20, 360, scorer=f"other{index}") for index in range(19)]
    verdict = compare([_pairs(25, 8, 367), *others], margin=margin)
    assert verdict.comparisons[0].pValue > 0.05
    assert verdict.comparisons[0].high < -margin
    assert verdict.comparisons[0].outcome is Outcome.INCONCLUSIVE
    assert compare([_pairs(25, 8, 367)], margin=margin).outcome is Outcome.FAIL


def test_better_is_never_a_failure() -> None:
    """A candidate that is better by more than chance does not fail, where the interval reaches below as well."""
    cases = [PairedCase(str(index), (0.7,), (0.7 + 0.01 * (index % 7),)) for index in range(60)]
    [found] = compare([Pairs("judge:polite", False, tuple(cases))], margin=0.0).comparisons
    assert found.pValue < 0.05
    assert found.low < 0 < found.difference
    assert found.outcome is Outcome.INCONCLUSIVE


def test_more_scorers_take_more_cases() -> None:
    """The number that is asked for reckons with the strictest of Holm's steps, for the scorers that may gate."""
    one = _pairs(20, 20, 360)
    [alone] = compare([one]).comparisons
    many = compare([one, *(_pairs(20, 20, 360, scorer=name) for name in ("a", "b", "c"))]).comparisons[0]
    assert many.neededCases > 1.2 * alone.neededCases
    assert many.detectable > alone.detectable
    assert compare([one, _pairs(1, 1, 1, scorer="a")], informing={"a"}).comparisons[0] == alone
