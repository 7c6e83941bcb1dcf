"""How often something may go wrong."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import beta

from capstan_contract.gates import Outcome
from capstan_evaluation.gating.bars import bounds, decide_bar, needed_cases


@given(st.integers(1, 400), st.data(), st.sampled_from([0.01, 0.05, 0.2]))
def test_bounds_are_those_of_clopper_and_pearson(cases: int, data: st.DataObject, alpha: float) -> None:
    """Each bound is the quantile of the beta distribution that the literature has."""
    failures = data.draw(st.integers(0, cases))
    low, high = bounds(failures, cases, alpha)
    assert low == pytest.approx(beta.ppf(alpha, failures, cases - failures + 1) if failures else 0.0, abs=1e-9)
    assert high == pytest.approx(
        beta.ppf(1 - alpha, failures + 1, cases - failures) if failures < cases else 1.0, abs=1e-9
    )


def test_no_failure_says_three_in_n() -> None:
    """Without a failure among n the share is below about 3 / n, and no less."""
    assert bounds(0, 300, 0.05)[1] == pytest.approx(3 / 300, rel=0.01)
    assert needed_cases(0.01, 0.05) == 299
    assert decide_bar((), 299, 0.01).outcome is Outcome.PASS
    assert decide_bar((), 298, 0.01).outcome is Outcome.INCONCLUSIVE


@pytest.mark.parametrize(
    ("failed", "cases", "outcome"),
    [(0, 59, Outcome.PASS), (0, 58, Outcome.INCONCLUSIVE), (3, 30, Outcome.INCONCLUSIVE), (6, 30, Outcome.FAIL)],
)
def test_a_bar_has_three_outcomes(failed: int, cases: int, outcome: Outcome) -> None:
    """Surely below it, surely above it, and neither."""
    bar = decide_bar([str(at) for at in range(failed)], cases, 0.05)
    assert (bar.outcome, bar.failures, len(bar.failed)) == (outcome, failed, min(5, failed))


def test_what_was_not_answered_is_no_proof() -> None:
    """Unanswered cases cannot make a Pass, and make no Fail."""
    assert decide_bar((), 60, 0.05, unanswered=1).outcome is Outcome.INCONCLUSIVE
    assert decide_bar((), 0, 0.05, unanswered=60).outcome is Outcome.INCONCLUSIVE


@given(st.integers(0, 50), st.integers(0, 50), st.integers(0, 20), st.floats(0.001, 0.5))
def test_more_failures_never_help(failed: int, fine: int, unanswered: int, bar: float) -> None:
    """Of the same cases, one more that went wrong never makes the outcome better."""
    order = [Outcome.FAIL, Outcome.INCONCLUSIVE, Outcome.PASS]
    cases = failed + fine + 1
    before = decide_bar([str(at) for at in range(failed)], cases, bar, unanswered=unanswered)
    after = decide_bar([str(at) for at in range(failed + 1)], cases, bar, unanswered=unanswered)
    assert order.index(after.outcome) <= order.index(before.outcome)
