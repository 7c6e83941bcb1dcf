"""What a run says in numbers: shares and means by scorer, errors, latency, what it took. Pure."""

from collections import Counter
from collections.abc import Sequence
from math import fsum
from typing import Final

from pydantic import Field

from capstan_contract.entries import Document, is_none
from capstan_evaluation.records import Result, Run, ScoreState
from capstan_evaluation.statistics.closed.proportions import wilson

QUANTILES: Final = (0.5, 0.95)


class ScorerFigures(Document):
    """What one scorer says of a run. A case that was asked several times is one, with the mean of its scores."""

    scorer: str
    binary: bool
    judged: bool
    """Whether a model said so."""
    cases: int
    """With a score."""
    mean: float | None
    """By weight; None: there is no score."""
    low: float | None = Field(default=None, exclude_if=is_none)
    """Wilson's 95 % interval, where each case passes or does not and counts as much as any other."""
    high: float | None = Field(default=None, exclude_if=is_none)
    couldNotTell: int
    """Answers that a judge was asked of in vain."""
    failed: int
    """Answers that could not be scored."""


class Times(Document):
    """Seconds that half of the answers, and 95 of a hundred, took at most."""

    p50: float
    p95: float


class RunFigures(Document):
    """What a run says."""

    answers: int
    errors: dict[str, int]
    """How many asks had no answer, by code."""
    scorers: tuple[ScorerFigures, ...]
    seconds: Times | None
    firstTokenSeconds: Times | None

    @property
    def error_share(self) -> float:
        """Which share of the asks had no answer."""
        failed = sum(self.errors.values())
        return failed / (failed + self.answers) if failed else 0.0


def summarise(run: Run) -> RunFigures:
    """Put a run in numbers: the same ones for the same results."""
    answered = [result for result in run.results if not result.answer.error]
    errors = Counter(result.answer.error for result in run.results if result.answer.error)
    first = [one.answer.firstTokenSeconds for one in answered if one.answer.firstTokenSeconds is not None]
    return RunFigures(
        answers=len(answered),
        errors=dict(sorted(errors.items())),
        scorers=tuple(_figures(name, answered) for name in scorers_of(answered)),
        seconds=_times([one.answer.seconds for one in answered]),
        firstTokenSeconds=_times(first),
    )


def scorers_of(results: Sequence[Result]) -> list[str]:
    """Give the names of all scorers, in the order in which results first have them."""
    return list(dict.fromkeys(score.scorer for result in results for score in result.scores))


def _figures(name: str, results: Sequence[Result]) -> ScorerFigures:
    mine = [(result, score) for result in results for score in result.scores if score.scorer == name]
    values: dict[str, list[float]] = {}
    weights: dict[str, float] = {}
    for result, score in mine:
        if score.state is ScoreState.SCORED and score.value is not None:
            values.setdefault(result.case, []).append(score.value)
            weights[result.case] = result.weight
    means = {case: fsum(found) / len(found) for case, found in values.items()}
    total = fsum(weights.values())
    binary = all(score.binary for _, score in mine)
    low = high = None
    if means and binary and set(means.values()) <= {0.0, 1.0} and len(set(weights.values())) == 1:
        low, high = wilson(sum(means.values()), len(means))
    return ScorerFigures(
        scorer=name,
        binary=binary,
        judged=any(score.stamp is not None for _, score in mine),
        cases=len(means),
        mean=fsum(means[case] * weights[case] for case in means) / total if total else None,
        low=low,
        high=high,
        couldNotTell=sum(score.state is ScoreState.COULD_NOT_TELL for _, score in mine),
        failed=sum(score.state is ScoreState.FAILED for _, score in mine),
    )


def _times(seconds: Sequence[float]) -> Times | None:
    if not seconds:
        return None
    ordered = sorted(seconds)
    half, most = (ordered[min(len(ordered) - 1, int(len(ordered) * share))] for share in QUANTILES)
    return Times(p50=half, p95=most)
