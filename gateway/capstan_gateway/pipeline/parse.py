"""Stage: the body, read once and parsed once."""

from collections.abc import Awaitable
from typing import Any, Final

import orjson

from capstan_gateway.dialects.clients.port import Dialect
from capstan_gateway.errors import ClientGone, InvalidRequest, NotJson, RequestTooLarge
from capstan_gateway.pipeline.context import NativeRequest, RequestContext
from capstan_gateway.pipeline.deps import Deps

MAX_MODEL_NAME: Final = 256
JSON: Final = b"application/json"


def parse(context: RequestContext, deps: Deps) -> Awaitable[None] | None:
    """Read and check the body: everything that makes an answer impossible is refused here, with the field's path."""
    _check_head(context, deps.max_body_bytes)
    body = context.exchange.whole_body(deps.max_body_bytes)
    if body is None:
        return _parse_later(context, deps)
    _parse(context, deps, body)
    return None


async def _parse_later(context: RequestContext, deps: Deps) -> None:
    try:
        body = await context.exchange.read_body(deps.max_body_bytes)
    except ClientGone:
        context.client_gone = True
        raise
    _parse(context, deps, body)


def _parse(context: RequestContext, deps: Deps, body: bytes) -> None:
    context.body = body
    context.body_complete = True
    context.body_at = deps.clock()
    context.document = document = _load(body)
    context.model_name = _model(document)
    route = context.route
    if route.dialect is not None:
        _translate(context, route.dialect)
        return
    for field in route.required:
        if document.get(field) is None:
            raise InvalidRequest(f"`{field}` is required", code="missing_required_parameter", param=field)
    if "messages" in route.required:
        _check_messages(document["messages"])
    _read_stream(context, document)


def _translate(context: RequestContext, dialect: Dialect) -> None:
    """Take a request in another dialect. What chat cannot say is refused later, unless the model speaks it too."""
    given = context.document
    context.native = NativeRequest(given, context.body)
    stream = given.get("stream")
    if stream is not None and not isinstance(stream, bool):
        raise _invalid("stream", "must be true or false")
    if stream and not context.route.streams:
        raise _invalid("stream", "is not supported on this route")
    try:
        context.document = dialect.read_request(given)
    except InvalidRequest as error:
        context.untranslatable = error
        context.document = {"model": context.model_name, "messages": [], "stream": bool(stream)}
    context.stream = context.usage_asked = bool(stream)


def _check_head(context: RequestContext, limit: int) -> None:
    length, kind, encoding = context.content_length, context.content_type, context.content_encoding
    if length is not None and length.isdigit() and int(length) > limit:
        raise RequestTooLarge(f"the body is larger than {limit} bytes")
    if kind is not None and kind != JSON and not _is_json(kind):
        raise NotJson("the content type must be application/json")
    if encoding is not None and encoding != b"identity":
        raise NotJson("compressed request bodies are not supported", param="content-encoding")


def _is_json(content_type: bytes) -> bool:
    kind = content_type.split(b";", 1)[0].strip().lower()
    return kind == JSON or kind.endswith(b"+json")


def _load(body: bytes) -> dict[str, Any]:
    try:
        document = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise InvalidRequest(f"the body is not JSON: {error}", code="invalid_json") from error
    if not isinstance(document, dict):
        raise InvalidRequest("the body must be a JSON object", code="invalid_json")
    return document


def _model(document: dict[str, Any]) -> str:
    name = document.get("model")
    if name is None:
        raise InvalidRequest("`model` is required", code="missing_required_parameter", param="model")
    if not isinstance(name, str) or not 0 < len(name) <= MAX_MODEL_NAME:
        raise _invalid("model", f"must be a string of 1 to {MAX_MODEL_NAME} characters")
    return name


def _check_messages(messages: Any) -> None:
    if not isinstance(messages, list) or not messages:
        raise _invalid("messages", "must be a list of at least one message")
    for position, message in enumerate(messages):
        if not isinstance(message, dict):
            raise _invalid(f"messages.{position}", "must be an object")
        if not isinstance(message.get("role"), str):
            raise _invalid(f"messages.{position}.role", "must be a string")


def _read_stream(context: RequestContext, document: dict[str, Any]) -> None:
    stream, options = document.get("stream"), document.get("stream_options")
    if stream is None and options is None:
        return
    if stream is not None and not isinstance(stream, bool):
        raise _invalid("stream", "must be true or false")
    if options is not None and not isinstance(options, dict):
        raise _invalid("stream_options", "must be an object")
    if stream and not context.route.streams:
        raise _invalid("stream", "is not supported on this route")
    if options is not None and not stream:
        raise _invalid("stream_options", "is only allowed when `stream` is true")
    context.stream = bool(stream)
    context.usage_asked = bool(options and options.get("include_usage"))


def _invalid(field: str, must: str) -> InvalidRequest:
    return InvalidRequest(f"`{field}` {must}", code="invalid_value", param=field)
