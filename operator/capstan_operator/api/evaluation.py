"""Evaluation in production: which answers are sampled, and what they are judged by."""

from typing import Annotated, ClassVar

from pydantic import Field, StringConstraints

from capstan_contract.evaluation import MOST_CRITERIA
from capstan_operator.api.backends import Fraction, ModelName
from capstan_operator.api.patterns import DNS_LABEL, REVISION
from capstan_operator.api.rules import evaluation
from capstan_operator.api.schema import Part, Rule, listed_by


class CriterionSpec(Part):
    """What an answer is judged by."""

    name: Annotated[str, StringConstraints(min_length=1, max_length=63, pattern=DNS_LABEL)]
    """Name of the criterion: the label `eval_type` of its metrics."""
    text: Annotated[str, StringConstraints(min_length=1, max_length=2000)]
    """What a good answer does, in a sentence or two: "The answer is polite, also to a rude user."."""
    rubric: Annotated[str, StringConstraints(min_length=1, max_length=63, pattern=REVISION)] = "1"
    """Version of the text. Change it together with the text: scores of one version do not count for another."""


class EvaluationJudge(Part):
    """The model that judges answers."""

    name: ModelName
    """Name of an LLMModel of the namespace, of task chat. It gets the sampled prompts and answers."""
    timeoutSeconds: int = Field(default=60, ge=1, le=600)
    """How long one judgement may take. An answer that was not judged in time is judged again, a few times."""


class ScoreWindowSpec(Part):
    """Which scores count together: the newest ones."""

    seconds: int = Field(default=86400, ge=60, le=2_592_000)
    """Not older than this."""
    count: int = Field(default=1000, ge=10, le=10_000)
    """At most so many of each criterion."""
    minimumCount: int = Field(default=50, ge=10, le=10_000)
    """With fewer of them nothing is concluded."""

    rules: ClassVar[tuple[Rule, ...]] = evaluation.WINDOW


class EvaluationSpec(Part):
    """A share of the answers is stored for a while, and judged. Prompts and answers of users are stored on Redis, with
    what GuardPolicies of type PII redact left out: see docs/evaluation-production.md."""

    sampleRate: Fraction | None = None
    """Share of the requests, from "0" to "1". Exactly one of this and `perHour`."""
    perHour: int | None = Field(default=None, ge=1, le=100_000)
    """About so many requests an hour, of all replicas of the gateway together, never more."""
    criteria: tuple[CriterionSpec, ...] = Field(
        min_length=1, max_length=MOST_CRITERIA, strict=False, json_schema_extra=listed_by("name")
    )
    """What answers are judged by, each in a call of the judge of its own."""
    judge: EvaluationJudge
    """Who judges."""
    alertBelow: Fraction | None = None
    """Least mean score of each criterion: when the whole interval of a mean lies below it, the condition
    EvaluationHealthy becomes False. Default: never."""
    window: ScoreWindowSpec = Field(default_factory=ScoreWindowSpec)
    """Which scores count together."""
    retentionSeconds: int = Field(default=3600, ge=60, le=604_800)
    """How long sampled prompts and answers are kept on Redis, judged or not. Scores stay as long as `window` says."""

    rules: ClassVar[tuple[Rule, ...]] = evaluation.EVALUATION
