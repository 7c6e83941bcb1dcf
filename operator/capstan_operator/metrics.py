"""The operator's Prometheus metrics: one registry per process, made in __main__ and passed on."""

from collections.abc import Callable

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.gc_collector import GCCollector
from prometheus_client.platform_collector import PlatformCollector
from prometheus_client.process_collector import ProcessCollector

from capstan_operator.resources.api_resource import ApiResource

SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)
LAG = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0, 30.0, 120.0)


class Metrics:
    """What the operator counts and measures. Label values are bounded: kinds, verbs, codes, results."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        ProcessCollector(registry=self.registry)
        PlatformCollector(registry=self.registry)
        GCCollector(registry=self.registry)
        self.reconciles = Counter(
            "capstan_operator_reconciles",
            "Finished reconciles, by what they are of (model, gateway_config) and result (ok, retry, gone,"
            " terminal, forbidden, refused, bug).",
            ("of", "result"),
            registry=self.registry,
        )
        self.reconcile_seconds = Histogram(
            "capstan_operator_reconcile_seconds",
            "Duration of a reconcile.",
            ("of",),
            buckets=SECONDS,
            registry=self.registry,
        )
        self.calls = Counter(
            "capstan_operator_kube_calls",
            "Calls to the API server, by verb (list, get, apply, apply_status, delete), kind and HTTP status.",
            ("verb", "kind", "code"),
            registry=self.registry,
        )
        self.received = Counter(
            "capstan_operator_kube_received_bytes",
            "Bytes that the API server has answered, by verb (watches are not in it).",
            ("verb",),
            registry=self.registry,
        )
        self.call_seconds = Histogram(
            "capstan_operator_kube_call_seconds",
            "Duration of a call to the API server.",
            ("verb",),
            buckets=SECONDS,
            registry=self.registry,
        )
        self.missing_rights = Counter(
            "capstan_operator_forbidden",
            "Pieces of work that failed because the operator lacks a right, by verb and resource.",
            ("verb", "resource"),
            registry=self.registry,
        )
        self.slow_namespaces = Gauge(
            "capstan_operator_slow_namespaces",
            "Namespaces in which runs last so long that they are kept apart from the others.",
            registry=self.registry,
        )
        self.queue_depth = Gauge(
            "capstan_operator_queue_depth", "Keys that wait to be reconciled.", ("queue",), registry=self.registry
        )
        self.queue_running = Gauge(
            "capstan_operator_queue_running", "Keys that are being reconciled.", ("queue",), registry=self.registry
        )
        self.queue_failing = Gauge(
            "capstan_operator_queue_failing", "Keys whose last reconcile failed.", ("queue",), registry=self.registry
        )
        self.watch_events = Counter(
            "capstan_operator_watch_events",
            "Watch events, by kind and whether they were our own writes coming back.",
            ("kind", "echo"),
            registry=self.registry,
        )
        self.watch_lag = Histogram(
            "capstan_operator_watch_lag_seconds",
            "From our own write to its watch event.",
            ("kind",),
            buckets=LAG,
            registry=self.registry,
        )
        self.watch_failures = Counter(
            "capstan_operator_watch_failures",
            "Watches that ended and were begun again, by the kind of error.",
            ("error",),
            registry=self.registry,
        )
        self.unwatched = Gauge(
            "capstan_operator_namespaces_unwatched",
            "Namespaces that are not watched at this moment; changes there are found by the resync.",
            registry=self.registry,
        )
        self.loop_stall = Gauge(
            "capstan_operator_loop_stall_max_seconds",
            "The longest time for which the event loop has not turned.",
            registry=self.registry,
        )
        self.models = Gauge("capstan_operator_models", "LLMModels at the last compile.", registry=self.registry)
        self.accepted = Gauge(
            "capstan_operator_models_accepted", "LLMModels in the gateway config.", registry=self.registry
        )
        self.credentials_lacking = Gauge(
            "capstan_operator_credentials_lacking",
            "Credentials that external models name and the gateway does not have.",
            registry=self.registry,
        )
        self.api_keys = Gauge(
            "capstan_operator_api_keys",
            "Secrets that are API keys of the gateway, by state (valid, faulty: an Event says why).",
            ("state",),
            registry=self.registry,
        )
        self.policies = Gauge(
            "capstan_operator_policies",
            "Policies at the last compile, by state (accepted, refused: a condition says why).",
            ("state",),
            registry=self.registry,
        )
        self.namespaces_unreadable = Gauge(
            "capstan_operator_namespaces_unreadable",
            "Namespaces that are to be worked in and could not be read last time: what was last known of them stays.",
            registry=self.registry,
        )
        self.config_problem = Gauge(
            "capstan_operator_gateway_config_problem",
            "1 while the gateway config cannot be written, by reason; the gateway keeps the one before.",
            ("reason",),
            registry=self.registry,
        )
        self.config_held = Gauge(
            "capstan_operator_gateway_config_held",
            "Models that the newest config would drop although nobody has changed them; their entries stay.",
            registry=self.registry,
        )
        self.crd_release = Gauge(
            "capstan_operator_crd_release",
            "1 for what the release of the CRD is to the operator's (same, older, newer, unknown, missing).",
            ("state",),
            registry=self.registry,
        )
        self.resync_age = Gauge(
            "capstan_operator_resync_age_seconds", "Since the last complete resync.", registry=self.registry
        )
        self.leader = Gauge("capstan_operator_leader", "1 while this process holds the lease.", registry=self.registry)
        self.adoptions = Gauge(
            "capstan_operator_adoptions",
            "LLMModels whose pods are to follow other settings, profiles or shared prompts, by state (waiting, rolling,"
            " stuck).",
            ("state",),
            registry=self.registry,
        )
        self.profiles = Gauge(
            "capstan_operator_profiles",
            "Profiles that `spec.profile` may name, by state (usable, faulty).",
            ("state",),
            registry=self.registry,
        )
        self.gateways = Gauge(
            "capstan_operator_gateway_replicas",
            "Gateway replicas, by state (ready, current: runs the newest config).",
            ("state",),
            registry=self.registry,
        )

    def observe_call(self, verb: str, kind: ApiResource, code: str, seconds: float, received: int) -> None:
        """Count one call to the API server, and the bytes of its answer."""
        self.received.labels(verb).inc(received)
        self.calls.labels(verb, kind.plural, code).inc()
        self.call_seconds.labels(verb).observe(seconds)

    def tell_config_problem(self, reason: str | None) -> None:
        """Say why the gateway config cannot be written; None: it can."""
        self.config_problem.clear()
        if reason is not None:
            self.config_problem.labels(reason).set(1)

    def bind(self, gauge: Gauge, read: Callable[[], float], *labels: str) -> None:
        """Have a gauge read its value when it is scraped."""
        (gauge.labels(*labels) if labels else gauge).set_function(read)

    def render(self) -> bytes:
        """The exposition text."""
        return generate_latest(self.registry)
