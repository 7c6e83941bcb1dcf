"""The tests and intervals below a comparison, against numbers that others give."""

from math import sqrt

import numpy as np
import pytest
from scipy.stats import binom

from capstan_evaluation.statistics.holm import holm
from capstan_evaluation.statistics.mcnemar import mcnemar, tango
from capstan_evaluation.statistics.power import (
    detectable_binary,
    detectable_scores,
    likely_discordance,
    likely_variance,
    mcnemar_power,
    needed_binary,
    needed_scores,
    normal_needed,
)
from capstan_evaluation.statistics.resampling import Case, Differences


def test_holm_gives_the_textbook_numbers() -> None:
    """Each p-value is multiplied by how many are not smaller, and none falls below a smaller one."""
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.9, 0.9]) == [1.0, 1.0]
    assert holm([]) == []


def test_mcnemar_is_the_binomial_test_of_discordant_pairs() -> None:
    """With 15 of 20 discordant pairs worse, the two-sided exact p-value is 4.14 %."""
    assert mcnemar(15, 5) == pytest.approx(0.04139, abs=1e-5)
    assert mcnemar(15, 5) == pytest.approx(2 * binom.sf(14, 20, 0.5))
    assert mcnemar(0, 0) == mcnemar(7, 7) == 1.0


@pytest.mark.parametrize(("worse", "better", "count"), [(12, 2, 50), (0, 8, 30), (5, 5, 20), (1, 0, 400), (40, 9, 49)])
def test_tango_ends_where_the_score_test_does(worse: int, better: int, count: int) -> None:
    """At each end the score test with the most likely discordance, found by trying all, is just significant."""
    for end in tango(worse, better, count):
        if abs(end) > 1 - 1e-9:
            continue
        # Shares of `worse` that are possible with this difference; those of `better` follow.
        share = np.linspace(max(0.0, -end), (1 - end) / 2, 400_001)[1:-1]
        likelihood = (count - worse - better) * np.log1p(-(2 * share + end))
        likelihood += worse * np.log(share) + better * np.log(share + end)
        likely = share[np.argmax(likelihood)]
        away = abs(better - worse - count * end) / sqrt(count * (2 * likely + end * (1 - end)))
        assert away == pytest.approx(1.96, abs=0.01)


def test_tango_has_a_width_when_no_pair_differs() -> None:
    """Without a discordant pair the interval is z^2 / (n + z^2) to each side; without any pair it is everything."""
    width = 1.959964**2 / (400 + 1.959964**2)
    assert tango(0, 0, 400) == pytest.approx((-width, width), abs=1e-6)
    assert tango(0, 0, 0) == (-1.0, 1.0)
    with pytest.raises(ValueError, match="discordant"):
        tango(2, 2, 3)


@pytest.mark.parametrize(
    ("discordance", "needed"),
    [(0.05, (155, 434, 979, 3922)), (0.10, (312, 870, 1960, 7847)), (0.20, (626, 1742, 3922, 15696))],
)
def test_the_number_of_cases_is_the_published_one(discordance: float, needed: tuple[int, ...]) -> None:
    """To see a drop of 5, 3, 2 and 1 points with 80 % power takes as many pairs as tables of the normal formula say."""
    found = [normal_needed(drop, discordance) for drop in (0.05, 0.03, 0.02, 0.01)]
    assert found == pytest.approx(needed, abs=1)


@pytest.mark.parametrize(("drop", "discordance"), [(0.05, 0.05), (0.05, 0.1), (0.03, 0.1), (0.1, 0.3), (0.02, 0.2)])
def test_the_exact_test_has_the_power_at_the_number_that_is_asked_for(drop: float, discordance: float) -> None:
    """The exact test needs some more pairs than the normal one, and has 80 % with them, by simulation as well."""
    needed = needed_binary(drop, discordance)
    assert normal_needed(drop, discordance) <= needed < 1.15 * normal_needed(drop, discordance)
    assert 0.8 <= mcnemar_power(needed, drop, discordance) < 0.82
    random = np.random.default_rng(1)
    shares = [(discordance + drop) / 2, (discordance - drop) / 2, 1 - discordance]
    drawn = random.multinomial(needed, shares, size=2000)
    found = np.mean([mcnemar(int(worse), int(better)) <= 0.05 and worse > better for worse, better, _ in drawn])
    assert found == pytest.approx(0.8, abs=0.04)


def test_what_can_be_seen_is_what_would_be_asked_for() -> None:
    """With the number of cases that a drop takes, that drop is what can be seen."""
    assert detectable_binary(needed_binary(0.04, 0.1), 0.1) == pytest.approx(0.04, abs=5e-4)
    assert detectable_scores(needed_scores(0.04, 0.05), 0.05) == pytest.approx(0.04, abs=5e-4)
    assert detectable_binary(3, 0.2) == detectable_scores(2, 0.2) == 1.0


def test_nothing_known_is_a_prior() -> None:
    """Without cases one of five differs."""
    assert likely_discordance(0, 0) == 0.2


def test_it_is_reckoned_with_more_than_was_seen() -> None:
    """A run of 400 cases in which 40 differ reckons with one standard error more, as does one of scores."""
    assert likely_discordance(40, 400) == pytest.approx(0.1 + sqrt(0.1 * 0.9 / 400), abs=0.002)
    assert 0 < likely_discordance(0, 20) < 0.05
    pairs = Differences([[Case(-1)]] * 20 + [[Case(1)]] * 20 + [[Case(0)]] * 360)
    assert likely_variance(pairs, 400) == pytest.approx(likely_discordance(40, 400), abs=0.002)
    one = Differences([[Case(-1)] * 10])
    assert likely_variance(one, 10) == 10


def test_changes_of_sign_are_mcnemar_for_pairs_that_pass_or_do_not() -> None:
    """For differences of -1 and 1 the permutation test is the exact one, whether all signs are tried or 10,000."""
    few = Differences([[Case(-1)]] * 9 + [[Case(1)]] * 2 + [[Case(0)]] * 30)
    many = Differences([[Case(-1)]] * 25 + [[Case(1)]] * 11 + [[Case(0)]] * 300)
    assert few.p_value() == pytest.approx(mcnemar(9, 2))
    assert many.p_value() == pytest.approx(mcnemar(25, 11), abs=0.005)
    # 10,000 draws never prove that something is impossible.
    assert Differences([[Case(-1)]] * 60).p_value() == 1 / 10_001


def test_the_bootstrap_is_near_students_t_where_that_is_right() -> None:
    """For 200 normal differences the interval is that of Student's t, but for what may not have been seen."""
    random = np.random.default_rng(5)
    values = np.clip(random.normal(0.05, 0.2, 200), -1, 1)
    found = Differences([[Case(float(value))] for value in values])
    half = 1.972 * values.std(ddof=1) / sqrt(200)
    half = sqrt(half**2 + (1.96**2 / (200 + 1.96**2)) ** 2)
    assert found.mean == pytest.approx(values.mean())
    assert found.error == pytest.approx(values.std(ddof=1) / sqrt(200))
    assert found.interval() == pytest.approx((values.mean() - half, values.mean() + half), abs=0.003)


def test_one_cluster_says_nothing() -> None:
    """What is all of one source may be anything."""
    found = Differences([[Case(-0.5)] * 10])
    assert (found.interval(), found.p_value()) == ((-1.0, 1.0), 1.0)
    with pytest.raises(ValueError, match="no cluster"):
        Differences([])


def test_cases_of_a_source_are_worth_what_they_say_apart() -> None:
    """Cases that go with their source are worth as many as there are sources, others as many as they are."""
    together = Differences([[Case((-1.0) ** source)] * 10 for source in range(40)])
    apart = Differences([[Case((-1.0) ** index) for index in range(10)] for _ in range(40)])
    assert together.worth == pytest.approx(40, rel=0.05)
    assert apart.worth == pytest.approx(400)
    assert Differences([[Case(0.0)] * 10] * 40).worth == pytest.approx(400)
    assert Differences([[Case(0.0, 9.0)], [Case(0.0, 1.0)]]).worth == pytest.approx(100 / 82)
