"""The request as an upstream gets it: its body, its headers. Bytes pass through unless a field changes."""

import orjson

from capstan_contract.config import Provider
from capstan_gateway.config.credentials import Credentials
from capstan_gateway.config.runtime import ServedModel
from capstan_gateway.dialects.upstreams.anthropic_request import VERSION
from capstan_gateway.headers import Header, header_lines
from capstan_gateway.pipeline.ask import Ask
from capstan_gateway.pipeline.request import Request
from capstan_gateway.upstream.port import Endpoint

_WHOLE_LINES = b"content-type: application/json\r\naccept: application/json\r\nx-request-id: %b\r\n"
_STREAM_LINES = b"content-type: application/json\r\naccept: text/event-stream\r\nx-request-id: %b\r\n"


def build_body(request: Request, model: ServedModel) -> bytes:
    """Give the body for this model: its own name in it, and usage always asked for in streams."""
    raw = request.raw
    wants_usage = request.stream and not request.usage_asked
    if raw is not None and request.document["model"] == model.upstream_name:
        if not wants_usage:
            return raw
        if "stream_options" not in request.document:
            # A body may hold megabytes of images: putting a key in front is cheaper than writing it all anew.
            return b'{"stream_options":{"include_usage":true},' + raw.lstrip()[1:]
    document = {**request.document, "model": model.upstream_name}
    if wants_usage:
        document["stream_options"] = {**(document.get("stream_options") or {}), "include_usage": True}
    if request.route.dialect is not None and model.provider == Provider.OPENAI and "max_tokens" in document:
        # Their newer models refuse the older name, which other engines know best.
        document["max_completion_tokens"] = document.pop("max_tokens")
    return orjson.dumps(document)


def engine_lines(ask: Ask) -> bytes:
    """Give the header lines for an engine: ours and the trace. Nothing else of the client's goes out."""
    lines = (_STREAM_LINES if ask.request.stream else _WHOLE_LINES) % ask.request_id
    return lines + header_lines(ask.trace) if ask.trace else lines


def hosted_headers(ask: Ask, model: ServedModel) -> list[Header]:
    """Give the headers for a hosted API, but for its key."""
    headers = [
        (b"content-type", b"application/json"),
        (b"accept", b"text/event-stream" if ask.request.stream else b"application/json"),
        (b"x-request-id", ask.request_id),
        *ask.trace,
        (b"user-agent", b"capstan-gateway"),
    ]
    if model.speaks_anthropic:
        # The version, and the beta features that a client who speaks that dialect asks for.
        headers.extend(dict([(b"anthropic-version", VERSION), *ask.request.headers]).items())
    return headers


def with_key(
    headers: list[Header], model: ServedModel, credentials: Credentials, endpoint: Endpoint
) -> list[Header] | None:
    """Give the headers for one endpoint of a hosted API, its key among them; None when the gateway has no such key."""
    if endpoint.credential is None:
        return headers
    key = credentials.key(endpoint.credential)
    if key is None:
        return None
    return [*headers, (b"x-api-key", key) if model.speaks_anthropic else (b"authorization", b"Bearer " + key)]
