"""Which models may answer after an error."""

from typing import Any

import pytest

from capstan_contract.config import ModelEntry, StaticBackend
from capstan_gateway.config.runtime import ServedModel
from capstan_gateway.errors import GatewayError, InvalidRequest, UpstreamFailed, UpstreamRejected
from capstan_gateway.pipeline.fallbacks import Candidate, following
from capstan_gateway.routing.endpoints import EndpointSet
from capstan_gateway.routing.registry import EndpointRegistry
from capstan_gateway.routing.unroutable import NoEndpoint
from capstan_gateway.telemetry.metrics import Metrics, ModelMetrics
from capstan_gateway.upstream.errors import DeadlineExceeded, DeadlineKind


def _model(name: str, window: int | None) -> ServedModel:
    entry = ModelEntry(
        id=f"ns/{name}", generation=1, servedName=name, upstreamName=name,
        backend=StaticBackend(urls=()), contextWindow=window,
    )  # fmt: skip
    return ServedModel(
        entry, name=name, upstream_name=name,
        endpoints=EndpointSet(EndpointRegistry()), metrics=ModelMetrics(Metrics(), name),
    )  # fmt: skip


FAILED = _model("failed", 100)
LEFT = [Candidate(_model("same", 100)), Candidate(_model("larger", 200)), Candidate(_model("unknown", None))]
TOO_LONG: Any = {"status": 400, "code": "context_length_exceeded"}


@pytest.mark.parametrize(
    ("error", "routed", "names"),
    [
        (UpstreamFailed("x"), False, ["same", "larger", "unknown"]),
        (NoEndpoint("x", retry_after=1), True, ["same", "larger", "unknown"]),
        (UpstreamRejected("x", status=429), True, ["same", "larger", "unknown"]),
        (DeadlineExceeded("e", DeadlineKind.FIRST_TOKEN), True, ["same", "larger", "unknown"]),
        (DeadlineExceeded("e", DeadlineKind.TOTAL), True, []),
        (UpstreamRejected("x", status=400, code="content_filter"), True, []),
        (InvalidRequest("x"), True, []),
        (UpstreamRejected("x", **TOO_LONG), True, ["larger"]),
        (UpstreamRejected("x", **TOO_LONG), False, []),
    ],
)
def test_who_may_answer_after_an_error(error: Exception, routed: bool, names: list[str]) -> None:
    """Failures go on; faults, blocks and the end of time do not; a prompt that is too long goes to larger windows."""
    assert [one.model.name for one in following(error, FAILED, LEFT, routed=routed)] == names


def test_a_window_that_nobody_knows_is_not_larger() -> None:
    """Without the window of the model that failed there is no telling which one is larger."""
    error: GatewayError = UpstreamRejected("x", **TOO_LONG)
    assert following(error, LEFT[2].model, [Candidate(FAILED)], routed=True) == []
