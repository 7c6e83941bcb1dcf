"""The simulator's metrics: vLLM's names for what an engine does, its own for what only a simulator does."""

from collections.abc import Callable

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

from capstan_worker.simulator.scheduler import Scheduler

_SECONDS = (0.001, 0.005, 0.01, 0.02, 0.04, 0.06, 0.08, 0.1, 0.25, 0.5, 0.75, 1, 2.5, 5, 7.5, 10, 20, 40, 80, 160, 640)
_PER_TOKEN = (0.001, 0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.75, 1, 2.5, 5, 10)
_LABELS = ("model_name", "engine")
FINISHED = ("stop", "length", "abort", "error")


class Metrics:
    """One registry per simulator, so that several can live in one process."""

    def __init__(self, model: str, scheduler: Scheduler) -> None:
        self._registry = CollectorRegistry(auto_describe=False)
        self._labels = {"model_name": model, "engine": "0"}
        self._scheduler = scheduler
        self._told = (0, 0)
        self._gauge("vllm:num_requests_running", "Requests in the batch.", lambda: float(scheduler.running))
        self._gauge("vllm:num_requests_waiting", "Requests in the queue.", lambda: float(scheduler.waiting))
        self._gauge("vllm:kv_cache_usage_perc", "Share of KV blocks in use.", lambda: scheduler.blocks.usage)
        self._queries = self._counter("vllm:prefix_cache_queries", "Prompt tokens looked up in the prefix cache.")
        self._hits = self._counter("vllm:prefix_cache_hits", "Prompt tokens found in the prefix cache.")
        self.prompt_tokens = self._counter("vllm:prompt_tokens", "Prompt tokens processed.")
        self.generation_tokens = self._counter("vllm:generation_tokens", "Tokens generated.")
        success = Counter(
            "vllm:request_success", "Requests finished.", (*_LABELS, "finished_reason"), registry=self._registry
        )
        self.finished = {reason: success.labels(**self._labels, finished_reason=reason) for reason in FINISHED}
        self.first_token = self._histogram("vllm:time_to_first_token_seconds", "Time to first token.", _SECONDS)
        self.inter_token = self._histogram("vllm:inter_token_latency_seconds", "Time between tokens.", _PER_TOKEN)
        self.per_token = self._histogram(
            "vllm:request_time_per_output_token_seconds", "Mean time per output token of a request.", _PER_TOKEN
        )
        self.latency = self._histogram("vllm:e2e_request_latency_seconds", "Time of a whole request.", _SECONDS)
        self.queued = self._histogram("vllm:request_queue_time_seconds", "Time in the queue.", _SECONDS)
        self.aborted = Counter("capstan_simulator_aborted", "Requests whose client went away.", registry=self._registry)
        self.requests = Counter("capstan_simulator_requests", "Requests by path.", ("path",), registry=self._registry)
        self.faults = Counter("capstan_simulator_faults", "Faults injected.", ("fault",), registry=self._registry)

    def render(self) -> bytes:
        """Give everything in Prometheus' text format."""
        blocks = self._scheduler.blocks
        self._queries.inc(blocks.queried_tokens - self._told[0])
        self._hits.inc(blocks.hit_tokens - self._told[1])
        self._told = (blocks.queried_tokens, blocks.hit_tokens)
        return generate_latest(self._registry)

    def _gauge(self, name: str, text: str, value: Callable[[], float]) -> None:
        gauge = Gauge(name, text, _LABELS, registry=self._registry)
        gauge.labels(**self._labels).set_function(value)

    def _counter(self, name: str, text: str) -> Counter:
        return Counter(name, text, _LABELS, registry=self._registry).labels(**self._labels)

    def _histogram(self, name: str, text: str, buckets: tuple[float, ...]) -> Histogram:
        return Histogram(name, text, _LABELS, buckets=buckets, registry=self._registry).labels(**self._labels)
