"""What the gateways' numbers say of a canary beside the stable pods, looked at again and again.

Both tracks are of the same hours: what is compared is what each has done since the canary was given its first request.
The intervals hold however often somebody looks (`capstan_evaluation.statistics.closed`), and each of the n live gates
gets ALPHA / n, so that a canary that is as good as what it replaces fails any of them, at any look, in 5 % of rollouts
at most. A gate fails when the whole interval is beyond its limit, passes when the whole interval is within, and says
Inconclusive as long as the limit is inside.
"""

from collections.abc import Callable, Iterator
from math import isfinite
from typing import Final

from capstan_contract.gates import Outcome
from capstan_contract.tracks import Counters, Measure, Quantity, bounds_of
from capstan_evaluation.statistics.closed.always_valid import Bucket, clustered_difference, clustered_ratio
from capstan_evaluation.statistics.closed.intervals import Interval
from capstan_evaluation.statistics.closed.quantiles import quantile_ratio
from capstan_operator.api.rollout import GateEvidence, RolloutGate

ALPHA: Final = 0.05
MILLIS: Final = 1000
NANOS: Final = 1_000_000_000
MICROS: Final = 1_000_000

_Judge = Callable[[float], GateEvidence]


def judge_live(gate: RolloutGate, stable: Counters, canary: Counters, *, step: int) -> tuple[GateEvidence, ...]:
    """Judge each live gate that is named."""
    judges = tuple(_judges(gate, stable, canary, step))
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
        yield _apart("errorRate", gate.errorRate, stable, canary, Quantity.ERROR, step)
    if gate.costPerRequest:
        yield _dearer("costPerRequest", gate.costPerRequest, stable, canary, step)
    if gate.score:
        yield _apart("score", gate.score, stable, canary, Quantity.JUDGED, step)


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


def _apart(name: str, limit: str, stable: Counters, canary: Counters, of: Quantity, step: int) -> _Judge:
    """Of errors more are worse, of scores less."""

    def judge(alpha: float) -> GateEvidence:
        old, new, scale = stable.of(of), canary.of(of), 1 if of is Quantity.ERROR else MILLIS
        interval = clustered_difference(_buckets(old, scale), _buckets(new, scale), alpha=alpha, span=1)
        worse = interval if of is Quantity.ERROR else Interval(-interval.high, -interval.low)
        means = _mean(old, scale), _mean(new, scale)
        apart = means[1] - means[0] if means[0] is not None and means[1] is not None else None
        return _evidence(
            name, limit, step, _within(worse, float(limit)), count=new.count, interval=interval,
            stable=means[0], candidate=means[1], difference=apart,
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
