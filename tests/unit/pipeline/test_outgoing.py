"""What goes out beside the body: the headers for engines and for hosted APIs, and their keys."""

from typing import Any

import pytest

from capstan_contract.config import ExternalBackend, ExternalEndpoint, ModelEntry, Provider
from capstan_gateway.config.credentials import Credentials
from capstan_gateway.config.runtime import ServedModel
from capstan_gateway.headers import Header
from capstan_gateway.pipeline.ask import Ask
from capstan_gateway.pipeline.outgoing import engine_lines, hosted_headers, renamed_bytes, with_key
from capstan_gateway.pipeline.request import Request
from capstan_gateway.routing.endpoints import EndpointSet
from capstan_gateway.routing.registry import EndpointRegistry
from capstan_gateway.telemetry.metrics import Metrics, ModelMetrics
from capstan_gateway.upstream.port import Endpoint
from support.asks import CHAT, an_ask

TRACE = ((b"traceparent", b"t"), (b"tracestate", b"s"))


def hosted(provider: Provider) -> ServedModel:
    """Give a model of a hosted API."""
    backend = ExternalBackend(provider=provider, endpoints=(ExternalEndpoint(name="k", url="http://127.0.0.1/v1"),))
    entry = ModelEntry(id="t/m", servedName="m", upstreamName="m", backend=backend)
    return ServedModel(
        entry, name="m", upstream_name="m", endpoints=EndpointSet(EndpointRegistry()),
        metrics=ModelMetrics(Metrics(), "m"),
    )  # fmt: skip


def asked(*, stream: bool = False, trace: tuple[Header, ...] = (), headers: tuple[Header, ...] = ()) -> Ask:
    """Give an ask."""
    base = an_ask()
    request = Request(CHAT, {"model": "m"}, stream=stream, usage_asked=False, headers=headers)
    return Ask(
        request, base.model, runtime=base.runtime, started=0.0, expires_at=1.0, budget=base.budget,
        request_id=b"r-1", trace=trace,
    )  # fmt: skip


@pytest.mark.parametrize(("stream", "accepted"), [(False, b"application/json"), (True, b"text/event-stream")])
def test_an_engine_is_told_what_is_sent_and_what_is_wanted(stream: bool, accepted: bytes) -> None:
    """And which request it is; the trace where there is one. Nothing else of the client's goes out."""
    lines = b"content-type: application/json\r\naccept: %b\r\nx-request-id: r-1\r\n" % accepted
    assert engine_lines(asked(stream=stream)) == lines
    assert engine_lines(asked(stream=stream, trace=TRACE)) == lines + b"traceparent: t\r\ntracestate: s\r\n"


@pytest.mark.parametrize(("stream", "accepted"), [(False, b"application/json"), (True, b"text/event-stream")])
def test_a_hosted_api_is_told_who_asks(stream: bool, accepted: bytes) -> None:
    """By one name for all clients; what those say of themselves does not reach it."""
    ask = asked(stream=stream, trace=TRACE, headers=((b"anthropic-beta", b"x"),))
    assert hosted_headers(ask, hosted(Provider.OPENAI)) == [
        (b"content-type", b"application/json"), (b"accept", accepted), (b"x-request-id", b"r-1"), *TRACE,
        (b"user-agent", b"capstan-gateway"),
    ]  # fmt: skip


def test_anthropic_is_told_a_version() -> None:
    """The gateway's own, unless the client speaks that dialect and names one; its beta features too."""
    model = hosted(Provider.ANTHROPIC)
    assert hosted_headers(asked(), model)[4:] == [(b"anthropic-version", b"2023-06-01")]
    said = ((b"anthropic-version", b"2099-01-01"), (b"anthropic-beta", b"x"))
    assert hosted_headers(asked(headers=said), model)[4:] == list(said)


def test_each_endpoint_has_its_own_key() -> None:
    """In the header of its API; one that has none is not used, one that needs none gets none."""
    credentials = Credentials()
    credentials.take({"k": b"secret"})
    headers: list[Any] = [(b"a", b"b")]

    def given(provider: Provider, credential: str | None) -> list[Header] | None:
        return with_key(headers, hosted(provider), credentials, Endpoint("e", "h", 1, credential=credential))

    assert given(Provider.OPENAI, "k") == [(b"a", b"b"), (b"authorization", b"Bearer secret")]
    assert given(Provider.ANTHROPIC, "k") == [(b"a", b"b"), (b"x-api-key", b"secret")]
    assert given(Provider.OPENAI, None) == headers
    assert given(Provider.OPENAI, "other") is None
    assert headers == [(b"a", b"b")], "they are those of every endpoint"


@pytest.mark.parametrize(
    ("raw", "given"),
    [
        (b'{"model":"m","x":1}', b'{"model":"new","x":1}'),
        (b'{"x":1,"model" \t\r\n: \n"m"}', b'{"x":1,"model" \t\r\n: \n"new"}'),
        (b'{"model":"mm"}', None),
        (b'{"model":"other"}', None),
        (b'{"x":"model"}', None),
        (b'{"x":1}', None),
        (b'{"model":"m","x":{"model":"m"}}', None),
        (b'{"model":"m","x":"\\u0061"}', None),
        (b'["model","m"]', None),
    ],
)
def test_a_name_is_replaced_in_the_bytes_where_that_is_sure(raw: bytes, given: bytes | None) -> None:
    """Where `model` stands once, as the name of a field, and nothing may be another name written with escapes."""
    assert renamed_bytes(raw, "m", "new") == given
