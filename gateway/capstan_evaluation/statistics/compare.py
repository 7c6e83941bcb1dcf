"""Two runs of one suite: is the candidate as good as the baseline? Pass, Fail or Inconclusive, by scorer and in all.

    Fail           the candidate is worse, by more than chance (Holm over the scorers that may gate), and not surely
                   within the margin
    Pass           it is surely not worse than the margin: the whole interval is above -margin
    Inconclusive   neither: there were too few cases to say

An interval of one scorer that lies below -margin is no Fail by itself: of many scorers one has such an interval by
chance, as it has a small p-value by chance.

Repeats of a case are one number, their mean, because they are no further cases. A case that contradicts itself on the
baseline is flaky: it is named, and is in no list of regressions, but it stays in the mean and in the test. To leave it
out because of what the baseline did would leave those in that the baseline got right by luck, and they can only get
worse.

What has no score is left out on both sides, and cannot make a Pass. Each repeat that the candidate did not answer and
the baseline did, and each that a scorer could not score for the candidate, beyond as many for the baseline, counts as
if everything was lost by it before a Pass is given. With more than `MOST_MISSING` missing there is no Pass at all. A
Fail stands in any case: what was scored is evidence.
"""

from collections.abc import Callable, Iterable, Sequence, Set
from dataclasses import dataclass, replace
from math import fsum
from typing import Final

from capstan_evaluation.records import Comparison, Outcome, Run, Verdict
from capstan_evaluation.statistics.closed.intervals import ALPHA, Interval, check_alpha
from capstan_evaluation.statistics.holm import holm
from capstan_evaluation.statistics.mcnemar import mcnemar, tango
from capstan_evaluation.statistics.pairing import Missing, PairedCase, Pairs, Repeats, pair_runs, scores_of
from capstan_evaluation.statistics.power import (
    detectable_binary,
    detectable_scores,
    likely_discordance,
    likely_variance,
    needed_binary,
    needed_scores,
)
from capstan_evaluation.statistics.resampling import Case, Differences

MARGIN: Final = 0.05
MOST_MISSING: Final = 0.2
"""Of the cases of a scorer. Above it, what is there may be of another sort than what is not."""


@dataclass(frozen=True)
class _Scored:
    """A case of which both runs have a score."""

    case: PairedCase
    baseline: float
    candidate: float

    @property
    def difference(self) -> float:
        return self.candidate - self.baseline


@dataclass(frozen=True)
class _Finding:
    """What one scorer says, before it is known what others do."""

    pairs: Pairs
    scored: Sequence[_Scored]
    interval: Interval
    difference: float
    p_value: float
    single: bool
    """Whether cases pass or do not, and each counts as much as any other: what the test of McNemar is for."""
    variance: float
    """Of a case's difference around 0, to reckon with."""


def compare_runs(
    baseline: Run,
    candidate: Run,
    *,
    margin: float = MARGIN,
    alpha: float = ALPHA,
    informing: Set[str] = frozenset(),
) -> Verdict:
    """Compare two runs of one suite. `informing` are the scorers that may not gate. The rest is as in `compare`."""
    return compare(pair_runs(baseline, candidate), margin=margin, alpha=alpha, informing=informing)


def compare(
    scorers: Iterable[Pairs],
    *,
    margin: float = MARGIN,
    alpha: float = ALPHA,
    informing: Set[str] = frozenset(),
) -> Verdict:
    """Compare what each scorer says of the same cases in two runs, and put it together.

    It fails when one scorer that may gate does, and passes when all of those do; without any it is Inconclusive.
    Scorers in `informing` are compared with their own p-value, and decide nothing.
    The same numbers give the same verdict, in whatever order. Raises ValueError for a margin that is not from 0 to less
    than 1 and for an alpha that is no probability.
    """
    check_alpha(alpha)
    if not 0 <= margin < 1:
        raise ValueError(f"a margin is from 0 to less than 1, not {margin}")
    findings = [_find(pairs, alpha) for pairs in scorers]
    gating = [finding for finding in findings if finding.pairs.scorer not in informing]
    adjusted = dict(zip(map(id, gating), holm([finding.p_value for finding in gating]), strict=True))
    strict = alpha / max(len(gating), 1)
    comparisons = []
    for finding in findings:
        gates = id(finding) in adjusted
        p_value = adjusted.get(id(finding), finding.p_value)
        comparisons.append(_conclude(finding, p_value, margin, alpha, strict if gates else alpha, gates))
    outcomes = {comparison.outcome for comparison in comparisons if comparison.mayGate}
    outcome = Outcome.FAIL if Outcome.FAIL in outcomes else Outcome.INCONCLUSIVE
    return Verdict(
        outcome=Outcome.PASS if outcomes == {Outcome.PASS} else outcome, alpha=alpha, comparisons=tuple(comparisons)
    )


def _find(pairs: Pairs, alpha: float) -> _Finding:
    scored = [found for case in pairs.cases if (found := _score(case)) is not None]
    single, count = _are_single(pairs, scored), len(scored)
    if not scored:
        return _Finding(pairs, scored, Interval(-1.0, 1.0), 0.0, 1.0, single, likely_discordance(0, 0))
    if single:
        worse = sum(one.difference < 0 for one in scored)
        better = sum(one.difference > 0 for one in scored)
        interval, difference = tango(worse, better, count, alpha=alpha), (better - worse) / count
        variance = likely_discordance(worse + better, count)
        return _Finding(pairs, scored, interval, difference, mcnemar(worse, better), single, variance)
    pooled = Differences(_clusters(scored))
    variance = likely_variance(pooled, count)
    return _Finding(pairs, scored, pooled.interval(alpha=alpha), pooled.mean, pooled.p_value(), single, variance)


def _score(case: PairedCase) -> _Scored | None:
    old, new = scores_of(case.baseline), scores_of(case.candidate)
    return _Scored(case, sum(old) / len(old), sum(new) / len(new)) if old and new else None


def _are_single(pairs: Pairs, scored: Sequence[_Scored]) -> bool:
    clusters = [one.case.cluster for one in scored if one.case.cluster]
    return (
        pairs.binary
        and all(one.baseline in (0, 1) and one.candidate in (0, 1) for one in scored)
        and all(max(len(one.case.baseline), len(one.case.candidate)) == 1 for one in scored)
        and len({one.case.weight for one in scored}) <= 1
        and len(set(clusters)) == len(clusters)
    )


def _clusters(scored: Iterable[_Scored]) -> Iterable[Sequence[Case]]:
    clusters: dict[tuple[str, str], list[Case]] = {}
    for one in scored:
        key = (one.case.cluster, "") if one.case.cluster else ("", one.case.case)
        clusters.setdefault(key, []).append(Case(one.difference, one.case.weight))
    return clusters.values()


def _conclude(finding: _Finding, p_value: float, margin: float, alpha: float, strict: float, gates: bool) -> Comparison:
    pairs, scored, interval = finding.pairs, finding.scored, finding.interval
    missing = len(pairs.cases) - len(scored)
    lost = sum(_lost(pairs.cases))
    worse = p_value <= alpha and finding.difference < 0
    outcome, note = Outcome.INCONCLUSIVE, ""
    if not scored:
        note = "no case has a score in both runs"
    elif worse and interval.low <= -margin:
        outcome = Outcome.FAIL
    elif interval.low <= -margin:
        # NB: a few cases can have an interval below -margin, and still no more than chance in them; so can one scorer
        # of many.
        note = "too few cases to say"
    elif missing > MOST_MISSING * len(pairs.cases):
        note = f"{missing} of {len(pairs.cases)} cases have no score in one of the runs"
    elif lost and _worst(pairs, interval, alpha) <= -margin:
        note = f"the candidate has no score of {lost:.1%} of the cases; had it failed them, it would not pass"
    else:
        outcome = Outcome.PASS
        note = "worse, by less than the margin" if worse else ""
    seen, needed = _power(finding, margin, strict)
    steady = [one for one in scored if not _is_flaky(one.case)] if pairs.binary else []
    return Comparison(
        scorer=pairs.scorer,
        outcome=outcome,
        binary=pairs.binary,
        cases=len(scored),
        missing=missing,
        lost=lost,
        baseline=_mean(scored, lambda one: one.baseline),
        candidate=_mean(scored, lambda one: one.candidate),
        difference=finding.difference,
        low=interval.low,
        high=interval.high,
        pValue=p_value,
        margin=margin,
        regressions=_ids(one.case for one in steady if one.baseline == 1 and one.difference < 0),
        improvements=_ids(one.case for one in steady if one.baseline == 0 and one.difference > 0),
        flaky=_ids(case for case in pairs.cases if _is_flaky(case)) if pairs.binary else (),
        detectable=seen,
        neededCases=needed,
        mayGate=gates,
        note=note,
    )


def _power(finding: _Finding, margin: float, alpha: float) -> tuple[float, int]:
    """Give the smallest drop that these cases could have shown, and how many it takes to show the margin."""
    count, variance = len(finding.scored), finding.variance
    detectable = detectable_binary if finding.single else detectable_scores
    needed = needed_binary if finding.single else needed_scores
    return (
        detectable(count, variance, alpha=alpha) if count else 1.0,
        needed(margin, variance, alpha=alpha) if margin else 0,
    )


def _is_flaky(case: PairedCase) -> bool:
    return len(set(scores_of(case.baseline))) > 1


def _lost(cases: Sequence[PairedCase]) -> tuple[float, float]:
    """Give the shares of cases, by weight, that the candidate may have lost without anybody having seen it.

    First what it did not answer and the baseline did, then what could not be scored for it, beyond as much for the
    baseline.
    """
    total = fsum(case.weight for case in cases)
    if not total:
        return 0.0, 0.0
    known = [case for case in cases if scores_of(case.baseline)]
    unanswered = fsum(case.weight * _share(case.candidate, unscored=False) for case in known)
    unscored = fsum(case.weight * _share(case.candidate, unscored=True) for case in known)
    before = fsum(case.weight * _share(case.baseline, unscored=True) for case in cases if scores_of(case.candidate))
    return unanswered / total, max(unscored - before, 0.0) / total


def _worst(pairs: Pairs, interval: Interval, alpha: float) -> float:
    """Give the lower bound of the difference, had the candidate failed what it may have lost."""
    unanswered, unscored = _lost(pairs.cases)
    low = interval.low
    if unanswered:
        low = _find(replace(pairs, cases=tuple(map(_fail_unanswered, pairs.cases))), alpha).interval.low
    return low * (1 - unscored) - unscored


def _fail_unanswered(case: PairedCase) -> PairedCase:
    given = tuple(0.0 if score is Missing.UNANSWERED else score for score in case.candidate)
    return replace(case, candidate=given or (0.0,))


def _share(repeats: Repeats, *, unscored: bool) -> float:
    """The share of a case's repeats without a score, for the one reason or the other."""
    if not repeats:
        return 0.0 if unscored else 1.0
    unanswered = sum(score is Missing.UNANSWERED for score in repeats)
    wanted = len(repeats) - len(scores_of(repeats)) - unanswered if unscored else unanswered
    return wanted / len(repeats)


def _mean(scored: Sequence[_Scored], value: Callable[[_Scored], float]) -> float:
    total = fsum(one.case.weight for one in scored)
    return fsum(one.case.weight * value(one) for one in scored) / total if total else 0.0


def _ids(cases: Iterable[PairedCase]) -> tuple[str, ...]:
    return tuple(case.case for case in cases)
