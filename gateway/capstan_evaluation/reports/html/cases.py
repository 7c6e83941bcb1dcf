"""What became of each case: how it stands, which of them a page shows, and the sums that the plots are made of."""

from collections import OrderedDict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from capstan_evaluation.records import Result, Run, ScoreState, Verdict

PASSING: Final = 0.5
"""The mean of a case's scores by one scorer, over its repeats, from which on the case passes."""


class Standing(StrEnum):
    """How a case stands, in the order in which a page shows them: what needs a reader first."""

    REGRESSED = "Regressed"
    NO_ANSWER = "No answer"
    FAILS = "Fails"
    FLAKY = "Flaky"
    UNDECIDED = "Could not tell"
    IMPROVED = "Improved"
    PASSES = "Passes"

    @property
    def calm(self) -> bool:
        """Whether nobody needs to read it."""
        return self in (Standing.IMPROVED, Standing.PASSES)


STANDINGS: Final = {
    Standing.REGRESSED: "the baseline passed, and this run does not",
    Standing.NO_ANSWER: "the target gave an error instead of an answer",
    Standing.FAILS: "at least one scorer says no",
    Standing.FLAKY: "contradicts itself on the baseline; no regression",
    Standing.UNDECIDED: "a judge or a scorer did not say",
    Standing.IMPROVED: "the baseline failed, and this run passes",
    Standing.PASSES: "every scorer says yes",
}


@dataclass(frozen=True)
class Case:
    """One case, with all its repeats."""

    place: int
    """In the suite, from 0."""
    results: tuple[Result, ...]
    before: tuple[Result, ...]
    """Those of the baseline; empty: it has none."""
    standing: Standing

    @property
    def id(self) -> str:
        """The case's name in the suite."""
        return self.results[0].case

    @property
    def tags(self) -> tuple[str, ...]:
        """What the suite tags it with."""
        return self.results[0].tags

    @property
    def telling(self) -> Result:
        """The repeat to show: the first that has no answer or fails, else the first."""
        return next((result for result in self.results if not passes(result)), self.results[0])

    @property
    def telling_before(self) -> Result | None:
        """The baseline's same repeat."""
        wanted = self.telling.repeat
        return next((result for result in self.before if result.repeat == wanted), next(iter(self.before), None))


def passes(result: Result) -> bool:
    """Whether there is an answer, and no scorer says no to it."""
    return not result.answer.error and all(score.value is None or score.value >= PASSING for score in result.scores)


def by_case(run: Run) -> "OrderedDict[str, list[Result]]":
    """Give the results of each case, in the suite's order."""
    found: OrderedDict[str, list[Result]] = OrderedDict()
    for result in run.results:
        found.setdefault(result.case, []).append(result)
    return found


def all_cases(run: Run, baseline: Run | None, verdict: Verdict | None) -> list[Case]:
    """Give every case of a run, in the suite's order."""
    before = {} if baseline is None else by_case(baseline)
    named = _Named.of(verdict)
    return [
        Case(place, tuple(results), tuple(before.get(name, ())), _standing(name, results, named))
        for place, (name, results) in enumerate(by_case(run).items())
    ]


@dataclass(frozen=True)
class _Named:
    """The cases that a comparison names."""

    regressed: frozenset[str] = frozenset()
    improved: frozenset[str] = frozenset()
    flaky: frozenset[str] = frozenset()

    @classmethod
    def of(cls, verdict: Verdict | None) -> "_Named":
        comparisons = () if verdict is None else verdict.comparisons
        return cls(
            frozenset(case for comparison in comparisons for case in comparison.regressions),
            frozenset(case for comparison in comparisons for case in comparison.improvements),
            frozenset(case for comparison in comparisons for case in comparison.flaky),
        )


def _standing(name: str, results: Sequence[Result], named: _Named) -> Standing:
    if name in named.regressed:
        return Standing.REGRESSED
    if any(result.answer.error for result in results):
        return Standing.NO_ANSWER
    if name in named.flaky:
        return Standing.FLAKY
    if any(value < PASSING for value in scores_of(results).values()):
        return Standing.FAILS
    if any(score.state is not ScoreState.SCORED for result in results for score in result.scores):
        return Standing.UNDECIDED
    return Standing.IMPROVED if name in named.improved else Standing.PASSES


def scores_of(results: Iterable[Result]) -> dict[str, float]:
    """Give the mean score of one case, over its repeats, by scorer: of those that gave one."""
    values: dict[str, list[float]] = {}
    for result in results:
        for score in result.scores:
            if score.value is not None:
                values.setdefault(score.scorer, []).append(score.value)
    return {scorer: sum(given) / len(given) for scorer, given in values.items()}


def tallies(cases: Iterable[Case]) -> dict[Standing, int]:
    """Count the cases by how they stand."""
    counts = dict.fromkeys(Standing, 0)
    for case in cases:
        counts[case.standing] += 1
    return counts


@dataclass(frozen=True)
class Pair:
    """One case that both runs have a score of, by one scorer."""

    baseline: float
    candidate: float


def pairs(cases: Iterable[Case], scorer: str) -> list[Pair]:
    """Give the scores of the cases that both runs scored."""
    found = []
    for case in cases:
        before, now = scores_of(case.before).get(scorer), scores_of(case.results).get(scorer)
        if before is not None and now is not None:
            found.append(Pair(before, now))
    return found


@dataclass(frozen=True)
class TagScore:
    """What the cases of one tag reach by one scorer, by weight."""

    tag: str
    cases: int
    """Of which the run has a score."""
    candidate: float
    baseline: float | None
    """Of the same cases; None: the baseline has none."""


def tag_scores(cases: Sequence[Case], scorer: str) -> list[TagScore]:
    """Give the mean score of each tag, those with most cases first."""
    groups: dict[str, list[Case]] = {}
    for case in cases:
        for tag in dict.fromkeys(case.tags):
            groups.setdefault(tag, []).append(case)
    found = [scored for tag, members in groups.items() if (scored := _tag_score(tag, members, scorer)) is not None]
    return sorted(found, key=lambda scored: (-scored.cases, scored.tag))


def _tag_score(tag: str, members: Sequence[Case], scorer: str) -> TagScore | None:
    weights = [case.results[0].weight for case in members]
    scores = [scores_of(case.results).get(scorer) for case in members]
    now = _mean(zip(weights, scores, strict=True))
    if now is None:
        return None
    before = _mean(zip(weights, (scores_of(case.before).get(scorer) for case in members), strict=True))
    return TagScore(tag, sum(score is not None for score in scores), now, before)


def _mean(weighted: Iterable[tuple[float, float | None]]) -> float | None:
    known = [(weight, value) for weight, value in weighted if value is not None]
    total = sum(weight for weight, _ in known)
    return sum(weight * value for weight, value in known) / total if known else None


def scorers(run: Run) -> list[str]:
    """Give the scorers of a run, in the order in which it has them."""
    return list(dict.fromkeys(score.scorer for result in run.results for score in result.scores))


def mean_scores(cases: Sequence[Case], names: Sequence[str]) -> dict[str, float]:
    """Give each scorer's mean over the cases, by weight."""
    found = {}
    scored = [(case.results[0].weight, scores_of(case.results)) for case in cases]
    for name in names:
        mean = _mean((weight, scores.get(name)) for weight, scores in scored)
        if mean is not None:
            found[name] = mean
    return found
