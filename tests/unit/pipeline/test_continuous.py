"""Which engines are asked to count a stream chunk by chunk, and how."""

from typing import Any

import orjson
import pytest

from capstan_contract.config import ModelEntry, StaticBackend, Task
from capstan_gateway.config.runtime import ServedModel
from capstan_gateway.pipeline.continuous import asks_itself, is_counted
from capstan_gateway.pipeline.governed import Governed
from capstan_gateway.pipeline.outgoing import build_body
from capstan_gateway.pipeline.parse import parse
from capstan_gateway.pipeline.request import Route
from capstan_gateway.routing.endpoints import EndpointSet
from capstan_gateway.routing.registry import EndpointRegistry
from capstan_gateway.telemetry.metrics import Metrics, ModelMetrics

CHAT = Route("/v1/chat/completions", b"/chat/completions", frozenset((Task.CHAT,)), ("messages",), streams=True)
TEXT = Route("/v1/completions", b"/completions", frozenset((Task.CHAT,)), ("prompt",), streams=True)
METERED = Governed(metered=True)
EACH = {"include_usage": True, "continuous_usage_stats": True}


def model(*, continuous: bool = True, name: str = "m") -> ServedModel:
    """Give a model whose engine counts, or does not."""
    backend = StaticBackend(urls=("http://127.0.0.1:1",))
    entry = ModelEntry(id="t/m", servedName="m", upstreamName=name, backend=backend, continuousUsage=continuous)
    return ServedModel(
        entry, name="m", upstream_name=name,
        endpoints=EndpointSet(EndpointRegistry()), metrics=ModelMetrics(Metrics(), "m"),
    )  # fmt: skip


def chat(**more: Any) -> bytes:
    """Give a body."""
    return orjson.dumps({"model": "m", "messages": [{"role": "user", "content": "x"}], "stream": True, **more})


def test_only_a_stream_that_limits_follow_is_counted_so() -> None:
    """And only by an engine that can: others might refuse the option."""
    stream, whole = parse(CHAT, chat()), parse(CHAT, chat(stream=False))
    assert is_counted(stream, model(), METERED)
    assert not is_counted(whole, model(), METERED)
    assert not is_counted(stream, model(continuous=False), METERED)
    assert not is_counted(stream, model(), Governed())
    assert not is_counted(stream, model(), None)


@pytest.mark.parametrize(
    ("more", "counted"),
    [
        ({"prompt": "one"}, True), ({"prompt": ["one"]}, True), ({"prompt": [1, 2, 3]}, True), ({"n": 1}, True),
        ({"prompt": ["one", "two"]}, False), ({"prompt": [[1], [2]]}, False), ({"n": 2}, False), ({"n": None}, True),
    ],
)  # fmt: skip
def test_several_answers_at_once_have_no_sum(more: dict[str, Any], counted: bool) -> None:
    """An engine counts each by itself, so that nobody is told what all have used."""
    body = orjson.dumps({"model": "m", "prompt": "x", "stream": True, **more})
    assert is_counted(parse(TEXT, body), model(), METERED) is counted


@pytest.mark.parametrize("options", [None, {}, {"include_usage": True}, {"include_usage": False}, {"x": 1}, EACH])
@pytest.mark.parametrize("name", ["m", "other"])
def test_it_is_asked_for_beside_what_the_client_says(options: dict[str, Any] | None, name: str) -> None:
    """In the bytes of the client where that can be; nothing else of them changes."""
    body = chat() if options is None else chat(stream_options=options)
    sent = orjson.loads(build_body(parse(CHAT, body), model(name=name), continuous=True))
    assert sent == {**orjson.loads(body), "model": name, "stream_options": {**(options or {}), **EACH}}
    other = orjson.loads(build_body(parse(CHAT, body), model(name=name)))
    assert other["stream_options"] == {**(options or {}), "include_usage": True}


def test_who_asks_for_counts_is_known() -> None:
    """Of such a client nothing is kept back."""
    assert asks_itself(parse(CHAT, chat(stream_options=EACH)))
    assert not asks_itself(parse(CHAT, chat(stream_options={**EACH, "continuous_usage_stats": False})))
    assert not asks_itself(parse(CHAT, chat()))
