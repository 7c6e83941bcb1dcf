"""Answers of production that are judged: which ones a gateway samples, and what the scorer of samples says of them.

    the gateway   one stream on Redis of samples, for all models, and beside it the plan of each that is evaluated
    the scorer    reads both, asks judges, and says at `SCORES_PATH` how each criterion stands, for who decides by it

    {"version":1,"models":{"team-a/chat":[{"criterion":"polite","track":"stable","count":412,"mean":0.91,...}]}}

A reader of the page takes what it knows: a model that it cannot read is left out and named, and only a page of another
version is refused as a whole.
"""

import json
from typing import Any, Final, Literal, NamedTuple

from pydantic import Field, FiniteFloat, NonNegativeInt, ValidationError, model_validator

from capstan_contract.entries import Document, is_empty

SCORES_PATH: Final = "/internal/scores"
SCORES_VERSION: Final = 1
MOST_CRITERIA: Final = 10


class Criterion(Document):
    """What an answer is judged by: one criterion is one question to the judge."""

    name: str = Field(min_length=1, max_length=63)
    text: str = Field(min_length=1, max_length=2000)
    rubric: str = Field(default="1", min_length=1, max_length=63)
    """Version of the text: scores of one version are not mixed with those of another."""


class ScoreWindow(Document):
    """Which scores count together: the newest ones."""

    seconds: int = Field(default=86400, ge=60)
    count: int = Field(default=1000, ge=1)
    """At most so many."""
    minimumCount: int = Field(default=50, ge=1)
    """With fewer nothing is concluded."""


class Evaluation(Document):
    """How a model's answers are sampled and judged. It says exactly one of `sampleRate` and `perHour`."""

    sampleRate: float | None = Field(default=None, ge=0, le=1)
    """Share of the requests."""
    perHour: int | None = Field(default=None, ge=1)
    """About so many an hour, of all replicas of the gateway together; never more of one replica."""
    criteria: tuple[Criterion, ...] = Field(min_length=1, max_length=MOST_CRITERIA)
    judge: str
    """Id of the model that judges. It need not be in the config: nothing is sampled as long as it is not."""
    judgeTimeoutSeconds: float = Field(default=60.0, gt=0)
    alertBelow: float | None = Field(default=None, ge=0, le=1)
    """Where the whole interval of a mean lies below this, a person is called. None: never."""
    window: ScoreWindow = ScoreWindow()
    retentionSeconds: int = Field(default=3600, ge=60)
    """How long prompts and answers that were sampled are kept."""

    @model_validator(mode="after")
    def _says_how_many(self) -> "Evaluation":
        if (self.sampleRate is None) == (self.perHour is None):
            raise ValueError("must have exactly one of `sampleRate` and `perHour`")
        return self


class TrackScores(Document):
    """How one criterion stands for one track of one revision of a model, over the window."""

    criterion: str
    rubric: str = ""
    track: str = Field(default="", exclude_if=is_empty)
    """`stable` or `canary`; empty: the model has no canary."""
    revision: str = Field(default="", exclude_if=is_empty)
    count: NonNegativeInt = 0
    """Answers that were scored."""
    total: FiniteFloat = Field(default=0.0, ge=0)
    """Sum of their scores, each of which is from 0 to 1."""
    squares: FiniteFloat = Field(default=0.0, ge=0)
    """Sum of the squares of their scores."""
    mean: FiniteFloat = Field(default=0.0, ge=0, le=1)
    low: FiniteFloat = Field(default=0.0, ge=0, le=1)
    high: FiniteFloat = Field(default=1.0, ge=0, le=1)
    """Interval of the mean that holds however often one looks at it, at 95 %; from 0 to 1 where nothing is known."""
    couldNotTell: NonNegativeInt = 0
    """Answers of which the judge could not tell: they are in no mean."""
    failed: NonNegativeInt = 0
    """Answers that could not be judged: the judge did not answer."""
    newest: FiniteFloat = Field(default=0.0, ge=0)
    """Unix seconds of the newest answer that was scored."""


class ScoreReport(Document):
    """What the scorer says of all models whose answers are sampled."""

    version: Literal[1] = SCORES_VERSION
    models: dict[str, tuple[TrackScores, ...]] = Field(default_factory=dict)
    """By `namespace/name` of the LLMModel; sorted by criterion, then track, then revision."""


class ScoresError(ValueError):
    """A page that is none of this version; the message says what is wrong."""


class ReadScores(NamedTuple):
    """What a page says."""

    models: dict[str, tuple[TrackScores, ...]]
    unreadable: tuple[str, ...]
    """Models of which the page says what are no scores: nothing is known of theirs."""


def read_scores(text: bytes | str) -> ReadScores:
    """Read a page. Raises ScoresError for what is none, or of another version."""
    try:
        said = json.loads(text)
    except (ValueError, RecursionError):
        raise ScoresError("a page of scores must be JSON") from None
    if not isinstance(said, dict) or type(said.get("version")) is not int or said["version"] != SCORES_VERSION:
        raise ScoresError(f"a page of scores must be an object with `version` {SCORES_VERSION}")
    models = said.get("models", {})
    if not isinstance(models, dict):
        raise ScoresError("a page's `models` must be an object")
    read: dict[str, tuple[TrackScores, ...]] = {}
    unreadable: list[str] = []
    for model_id, scores in models.items():
        try:
            read[model_id] = _read_model(scores)
        except (ValidationError, TypeError):
            unreadable.append(model_id)
    return ReadScores(read, tuple(unreadable))


def _read_model(scores: Any) -> tuple[TrackScores, ...]:
    if not isinstance(scores, list):
        raise TypeError("scores must be a list")
    return tuple(TrackScores.model_validate(one, extra="ignore") for one in scores)
