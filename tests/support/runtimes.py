"""Compiling a gateway config at one stretch."""

from collections.abc import Callable, Iterable
from typing import Any

from capstan_contract.config import GatewayConfig, ModelEntry
from capstan_contract.keys import KeyEntry
from capstan_gateway.config.runtime import Answering, Runtime, ServedModel, compile_runtime
from capstan_gateway.routing.endpoints import EndpointSet
from capstan_gateway.telemetry.metrics import Metrics
from support.keys import SALT


class Unanswered:
    """Gives no model an answer function."""

    def layers_of(self, entry: ModelEntry) -> tuple[Any, ...]:
        """Give none."""
        return ()

    def layers_of_canary(self, entry: ModelEntry) -> tuple[Any, ...]:
        """Give none."""
        return ()

    def compose(self, model: ServedModel, layers: tuple[Any, ...]) -> None:
        """Leave the model without one."""


def compile_whole(
    *models: ModelEntry,
    endpoints_of: Callable[[ModelEntry], EndpointSet],
    previous: Runtime | None = None,
    keys: Iterable[KeyEntry] = (),
    answering: Answering | None = None,
) -> Runtime:
    """Give the Runtime of these models."""
    config = GatewayConfig.build(models, keys=keys, key_salt=SALT)
    steps = compile_runtime(
        config,
        endpoints_of=endpoints_of,
        metrics=Metrics(),
        answering=answering or Unanswered(),
        previous=previous,
    )
    while True:
        try:
            next(steps)
        except StopIteration as end:
            runtime: Runtime = end.value
            return runtime
