"""What an experiment comes to: members beside each other, and what can be said of their differences. Pure.

Intervals are always valid (`capstan_evaluation.statistics.closed`): whoever looks again and again, and stops when they
see something, is wrong no more often than alpha says. They are taken from buckets of users, as a user's requests are
alike. All of a report hold together: alpha is divided by the number of what is compared (Bonferroni), of all measures
that there are, whether or not they have a value yet, so that the number does not depend on what was seen.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from math import inf, isfinite, sqrt
from typing import Any, Final

from capstan_contract.feedback import WHOLE
from capstan_contract.tracks import Arm, Counters, Experiment, Quantity, merge, quantile
from capstan_evaluation.statistics.closed.always_valid import Bucket, boundary, clustered_difference
from capstan_evaluation.statistics.closed.exact import TUNED
from capstan_evaluation.statistics.closed.intervals import ALPHA, Interval
from capstan_operator.cli.experiment_scores import Judged, judged_json, lines_of
from capstan_operator.cli.tables import as_table, printable

UNASKED: Final = Judged(why="no scorer was asked")
MICRO: Final = 1_000_000
NANO: Final = 1_000_000_000
MOST_NEEDED: Final = 10_000_000
"""Requests of each member; more are not reckoned with."""


@dataclass(frozen=True)
class Metric:
    """What is compared."""

    quantity: Quantity
    name: str
    unit: float
    """How many of what is counted make one of what is told."""
    span: float | None
    """How far two values can be apart, as told; None: nobody knows."""
    less_is_better: bool
    digits: int
    suffix: str = ""
    scale: float = 1.0
    """By what it is multiplied to be told to people."""

    def told(self, value: float, *, sign: bool = False) -> str:
        """Write a value."""
        return f"{value * self.scale:{'+' if sign else ''}.{self.digits}f}{self.suffix}"


METRICS: Final = (
    Metric(Quantity.ERROR, "error rate", 1.0, 1.0, True, 2, " %", 100.0),
    Metric(Quantity.LATENCY, "latency", MICRO, None, True, 3, " s"),
    Metric(Quantity.FIRST_TOKEN, "first token", MICRO, None, True, 3, " s"),
    Metric(Quantity.COST, "cost", NANO, None, True, 6, " $"),
    Metric(Quantity.FEEDBACK, "feedback", WHOLE, 1.0, False, 3),
    Metric(Quantity.JUDGED, "judged score", WHOLE, 1.0, False, 3),
)


@dataclass(frozen=True)
class Difference:
    """One measure of one member beside the control."""

    member: str
    metric: Metric
    seen: float
    """Mean of the member minus that of the control."""
    interval: Interval
    needed: int | None
    """About so many values of each member would tell a difference as large as the one that is seen; None: it is told
    already, or there is none to see, or more than MOST_NEEDED."""

    @property
    def is_told(self) -> bool:
        """Whether there is a difference, beyond chance."""
        return self.interval.low > 0 or self.interval.high < 0

    @property
    def words(self) -> str:
        """Say it."""
        metric, interval = self.metric, self.interval
        if not isfinite(interval.width):
            return f"{metric.name}: too little was seen to say anything"
        span = f"{metric.told(interval.low, sign=True)} to {metric.told(interval.high, sign=True)}"
        told = f"{metric.name}: {metric.told(self.seen, sign=True)} ({span})"
        if self.is_told:
            better = (self.seen < 0) == metric.less_is_better
            return f"{told}: {'lower' if self.seen < 0 else 'higher'}, which is {'better' if better else 'worse'}"
        if self.needed is None:
            return f"{told}: no difference seen yet"
        return f"{told}: no difference seen yet; one of this size takes about {self.needed:,} values of each to tell"


@dataclass(frozen=True)
class Report:
    """An experiment, as it is now."""

    experiment: Experiment
    control: str
    differences: tuple[Difference, ...]
    alpha: float
    warnings: tuple[str, ...]


def report_on(experiment: Experiment, *, control: str | None = None, alpha: float = ALPHA) -> Report:
    """Compare the members of an experiment with its control: the first one, unless it is named. ValueError for a member
    that there is not."""
    arms = {arm.member: together(arm) for arm in experiment.arms}
    first = control or experiment.arms[0].member
    if first not in arms:
        raise ValueError(f"`{first}` is no member of {experiment.router}: there are {', '.join(arms)}")
    others = [member for member in arms if member != first]
    each = alpha / max(1, len(others) * len(METRICS))
    differences = tuple(
        difference
        for member in others
        for metric in METRICS
        if (difference := compare(arms[first], arms[member], member, metric, alpha=each)) is not None
    )
    return Report(experiment, first, differences, alpha, _warnings(experiment))


def together(arm: Arm) -> Counters:
    """Give all that is known of an arm."""
    return merge(arm.counters, arm.shared)


def compare(baseline: Counters, candidate: Counters, member: str, metric: Metric, *, alpha: float) -> Difference | None:
    """Compare one measure; None where one of both has no value."""
    one, other = baseline.of(metric.quantity), candidate.of(metric.quantity)
    if one.mean is None or other.mean is None:
        return None
    old, new = _buckets(baseline, metric), _buckets(candidate, metric)
    interval = clustered_difference(old, new, alpha=alpha, span=metric.span)
    seen = (other.mean - one.mean) / metric.unit
    told = interval.low > 0 or interval.high < 0
    needed = None if told else needed_for(seen, interval, 2 / (1 / one.count + 1 / other.count), alpha=alpha)
    return Difference(member, metric, seen, interval, needed)


def needed_for(seen: float, interval: Interval, count: float, *, alpha: float) -> int | None:
    """Give how many values of each of two equal groups would tell a difference from none, when `count` of each have the
    interval that is given, and values vary as they do; None where it takes more than MOST_NEEDED."""
    if not isfinite(interval.width) or not seen or interval.width <= 0:
        return None
    error = interval.width / 2 / boundary(count, alpha=alpha, tuned=TUNED)

    def tells(needed: float) -> bool:
        return boundary(needed, alpha=alpha, tuned=TUNED) * error * sqrt(count / needed) < abs(seen)

    low, high = 1, MOST_NEEDED
    if not tells(high):
        return None
    while low < high:
        middle = (low + high) // 2
        low, high = (low, middle) if tells(middle) else (middle + 1, high)
    return max(low, int(count))


def _buckets(counters: Counters, metric: Metric) -> list[Bucket]:
    return [Bucket(count, total / metric.unit) for _, count, total in counters.of(metric.quantity).buckets]


def _warnings(experiment: Experiment) -> tuple[str, ...]:
    found = []
    if experiment.stickyBy == "None":
        found.append(
            "the router is not sticky: a user meets several members, so that what one of them does to users over time"
            " is not seen; set `stickyBy: User`"
        )
    if not experiment.current:
        found.append("the router has other members or weights by now: these are the counts from before")
    counts = {arm.member: arm.counters.requests for arm in experiment.arms}
    total, weights = sum(counts.values()), sum(arm.weight for arm in experiment.arms)
    for arm in experiment.arms:
        expected = arm.weight / weights if weights else 0.0
        if total >= 1000 and expected and not 0.8 < counts[arm.member] / total / expected < 1.25:
            found.append(
                f"{arm.member} got {100 * counts[arm.member] / total:.1f} % of the requests, and its weight is"
                f" {100 * expected:.1f} %: members that were not ready, or a few users who ask the most"
            )
    return tuple(found)


def written(report: Report, *, replicas: int, judged: Judged = UNASKED) -> str:
    """Write it for people."""
    experiment = report.experiment
    total = sum(arm.counters.requests for arm in experiment.arms)
    lines = [
        f"{printable(experiment.name or experiment.router)} ({printable(experiment.router)}), sticky by"
        f" {experiment.stickyBy}: {total:,} requests at {replicas} gateway replica{'' if replicas == 1 else 's'}, each"
        " since it began",
        "",
        as_table([_HEAD, *(_row(arm, judged) for arm in experiment.arms)], left=1),
    ]
    if not report.differences:
        lines.append("no difference seen yet: members that are compared have no values")
    else:
        lines.append(
            f"beside {printable(report.control)} (all intervals together hold with {100 * (1 - report.alpha):g} %,"
            " however often you look):"
        )
    lines += [f"  {printable(one.member)}  {one.words}" for one in report.differences]
    lines += lines_of(judged, [arm.member for arm in experiment.arms], report.control)
    lines += [f"warning: {printable(one)}" for one in report.warnings]
    return "\n".join(lines) + "\n"


_HEAD: Final = (
    "member", "weight", "requests", "errors %", "p50 s", "p95 s", "first token p95 s", "$ a request", "feedback",
    "judged",
)  # fmt: skip


def _row(arm: Arm, judged: Judged) -> Sequence[str]:
    known = together(arm)
    latency, first = known.of(Quantity.LATENCY), known.of(Quantity.FIRST_TOKEN)
    return (
        printable(arm.member), str(arm.weight), f"{known.requests:,}",
        _told(known.of(Quantity.ERROR).mean, 0.01, 2), _told(quantile(latency, 0.5), MICRO, 3),
        _told(quantile(latency, 0.95), MICRO, 3), _told(quantile(first, 0.95), MICRO, 3),
        _told(known.of(Quantity.COST).mean, NANO, 6), _scored(known, Quantity.FEEDBACK),
        judged.cell(arm.member),
    )  # fmt: skip


def _told(value: float | None, unit: float, digits: int) -> str:
    return "-" if value is None else f"{value / unit:.{digits}f}"


def _scored(known: Counters, quantity: Quantity) -> str:
    measure = known.of(quantity)
    return "-" if measure.mean is None else f"{measure.mean / WHOLE:.3f} of {measure.count:,}"


def as_json(
    report: Report, *, replicas: Sequence[str], silent: Sequence[str], judged: Judged = UNASKED
) -> dict[str, Any]:
    """Write it for programs: seconds, US dollars, scores from 0 to 1; null where nothing is known."""
    experiment = report.experiment
    return {
        "object": "experiment.report", "router": experiment.router, "name": experiment.name,
        "epoch": experiment.epoch, "stickyBy": experiment.stickyBy, "current": experiment.current,
        "replicas": list(replicas), "silentReplicas": list(silent), "control": report.control, "alpha": report.alpha,
        "members": [_member(arm) for arm in experiment.arms],
        "differences": [_difference(one) for one in report.differences],
        "judged": judged_json(judged, [arm.member for arm in experiment.arms]),
        "warnings": list(report.warnings),
    }  # fmt: skip


def _member(arm: Arm) -> dict[str, Any]:
    known = together(arm)
    said: dict[str, Any] = {"member": arm.member, "weight": arm.weight, "requests": known.requests}
    for metric in METRICS:
        measure = known.of(metric.quantity)
        said[metric.quantity.value] = {
            "count": measure.count, "mean": None if measure.mean is None else measure.mean / metric.unit,
        }  # fmt: skip
        if measure.cells:
            for name, share in (("p50", 0.5), ("p95", 0.95)):
                value = quantile(measure, share)
                said[metric.quantity.value][name] = None if value is None else value / metric.unit
    return said


def _difference(one: Difference) -> dict[str, Any]:
    low, high = (None if abs(bound) == inf else bound for bound in one.interval)
    return {
        "member": one.member, "metric": one.metric.quantity.value, "difference": one.seen, "low": low, "high": high,
        "told": one.is_told, "neededOfEach": one.needed, "words": one.words,
    }  # fmt: skip
