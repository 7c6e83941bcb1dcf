"""What a request runs against: one immutable object, compiled from one config and replaced as a whole."""

import logging
from collections.abc import Callable, Mapping

import orjson

from capstan_contract.config import (
    CascadeBackend,
    ExternalBackend,
    GatewayConfig,
    ModelEntry,
    Price,
    Provider,
    RouterBackend,
    Task,
    Timeouts,
)
from capstan_gateway.routing.endpoints import EndpointSet
from capstan_gateway.streaming.relay import Rename
from capstan_gateway.telemetry.metrics import Metrics, ModelMetrics

log = logging.getLogger(__name__)


class ServedModel:
    """A name that clients may ask for, with everything that a request to it needs, looked up beforehand."""

    __slots__ = (
        "created", "credential_file", "endpoints", "external", "fallbacks", "id", "max_output_tokens", "metrics",
        "name", "name_header", "price", "provider", "rename", "speaks_anthropic", "task", "timeouts", "upstream_name",
    )  # fmt: skip

    def __init__(
        self, entry: ModelEntry, *, name: str, upstream_name: str, endpoints: EndpointSet, metrics: ModelMetrics
    ) -> None:
        self.id = entry.id
        self.name = name
        self.name_header = name.encode()
        self.upstream_name = upstream_name
        self.task: Task = entry.task
        self.created = entry.created
        self.timeouts: Timeouts = entry.timeouts
        self.max_output_tokens = entry.maxOutputTokens
        self.price: Price | None = entry.price
        self.fallbacks = entry.fallbacks
        self.endpoints = endpoints
        self.metrics = metrics
        self.rename = Rename(upstream_name, name) if upstream_name != name else None
        backend = entry.backend
        self.external = isinstance(backend, ExternalBackend)
        self.provider = backend.provider if isinstance(backend, ExternalBackend) else ""
        self.speaks_anthropic = self.provider == Provider.ANTHROPIC
        self.credential_file = backend.endpoints[0].credentialFile if isinstance(backend, ExternalBackend) else None


class Runtime:
    """One config, ready to serve."""

    __slots__ = ("_entries", "_served", "generations", "hash", "listing", "models")

    def __init__(self, config: GatewayConfig, served: Mapping[str, Mapping[str, ServedModel]]) -> None:
        self.hash = config.hash
        self.generations = {entry.id: entry.generation for entry in config.models}
        self._entries = {entry.id: entry for entry in config.models}
        self._served = served
        self.models = {name: model for names in served.values() for name, model in names.items()}
        """By every name that clients may use: served names, aliases, adapters."""
        cards = [_card(name, model) for name, model in sorted(self.models.items())]
        self.listing = orjson.dumps({"object": "list", "data": cards})

    def compiled(self, entry: ModelEntry) -> Mapping[str, ServedModel] | None:
        """Give what this very entry was compiled to, by name; None when it is another one, or new."""
        return self._served.get(entry.id) if self._entries.get(entry.id) == entry else None


def _card(name: str, model: ServedModel) -> dict[str, object]:
    return {"id": name, "object": "model", "created": model.created, "owned_by": model.provider or "capstan"}


def model_card(runtime: Runtime, name: str) -> dict[str, object] | None:
    """Give one entry of the listing; None for a name that is not served."""
    model = runtime.models.get(name)
    return None if model is None else _card(name, model)


def compile_runtime(
    config: GatewayConfig,
    *,
    endpoints_of: Callable[[ModelEntry], EndpointSet],
    metrics: Metrics,
    previous: Runtime | None = None,
) -> Runtime:
    """Build the Runtime of a config; raises nothing that a valid config could cause.

    Models that are as they were in `previous` are taken from there: a change of one model among a thousand costs
    about as much as that model.
    """
    served: dict[str, Mapping[str, ServedModel]] = {}
    for entry in config.models:
        if isinstance(entry.backend, RouterBackend | CascadeBackend):
            log.warning("left out a model", extra={"model": entry.id, "reason": f"{entry.backend.kind} is not served"})
            continue
        kept = None if previous is None else previous.compiled(entry)
        served[entry.id] = kept or _compile_model(entry, endpoints_of(entry), metrics)
    return Runtime(config, served)


def _compile_model(entry: ModelEntry, endpoints: EndpointSet, metrics: Metrics) -> dict[str, ServedModel]:
    def serve(name: str, upstream: str) -> ServedModel:
        return ServedModel(
            entry, name=name, upstream_name=upstream, endpoints=endpoints, metrics=ModelMetrics(metrics, name)
        )

    main = serve(entry.servedName, entry.upstreamName)
    adapters = {adapter.servedName: serve(adapter.servedName, adapter.upstreamName) for adapter in entry.adapters}
    return {entry.servedName: main, **dict.fromkeys(entry.aliases, main), **adapters}
