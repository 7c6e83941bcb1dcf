"""Thresholds by what was wrong: they only rise, and never fall below the one that was measured for all."""

from hypothesis import given
from hypothesis import strategies as st

from capstan_gateway.caches.semantic.evidence import (
    LEAST_SAMPLES,
    LEAST_WRONG,
    Near,
    Places,
    is_off,
    least_of,
    rate_of,
    with_hit,
)

SHARES = st.floats(0.0, 1.0, allow_nan=False)
BUDGETS = st.floats(0.0001, 0.2)
HITS = st.lists(st.tuples(SHARES, st.booleans(), st.booleans()), max_size=30)


def near_of(hits: list[tuple[float, bool, bool]]) -> Near:
    """Give what is known after these hits."""
    near = Near()
    for similarity, wrong, reported in hits:
        near = with_hit(near, similarity, wrong=wrong, reported=reported and wrong)
    return near


@given(HITS, SHARES, BUDGETS)
def test_no_evidence_loosens(hits: list[tuple[float, bool, bool]], calibrated: float, budget: float) -> None:
    """Whatever was seen, the threshold of an entry is at least the calibrated one, and above every wrong hit."""
    least = least_of(near_of(hits), calibrated, budget)
    assert least >= calibrated
    assert all(least > similarity for similarity, wrong, _ in hits if wrong)
    if not any(wrong for _, wrong, _ in hits):
        assert least == calibrated


@given(HITS, SHARES, SHARES, st.booleans(), BUDGETS)
def test_a_wrong_hit_never_lowers_a_threshold(
    hits: list[tuple[float, bool, bool]], similarity: float, calibrated: float, reported: bool, budget: float
) -> None:
    """One more wrong hit asks for as much likeness as before, or more; so does a higher calibrated threshold."""
    before = near_of(hits)
    after = with_hit(before, similarity, wrong=True, reported=reported)
    assert least_of(after, calibrated, budget) >= least_of(before, calibrated, budget)
    assert least_of(before, min(calibrated + 0.1, 1.0), budget) >= least_of(before, calibrated, budget)


@given(st.integers(0, 5000), st.data(), BUDGETS)
def test_a_tier_is_off_only_when_even_the_lower_bound_is_too_much(
    sampled: int, data: st.DataObject, budget: float
) -> None:
    """Off means that the lower bound is above the budget, with enough of both; one more wrong one never turns it on."""
    wrong = data.draw(st.integers(0, sampled))
    rate = rate_of(sampled, wrong)
    assert 0.0 <= rate.low <= rate.mid <= rate.high <= 1.0 or not sampled
    off = is_off(sampled, wrong, budget)
    assert off == (sampled >= LEAST_SAMPLES and wrong >= LEAST_WRONG and rate.low > budget)
    if off:
        assert is_off(sampled + 1, wrong + 1, budget)


@given(st.lists(st.tuples(st.integers(0, 9), SHARES, st.booleans()), max_size=60), st.integers(1, 4))
def test_what_is_known_of_entries_is_bounded(notes: list[tuple[int, float, bool]], most: int) -> None:
    """No more entries are known than may be, and what was noted last is."""
    places = Places(most=most)
    for number, similarity, wrong in notes:
        places.note((str(number),), similarity, wrong=wrong)
        assert len(places) <= most
        if wrong:
            assert places.least(str(number), 0.0, 0.01) > similarity
