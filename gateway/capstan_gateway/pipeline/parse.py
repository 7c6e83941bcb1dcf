"""The body, read once and parsed once: from bytes to a request."""

from dataclasses import replace
from functools import partial
from typing import Any, Final

from capstan_gateway.dialects.clients.forms import boundary_of, put_model, read_flag, read_form, whole_numbers
from capstan_gateway.dialects.clients.port import Dialect
from capstan_gateway.dialects.clients.spoken import RESPONSES
from capstan_gateway.documents import INLINE_BYTES, is_read_alike
from capstan_gateway.errors import ClientGone, InvalidRequest, NotJson, RequestTooLarge
from capstan_gateway.headers import JSON, Header
from capstan_gateway.pipeline.asked_later import take_background
from capstan_gateway.pipeline.beside import LARGE_BYTES, beside
from capstan_gateway.pipeline.decompress import ACCEPTED, CODINGS
from capstan_gateway.pipeline.delivery import Delivery
from capstan_gateway.pipeline.deps import Deps
from capstan_gateway.pipeline.loading import check_depth, decompress, load, load_large, load_small
from capstan_gateway.pipeline.options import FIELD, PREFIX_ID, read_options
from capstan_gateway.pipeline.request import USAGE_FLAG, NativeRequest, Request, Route
from capstan_gateway.pipeline.trimming import trim_document

MAX_MODEL_NAME: Final = 256
_BOUNDS: Final = ("max_completion_tokens", "max_tokens", "min_tokens", "n", "best_of")
"""Fields of a form of which limits are to know how much they allow."""
_DEVELOPER: Final = "developer"
_PROVIDERS_OWN: Final = frozenset((b"anthropic-version", b"anthropic-beta"))
_MAX_HEADER_BYTES: Final = 1024


def receive(delivery: Delivery, deps: Deps) -> Request | None:
    """Read and check the body: everything that makes an answer impossible is refused here, with the field's path.

    None when it has not arrived in one piece yet; see `receive_later`.
    """
    exchange = delivery.exchange
    if exchange.length is not None and exchange.length > deps.max_body_bytes:
        raise RequestTooLarge(f"the body is larger than {deps.max_body_bytes} bytes")
    if delivery.route.form:
        boundary_of(delivery.content_type)
        _check_coding(delivery)
        return None
    if delivery.content_type != JSON or delivery.content_encoding is not None:
        _check_head(delivery)
    if exchange.received > INLINE_BYTES or delivery.content_encoding is not None:
        return None
    body = exchange.whole_body(deps.max_body_bytes)
    if body is None:
        return None
    document = load_small(exchange, body)
    route = delivery.route
    if route.dialect is not None or FIELD in document or PREFIX_ID in document or delivery.model:
        alike = _take_options(delivery, document, deps)
        if delivery.options.trim_tokens is not None:
            _trim(delivery, document, delivery.options.trim_tokens)
        return _received(delivery, deps, body, document, alike)
    delivery.body_at = deps.clock()  # As `_received` does in the end: nearly every request comes by here.
    return parse(route, body, document)


async def receive_later(delivery: Delivery, deps: Deps) -> Request:
    """Wait for the rest of the body, then do the same."""
    try:
        body = await delivery.exchange.read_body(deps.max_body_bytes)
    except ClientGone:
        delivery.client_gone = True
        raise
    coding = delivery.content_encoding
    if coding is not None and coding in CODINGS:
        body = await decompress(delivery.exchange, coding, body, deps.max_body_bytes, deps.executor)
    if delivery.route.form:
        return await _receive_form(delivery, deps, body)
    document = await load_large(delivery.exchange, body, deps.executor)
    dialect = delivery.route.dialect
    alike = _take_options(delivery, document, deps)
    if delivery.options.trim_tokens is not None:
        await beside(deps.executor, partial(_trim, delivery, document, delivery.options.trim_tokens))
    if len(body) <= INLINE_BYTES:
        return _received(delivery, deps, body, document, alike)
    if dialect is None:
        if alike is None:
            alike = await beside(deps.executor, partial(is_read_alike, body, document))
        delivery.body_at = deps.clock()
        return parse(delivery.route, body, document, alike=alike)
    delivery.exchange.reserve(len(body))  # Texts that the translation joins are there twice.
    headers = _own_headers(delivery.exchange.headers)
    request = await beside(
        deps.executor, partial(translate, delivery.route, dialect, body, headers, document, alike=alike)
    )
    return _translated(delivery, deps, request)


async def _receive_form(delivery: Delivery, deps: Deps, body: bytes) -> Request:
    read = partial(parse_form, delivery.route, boundary_of(delivery.content_type), body, delivery.model)
    request = read() if len(body) <= LARGE_BYTES else await beside(deps.executor, read)
    delivery.body_at = deps.clock()
    return request


def parse_form(route: Route, boundary: bytes, body: bytes, model: str = "") -> Request:
    """Give the request of a route that takes forms; `model` is what its path names. Raises InvalidRequest."""
    form, document = read_form(boundary, body)
    if model:
        put_model(document, model)
    name = document.get("model")
    if name is None or not 0 < len(name) <= MAX_MODEL_NAME:
        raise _model_fault(name)
    for option in (FIELD, PREFIX_ID):
        if option in document:
            raise _invalid(option, "is not supported on this route")
    stream = read_flag(document, "stream")
    if "stream" in document:
        document["stream"] = stream
    document |= whole_numbers(document, _BOUNDS)
    usage_asked = stream and read_flag(document, USAGE_FLAG)
    return Request(route, document, stream, usage_asked, None, len(body), form=form)


def _take_options(delivery: Delivery, document: dict[str, Any], deps: Deps) -> bool | None:
    """Take what is asked of the gateway itself out of the document, and the model of the path into it; False: the bytes
    say something else, and are not sent."""
    named = delivery.model
    changed = bool(named) and document.get("model") != named
    if changed:
        document["model"] = named
    if deps.later is not None and delivery.route.dialect is RESPONSES:
        changed = take_background(delivery, document) or changed
    if FIELD not in document and PREFIX_ID not in document:
        return False if changed else None
    delivery.said_options = {name: document[name] for name in (FIELD, PREFIX_ID) if name in document}
    read = read_options(document.pop(FIELD, None), document.pop(PREFIX_ID, None))
    delivery.options = replace(read, max_cost_header=delivery.options.max_cost_header)
    options = document.get("stream_options")
    if read.cost and delivery.route.dialect is None and isinstance(options, dict):
        # The usage of such a stream is told with its cost, and once: see `pipeline.costed`.
        document["stream_options"] = {name: value for name, value in options.items() if name != "include_usage"}
    return False


def _trim(delivery: Delivery, document: dict[str, Any], most: int) -> None:
    delivery.trimmed = trim_document(delivery.route, document, most)


def _received(delivery: Delivery, deps: Deps, body: bytes, document: dict[str, Any], alike: bool | None) -> Request:
    route = delivery.route
    if route.dialect is None:
        delivery.body_at = deps.clock()
        return parse(route, body, document, alike=alike)
    request = translate(route, route.dialect, body, _own_headers(delivery.exchange.headers), document, alike=alike)
    return _translated(delivery, deps, request)


def _translated(delivery: Delivery, deps: Deps, request: Request) -> Request:
    delivery.body_at = deps.clock()
    if request.native is not None:
        delivery.client_document = request.native.document
        delivery.client_tools = request.native.tools
    return request


def parse(route: Route, body: bytes, document: dict[str, Any] | None = None, alike: bool | None = None) -> Request:
    """Give the request of a route without a dialect; `document` is the body, where it is parsed already.

    A body that other parsers might read in another way is written anew, so that the engine reads what was read here;
    `alike` says that it is not, where somebody has looked already.
    """
    if document is None:
        document = load(body)
    name = document.get("model")
    if type(name) is not str or not 0 < len(name) <= MAX_MODEL_NAME:
        if name is not None or not route.model:
            raise _model_fault(name)
        document, alike = {**document, "model": route.model}, False
    plain = True
    for field in route.required:
        value = document.get(field)
        if value is None:
            raise InvalidRequest(f"`{field}` is required", code="missing_required_parameter", param=field)
        if field == "messages":
            plain = _check_messages(value)
    stream = usage_asked = False
    if "stream" in document or "stream_options" in document:
        stream, usage_asked = _read_stream(document, route)
    raw = body if (is_read_alike(body, document) if alike is None else alike) else None
    if raw is None:
        check_depth(body, document)
    return Request(route, document, stream, usage_asked, raw, len(body), plain)


def translate(
    route: Route,
    dialect: Dialect,
    body: bytes,
    headers: list[Header],
    given: dict[str, Any] | None = None,
    *,
    alike: bool | None = None,
) -> Request:
    """Take a request in another dialect. What chat cannot say is refused later, unless the model speaks it too.

    `given` and `alike` as for `parse`.
    """
    if given is None:
        given = load(body)
    name = given.get("model")
    if type(name) is not str or not 0 < len(name) <= MAX_MODEL_NAME:
        raise _model_fault(name)
    stream = given.get("stream")
    if stream is not None and not isinstance(stream, bool):
        raise _invalid("stream", "must be true or false")
    if stream and not route.streams:
        raise _invalid("stream", "is not supported on this route")
    check_depth(body, given)
    untranslatable = tools = None
    try:
        tools = dialect.read_tools(given)
        document = dialect.read_request(given, tools)
    except InvalidRequest as error:
        untranslatable = error
        document = {"model": given["model"], "messages": [], "stream": bool(stream)}
    return Request(
        route, document, stream=bool(stream), usage_asked=bool(stream),
        native=NativeRequest(given, body if (is_read_alike(body, given) if alike is None else alike) else None, tools),
        untranslatable=untranslatable, headers=headers, came=len(body),
    )  # fmt: skip


def _own_headers(headers: list[Header]) -> list[Header]:
    return [header for header in headers if header[0] in _PROVIDERS_OWN and len(header[1]) <= _MAX_HEADER_BYTES]


def _check_head(delivery: Delivery) -> None:
    kind = delivery.content_type
    if kind is not None and kind != JSON and not _is_json(kind):
        raise NotJson("the content type must be application/json")
    _check_coding(delivery)


def _check_coding(delivery: Delivery) -> None:
    encoding = delivery.content_encoding
    if encoding is not None:
        delivery.content_encoding = encoding = encoding.strip().lower()
        if encoding != b"identity" and encoding not in CODINGS:
            accepted = ((b"accept-encoding", ACCEPTED),)
            message = f"the body may be compressed with one of {ACCEPTED.decode()}"
            raise NotJson(message, param="content-encoding", headers=accepted)


def _is_json(content_type: bytes) -> bool:
    kind = content_type.split(b";", 1)[0].strip().lower()
    return kind == JSON or kind.endswith(b"+json")


def _model_fault(name: object) -> InvalidRequest:
    if name is None:
        return InvalidRequest("`model` is required", code="missing_required_parameter", param="model")
    return _invalid("model", f"must be a string of 1 to {MAX_MODEL_NAME} characters")


def _check_messages(messages: Any) -> bool:
    """Say whether every message is a text, and none a developer's."""
    if not isinstance(messages, list) or not messages:
        raise _invalid("messages", "must be a list of at least one message")
    plain = True
    for message in messages:
        if not isinstance(message, dict):
            raise _invalid(f"messages.{_place(message, messages)}", "must be an object")
        role = message.get("role")
        if not isinstance(role, str):
            raise _invalid(f"messages.{_place(message, messages)}.role", "must be a string")
        if type(message.get("content")) is not str or role == _DEVELOPER:
            plain = False
    return plain


def _place(message: Any, messages: list[Any]) -> int:
    """Where this very object stands: counted when it is to be told, not for each message."""
    return next(place for place, other in enumerate(messages) if other is message)


def _read_stream(document: dict[str, Any], route: Route) -> tuple[bool, bool]:
    """Say whether a stream is wanted, and whether its usage is."""
    stream, options = document.get("stream"), document.get("stream_options")
    if stream is None and options is None:
        return False, False
    if stream is not None and not isinstance(stream, bool):
        raise _invalid("stream", "must be true or false")
    if options is not None and not isinstance(options, dict):
        raise _invalid("stream_options", "must be an object")
    if stream and not route.streams:
        raise _invalid("stream", "is not supported on this route")
    if options is not None and not stream:
        raise _invalid("stream_options", "is only allowed when `stream` is true")
    return bool(stream), bool(options and options.get("include_usage"))


def _invalid(field: str, must: str) -> InvalidRequest:
    return InvalidRequest(f"`{field}` {must}", code="invalid_value", param=field)
