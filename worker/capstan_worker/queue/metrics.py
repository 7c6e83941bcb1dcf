"""What the worker port says of the queue."""

from typing import Final

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

from capstan_contract.queue.calls import Failure
from capstan_contract.queue.names import PriorityClass

_SECONDS: Final = (0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300, 600)
BACK: Final = ("drained", "full", "unreachable", "unreadable", "crashed", "hung")
"""Why entries are given back: the worker ends; the engine has no room; it does not listen; the worker cannot read them;
the engine broke off; it hangs."""


class QueueMetrics:
    """One registry per worker, so that several can live in one process."""

    def __init__(self) -> None:
        self._registry = CollectorRegistry(auto_describe=False)
        taken = self._counter("taken", "Entries taken from the queue.", "class")
        back = self._counter("given_back", "Entries given back, with nothing posted.", "reason")
        failed = self._counter("failures", "Answers that ended with an error of the queue's own.", "reason")
        self.taken = {priority: taken.labels(priority.name.lower()) for priority in PriorityClass}
        self.given_back = {reason: back.labels(reason) for reason in BACK}
        self.failures = {failure: failed.labels(failure.value) for failure in Failure}
        self.lost_pieces = self._counter("lost_pieces", "Pieces of answers that nobody wanted any more.")
        self.in_flight = self._gauge("capstan_worker_queue_in_flight", "Entries that the engine works on.")
        self.held = self._gauge("capstan_worker_queue_held_bytes", "Bytes of answers that Redis has not taken yet.")
        self.up = self._gauge("capstan_worker_queue_up", "Whether the queue's Redis answers.")
        self.hung = self._gauge("capstan_worker_engine_hung", "Whether the engine works on entries and gives nothing.")
        self.wait = self._histogram("wait", "From an entry's coming to its being taken.")
        self.service = self._histogram("service", "From an entry's being taken to the end of its engine's answer.")

    def render(self) -> str:
        """Give everything in Prometheus' text format."""
        return generate_latest(self._registry).decode()

    def _counter(self, name: str, text: str, *labels: str) -> Counter:
        return Counter(f"capstan_worker_queue_{name}", text, labels, registry=self._registry)

    def _gauge(self, name: str, text: str) -> Gauge:
        return Gauge(name, text, registry=self._registry)

    def _histogram(self, name: str, text: str) -> Histogram:
        return Histogram(
            f"capstan_worker_queue_{name}_seconds", text, buckets=_SECONDS, registry=self._registry
        )  # fmt: skip
