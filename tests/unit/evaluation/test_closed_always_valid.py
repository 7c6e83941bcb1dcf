"""Intervals that hold however often somebody looks."""

from math import inf, log, sqrt

import pytest

from capstan_evaluation.statistics.closed import always_valid, exact
from capstan_evaluation.statistics.closed.always_valid import Bucket, Moments, boundary
from capstan_evaluation.statistics.closed.quantiles import quantile, quantile_ratio

BOUNDS = [0.001 * 2 ** (index / 8) for index in range(161)]


def test_the_boundary_is_that_of_the_theorem() -> None:
    """With a known variance the boundary is sqrt((1 + 1/u) log((1 + u) / alpha^2)), u = rho^2 n."""
    u = (-2 * log(0.05) + log(1 - 2 * log(0.05))) * 500 / 1000
    assert boundary(500, alpha=0.05, tuned=1000) == pytest.approx(sqrt((1 + 1 / u) * log((1 + u) / 0.0025)))


def test_a_variance_known_from_few_observations_widens() -> None:
    """With fewer degrees of freedom the boundary lies further out, and with very few it says nothing."""
    reaches = [boundary(1000, alpha=0.05, tuned=1000, freedom=freedom) for freedom in (1, 5, 30, 127, 10_000)]
    assert reaches[0] == inf
    assert reaches == sorted(reaches, reverse=True)
    assert reaches[-1] == pytest.approx(boundary(1000, alpha=0.05, tuned=1000), rel=1e-3)


@pytest.mark.parametrize("span", [None, 1.0])
def test_nothing_is_said_of_nothing(span: float | None) -> None:
    """Without observations, or with one, the interval is infinite."""
    for values in (Moments(), Moments.of([1.0])):
        assert always_valid.mean(values, span=span) == (-inf, inf)
        assert always_valid.mean_difference(Moments.of([0.5] * 400), values, span=span) == (-inf, inf)
        assert always_valid.mean_ratio(Moments.of([0.5] * 400), values) == (0.0, inf)


def test_values_that_were_all_alike_leave_something_open() -> None:
    """400 scores of 1 do not prove that every score is 1: what is rare may not have been seen."""
    low, high = always_valid.mean(Moments.of([1.0] * 400), span=1.0)
    assert low < 0.99
    assert high > 1.0


def test_a_difference_is_found_and_has_its_sign() -> None:
    """Differences are candidate minus baseline."""
    old, new = Moments.of([0.9, 0.7] * 500), Moments.of([0.5, 0.3] * 500)
    low, high = always_valid.mean_difference(old, new, span=1.0)
    assert low < -0.4 < high < 0
    assert always_valid.mean_difference(old, new, factor=0.4, span=1.0).low > 0


def test_a_ratio_is_what_differences_do_not_rule_out() -> None:
    """A multiple is in the interval of the ratio when 0 is in the interval of the difference with that factor."""
    old, new = Moments.of([1.0, 2.0, 4.0] * 300), Moments.of([1.5, 3.0, 5.0] * 300)
    low, high = always_valid.mean_ratio(old, new)
    assert low < 9.5 / 7 < high
    for factor, ruled_out in ((low * 0.99, True), (low * 1.01, False), (high * 0.99, False), (high * 1.01, True)):
        seen = always_valid.mean_difference(old, new, factor=factor)
        assert (seen.low > 0 or seen.high < 0) == ruled_out


def test_the_ratio_to_nothing_is_unknown() -> None:
    """When the baseline's mean may be 0, no multiple of it is too large."""
    assert always_valid.mean_ratio(Moments.of([0.0] * 100), Moments.of([1.0, 2.0] * 50)) == (0.0, inf)


def test_users_who_ask_often_do_not_count_as_many() -> None:
    """The same shares say less when each user always fails or never does: the variance is that between buckets."""
    alike = [Bucket(100, 100 * (index % 2)) for index in range(40)]
    mixed = [Bucket(100, 50 + index % 3) for index in range(40)]
    one, other = (always_valid.clustered_mean(buckets, span=1.0) for buckets in (alike, mixed))
    assert one.width > 5 * other.width
    assert always_valid.clustered_difference(alike, mixed, span=1.0).width > one.width
    assert always_valid.clustered_mean([Bucket(100, 3), Bucket(0, 0)], span=1.0) == (-inf, inf)


def test_buckets_of_one_size_are_as_their_means() -> None:
    """With as many requests in each bucket the error is that of the mean of the buckets' means."""
    buckets = [Bucket(10, total) for total in (4, 6, 7, 5, 8, 3, 6, 7) * 5]
    spread = sqrt(sum((bucket.total / 10 - 0.575) ** 2 for bucket in buckets) / 39 / 40)
    reach = boundary(400, alpha=0.05, tuned=1000, freedom=39)
    found = always_valid.clustered_mean(buckets)
    assert found == pytest.approx((0.575 - reach * spread, 0.575 + reach * spread))


def test_the_ratio_of_clustered_means_is_known_as_well() -> None:
    """Costs of users in buckets give an interval of their ratio."""
    old = [Bucket(50, 50 * (1 + index % 2)) for index in range(40)]
    new = [Bucket(50, 100 * (1 + index % 2)) for index in range(40)]
    low, high = always_valid.clustered_ratio(old, new)
    assert 1.3 < low < 2 < high < 3


def test_moments_are_of_numbers() -> None:
    """A sum that is no number is refused before it makes an interval of nothing."""
    for broken in ((-1, 0.0, 0.0), (1, float("nan"), 0.0), (1, 0.0, inf), (1, 0.0, -1.0)):
        with pytest.raises(ValueError, match="moments are finite"):
            Moments(*broken)


def test_what_could_not_be_tuned_is_refused() -> None:
    """An interval is tuned to a number of observations."""
    with pytest.raises(ValueError, match="tuned"):
        always_valid.mean(Moments.of([1.0, 0.0] * 100), tuned=0)
    with pytest.raises(ValueError, match="tuned"):
        exact.proportion(1, 2, tuned=0)


def test_an_exact_interval_of_shares_has_what_was_bet_on() -> None:
    """Shares that are not in the interval are bet down by 1 / alpha, and those within are not."""
    low, high = exact.proportion(30, 1000)
    assert low < 0.03 < high
    assert 0.01 < low < 0.02 < 0.04 < high < 0.06
    assert exact.proportion(0, 1000).high == pytest.approx(0.0041, abs=1e-4)
    assert exact.proportion(0, 0) == (0.0, 1.0)


def test_a_broken_candidate_is_found_at_once() -> None:
    """Twenty failures of twenty beside none of a thousand need no twenty-first."""
    assert exact.proportion_difference(0, 1000, 20, 20).low > 0.2
    assert exact.proportion_difference(0, 1000, 0, 0) == (-1.0, 1.0)
    low, high = exact.proportion_difference(10, 1000, 10, 1000)
    assert low == pytest.approx(-high)
    assert low < 0 < high


def test_one_difference_is_ruled_out_where_the_interval_ends() -> None:
    """To ask for one difference gives what the interval says, and a difference of more than 1 cannot be."""
    counts = (30, 1000, 70, 900)
    low, high = exact.proportion_difference(*counts)
    asked = {low - 1e-4: True, low + 1e-4: False, high - 1e-4: False, high + 1e-4: True, 1.5: True, -1.5: True}
    assert {difference: exact.rules_out(difference, *counts) for difference in asked} == asked


def _counts(values: dict[int, int]) -> list[int]:
    return [values.get(index, 0) for index in range(len(BOUNDS) + 1)]


def test_a_quantile_lies_in_its_bucket() -> None:
    """The quantile is between the bounds of the bucket that has it; beyond the last bound it is not known."""
    counts = _counts({40: 90, 60: 10})
    found = quantile(BOUNDS, counts)
    assert found is not None
    assert BOUNDS[59] < found < BOUNDS[60]
    assert quantile(BOUNDS, _counts({})) is None
    assert quantile(BOUNDS, _counts({40: 10, 161: 10})) is None


def test_a_slower_candidate_is_seen_to_be_slower() -> None:
    """A candidate that takes twice as long has an interval around 2, and an equal one an interval around 1."""
    spread = {40 + index: 100 - 10 * index for index in range(10)}
    slow = {index + 8: count for index, count in spread.items()}
    equal = quantile_ratio(BOUNDS, _counts(spread), _counts(spread))
    slower = quantile_ratio(BOUNDS, _counts(spread), _counts(slow))
    assert equal.ratio == pytest.approx(1.0)
    assert equal.interval.low < 1 < equal.interval.high < 1.5
    assert slower.ratio == pytest.approx(2.0)
    assert 1.5 < slower.interval.low < 2 < slower.interval.high < 3
    faster = quantile_ratio(BOUNDS, _counts(slow), _counts(spread)).interval
    assert faster.low == pytest.approx(1 / slower.interval.high)
    assert faster.high == pytest.approx(1 / slower.interval.low)


def test_few_requests_say_nothing_of_a_percentile() -> None:
    """Thirty requests that are all slower do not settle what one in twenty takes at most."""
    found = quantile_ratio(BOUNDS, _counts({40: 30}), _counts({40: 30}))
    assert found.interval.high == inf
    assert quantile_ratio(BOUNDS, _counts({}), _counts({40: 30})).interval == (0.0, inf)


def test_alike_neighbours_say_less() -> None:
    """With a design effect of 4 the interval is that of a quarter of the requests."""
    counts, quarter = _counts({40: 800, 44: 80}), _counts({40: 200, 44: 20})
    assert quantile_ratio(BOUNDS, counts, counts, design_effect=4).interval == pytest.approx(
        quantile_ratio(BOUNDS, quarter, quarter).interval
    )


def test_what_lies_beyond_the_last_bound_proves_nothing() -> None:
    """Values above all bounds may be anywhere there: the ratio has no upper end."""
    assert quantile_ratio(BOUNDS, _counts({40: 500}), _counts({40: 400, 161: 100})).interval.high == inf


def test_histograms_have_to_fit() -> None:
    """Counts that do not fit the bounds, and bounds that do not rise, are refused."""
    for bounds, counts in ((BOUNDS, [1]), ([2.0, 1.0], [0, 0, 0]), ([0.0, 1.0], [0, 0, 0]), ([1.0, 2.0], [1, -1, 0])):
        with pytest.raises(ValueError):
            quantile(bounds, counts)
    with pytest.raises(ValueError, match="design effect"):
        quantile_ratio(BOUNDS, _counts({}), _counts({}), design_effect=0.5)
    with pytest.raises(ValueError, match="quantile"):
        quantile_ratio(BOUNDS, _counts({}), _counts({}), at=1.0)
