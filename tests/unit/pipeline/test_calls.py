"""What routing is told of a call."""

from types import SimpleNamespace
from typing import Any, cast

import pytest

from capstan_contract.config import ModelEntry, StaticBackend
from capstan_gateway.config.runtime import ServedModel
from capstan_gateway.pipeline.call import call_model
from capstan_gateway.pipeline.deps import Deps
from capstan_gateway.routing.endpoints import EndpointSet
from capstan_gateway.routing.port import Call
from capstan_gateway.routing.registry import EndpointRegistry
from capstan_gateway.telemetry.metrics import Metrics, ModelMetrics
from support.asks import an_ask


class Asked(Exception):
    """Where a call got to."""


@pytest.mark.parametrize(
    ("fields", "repeatable"), [({}, True), ({"store": True}, False), ({"web_search_options": {"x": 1}}, False)]
)
async def test_routing_is_told_what_must_not_be_sent_twice(fields: dict[str, Any], repeatable: bool) -> None:
    """A call whose request has side effects says so, and any other may be repeated."""
    calls: list[Call] = []

    async def dispatch(call: Call) -> None:
        calls.append(call)
        raise Asked

    entry = ModelEntry(id="t/m", servedName="m", upstreamName="m", backend=StaticBackend(urls=()))
    metrics = ModelMetrics(Metrics(), "m")
    model = ServedModel(
        entry, name="m", upstream_name="m", endpoints=EndpointSet(EndpointRegistry()), metrics=metrics
    )  # fmt: skip
    deps: Any = SimpleNamespace(
        dispatcher=SimpleNamespace(dispatch=dispatch), endpoint_wait_seconds=1.0, budget=None, images=None
    )
    document = {"model": "m", "messages": [{"role": "user", "content": "x"}], **fields}
    with pytest.raises(Asked):
        await call_model(cast(Deps, deps), model, an_ask(model, document=document))
    assert [call.repeatable for call in calls] == [repeatable]
