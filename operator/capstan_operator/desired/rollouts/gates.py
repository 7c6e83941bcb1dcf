"""What the gateways' numbers say of a canary beside the stable pods, looked at again and again.

Both tracks are of the same hours: what is compared is what each has done since the canary was given its first request.
The intervals hold however often somebody looks (`capstan_evaluation.statistics.closed`), and each of the n live gates
gets ALPHA / n, so that a canary that is as good as what it replaces fails any of them, at any look, in 5 % of rollouts
at most. A gate fails when the whole interval is beyond its limit, passes when the whole interval is within, and says
Inconclusive as long as the limit is inside.
"""

from collections.abc import Callable, Iterator, Sequence
from math import isfinite
from typing import Final

from capstan_contract.evaluation import TrackScores
from capstan_contract.gates import Outcome
from capstan_contract.names import CANARY, STABLE
from capstan_contract.tracks import Counters, Measure, Quantity, bounds_of
from capstan_evaluation.statistics.closed.always_valid import (
    Bucket,
    Moments,
    clustered_difference,
    clustered_ratio,
    mean_difference,
)
from capstan_evaluation.statistics.closed.intervals import Interval
from capstan_evaluation.statistics.closed.quantiles import quantile_ratio
from capstan_operator.api.rollout import GateEvidence, RolloutGate

ALPHA: Final = 0.05
MOST_NAME: Final = 128
NANOS: Final = 1_000_000_000
MICROS: Final = 1_000_000

_Judge = Callable[[float], GateEvidence]


def judge_live(
    gate: RolloutGate,
    stable: Counters,
    canary: Counters,
    *,
    step: int,
    scores: Sequence[TrackScores] = (),
    revision: str = "",
) -> tuple[GateEvidence, ...]:
    """Judge each live gate that is named. `scores` is what the scorer says of the model, `revision` that of the canary
    in it."""
    judges = (*_judges(gate, stable, canary, step), *_worse(gate.score, scores, revision, step))
    return tuple(judge(ALPHA / len(judges)) for judge in judges)


def outcome_of(evidence: tuple[GateEvidence, ...]) -> Outcome:
    """Give what several gates say together: Fail when one does, Pass when all do, or when there is none."""
    said = {one.outcome for one in evidence}
    if Outcome.FAIL in said:
        return Outcome.FAIL
    return Outcome.INCONCLUSIVE if Outcome.INCONCLUSIVE in said else Outcome.PASS


def number(value: float) -> str:
    """Write a number as evidence has it: four digits that count."""
    return f"{value:.4g}" if isfinite(value) else ("inf" if value > 0 else "-inf")


def _judges(gate: RolloutGate, stable: Counters, canary: Counters, step: int) -> Iterator[_Judge]:
    latency = gate.latency
    if latency and latency.ttftP95:
        yield _slower("latency.ttftP95", latency.ttftP95, stable, canary, Quantity.FIRST_TOKEN, step)
    if latency and latency.interTokenP95:
        yield _slower("latency.interTokenP95", latency.interTokenP95, stable, canary, Quantity.INTER_TOKEN, step)
    if gate.errorRate:
        yield _failing("errorRate", gate.errorRate, stable, canary, step)
    if gate.costPerRequest:
        yield _dearer("costPerRequest", gate.costPerRequest, stable, canary, step)


def _slower(name: str, limit: str, stable: Counters, canary: Counters, of: Quantity, step: int) -> _Judge:
    def judge(alpha: float) -> GateEvidence:
        old, new = stable.of(of), canary.of(of)
        bounds, counts = _histograms(old, new)
        found = quantile_ratio(bounds, *counts, alpha=alpha)
        return _evidence(
            name, limit, step, _within(found.interval, float(limit)), count=new.count, interval=found.interval,
            stable=_seconds(found.baseline), candidate=_seconds(found.candidate), difference=found.ratio,
        )  # fmt: skip

    return judge


def _failing(name: str, limit: str, stable: Counters, canary: Counters, step: int) -> _Judge:
    def judge(alpha: float) -> GateEvidence:
        old, new = stable.of(Quantity.ERROR), canary.of(Quantity.ERROR)
        interval = clustered_difference(_buckets(old, 1), _buckets(new, 1), alpha=alpha, span=1)
        apart = new.mean - old.mean if old.mean is not None and new.mean is not None else None
        return _evidence(
            name, limit, step, _within(interval, float(limit)), count=new.count, interval=interval,
            stable=old.mean, candidate=new.mean, difference=apart,
        )  # fmt: skip

    return judge


def _worse(limit: str | None, scores: Sequence[TrackScores], revision: str, step: int) -> Iterator[_Judge]:
    """Judge by each criterion that both tracks are scored by; without any nothing can be told."""
    if limit is None:
        return
    tried = {one.criterion: one for one in scores if one.track == CANARY and one.revision == revision}
    serving = {one.criterion: one for one in sorted(scores, key=lambda one: one.newest) if one.track == STABLE}
    both = sorted(tried.keys() & serving.keys())
    for criterion in both:
        yield _lower(f"score/{criterion}"[:MOST_NAME], limit, serving[criterion], tried[criterion], step)
    if not both:
        yield _lower("score", limit, TrackScores(criterion=""), TrackScores(criterion=""), step)


def _lower(name: str, limit: str, stable: TrackScores, canary: TrackScores, step: int) -> _Judge:
    def judge(alpha: float) -> GateEvidence:
        old, new = (Moments(one.count, one.total, one.squares) for one in (stable, canary))
        interval = mean_difference(old, new, alpha=alpha, span=1)
        worse = Interval(-interval.high, -interval.low)
        return _evidence(
            name, limit, step, _within(worse, float(limit)), count=int(new.count), interval=interval,
            stable=old.mean if old.count else None, candidate=new.mean if new.count else None,
            difference=new.mean - old.mean if old.count and new.count else None,
        )  # fmt: skip

    return judge


def _dearer(name: str, limit: str, stable: Counters, canary: Counters, step: int) -> _Judge:
    def judge(alpha: float) -> GateEvidence:
        old, new = stable.of(Quantity.COST), canary.of(Quantity.COST)
        interval = clustered_ratio(_buckets(old, NANOS), _buckets(new, NANOS), alpha=alpha)
        means = _mean(old, NANOS), _mean(new, NANOS)
        ratio = means[1] / means[0] if means[0] and means[1] is not None else None
        return _evidence(
            name, limit, step, _within(interval, float(limit)), count=new.count, interval=interval,
            stable=means[0], candidate=means[1], difference=ratio,
        )  # fmt: skip

    return judge


def _within(interval: Interval, limit: float) -> Outcome:
    if interval.low > limit:
        return Outcome.FAIL
    return Outcome.PASS if interval.high <= limit else Outcome.INCONCLUSIVE


def _evidence(
    name: str,
    limit: str,
    step: int,
    outcome: Outcome,
    *,
    count: int,
    interval: Interval,
    stable: float | None,
    candidate: float | None,
    difference: float | None,
) -> GateEvidence:
    return GateEvidence(
        name=name,
        outcome=str(outcome),
        step=step,
        limit=limit,
        stable=None if stable is None else number(stable),
        candidate=None if candidate is None else number(candidate),
        difference=None if difference is None else number(difference),
        low=number(interval.low),
        high=number(interval.high),
        count=count,
    )


def _buckets(measure: Measure, scale: int) -> list[Bucket]:
    return [Bucket(count, total / scale) for _, count, total in measure.buckets]


def _mean(measure: Measure, scale: int) -> float | None:
    return None if measure.mean is None else measure.mean / scale


def _seconds(micros: float | None) -> float | None:
    return None if micros is None else micros / MICROS


def _histograms(*measures: Measure) -> tuple[list[float], list[list[int]]]:
    """Give histograms of the same buckets, no more of them than have values."""
    used = [cell for measure in measures for cell, count in measure.cells if count]
    cells = range(min(used, default=1), max(used, default=1) + 1)
    # NB: bounds have to be above 0, and what is above the last one counts for what is not known.
    bounds = [max(float(bounds_of(cells[0])[0]), 0.5), *(float(bounds_of(cell)[1]) for cell in cells)]
    counts = [dict(measure.cells) for measure in measures]
    return bounds, [[0, *(found.get(cell, 0) for cell in cells), 0] for found in counts]
