"""Windows of scores: what counts, for how long, and what is said of it."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from capstan_contract.evaluation import ScoreWindow
from capstan_contract.samples import MOST_GROUPS, ScoreRecord
from capstan_evaluation.online.windows import MOST_WINDOWS, ModelWindows, interval_of
from support.samples import evaluation

WINDOW = ScoreWindow(seconds=100, count=5, minimumCount=3)
EVALUATION = evaluation(window=WINDOW)


def record(value: float | None = 1.0, at: float = 0.0, **fields: object) -> ScoreRecord:
    """Give a score of the one criterion."""
    given = {"criterion": "polite", "rubric": "1", "judge": "test/judge", "value": value, "at": at, **fields}
    return ScoreRecord.model_validate(given)


def windows(*records: ScoreRecord) -> ModelWindows:
    """Give windows with these scores."""
    found = ModelWindows()
    for one in records:
        found.add(one, WINDOW)
    return found


def test_a_mean_is_of_scores_alone() -> None:
    """What a judge could not tell, and what nobody judged, is counted and is in no mean."""
    (standing,) = windows(record(1.0), record(0.0), record(None), record(None, failed=True)).standing(EVALUATION, 10.0)
    assert (standing.count, standing.mean, standing.couldNotTell, standing.failed) == (2, 0.5, 1, 1)
    assert (standing.total, standing.squares) == (1.0, 1.0)
    assert standing.low < 0.5 < standing.high


def test_the_newest_scores_count() -> None:
    """No more than so many, and none of an answer that is too old."""
    many = windows(*(record(0.0, at=float(at)) for at in range(10)), *(record(1.0, at=20.0) for _ in range(3)))
    (standing,) = many.standing(EVALUATION, 20.0)
    assert (standing.count, standing.total, standing.newest) == (5, 3.0, 20.0)
    (later,) = many.standing(EVALUATION, 115.0)
    assert (later.count, later.mean) == (3, 1.0)
    assert many.standing(EVALUATION, 121.0) == ()


def test_a_judge_that_is_away_pushes_no_score_out() -> None:
    """What is no score has as many places of its own, and goes by age as scores do."""
    scores, failed = [record(0.5, at=float(at)) for at in range(5)], record(None, 50.0, failed=True)
    many = windows(*scores, *[failed] * 9)
    (standing,) = many.standing(EVALUATION, 50.0)
    assert (standing.count, standing.mean, standing.failed) == (5, 0.5, 5)
    (later,) = many.standing(EVALUATION, 120.0)
    assert (later.count, later.failed) == (0, 5)
    assert many.standing(EVALUATION, 151.0) == ()


def test_another_track_revision_text_or_judge_counts_by_itself() -> None:
    """Scores of what is not asked any more are not shown."""
    found = windows(
        record(1.0, track="stable", revision="v1"), record(0.0, track="canary", revision="v2"),
        record(0.5, rubric="0"), record(0.5, judge="test/other"), record(0.5, criterion="brief"),
    ).standing(EVALUATION, 10.0)  # fmt: skip
    assert [(one.track, one.revision, one.mean) for one in found] == [("canary", "v2", 0.0), ("stable", "v1", 1.0)]


def test_windows_are_bounded() -> None:
    """Whatever revisions, criteria and judges come: those that had a score last are kept."""
    found = windows(*(record(revision=f"v{number}") for number in range(100)))
    kept = [one.revision for one in found.standing(EVALUATION, 0.0)]
    assert kept == sorted(f"v{number}" for number in range(100 - MOST_GROUPS, 100))
    many = windows(*(record(criterion=f"c{number}") for number in range(MOST_WINDOWS + 50)), record())
    assert len(many._windows) == MOST_WINDOWS
    assert len(many.standing(EVALUATION, 0.0)) == 1


def test_nothing_is_known_of_nothing() -> None:
    """The interval of no scores is all there is."""
    assert interval_of(0.0, 0, tuned=50) == (0.0, 1.0)


@given(scores=st.lists(st.floats(0, 1), min_size=1, max_size=300))
def test_an_interval_holds_its_mean(scores: list[float]) -> None:
    """And nothing beyond what scores can be; more of the same scores make it narrower."""
    total, count = sum(scores), len(scores)
    low, high = interval_of(total, count, tuned=50)
    mean = total / count
    assert 0.0 <= low <= mean + 1e-9
    assert mean - 1e-9 <= high <= 1.0
    four_low, four_high = interval_of(4 * total, 4 * count, tuned=50)
    assert four_high - four_low <= high - low + 1e-9


@pytest.mark.parametrize(("share", "below"), [(0.9, False), (0.6, True)])
def test_enough_bad_answers_are_seen_and_good_ones_do_not_look_bad(share: float, below: bool) -> None:
    """Of 400 answers the interval of a mean of 0.6 lies below 0.8, that of 0.9 does not."""
    _, high = interval_of(400 * share, 400, tuned=50)
    assert (high < 0.8) is below
