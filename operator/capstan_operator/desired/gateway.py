"""The gateway config of all LLMModels."""

from collections.abc import Callable, Iterable

from capstan_contract.config import Backend
from capstan_operator.desired.types import CompiledGateway
from capstan_operator.snapshot import Model


def compile_gateway(
    models: Iterable[Model], *, backend_of: Callable[[Model], Backend] | None = None
) -> CompiledGateway:
    """Compile the gateway config, with a verdict for each model."""
    raise NotImplementedError
