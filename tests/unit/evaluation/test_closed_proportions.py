"""Intervals of shares and of kappa, against numbers that were published."""

import subprocess
import sys

import pytest

from capstan_evaluation.statistics.closed.agreement import agreement
from capstan_evaluation.statistics.closed.proportions import newcombe, wilson, zero_failures
from support.needs import ROOT


def test_closed_forms_load_neither_numpy_nor_scipy() -> None:
    """A process that only decides by counts has neither numpy nor scipy in its memory."""
    names = sorted(path.stem for path in (ROOT / "gateway/capstan_evaluation/statistics/closed").glob("[a-z]*.py"))
    assert "always_valid" in names
    imports = "".join(f"import capstan_evaluation.statistics.closed.{name}\n" for name in names)
    code = f"import sys\n{imports}print(sorted({{'numpy', 'scipy'}} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


@pytest.mark.parametrize(
    ("successes", "count", "low", "high"),
    [(81, 263, 0.2553, 0.3662), (15, 148, 0.0624, 0.1605), (0, 20, 0.0, 0.1611), (1, 29, 0.0061, 0.1718)],
)
def test_wilson_gives_the_published_intervals(successes: int, count: int, low: float, high: float) -> None:
    """The intervals are those of Newcombe (1998), Statistics in Medicine 17:857, table I, method 3."""
    assert wilson(successes, count) == pytest.approx((low, high), abs=6e-5)


@pytest.mark.parametrize(
    ("candidate", "baseline", "low", "high"),
    [
        ((56, 70), (48, 80), 0.0524, 0.3339),
        ((9, 10), (3, 10), 0.1705, 0.8090),
        ((6, 7), (2, 7), 0.0582, 0.8062),
        ((5, 56), (0, 29), -0.0381, 0.1926),
        ((0, 10), (0, 20), -0.1611, 0.2775),
        ((10, 10), (0, 20), 0.6791, 1.0),
    ],
)
def test_newcombe_gives_the_published_intervals(
    candidate: tuple[int, int], baseline: tuple[int, int], low: float, high: float
) -> None:
    """The intervals are those of Newcombe (1998), Statistics in Medicine 17:873, table II, method 10."""
    assert newcombe(*baseline, *candidate) == pytest.approx((low, high), abs=6e-5)


def test_no_failure_is_no_proof_of_none() -> None:
    """300 cases without a failure only say that fewer than 1 % fail: 3 / n."""
    assert zero_failures(300) == pytest.approx(0.00994, abs=5e-5)
    assert (zero_failures(0), zero_failures(1)) == (1.0, pytest.approx(0.95))


def test_nothing_counted_says_nothing() -> None:
    """Without a case a share may be anything, and so may a difference."""
    assert wilson(0, 0) == (0.0, 1.0)
    assert newcombe(0, 0, 5, 9) == (-1.0, 1.0)


@pytest.mark.parametrize(("successes", "count"), [(-1, 3), (4, 3), (float("nan"), 3), (1, float("inf"))])
def test_what_cannot_be_counted_is_refused(successes: float, count: float) -> None:
    """A share of more than all, of less than none or of no number is an error that says what is allowed."""
    with pytest.raises(ValueError, match="0 <= successes <= count"):
        wilson(successes, count)


@pytest.mark.parametrize("alpha", [0.0, 1.0, -0.1, float("nan")])
def test_alpha_is_a_probability(alpha: float) -> None:
    """An interval that is always or never wrong is refused."""
    with pytest.raises(ValueError, match="alpha must be between 0 and 1"):
        wilson(1, 2, alpha=alpha)


def test_kappa_gives_the_published_number() -> None:
    """Kappa and its error for 91 couples (Hout, Duncan and Sobel, 1987; R's vcd): 0.1293 and 0.0686."""
    found = agreement([[7, 7, 2, 3], [2, 8, 3, 7], [1, 5, 4, 9], [2, 8, 9, 14]])
    assert (found.count, round(found.kappa, 4)) == (91, 0.1293)
    assert (found.interval.high - found.kappa) / 1.959964 == pytest.approx(0.0686, abs=5e-5)


def test_kappa_of_raters_who_only_say_one_thing_is_unknown() -> None:
    """Two raters who always say the same one thing agree wholly, and nothing follows from it."""
    found = agreement([[40, 0], [0, 0]])
    assert (found.share, found.kappa, found.interval) == (1.0, 0.0, (-1.0, 1.0))
    assert agreement([]).interval == (-1.0, 1.0)
    assert agreement([[0, 0], [0, 0]]).interval == (-1.0, 1.0)


def test_kappa_wants_a_table_of_counts() -> None:
    """A table that is not square or has a negative count is refused."""
    for table in ([[1, 2]], [[1, -1], [0, 3]]):
        with pytest.raises(ValueError, match="square"):
            agreement(table)
