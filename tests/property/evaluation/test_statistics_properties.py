"""Rules that comparisons keep to whatever the numbers are."""

from math import inf

from hypothesis import assume, given
from hypothesis import strategies as st

from capstan_evaluation.records import Outcome, Verdict
from capstan_evaluation.statistics.closed import always_valid, exact
from capstan_evaluation.statistics.closed.agreement import agreement
from capstan_evaluation.statistics.closed.always_valid import Bucket, Moments
from capstan_evaluation.statistics.closed.proportions import newcombe, wilson
from capstan_evaluation.statistics.closed.quantiles import quantile_ratio
from capstan_evaluation.statistics.compare import compare
from capstan_evaluation.statistics.holm import holm
from capstan_evaluation.statistics.mcnemar import tango
from capstan_evaluation.statistics.pairing import Missing, PairedCase, Pairs
from capstan_evaluation.statistics.resampling import Case, Differences

SHARES = st.integers(0, 400).flatmap(lambda count: st.tuples(st.integers(0, count), st.just(count)))
PASSES = st.sampled_from([0.0, 1.0])
SCORES = st.sampled_from([0.0, 0.25, 0.5, 0.75, 1.0])
MARGINS = st.sampled_from([0.0, 0.02, 0.05, 0.2])
BOUNDS = [0.01 * 1.1**index for index in range(60)]
HISTOGRAMS = st.dictionaries(st.integers(0, 60), st.integers(1, 400), min_size=1, max_size=8).map(
    lambda held: [held.get(index, 0) for index in range(61)]
)


@st.composite
def _cases(draw: st.DrawFn, scores: st.SearchStrategy[float] = PASSES, repeats: int = 1) -> list[PairedCase]:
    """Some cases that were drawn, each of them a number of times, so that there are enough to say something."""
    repeat = st.lists(scores | st.sampled_from(Missing), min_size=1, max_size=repeats).map(tuple)
    kinds = draw(
        st.lists(st.tuples(repeat, repeat, st.sampled_from(["", "x", "y"]) if repeats > 1 else st.just("")), max_size=6)
    )
    times = draw(st.lists(st.integers(1, 120), min_size=len(kinds), max_size=len(kinds)))
    return [
        PairedCase(f"{kind}-{index}", old, new, cluster and f"{cluster}{index % 30}")
        for kind, ((old, new, cluster), count) in enumerate(zip(kinds, times, strict=True))
        for index in range(count)
    ]


def _verdict(cases: list[PairedCase], margin: float, *, binary: bool = True) -> Verdict:
    return compare([Pairs("exact", binary, tuple(cases))], margin=margin)


@given(SHARES, st.floats(0.001, 0.5))
def test_the_interval_of_a_share_has_the_share(share: tuple[int, int], alpha: float) -> None:
    """Both intervals of a share lie within 0 and 1 and have what was seen; who may be wrong more often says more."""
    successes, count = share
    for interval, stricter in (
        (wilson(*share, alpha=alpha), wilson(*share, alpha=alpha / 2)),
        (exact.proportion(*share, alpha=alpha), exact.proportion(*share, alpha=alpha / 2)),
    ):
        assert 0 <= interval.low <= interval.high <= 1
        assert not count or interval.low - 1e-9 <= successes / count <= interval.high + 1e-9
        assert stricter.low <= interval.low + 1e-9
        assert interval.high <= stricter.high + 1e-9


@given(SHARES, SHARES)
def test_the_difference_of_shares_turns_round(first: tuple[int, int], second: tuple[int, int]) -> None:
    """Candidate minus baseline is the negative of baseline minus candidate, and the interval has what was seen."""
    for difference in (newcombe, exact.proportion_difference):
        there, back = difference(*first, *second), difference(*second, *first)
        assert abs(there.low + back.high) < 1e-6
        assert abs(there.high + back.low) < 1e-6
        if first[1] and second[1]:
            seen = second[0] / second[1] - first[0] / first[1]
            assert there.low - 1e-9 <= seen <= there.high + 1e-9


@given(st.lists(st.floats(0, 1), max_size=60), st.lists(st.floats(0, 1), max_size=60), st.sampled_from([None, 1.0]))
def test_the_difference_of_means_turns_round(first: list[float], second: list[float], span: float | None) -> None:
    """The same for means, and a ratio the other way round is one over it."""
    old, new = Moments.of(first * 4), Moments.of(second * 4)
    there = always_valid.mean_difference(old, new, span=span)
    back = always_valid.mean_difference(new, old, span=span)
    assert there.low == -back.high
    assert there.low <= new.mean - old.mean <= there.high
    ratio, inverse = always_valid.mean_ratio(old, new), always_valid.mean_ratio(new, old)
    if ratio.high < inf and inverse.high < inf and ratio.low > 0:
        assert abs(inverse.high * ratio.low - 1) < 1e-6


@given(st.lists(st.tuples(st.integers(0, 50), st.floats(0, 1)), max_size=40))
def test_the_order_of_buckets_does_not_matter(drawn: list[tuple[int, float]]) -> None:
    """Buckets of users are a set: their order changes nothing but what rounding does."""
    buckets = [Bucket(count, count * share) for count, share in drawn]
    turned = buckets[::-1]
    one, other = always_valid.clustered_mean(buckets, span=1.0), always_valid.clustered_mean(turned, span=1.0)
    assert one.low == other.low or abs(one.low - other.low) < 1e-9
    total = sum(bucket.count for bucket in buckets)
    assert not total or one.low <= sum(bucket.total for bucket in buckets) / total <= one.high


@given(HISTOGRAMS, HISTOGRAMS)
def test_the_ratio_of_quantiles_turns_round(first: list[int], second: list[int]) -> None:
    """The interval of a ratio of quantiles has what was seen, and is one over the one of the ratio the other way."""
    there, back = quantile_ratio(BOUNDS, first, second), quantile_ratio(BOUNDS, second, first)
    if there.ratio is not None:
        assert there.interval.low <= there.ratio * 1.02
        assert there.ratio <= there.interval.high * 1.02
    if there.interval.low > 0 and back.interval.high < inf:
        assert abs(there.interval.low * back.interval.high - 1) < 1e-6


@given(st.lists(st.lists(st.integers(0, 30), min_size=3, max_size=3), min_size=3, max_size=3))
def test_kappa_is_the_same_for_both_raters(table: list[list[int]]) -> None:
    """Kappa lies in its interval, that within -1 and 1, and it does not matter who is called the first."""
    found, turned = agreement(table), agreement(list(zip(*table, strict=True)))
    assert -1 <= found.interval.low <= found.kappa + 1e-9
    assert found.kappa - 1e-9 <= found.interval.high <= 1
    assert abs(found.kappa - turned.kappa) < 1e-9
    assert abs(found.interval.low - turned.interval.low) < 1e-6


@given(st.lists(st.floats(0, 1), max_size=8), st.data())
def test_holm_is_monotone(values: list[float], data: st.DataObject) -> None:
    """Adjusted p-values are in the order of the others and not below them, and grow when one of those grows."""
    adjusted = holm(values)
    assert all(value <= after <= 1 for value, after in zip(values, adjusted, strict=True))
    ranked = sorted(range(len(values)), key=values.__getitem__)
    assert [adjusted[index] for index in ranked] == sorted(adjusted)
    if values:
        index = data.draw(st.integers(0, len(values) - 1))
        raised = [*values]
        raised[index] = data.draw(st.floats(values[index], 1))
        assert all(before <= after for before, after in zip(adjusted, holm(raised), strict=True))


@given(st.integers(0, 60), st.integers(0, 60), st.integers(0, 300))
def test_the_interval_of_pairs_turns_round(worse: int, better: int, same: int) -> None:
    """With the models in each other's place the interval is its negative; it has what was seen."""
    count = worse + better + same
    there, back = tango(worse, better, count), tango(better, worse, count)
    assert abs(there.low + back.high) < 1e-9
    assert not count or there.low <= (better - worse) / count <= there.high
    assert -1 <= there.low <= there.high <= 1


@given(st.lists(st.tuples(st.floats(-1, 1), st.floats(0.1, 5)), min_size=1, max_size=30))
def test_the_bootstrap_has_the_mean_and_knows_no_order(drawn: list[tuple[float, float]]) -> None:
    """The interval has the mean, lies within -1 and 1, and does not depend on the order of clusters."""
    clusters = [[Case(difference, weight)] * (1 + index % 3) for index, (difference, weight) in enumerate(drawn)]
    found, turned = Differences(clusters), Differences(clusters[::-1])
    low, high = found.interval()
    assert max(low, -1) - 1e-9 <= found.mean <= min(high, 1) + 1e-9
    assert (found.interval(), found.p_value()) == (turned.interval(), turned.p_value())
    assert 0 < found.p_value() <= 1


@given(_cases(SCORES, repeats=3), MARGINS)
def test_the_order_of_cases_does_not_matter(cases: list[PairedCase], margin: float) -> None:
    """The same cases in another order give the same verdict, digit by digit, but for the order of their ids."""
    one, other = _verdict(cases, margin, binary=False), _verdict(cases[::-1], margin, binary=False)
    assert one.model_dump() == other.model_dump()


@given(_cases(), MARGINS, st.data())
def test_one_more_regression_never_makes_it_better(cases: list[PairedCase], margin: float, data: st.DataObject) -> None:
    """When a case that passed does not pass any more, a Fail stays one, and what did not pass does not pass."""
    passing = [index for index, case in enumerate(cases) if case.candidate == (1.0,)]
    assume(passing)
    changed = data.draw(st.sets(st.sampled_from(passing), min_size=1))
    worse = [
        PairedCase(case.case, case.baseline, (0.0,)) if index in changed else case for index, case in enumerate(cases)
    ]
    before, after = _verdict(cases, margin), _verdict(worse, margin)
    order = [Outcome.PASS, Outcome.INCONCLUSIVE, Outcome.FAIL]
    assert order.index(before.outcome) <= order.index(after.outcome)
    assert after.comparisons[0].low <= before.comparisons[0].low + 1e-9


@given(_cases(), MARGINS, st.data())
def test_an_answer_that_is_not_given_never_makes_a_pass(
    cases: list[PairedCase], margin: float, data: st.DataObject
) -> None:
    """When the candidate does not answer what it answered wrongly, that makes no Pass of what was none.

    A Pass of a candidate that does not answer would be one as well if each of those answers were wrong.
    """
    scored = [index for index, case in enumerate(cases) if not isinstance(case.candidate[0], Missing)]
    assume(scored)
    gone = data.draw(st.sets(st.sampled_from(scored), min_size=1))
    silent = [
        PairedCase(case.case, case.baseline, (Missing.UNANSWERED,)) if index in gone else case
        for index, case in enumerate(cases)
    ]
    wrong = [
        PairedCase(case.case, case.baseline, (0.0,)) if index in gone else case for index, case in enumerate(cases)
    ]
    if _verdict(silent, margin).outcome is Outcome.PASS:
        assert _verdict(wrong, margin).outcome is Outcome.PASS


@given(_cases(SCORES, repeats=3), MARGINS)
def test_the_models_in_each_others_place_give_the_negative(cases: list[PairedCase], margin: float) -> None:
    """The difference and its p-value are the same the other way round."""
    turned = [PairedCase(case.case, case.candidate, case.baseline, case.cluster) for case in cases]
    [one], [other] = (_verdict(held, margin, binary=False).comparisons for held in (cases, turned))
    assert abs(one.difference + other.difference) < 1e-9
    assert abs(one.pValue - other.pValue) < 0.03
    assert one.low - 1e-9 <= one.difference <= one.high + 1e-9
