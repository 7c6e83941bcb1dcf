"""Every metric of the gateway, in one table.

Labels are bounded: `model` is a served name from the config or "unknown", `status` an HTTP status code, everything else
an enumeration. Never a key, a user or a request id; a tenant only in the families of `telemetry.tenants`, which has a
cap.
"""

from collections.abc import Callable, Iterable, Mapping
from typing import Final

from prometheus_client import CollectorRegistry, GCCollector, PlatformCollector, ProcessCollector, generate_latest
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from capstan_gateway.telemetry.cells import Histogram, HistogramFamily, Number, NumberFamily
from capstan_gateway.tokens.price import NANO

LATENCY: Final = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0, 600.0)
FIRST_TOKEN: Final = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0)
INTER_TOKEN: Final = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5)
GUARDS: Final = (0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
OVERHEAD: Final = (0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.5)

UNKNOWN_MODEL: Final = "unknown"
CLIENT_GONE: Final = 499
"""Status under which an abandoned request is counted and logged; nobody receives it."""


class Metrics(Collector):
    """All families of one process. The names beginning with llm_ are those that dashboards of the field know."""

    def __init__(self) -> None:
        model = ("model",)
        self.requests = NumberFamily("counter", "llm_requests_total", "Requests, by status.", ("model", "status"))
        self.latency = HistogramFamily(
            "llm_request_latency_seconds", "Time from a request's arrival to its answer's end.", model, LATENCY
        )
        self.tokens = NumberFamily("counter", "llm_tokens_total", "Tokens of all calls.", ("model", "direction"))
        # NB: a gauge only in type, because a counter's name would have to end in _total.
        self.cost = NumberFamily(
            "gauge", "llm_cost_dollars", "Price of the tokens so far, in US dollars.", model, unit=NANO
        )
        self.settled = NumberFamily(
            "counter", "llm_calls_settled_total", "Calls that were sent, by where their tokens are known from.",
            ("model", "how"),
        )  # fmt: skip
        self.first_token = HistogramFamily(
            "llm_time_to_first_token_seconds", "Time from a request's arrival to its stream's first bytes.",
            model, FIRST_TOKEN,
        )  # fmt: skip
        self.inter_token = HistogramFamily(
            "llm_inter_token_seconds", "Mean time between the events of a stream, for each stream.", model, INTER_TOKEN
        )
        self.overhead = HistogramFamily(
            "gateway_overhead_seconds", "Time that a request spent in the gateway itself.", model, OVERHEAD
        )
        self.in_flight = NumberFamily("gauge", "gateway_inflight_requests", "Requests being served.", model)
        self.queue_depth = NumberFamily("gauge", "gateway_queue_depth", "Requests waiting for an endpoint.", model)
        self.queue_dispatched = NumberFamily(
            "counter", "gateway_queue_dispatched_total", "Calls of models with a queue, by the way that they went.",
            ("model", "way"),
        )  # fmt: skip
        self.queue_rejected = NumberFamily(
            "counter", "gateway_queue_rejected_total", "Calls that the queue did not take.", ("model", "reason")
        )
        self.queue_wait = HistogramFamily(
            "gateway_queue_wait_seconds", "Time from putting an entry in to the head of its answer.", model, LATENCY
        )
        self.queue_waiting = NumberFamily(
            "gauge", "gateway_queue_waiting", "Entries that wait, of all gateways.", ("model", "class")
        )
        self.queue_oldest = NumberFamily(
            "gauge", "gateway_queue_oldest_seconds", "How long the first of them has waited.", model
        )
        self.queue_expected_wait = NumberFamily(
            "gauge",
            "gateway_queue_expected_wait_seconds",
            "How long another one would wait.",
            model,
        )
        self.queue_running = NumberFamily("gauge", "gateway_queue_running", "Entries that workers have.", model)
        self.queue_workers = NumberFamily("gauge", "gateway_queue_workers", "Workers that take from the queue.", model)
        self.retries = NumberFamily("counter", "gateway_retries_total", "Further attempts.", ("model", "kind"))
        self.hedges = NumberFamily(
            "counter", "llm_hedges_total", "Second attempts on a late first token.", ("model", "outcome")
        )
        self.probes = NumberFamily(
            "counter", "gateway_probes_total", "Probes of endpoints.", ("model", "kind", "outcome")
        )
        self.route_decisions = NumberFamily(
            "counter", "llm_route_decisions_total", "Requests to virtual models, by the model that answered.",
            ("route_model", "model", "strategy"),
        )  # fmt: skip
        self.track_requests = NumberFamily(
            "counter", "gateway_track_requests_total", "Calls of models with a canary, by their outcome.",
            ("model", "track", "outcome"),
        )  # fmt: skip
        self.canary_replaced = NumberFamily(
            "counter", "gateway_canary_replaced_total",
            "Requests of canaries that the stable revision answered in their place.", ("model", "reason"),
        )  # fmt: skip
        self.escalations = NumberFamily(
            "counter", "llm_cascade_escalations_total", "Answers of a cascade's members that were not good enough.",
            ("route_model", "model", "reason"),
        )  # fmt: skip
        self.aborts = NumberFamily("counter", "gateway_upstream_aborts_total", "Calls cut off.", ("model", "cause"))
        self.truncated = NumberFamily(
            "counter", "gateway_stream_truncated_total", "Streams that ended without a finish.", model
        )
        self.rejected = NumberFamily(
            "counter", "gateway_admission_rejected_total", "Turned away before they were read.", ("reason",)
        )
        self.cut_off = NumberFamily(
            "counter", "gateway_clients_cut_off_total", "Connections of clients that were too slow.", ("reason",)
        )
        self.memory_held = NumberFamily("gauge", "gateway_memory_held_bytes", "Held by requests and their answers.")
        self.memory_limit = NumberFamily("gauge", "gateway_memory_limit_bytes", "What requests may hold together.")
        self.memory_refused = NumberFamily("counter", "gateway_memory_refused_total", "How often there was no room.")
        self.config_info = NumberFamily("gauge", "gateway_config_info", "1 for the config in use.", ("hash",))
        self.config_refused = NumberFamily(
            "gauge", "gateway_config_refused_entries", "Entries of the config in use that this release does not serve."
        )
        self.config_success = NumberFamily(
            "gauge", "gateway_config_last_reload_success", "1 when the newest config seen is in use."
        )
        self.config_reloads = NumberFamily("counter", "gateway_config_reload_total", "Configs seen.", ("result",))
        self.discovery_synced = NumberFamily("gauge", "gateway_discovery_synced", "1 when endpoints are known.")
        self.endpoints = NumberFamily("gauge", "gateway_endpoints_ready", "Ready endpoints.", model)
        self.connections = NumberFamily("gauge", "gateway_connections", "Connections of clients.", ("port",))
        self.job_failures = NumberFamily(
            "counter", "gateway_background_failures_total", "Failures of work in the background.", ("job",)
        )
        self.refused_objects = NumberFamily(
            "counter", "gateway_refused_objects_total", "Objects that could not be taken.", ("source",)
        )
        self.outbox_dropped = NumberFamily(
            "counter", "gateway_outbox_dropped_total", "Items that were to be written, and were not.", ("outbox",)
        )
        self.stored_responses = NumberFamily(
            "counter", "gateway_stored_responses_total", "Responses that were to be stored.", ("outcome",)
        )
        self.evaluation_samples = NumberFamily(
            "counter", "gateway_evaluation_samples_total", "Answers that were to be sampled, by what became of it.",
            ("model", "outcome"),
        )  # fmt: skip
        self.feedback = NumberFamily(
            "counter", "llm_feedback_total", "What clients said of answers, by how good they found them.",
            ("model", "label", "outcome"),
        )  # fmt: skip
        self.batches = NumberFamily(
            "counter", "gateway_batches_total", "Batches that came to their end here, by how.", ("status",)
        )
        self.batches_running = NumberFamily("gauge", "gateway_batches_running", "Batches that are worked on here.")
        self.background_responses = NumberFamily(
            "counter", "gateway_background_responses_total", "Responses in the background that ended here, by how.",
            ("status",),
        )  # fmt: skip
        self.background_running = NumberFamily(
            "gauge", "gateway_background_responses_running", "Responses in the background that are worked on here."
        )
        self.batch_lines = NumberFamily(
            "counter", "gateway_batch_lines_total", "Requests of batches, by what came of asking them.", ("outcome",)
        )
        self.redis_calls = NumberFamily("counter", "gateway_redis_calls_total", "Calls of Redis.", ("call", "outcome"))
        self.tokenizers = NumberFamily(
            "gauge", "gateway_tokenizers", "Models whose prompts are counted here, by what counts.", ("kind",)
        )
        self.tokenizer_faults = NumberFamily(
            "counter", "gateway_tokenizer_faults_total",
            "Tokenizers that cannot be used, or are no longer: they count otherwise than the engine.",
            ("tokenizer", "reason"),
        )  # fmt: skip
        self.oidc_fetches = NumberFamily(
            "counter", "gateway_oidc_fetches_total", "Attempts to fetch the keys of an issuer.", ("issuer", "outcome")
        )
        self.redis_seconds = HistogramFamily(
            "gateway_redis_limit_seconds", "Time of Redis' answers about limits.", (), OVERHEAD
        )
        self.limit_admissions = NumberFamily(
            "counter", "gateway_limit_admissions_total", "Requests admitted by limits, by where that was decided.",
            ("where",),
        )  # fmt: skip
        self.limit_reservations = NumberFamily("gauge", "gateway_limit_reservations", "Reservations that run.")
        self.limit_shares = NumberFamily("gauge", "gateway_limit_shares", "Buckets of which a share is held.")
        self.limit_untold = NumberFamily(
            "gauge", "gateway_limit_untold", "Ends of reservations that Redis has not been told yet."
        )
        self.limit_lost_answers = NumberFamily(
            "counter", "gateway_limit_lost_answers_total", "Reservations whose answer was lost; they are given back."
        )
        self.limits_without_store = NumberFamily(
            "gauge", "gateway_limits_without_redis", "1 while limits are decided without Redis."
        )
        self.limit_gateways = NumberFamily("gauge", "gateway_limit_gateways", "Gateways that share the limits.")
        self.tenant_requests = NumberFamily(
            "counter", "llm_tenant_requests_total", "Requests of tenants, by status.", ("tenant", "status")
        )
        self.tenant_tokens = NumberFamily(
            "counter", "llm_tenant_tokens_total", "Tokens of all calls of tenants.", ("tenant", "direction")
        )
        self.tenant_cost = NumberFamily(
            "gauge",
            "llm_tenant_cost_dollars",
            "Price of tenants' tokens so far, in US dollars.",
            ("tenant",),
            unit=NANO,
        )
        self.limit_decisions = NumberFamily(
            "counter", "llm_limit_decisions_total", "Decisions of RateLimitPolicies.",
            ("policy", "mode", "rule", "outcome"),
        )  # fmt: skip
        self.limit_prompt_counts = NumberFamily(
            "counter", "gateway_limit_prompt_counts_total",
            "Decisions of limits that depended on the length of a prompt, by who knew it.", ("by",),
        )  # fmt: skip
        self.limit_tokens = NumberFamily(
            "counter", "llm_limit_tokens_total", "Tokens that limits have reserved, and settled.",
            ("policy", "rule", "stage"),
        )  # fmt: skip
        # NB: a gauge only in type, as the one above.
        self.limit_dollars = NumberFamily(
            "gauge", "llm_limit_dollars", "US dollars that budgets have reserved so far, and settled.",
            ("policy", "rule", "stage"), unit=NANO,
        )  # fmt: skip
        self.limit_unpriced = NumberFamily(
            "counter", "llm_limit_unpriced_total", "Calls under a budget of which nobody knows what they cost.",
            ("policy",),
        )  # fmt: skip
        self.budget_soft_limit = NumberFamily(
            "counter", "llm_budget_soft_limit_total", "Requests above the soft limit of a budget.", ("policy", "rule")
        )
        self.guard_blocks = NumberFamily(
            "counter", "llm_guardrail_blocks_total", "Requests and answers that guards did not let pass.",
            ("guard_type", "stage"),
        )  # fmt: skip
        self.guard_decisions = NumberFamily(
            "counter", "gateway_guard_decisions_total",
            "What guards decided, or in mode Shadow would have, unless they found nothing.",
            ("policy", "guard", "stage", "mode", "decision"),
        )  # fmt: skip
        self.guard_seconds = HistogramFamily(
            "gateway_guard_seconds", "Time of guards for one request or answer.", ("guard_type", "stage"), GUARDS
        )
        self.guard_held = HistogramFamily(
            "gateway_guard_held_seconds",
            "Time that pieces of streams waited for guards before they went on.",
            (),
            GUARDS,
        )
        self.guard_shadows_dropped = NumberFamily(
            "counter", "gateway_guard_shadows_dropped_total",
            "Requests and answers that policies in mode Shadow did not look at, for want of room.", ("policy",),
        )  # fmt: skip
        # NB: a gauge only in type, as llm_cost_dollars is.
        self.guard_shadows_cost = NumberFamily(
            "gauge", "gateway_guard_shadows_cost_dollars",
            "Price of what policies in mode Shadow asked models, on no client's bill, in US dollars.",
            ("policy",), unit=NANO,
        )  # fmt: skip
        self.cache_requests = NumberFamily(
            "counter", "llm_cache_requests_total",
            "What caches had to do with requests; in mode Shadow what they would have had.",
            ("policy", "mode", "outcome"),
        )  # fmt: skip
        self.cache_unreadable = NumberFamily(
            "counter", "llm_cache_unreadable_total",
            "Entries in Redis that were damaged, changed, sealed with another key or of another format: deleted.",
            ("policy",),
        )  # fmt: skip
        self.cache_entries = NumberFamily("gauge", "llm_cache_entries", "Answers kept in memory.", ("policy",))
        self.cache_bytes = NumberFamily("gauge", "llm_cache_bytes", "Memory that they take.", ("policy",))
        self.cache_evicted = NumberFamily(
            "counter", "llm_cache_evicted_total", "Answers that went from memory to make room.", ("policy",)
        )
        self.cache_purges = NumberFamily(
            "counter", "llm_cache_purges_total", "Purges that this gateway has heard of.", ("what",)
        )
        self.cache_stored = NumberFamily("counter", "llm_cache_stored_total", "Answers that were kept.", ("policy",))
        self.cache_saved_tokens = NumberFamily(
            "counter", "llm_cache_saved_tokens_total",
            "Tokens of answers that were there; in mode Shadow of those that would have been.", ("policy", "mode"),
        )  # fmt: skip
        # NB: a gauge only in type, as llm_cost_dollars is.
        self.cache_saved_dollars = NumberFamily(
            "gauge", "llm_cache_saved_dollars",
            "Price of answers that were there, in US dollars; in mode Shadow of those that would have been.",
            ("policy", "mode"), unit=NANO,
        )  # fmt: skip
        self.cache_not_compared = NumberFamily(
            "counter", "llm_cache_semantic_not_compared_total",
            "Questions that were not compared with others, or not kept to be compared, and why.", ("policy", "reason"),
        )  # fmt: skip
        self.cache_samples = NumberFamily(
            "counter", "llm_cache_semantic_samples_total",
            "Hits by meaning that were compared with what the model says; in mode Shadow what would have been hits.",
            ("policy", "outcome"),
        )  # fmt: skip
        self.cache_false_hits = NumberFamily(
            "gauge", "llm_cache_semantic_false_hit_rate",
            "Share of hits by meaning that are wrong, with the bounds of 95% (Wilson).", ("policy", "bound"),
        )  # fmt: skip
        self.cache_semantic_off = NumberFamily(
            "gauge", "llm_cache_semantic_off",
            "Whether a policy gives no answers by meaning any more: too many were wrong.", ("policy",),
        )  # fmt: skip
        # NB: a gauge only in type, as llm_cost_dollars is.
        self.cache_embedding_cost = NumberFamily(
            "gauge", "llm_cache_semantic_embedding_cost_dollars",
            "Price of vectors of questions that a model makes, on no client's bill, in US dollars.", ("policy",),
            unit=NANO,
        )  # fmt: skip
        self.cache_sampling_cost = NumberFamily(
            "gauge", "llm_cache_semantic_sampling_cost_dollars",
            "Price of what was asked to compare hits by meaning, on no client's bill, in US dollars.", ("policy",),
            unit=NANO,
        )  # fmt: skip
        self.kv_cache_hits = NumberFamily(
            "gauge", "llm_kv_cache_hit_ratio",
            "Share of the prompts' tokens that engines had in their prefix caches, in the last five minutes.", model,
        )  # fmt: skip
        self.kv_event_streams = NumberFamily(
            "gauge", "gateway_kv_event_streams", "Endpoints that have told which blocks of prompts they hold.", model
        )
        self.kv_unheard = NumberFamily(
            "counter", "gateway_kv_event_losses_total",
            "How often a worker that tells which blocks it holds was not heard, or no longer.", ("model", "reason"),
        )  # fmt: skip
        self.kv_blocks = NumberFamily(
            "gauge", "gateway_kv_blocks_held", "Blocks of prompts that endpoints hold, as they tell.", model
        )
        self.kv_decisions = NumberFamily(
            "counter", "gateway_kv_decisions_total",
            "Requests to models whose endpoints tell which blocks they hold, by what was known of the prompt.",
            ("model", "by"),
        )  # fmt: skip
        self.kv_prompt_tokens = NumberFamily(
            "counter", "gateway_kv_prompt_tokens_total", "Tokens of the prompts whose blocks were known.", model
        )
        self.kv_expected_hits = NumberFamily(
            "counter", "gateway_kv_expected_hit_tokens_total",
            "Of these, tokens that the endpoint held to which they were sent.", model,
        )  # fmt: skip
        self.tasks = NumberFamily("gauge", "gateway_asyncio_tasks", "Tasks of the event loop.")
        self.families = [item for item in vars(self).values() if isinstance(item, NumberFamily | HistogramFamily)]
        self.before_collect: list[Callable[[], None]] = []
        """Called before every scrape, for gauges that somebody else keeps."""
        self.registry = CollectorRegistry()
        self.registry.register(self)
        for collector in (ProcessCollector, PlatformCollector, GCCollector):
            collector(registry=self.registry)

    def collect(self) -> Iterable[Metric]:
        """All families; called when Prometheus scrapes."""
        for read in self.before_collect:
            read()
        return [family.collect() for family in self.families]

    def render(self) -> bytes:
        """The text that Prometheus reads."""
        return generate_latest(self.registry)

    def retain_models(self, names: Iterable[str]) -> None:
        """Forget models that are no longer configured."""
        kept = {*names, UNKNOWN_MODEL}
        for family in self.families:
            family.retain("model", kept)
            family.retain("route_model", kept)

    def set_kv_cache_hits(self, ratios: Mapping[str, float]) -> None:
        """Tell the shares of these models, and of no other ones."""
        self.kv_cache_hits.retain("model", ratios)
        for model, ratio in ratios.items():
            self.kv_cache_hits.at(model).value = ratio

    def retain_limits(self, names: Iterable[str]) -> None:
        """Forget RateLimitPolicies that are no longer in the config."""
        kept = frozenset(names)
        for family in (
            self.limit_decisions, self.limit_tokens, self.limit_dollars, self.limit_unpriced, self.budget_soft_limit
        ):  # fmt: skip
            family.retain("policy", kept)

    def retain_guards(self, names: Iterable[str]) -> None:
        """Forget GuardPolicies that are no longer in the config."""
        kept = frozenset(names)
        for family in (self.guard_decisions, self.guard_shadows_dropped, self.guard_shadows_cost):
            family.retain("policy", kept)

    def retain_caches(self, names: Iterable[str]) -> None:
        """Forget CachePolicies that are no longer in the config."""
        kept = frozenset(names)
        for family in (
            self.cache_requests, self.cache_stored, self.cache_saved_tokens, self.cache_saved_dollars,
            self.cache_unreadable, self.cache_entries, self.cache_bytes, self.cache_evicted,
        ):  # fmt: skip
            family.retain("policy", kept)

    def retain_compared(self, names: Iterable[str]) -> None:
        """Forget CachePolicies that compare nothing by its meaning any more."""
        kept = frozenset(names)
        for family in (
            self.cache_not_compared, self.cache_samples, self.cache_false_hits, self.cache_semantic_off,
            self.cache_sampling_cost, self.cache_embedding_cost,
        ):  # fmt: skip
            family.retain("policy", kept)


class ModelMetrics:
    """The cells of one model, looked up once for each Runtime."""

    __slots__ = (
        "_aborts", "_model", "_requests", "_statuses", "cost", "estimated", "first_token", "in_flight", "input_tokens",
        "inter_token", "latency", "output_tokens", "overhead", "queue_depth", "succeeded", "told", "truncated",
    )  # fmt: skip

    def __init__(self, metrics: Metrics, model: str) -> None:
        self._model = model
        self._requests = metrics.requests
        self._aborts = metrics.aborts
        self.succeeded: Number = metrics.requests.at(model, "200")
        self._statuses: dict[int, Number] = {200: self.succeeded}
        self.latency: Histogram = metrics.latency.at(model)
        self.first_token: Histogram = metrics.first_token.at(model)
        self.inter_token: Histogram = metrics.inter_token.at(model)
        self.overhead: Histogram = metrics.overhead.at(model)
        self.input_tokens: Number = metrics.tokens.at(model, "input")
        self.output_tokens: Number = metrics.tokens.at(model, "output")
        self.cost: Number = metrics.cost.at(model)
        """In nano-dollars."""
        self.told: Number = metrics.settled.at(model, "told")
        self.estimated: Number = metrics.settled.at(model, "estimated")
        self.in_flight: Number = metrics.in_flight.at(model)
        self.queue_depth: Number = metrics.queue_depth.at(model)
        self.truncated: Number = metrics.truncated.at(model)

    def count(self, status: int) -> None:
        """Count one request that ended with this status, another one than 200; those add to `succeeded`."""
        cell = self._statuses.get(status)
        if cell is None:
            cell = self._statuses[status] = self._requests.at(self._model, str(status))
        cell.value += 1

    def aborted(self, cause: str) -> None:
        """Count one upstream call that was cut off."""
        self._aborts.at(self._model, cause).value += 1
