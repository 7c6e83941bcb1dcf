"""What numbers of gateways and of the scorer say of a canary."""

import pytest

from capstan_contract.evaluation import TrackScores
from capstan_contract.gates import Outcome
from capstan_operator.api.rollout import RolloutGate
from capstan_operator.desired.rollouts.gates import judge_live, outcome_of
from support.rollout_world import counters

EVERYTHING = {"latency": {"ttftP95": "1.2", "interTokenP95": "1.2"}, "errorRate": "0.01", "costPerRequest": "1.1"}


def _scores(stable: float, canary: float, count: int = 5000) -> list[TrackScores]:
    def one(track: str, revision: str, mean: float) -> TrackScores:
        return TrackScores(
            criterion="polite", track=track, revision=revision, count=count, total=mean * count, squares=mean * count
        )

    return [one("stable", "old", stable), one("canary", "new", canary), one("canary", "another", 0.0)]


def test_alike_tracks_pass_every_gate() -> None:
    """With enough requests a canary that does as the stable pods do passes all of them."""
    gate = RolloutGate.model_validate(EVERYTHING)
    found = judge_live(gate, counters(640_000), counters(640_000), step=1)
    assert {one.name: one.outcome for one in found} == dict.fromkeys(
        ("latency.ttftP95", "latency.interTokenP95", "errorRate", "costPerRequest"), "Pass"
    )


def test_few_requests_tell_nothing() -> None:
    """Without enough to go by each gate says so, and none fails."""
    found = judge_live(RolloutGate.model_validate(EVERYTHING), counters(64), counters(64), step=1)
    assert {one.outcome for one in found} == {"Inconclusive"}


def test_errors_fail() -> None:
    """Failures of a tenth of the requests are more than a limit of a hundredth."""
    gate = RolloutGate.model_validate({"errorRate": "0.01"})
    assert outcome_of(judge_live(gate, counters(64_000), counters(64_000, errors=6400), step=1)) is Outcome.FAIL


@pytest.mark.parametrize(("canary", "outcome"), [(0.9, "Pass"), (0.5, "Fail")])
def test_scores_of_this_revision_count(canary: float, outcome: str) -> None:
    """By each criterion, and not by what another canary's answers were given."""
    gate = RolloutGate.model_validate({"score": "0.1"})
    found = judge_live(gate, counters(64), counters(64), step=1, scores=_scores(0.9, canary), revision="new")
    assert [(one.name, one.outcome) for one in found] == [("score/polite", outcome)]


def test_without_scores_nothing_is_passed() -> None:
    """A gate by scores that nobody gives cannot tell."""
    found = judge_live(RolloutGate.model_validate({"score": "0.1"}), counters(64), counters(64), step=1)
    assert [(one.name, one.outcome) for one in found] == [("score", "Inconclusive")]
