"""A model as it is served, without a gateway around it."""

from typing import Any

from capstan_contract.config import ModelEntry, StaticBackend
from capstan_gateway.config.runtime import ServedModel
from capstan_gateway.routing.endpoints import EndpointSet
from capstan_gateway.routing.registry import EndpointRegistry
from capstan_gateway.telemetry.metrics import Metrics, ModelMetrics


def a_model(name: str, **fields: Any) -> ServedModel:
    """Give a model that has no endpoint."""
    given = {"id": f"t/{name}", "servedName": name, "upstreamName": name, "backend": StaticBackend(urls=()), **fields}
    return ServedModel(
        ModelEntry(**given), name=name, upstream_name=name, endpoints=EndpointSet(EndpointRegistry()),
        metrics=ModelMetrics(Metrics(), name),
    )  # fmt: skip
