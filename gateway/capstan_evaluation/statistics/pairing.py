"""Which scores of two runs belong together, and what is missing."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum
from math import isnan
from typing import Final

from capstan_evaluation.records import Result, Run, ScoreState

EVEN: Final = 0.5
"""What a pairwise score is when both answers are as good."""


class Missing(Enum):
    """Why a repeat has no score."""

    UNANSWERED = "Unanswered"
    """The target gave no answer, or was never asked."""
    UNSCORED = "Unscored"
    """It did, and the scorer failed or could not tell."""


Repeats = tuple[float | Missing, ...]


@dataclass(frozen=True)
class PairedCase:
    """One case in two runs: a score from 0 to 1, or why there is none, for each repeat.

    A score that is no number counts as missing. Raises ValueError for one beyond 0 and 1, and for a weight of 0 or
    less.
    """

    case: str
    baseline: Repeats
    candidate: Repeats
    cluster: str = ""
    """The source that the case shares with others; empty: none."""
    weight: float = 1.0

    def __post_init__(self) -> None:
        if not 0 < self.weight < float("inf"):
            raise ValueError(f"case {self.case!r}: a weight is above 0, not {self.weight}")
        for score in (*self.baseline, *self.candidate):
            if not isinstance(score, Missing) and not isnan(score) and not 0 <= score <= 1:
                raise ValueError(f"case {self.case!r}: a score is from 0 to 1, not {score}")


@dataclass(frozen=True)
class Pairs:
    """All cases of one scorer."""

    scorer: str
    binary: bool
    """Whether the scorer knows nothing between 0 and 1."""
    cases: tuple[PairedCase, ...]


def scores_of(repeats: Repeats) -> list[float]:
    """Give the scores that are there."""
    return [score for score in repeats if not isinstance(score, Missing) and not isnan(score)]


def pair_runs(baseline: Run, candidate: Run) -> list[Pairs]:
    """Pair the scores of two runs of one suite, by scorer and case, in the order in which they are first met.

    A scorer is asked about the cases that have a score of it in either run, whatever its state. One that has scored all
    that was answered is asked about those that nobody answered as well. A case that asked each run something else (the
    suite was changed) is left out. The repeats of a case need not be as many. A scorer that is pairwise compares each
    answer with the baseline's itself: its scores are the candidate's, and stand against `EVEN`.
    """
    before, after = _by_case(baseline.results), _by_case(candidate.results)
    # A dict for its order: the suite's, whichever run has all of its cases.
    cases = [case for case in {**before, **after} if _same_question(before.get(case), after.get(case))]
    old, new = _answered(before), _answered(after)
    pairs = []
    for scorer, held in _by_scorer((*baseline.results, *candidate.results)).items():
        # What a pairwise scorer could have scored both runs have answered.
        answered = old & new if held.pairwise else old | new
        asked = cases if answered <= held.cases else [case for case in cases if case in held.cases]
        paired = (_pair(case, before.get(case, ()), after.get(case, ()), scorer, held.pairwise) for case in asked)
        pairs.append(Pairs(scorer, held.binary and not held.pairwise, tuple(paired)))
    return pairs


@dataclass
class _Scorer:
    cases: set[str] = field(default_factory=set)
    binary: bool = True
    pairwise: bool = False


def _by_scorer(results: Iterable[Result]) -> Mapping[str, _Scorer]:
    scorers: dict[str, _Scorer] = {}
    for result in results:
        for score in result.scores:
            held = scorers.setdefault(score.scorer, _Scorer())
            held.cases.add(result.case)
            held.binary &= score.binary
            held.pairwise |= score.pairwise
    return scorers


def _by_case(results: Iterable[Result]) -> Mapping[str, Sequence[Result]]:
    cases: dict[str, list[Result]] = {}
    for result in results:
        cases.setdefault(result.case, []).append(result)
    return cases


def _answered(cases: Mapping[str, Sequence[Result]]) -> set[str]:
    return {case for case, results in cases.items() if any(not result.answer.error for result in results)}


def _same_question(before: Sequence[Result] | None, after: Sequence[Result] | None) -> bool:
    if before is None or after is None:
        return True
    return not {result.request for result in before}.isdisjoint(result.request for result in after)


def _pair(case: str, before: Sequence[Result], after: Sequence[Result], scorer: str, pairwise: bool) -> PairedCase:
    any_of = (after or before)[0]
    new = tuple(_score(result, scorer) for result in after)
    if pairwise:
        # What the judge could not tell is missing on both sides: it says nothing against either.
        old: Repeats = tuple(score if score is Missing.UNSCORED else EVEN for score in new) or (EVEN,)
        if all(result.answer.error for result in before):
            old = (Missing.UNANSWERED,)
    else:
        old = tuple(_score(result, scorer) for result in before)
    return PairedCase(case, old, new, any_of.cluster, any_of.weight)


def _score(result: Result, scorer: str) -> float | Missing:
    if result.answer.error:
        return Missing.UNANSWERED
    for score in result.scores:
        if score.scorer == scorer and score.state is ScoreState.SCORED and score.value is not None:
            return score.value
    return Missing.UNSCORED
