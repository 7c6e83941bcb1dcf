"""Counters, gauges and histograms for one thread: an increment is an addition, without a lock or a dictionary.

`prometheus_client`'s own objects take a lock for every increment and walk the buckets of a histogram in Python, about
10 microseconds a request for what a gateway counts. A collector reads these cells when Prometheus scrapes, in a thread
beside the loop: with many models a scrape takes a while, and a value that is a moment old is as good as any.
"""

from bisect import bisect_left
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Generic, Literal, TypeVar

from prometheus_client.metrics_core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric


class Number:
    """The value of a counter or a gauge."""

    __slots__ = ("value",)

    def __init__(self) -> None:
        self.value: float = 0


class Histogram:
    """How many observations fell into each bucket, and their sum."""

    __slots__ = ("bounds", "counts", "total")

    def __init__(self, bounds: tuple[float, ...]) -> None:
        self.bounds = bounds
        self.counts = [0] * (len(bounds) + 1)
        self.total = 0.0

    def observe(self, value: float) -> None:
        """Count one observation."""
        self.counts[bisect_left(self.bounds, value)] += 1
        self.total += value


Cell = TypeVar("Cell", bound=Number | Histogram)
Labels = tuple[str, ...]


class Family(Generic[Cell]):
    """One metric name with its cells, by label values."""

    def __init__(self, name: str, text: str, labels: Labels, make: Callable[[], Cell]) -> None:
        self.name = name
        self.text = text
        self.labels = labels
        self._make = make
        self.cells: dict[Labels, Cell] = {}

    def at(self, *values: str) -> Cell:
        """The cell of these label values. Hot paths keep what they get."""
        cell = self.cells.get(values)
        if cell is None:
            if len(values) != len(self.labels):
                raise ValueError(f"{self.name} has the labels {self.labels}, not {len(values)} values")
            cell = self.cells[values] = self._make()
        return cell

    def retain(self, label: str, allowed: Iterable[str]) -> None:
        """Forget the cells whose `label` has another value than these, so that the family stays bounded."""
        if label not in self.labels:
            return
        position, kept = self.labels.index(label), frozenset(allowed)
        self.cells = {values: cell for values, cell in list(self.cells.items()) if values[position] in kept}


class NumberFamily(Family[Number]):
    """A counter or a gauge."""

    def __init__(
        self, kind: Literal["counter", "gauge"], name: str, text: str, labels: Labels = (), *, unit: int = 1
    ) -> None:
        super().__init__(name, text, labels, Number)
        self._kind = kind
        self._unit = unit
        """So many of what is counted make one of what is shown: what must be exact is counted in whole numbers."""

    def collect(self) -> Metric:
        """The family as `prometheus_client` wants it."""
        family = CounterMetricFamily if self._kind == "counter" else GaugeMetricFamily
        metric = family(self.name, self.text, labels=self.labels)
        for values, cell in list(self.cells.items()):
            metric.add_metric(values, cell.value / self._unit if self._unit > 1 else cell.value)
        return metric


class HistogramFamily(Family[Histogram]):
    """A histogram."""

    def __init__(self, name: str, text: str, labels: Labels, bounds: tuple[float, ...]) -> None:
        super().__init__(name, text, labels, lambda: Histogram(bounds))

    def collect(self) -> Metric:
        """The family as `prometheus_client` wants it; what was never observed is left out."""
        metric = HistogramMetricFamily(self.name, self.text, labels=self.labels)
        for values, cell in list(self.cells.items()):
            if any(cell.counts):
                metric.add_metric(values, list(_cumulated(cell.bounds, cell.counts)), cell.total)
        return metric


def _cumulated(bounds: Sequence[float], counts: Sequence[int]) -> Iterator[tuple[str, float]]:
    running = 0
    for bound, count in zip((*bounds, float("inf")), counts, strict=True):
        running += count
        yield ("+Inf" if bound == float("inf") else repr(bound)), running
