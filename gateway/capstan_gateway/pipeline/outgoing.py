"""The request as an upstream gets it: its body, its headers. Bytes pass through unless a field changes."""

import re
from typing import Final

import orjson

from capstan_contract.config import Provider
from capstan_gateway.config.credentials import Credentials
from capstan_gateway.config.runtime import ServedModel
from capstan_gateway.dialects.clients.forms import Form
from capstan_gateway.dialects.fields import unsupported
from capstan_gateway.dialects.targets.chat import shape
from capstan_gateway.dialects.targets.private import AGENTS_OWN
from capstan_gateway.dialects.upstreams.anthropic_request import VERSION
from capstan_gateway.documents import INLINE_BYTES, to_json
from capstan_gateway.headers import Header, header_lines
from capstan_gateway.pipeline.ask import Ask
from capstan_gateway.pipeline.continuous import CONTINUOUS
from capstan_gateway.pipeline.request import Request
from capstan_gateway.pipeline.salt import SALT
from capstan_gateway.upstream.port import Endpoint

_WHOLE_LINES = b"content-type: application/json\r\naccept: application/json\r\nx-request-id: %b\r\n"
_STREAM_LINES = b"content-type: application/json\r\naccept: text/event-stream\r\nx-request-id: %b\r\n"
_USAGE: Final = b'{"stream_options":{"include_usage":true},'
_CONTINUOUS: Final = b'{"stream_options":{"include_usage":true,"continuous_usage_stats":true},'
MAX_KIND_CHARS: Final = 64
_MODEL: Final = b'"model"'
_COLON: Final = re.compile(rb"[ \t\r\n]*:[ \t\r\n]*")


def build_body(request: Request, model: ServedModel, *, continuous: bool = False, salt: str = "") -> bytes:
    """Give the body for this model: its own name in it, and usage always asked for in streams.

    With `continuous` it is asked for with every chunk; `salt` is what the engine is to hash its blocks with, whatever
    the client says of it.
    """
    raw, document = request.raw, request.document
    translated = request.route.dialect is not None
    if translated or not request.plain or model.target.has_rules or AGENTS_OWN in document:
        document = shape(document, model.target, translated=translated, plain=request.plain)
        if document is not request.document:
            raw = None
    wants_usage = request.stream and (continuous or not request.usage_asked)
    if raw is not None and request.document["model"] != model.upstream_name:
        # To write a large one anew would take the loop up to half a second, in another thread as well.
        known = request.document["model"]
        raw = renamed_bytes(raw, known, model.upstream_name) if len(raw) > INLINE_BYTES else None
    if raw is not None and not (salt and SALT in request.document):
        # A body may hold megabytes of images: putting a key in front is cheaper than writing it all anew.
        if not wants_usage:
            return raw if not salt else b'{"cache_salt":"%b",' % salt.encode() + raw.lstrip()[1:]
        if "stream_options" not in request.document:
            front = _CONTINUOUS if continuous else _USAGE
            return (front if not salt else front + b'"cache_salt":"%b",' % salt.encode()) + raw.lstrip()[1:]
    document = {**document, "model": model.upstream_name}
    if salt:
        document[SALT] = salt
    if wants_usage:
        options = {**(document.get("stream_options") or {}), "include_usage": True}
        document["stream_options"] = {**options, CONTINUOUS: True} if continuous else options
    if request.route.dialect is not None and model.provider == Provider.OPENAI and "max_tokens" in document:
        # Their newer models refuse the older name, which other engines know best.
        document["max_completion_tokens"] = document.pop("max_tokens")
    return to_json(document)


def refuse_hosted_tools(request: Request) -> None:
    """Raise InvalidRequest when the client brought tools that a translation leaves out, and names the first."""
    dialect, native = request.route.dialect, request.native
    tools = None if dialect is None or native is None else native.tools
    for tool in () if tools is None else tools.dropped:
        raise unsupported(f"{tool.field}.type", f"only a hosted API runs {tool.kind[:MAX_KIND_CHARS]}")


def renamed_bytes(raw: bytes, known: str, name: str) -> bytes | None:
    """Give the JSON object with `name` as its `model` in place of `known`; None when that is not sure without parsing.

    Raw quotes stand only at the ends of texts, so that `"model"` is a name, a value, or the end of a text. Where it
    stands once, and no name can be written with escapes, it is the field of the object itself.
    """
    at = raw.find(_MODEL)
    if at < 0 or raw.find(_MODEL, at + 1) >= 0 or b"\\u00" in raw:
        return None
    colon = _COLON.match(raw, at + len(_MODEL))
    old = orjson.dumps(known)
    if colon is None or not raw.startswith(old, colon.end()):
        return None
    return b"".join((memoryview(raw)[: colon.end()], orjson.dumps(name), memoryview(raw)[colon.end() + len(old) :]))


def engine_lines(ask: Ask) -> bytes:
    """Give the header lines for an engine: ours and the trace. Nothing else of the client's goes out."""
    lines = (_STREAM_LINES if ask.request.stream else _WHOLE_LINES) % ask.request_id
    return lines + header_lines(ask.trace) if ask.trace else lines


def form_lines(ask: Ask, form: Form) -> bytes:
    """Give the header lines for an engine that is sent a form."""
    return header_lines((*_form_headers(ask, form), (b"x-request-id", ask.request_id), *ask.trace))


def _form_headers(ask: Ask, form: Form) -> tuple[Header, Header]:
    # NB: an answer may be JSON, or the text itself.
    accepted = b"text/event-stream" if ask.request.stream else b"*/*"
    return (b"content-type", form.content_type), (b"accept", accepted)


def hosted_headers(ask: Ask, model: ServedModel) -> list[Header]:
    """Give the headers for a hosted API, but for its key."""
    form = ask.request.form
    kinds = _form_headers(ask, form) if form is not None else (
        (b"content-type", b"application/json"),
        (b"accept", b"text/event-stream" if ask.request.stream else b"application/json"),
    )  # fmt: skip
    headers = [
        *kinds,
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
