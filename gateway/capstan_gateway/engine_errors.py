"""What engines say when they refuse or fail, in whatever form, turned into errors of ours."""

from typing import Any, Final

import orjson

from capstan_gateway.errors import INVALID_REQUEST, SERVER_ERROR, UpstreamRejected
from capstan_gateway.headers import Header

MAX_MESSAGE: Final = 2000
_OPENAI_TYPES: Final = frozenset(
    (
        INVALID_REQUEST, SERVER_ERROR, "insufficient_quota", "requests", "tokens", "rate_limit_error",
        "authentication_error", "permission_error",
    )
)  # fmt: skip
_CONTEXT_WORDS: Final = (
    "maximum context length",
    "context length is only",
    "max_model_len",
    "context window",
    "prompt is too long",
)
_STATUS_OF_ENGINE_FAILURE: Final = {503: 503, 504: 504, 529: 503}


def normalise_error(
    status: int, body: bytes, *, external: bool = False, headers: tuple[Header, ...] = ()
) -> UpstreamRejected:
    """Turn the error answer of an engine into ours.

    A 4xx is about the client's request, so its message is passed on. A 5xx is about the engine, so what it says of
    itself stays inside. The same holds for a hosted API that refuses our credentials.
    """
    if status >= 500:
        return _engine_failure(status, headers)
    if external and status in (401, 403):
        return UpstreamRejected("the hosted model refused the gateway's credentials", status=502, code="upstream_error")
    found = _read(body)
    message = _text(found.get("message")) or f"the model's engine refused the request ({status})"
    param = found.get("param")
    code, kind = found.get("code"), found.get("type")
    error = UpstreamRejected(
        message[:MAX_MESSAGE],
        status=status,
        type=kind if kind in _OPENAI_TYPES else _type_of(status),
        param=param if isinstance(param, str) and param else None,
        headers=headers,
    )
    error.code = code if isinstance(code, str) and not code.isdigit() else _code_of(status)
    if status == 400 and any(word in message.lower() for word in _CONTEXT_WORDS):
        error.code, error.param = "context_length_exceeded", "messages"
    return error


def upstream_error_event(chunk: dict[str, Any]) -> UpstreamRejected:
    """Turn an error that an engine sent inside a stream into ours."""
    found = chunk.get("error")
    code = found.get("code") if isinstance(found, dict) else None
    status = code if isinstance(code, int) and 400 <= code < 600 else 500
    if isinstance(code, str) and code.isdigit() and 400 <= int(code) < 600:
        status = int(code)
    return normalise_error(status, orjson.dumps(chunk))


def _engine_failure(status: int, headers: tuple[Header, ...]) -> UpstreamRejected:
    ours = _STATUS_OF_ENGINE_FAILURE.get(status, 502)
    code = {503: "overloaded", 504: "timeout"}.get(ours, "upstream_error")
    return UpstreamRejected(
        f"the model's engine failed ({status})", status=ours, type=SERVER_ERROR, code=code, headers=headers
    )


def _type_of(status: int) -> str:
    return {429: "requests", 403: "permission_error"}.get(status, INVALID_REQUEST)


def _code_of(status: int) -> str | None:
    return {404: "model_not_found", 413: "request_too_large", 429: "rate_limit_exceeded"}.get(status)


def _read(body: bytes) -> dict[str, Any]:
    """Find message, type, param and code in whatever form: OpenAI's, old vLLM's flat one, TGI's, FastAPI's, none."""
    try:
        parsed = orjson.loads(body)
    except orjson.JSONDecodeError:
        return {}
    if not isinstance(parsed, dict):
        return {}
    inner = parsed.get("error")
    if isinstance(inner, dict):
        return inner
    if isinstance(inner, str):
        return {"message": inner, "type": parsed.get("error_type")}
    if "message" in parsed:
        return parsed
    return {"message": parsed.get("detail")}


def _text(value: object) -> str:
    if isinstance(value, str):
        return value
    if isinstance(value, list) and value and isinstance(value[0], dict):
        first = value[0]
        where = ".".join(str(part) for part in first.get("loc", ()) if part != "body")
        return f"{where}: {first.get('msg', '')}" if where else str(first.get("msg", ""))
    return ""
