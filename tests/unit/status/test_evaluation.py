"""What the status says of a model whose answers are judged: from enough of them, and never from one."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from capstan_contract.evaluation import TrackScores
from capstan_operator.api.kinds import Model
from capstan_operator.status.conditions import Finding
from capstan_operator.status.evaluation import HEALTHY, evaluation_findings, evaluation_news
from support.plainmodels import make_model

CRITERIA = [{"name": "brief", "text": "It is brief."}, {"name": "polite", "text": "It is polite."}]


def evaluated(**fields: Any) -> Model:
    """Give a model whose answers should have a mean of 0.8, of 50 at least."""
    said = {"sampleRate": "0.1", "criteria": CRITERIA, "judge": {"name": "judge"}, "alertBelow": "0.8", **fields}
    return make_model(evaluation=said)


def scores(
    criterion: str = "polite", *, count: int = 100, low: float = 0.5, high: float = 0.7, **more: Any
) -> TrackScores:
    """Give how one criterion stands."""
    given = {"mean": (low + high) / 2, "newest": 1.0, **more}
    return TrackScores(criterion=criterion, count=count, low=low, high=high, **given)


def says(*known: TrackScores, before: Finding | None = None, model: Model | None = None) -> Finding:
    """Give the condition."""
    return evaluation_findings(model or evaluated(), known, as_present(before))[HEALTHY]


def as_present(finding: Finding | None) -> dict[str, dict[str, str]]:
    """Give the conditions that a status has."""
    if finding is None:
        return {}
    return {HEALTHY: {"status": finding.status, "reason": finding.reason, "message": finding.message}}


@pytest.mark.parametrize("model", [make_model(), evaluated(alertBelow=None)])
def test_who_asks_for_no_alert_has_no_condition(model: Model) -> None:
    """Nothing is said of models that want nothing said."""
    assert evaluation_findings(model, (scores(),), {}) == {}
    assert evaluation_findings(model, None, {}) == {}


def test_a_whole_interval_below_is_told_by_the_names_of_criteria() -> None:
    """The message is the same as long as the cause is: it has no number that changes with each answer."""
    found = says(scores("polite"), scores("brief", low=0.6, high=0.79), scores("other", low=0.7, high=0.9))
    assert (found.status, found.reason) == ("False", "ScoreBelowThreshold")
    assert found.message == "the mean score lies below 0.8 by: 'brief', 'polite'"
    assert says(scores("polite", low=0.1, high=0.2, count=999), scores("brief", high=0.71)).message == found.message


def test_an_interval_that_holds_the_threshold_is_no_alert() -> None:
    """A mean below is not enough: it may be chance."""
    found = says(scores(low=0.4, high=0.81))
    assert (found.status, found.reason) == ("True", "AsExpected")


@given(count=st.integers(0, 49))
def test_few_answers_decide_nothing(count: int) -> None:
    """However bad they are."""
    found = says(scores(count=count, low=0.0, high=0.01))
    assert (found.status, found.reason) == ("Unknown", "TooFewScores")


def test_nobody_says_anything() -> None:
    """Then it is not known, and what was said last stands."""
    found = evaluation_findings(evaluated(), None, {})[HEALTHY]
    assert (found.status, found.reason) == ("Unknown", "ScoresUnknown")
    bad = says(scores())
    assert evaluation_findings(evaluated(), None, as_present(bad))[HEALTHY] == bad


def test_it_stays_until_the_mean_is_not_below_any_more() -> None:
    """So that an interval which touches the threshold does not change the condition with each answer."""
    bad = says(scores())
    assert says(scores(low=0.7, high=0.85), before=bad) == bad
    assert says(scores(low=0.75, high=0.86), before=bad).status == "True"
    assert says(scores("brief", low=0.7, high=0.85), before=bad).status == "True"  # It was another criterion.


def test_it_stays_while_a_window_holds_a_few_less_than_enough() -> None:
    """Of little traffic it holds now more and now less; a half less is nothing any more."""
    bad = says(scores())
    assert says(scores(count=49), before=bad) == bad
    assert says(scores(count=24), before=bad).reason == "TooFewScores"
    assert says(scores(count=49, low=0.8, high=0.9), before=bad).reason == "TooFewScores"


def test_the_revision_that_serves_counts_and_no_canary() -> None:
    """Scores of the one before are history, those of the next one are for the gate of its rollout."""
    old = scores(revision="v1", newest=1.0)
    new = scores(revision="v2", newest=2.0, low=0.8, high=0.95)
    canary = scores(track="canary", revision="v3", newest=3.0)
    assert says(old, new, canary).status == "True"
    assert says(scores(revision="v1", newest=4.0), new, canary).status == "False"


def test_news_are_told_once() -> None:
    """When it becomes bad, by other criteria, and good again; never that it is not known."""
    model = evaluated()
    bad, worse = says(scores()), says(scores(), scores("brief"))
    good = says(scores(low=0.85, high=0.9))
    unknown = evaluation_findings(model, None, {})[HEALTHY]

    def news(before: Finding | None, now: Finding) -> list[tuple[str, str]]:
        return [(one.type, one.reason) for one in evaluation_news(as_present(before), {HEALTHY: now})]

    assert news(None, bad) == news(good, bad) == news(bad, worse) == [("Warning", "ScoreBelowThreshold")]
    assert news(bad, bad) == news(None, good) == news(good, unknown) == news(unknown, good) == []
    assert news(bad, good) == [("Normal", "ScoreRecovered")]
