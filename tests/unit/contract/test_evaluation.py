"""How answers are sampled, and the page of scores: what is written, and what a reader makes of it."""

import json

import pytest
from pydantic import ValidationError

from capstan_contract.config import GatewayConfig, ModelEntry, StaticBackend
from capstan_contract.evaluation import (
    Criterion,
    Evaluation,
    ScoreReport,
    ScoresError,
    TrackScores,
    read_scores,
)

CRITERIA = (Criterion(name="polite", text="It is polite."),)
SCORES = TrackScores(criterion="polite", track="canary", revision="v2", count=3, total=2.5, squares=2.25, mean=0.8)


@pytest.mark.parametrize("rates", [{}, {"sampleRate": 0.5, "perHour": 3}])
def test_an_evaluation_says_in_one_way_how_much_is_sampled(rates: dict[str, float]) -> None:
    """A share of the requests, or so many an hour: neither both nor none."""
    with pytest.raises(ValidationError, match="exactly one of"):
        Evaluation.model_validate({"criteria": CRITERIA, "judge": "a/judge", **rates})


def test_an_entry_with_an_evaluation_requires_nothing() -> None:
    """A reader from before the field serves the model, and samples nothing."""
    evaluation = Evaluation(sampleRate=0.5, criteria=CRITERIA, judge="a/judge")
    entry = ModelEntry(
        id="a/m", servedName="m", upstreamName="m", backend=StaticBackend(urls=()), evaluation=evaluation
    )
    config = GatewayConfig.build([entry])
    assert (config.schemaVersion, config.requires) == (1, ())
    assert GatewayConfig.model_validate_json(config.text()) == config


def test_a_page_is_read_as_it_was_written() -> None:
    """Whatever a newer scorer says besides changes nothing."""
    said = json.loads(ScoreReport(models={"a/m": (SCORES,)}).model_dump_json())
    said["models"]["a/m"][0]["newField"] = 1
    said["newField"] = 1
    assert read_scores(json.dumps(said)).models == {"a/m": (SCORES,)}


def test_a_model_that_cannot_be_read_is_named_and_the_others_are_read() -> None:
    """One fault in a page costs one model."""
    good = json.loads(SCORES.model_dump_json())
    said = {"version": 1, "models": {"a/m": [good], "a/n": {}, "a/o": [{**good, "mean": 2}]}}
    read = read_scores(json.dumps(said))
    assert (read.models, read.unreadable) == ({"a/m": (SCORES,)}, ("a/n", "a/o"))


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"version": 2}', '{"version": true}', '{"version":1,"models":[]}'])
def test_what_is_no_page_of_this_version_is_refused(text: str) -> None:
    """A page of another version may mean something else by the same words."""
    with pytest.raises(ScoresError):
        read_scores(text)
