"""What engines say when they refuse or fail, in whatever form, turned into errors of ours.

who       status         what the client is told
engine    4xx            its message: it is about the client's request
hosted    4xx            the same, without what tells whose account the gateway uses there
hosted    401, 402, 403  our own words: it is about the gateway's key, or its account; so is a 4xx that says so
hosted    429            our own words: the limits are those of the account
any       5xx            our own words: what an engine says of itself stays inside
"""

import re
from typing import Any, Final

import orjson

from capstan_gateway.errors import INVALID_REQUEST_TYPE, SERVER_ERROR_TYPE, TOO_LONG, UpstreamRejected
from capstan_gateway.headers import Header
from capstan_gateway.redaction import without_account

MAX_MESSAGE: Final = 2000
ENGINE_SAID: Final = "the model's engine failed: "
"""In front of what an engine says of its own failure."""
MAX_DIGITS: Final = 12
_CODE: Final = re.compile(r"[A-Za-z][A-Za-z0-9_.-]{0,63}")
"""What may be the code of an error: a word, which is logged and counted. Anything else an engine says there is text."""
_PARAM: Final = re.compile(r"[A-Za-z0-9_.\[\]-]{1,200}")
_QUOTED: Final = re.compile(r"""'[^']*'|"[^"]*"|`[^`]*`""")
_OF_THE_ACCOUNT: Final = re.compile(
    r"credit balance|billing|\bapi[ -]?keys?\b|insufficient[_ ](?:quota|funds|balance)|deactivated|suspended|quota",
    re.IGNORECASE,
)
_CUT_MESSAGE: Final = re.compile(rb'"(?:message|detail)"\s*:\s*"((?:[^"\\]|\\.){0,16000})', re.DOTALL)
_CUT_CODE: Final = re.compile(rb'"code"\s*:\s*"([A-Za-z0-9_.-]{1,64})"')
_ESCAPE: Final = re.compile(
    r"(?:\\u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2}|\\u[0-9a-fA-F]{0,4}|\\.|\\)"
)
_REFUSED_CREDENTIALS: Final = "the hosted model refused the gateway's credentials"
_HOSTED_LIMIT: Final = "the hosted model takes no more of the gateway's requests for now; try again later"
_OPENAI_TYPES: Final = frozenset(
    (
        INVALID_REQUEST_TYPE, SERVER_ERROR_TYPE, "insufficient_quota", "requests", "tokens", "rate_limit_error",
        "authentication_error", "permission_error",
    )
)  # fmt: skip
_CONTEXT_WORDS: Final = (
    "maximum context length",
    "context length is only",
    "max_model_len",
    "context window",
    "prompt is too long",
    "longer than the model's context length",
    "exceeds the maximum allowed length",
    "exceeds the available context size",
    "reduce the length of the messages",
)
_OF_THE_LIMIT: Final = re.compile(r"max_(?:completion_)?tokens\b.{0,40}cannot be greater than", re.IGNORECASE)
"""vLLM's words for a limit that is too high: the window is named in them, and the prompt is not the matter."""
_TOO_LONG_CODES: Final = frozenset(
    ("context_length_exceeded", "exceed_context_size_error", "model_max_prompt_tokens_exceeded")
)
_LENGTHS: Final = (
    (re.compile(r"maximum context length (?:is|of) (\d+)"), re.compile(r"(\d+) (?:input|prompt) tokens")),
    (re.compile(r"maximum context length (?:is|of) (\d+)"), re.compile(r"resulted in (\d+) tokens")),
    (re.compile(r"maximum context length (?:is|of) (\d+)"), re.compile(r"\((\d+) in the (?:messages|prompt)")),
    (re.compile(r"context length \((\d+) tokens"), re.compile(r"input \((\d+) tokens")),
    (re.compile(r"maximum allowed length \((\d+) tokens"), re.compile(r"Input length \((\d+) tokens")),
    (re.compile(r"available context size \((\d+) tokens"), re.compile(r"request \((\d+) tokens")),
    (re.compile(r"exceeds the limit of (\d+)"), re.compile(r"token count of (\d+)")),
    (re.compile(r"> (\d+) maximum"), re.compile(r"prompt is too long: (\d+) tokens")),
)
"""The window, and the prompt, in the words of vLLM, OpenAI, SGLang (two), llama.cpp, Copilot and Anthropic."""
_ASKED: Final = re.compile(r"requested (\d+) (?:output|completion) tokens|(\d+) in the completion")
_STATUS_DIGITS: Final = 3
_NO_SUCH_MODEL: Final = "model_not_found"
_STATUS_OF_ENGINE_FAILURE: Final = {503: 503, 504: 504, 529: 503}


def normalise_error(
    status: int, body: bytes, *, external: bool = False, headers: tuple[Header, ...] = ()
) -> UpstreamRejected:
    """Turn the error answer of an engine into ours; of a long one its beginning is enough."""
    if status >= 500:
        return _engine_failure(status, headers)
    return _refusal(status, _read(body), external=external, headers=headers)


def _refusal(
    status: int, found: dict[str, Any], *, external: bool = False, headers: tuple[Header, ...] = ()
) -> UpstreamRejected:
    message = _text(found.get("message"))
    if external and (status in (401, 402, 403) or _is_of_the_account(status, message)):
        return UpstreamRejected(_REFUSED_CREDENTIALS, status=502, code="upstream_error")
    if external:
        message = _HOSTED_LIMIT if status == 429 else without_account(message[: 2 * MAX_MESSAGE])
    param, code, kind = found.get("param"), found.get("code"), found.get("type")
    error = UpstreamRejected(
        message[:MAX_MESSAGE] or f"the model's engine refused the request ({status})",
        status=status,
        type=kind if isinstance(kind, str) and kind in _OPENAI_TYPES else _type_of(status),
        param=param if isinstance(param, str) and _fits(_PARAM, param, external=external) else None,
        headers=headers,
    )
    error.code = code if isinstance(code, str) and _fits(_CODE, code, external=external) else _code_of(status)
    error.of_model = code == _NO_SUCH_MODEL or param == "model"
    if status in (400, 413) and _is_too_long(message, code, kind):
        error.code, error.param = TOO_LONG, "messages"
        error.lengths = _lengths_in(message[: 2 * MAX_MESSAGE])
    return error


def _is_too_long(message: str, code: object, kind: object) -> bool:
    """Whether the prompt is what is too long, and not the answer that was asked for."""
    if any(isinstance(word, str) and word in _TOO_LONG_CODES for word in (code, kind)):
        return True
    return any(word in message.lower() for word in _CONTEXT_WORDS) and _OF_THE_LIMIT.search(message) is None


def _lengths_in(message: str) -> tuple[int, int, int] | None:
    """Give the tokens of the prompt, of the answer and of the window, where an engine's words have the outer two."""
    for window, prompt in _LENGTHS:
        found, asked = window.search(message), prompt.search(message)
        if found is not None and asked is not None:
            more = _ASKED.search(message)
            answer = 0 if more is None else int((more[1] or more[2])[:MAX_DIGITS])
            return int(asked[1][:MAX_DIGITS]), answer, int(found[1][:MAX_DIGITS])
    return None


def _is_of_the_account(status: int, message: str) -> bool:
    """Whether a hosted API's 4xx is about the account that the gateway uses. What is in quotes may be the client's."""
    return status != 429 and _OF_THE_ACCOUNT.search(_QUOTED.sub("", message[: 2 * MAX_MESSAGE])) is not None


def _fits(form: re.Pattern[str], text: str, *, external: bool) -> bool:
    return form.fullmatch(text) is not None and not (external and without_account(text) != text)


def upstream_error_event(chunk: dict[str, Any], *, external: bool = False) -> UpstreamRejected:
    """Turn an error that an engine sent inside a stream, or with status 200, into ours."""
    found = chunk.get("error")
    code = found.get("code") if isinstance(found, dict) else None
    if isinstance(code, str) and len(code) == _STATUS_DIGITS and code.isascii() and code.isdigit():
        code = int(code)
    status = code if isinstance(code, int) and 400 <= code < 600 else 500
    return _engine_failure(status, ()) if status >= 500 else _refusal(status, _find(chunk), external=external)


def named_error_event(document: dict[str, Any], *, external: bool = False) -> UpstreamRejected:
    """Turn the data of an event that is named `error`, and holds no `error`, into ours.

    What an engine says there without a status is all that is known: it is told, but of a hosted API.
    """
    error = upstream_error_event({"error": document}, external=external)
    said = " ".join(_text(document.get("message") or document.get("detail")).split())
    if said and not external and document.get("code") is None:
        error.message = f"{ENGINE_SAID}{said[:MAX_MESSAGE]}"
    return error


def _engine_failure(status: int, headers: tuple[Header, ...]) -> UpstreamRejected:
    ours = _STATUS_OF_ENGINE_FAILURE.get(status, 502)
    code = {503: "overloaded", 504: "timeout"}.get(ours, "upstream_error")
    return UpstreamRejected(
        f"the model's engine failed ({status})", status=ours, type=SERVER_ERROR_TYPE, code=code, headers=headers
    )


def _type_of(status: int) -> str:
    return {429: "requests", 403: "permission_error"}.get(status, INVALID_REQUEST_TYPE)


def _code_of(status: int) -> str | None:
    return {404: _NO_SUCH_MODEL, 413: "request_too_large", 429: "rate_limit_exceeded"}.get(status)


def _read(body: bytes) -> dict[str, Any]:
    """Find message, type, param and code in whatever form: OpenAI's, old vLLM's flat one, TGI's, FastAPI's, none."""
    try:
        parsed = orjson.loads(body)
    except orjson.JSONDecodeError:
        return _read_cut(body)
    return _find(parsed)


def _find(parsed: Any) -> dict[str, Any]:
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


def _read_cut(body: bytes) -> dict[str, Any]:
    """Find message and code in the beginning of a document that goes on."""
    if not body.lstrip().startswith(b"{"):
        return {}
    message, code = _CUT_MESSAGE.search(body), _CUT_CODE.search(body)
    found: dict[str, Any] = {} if code is None else {"code": code[1].decode()}
    if message is not None:
        # An escape, or a character, may be cut in two at its end.
        text = message[1][: 8 * MAX_MESSAGE].decode(errors="ignore")
        found["message"] = _ESCAPE.sub(_unescaped, text)
    return found


def _unescaped(escape: re.Match[str]) -> str:
    try:
        text = orjson.loads(f'"{escape[0]}"')
    except orjson.JSONDecodeError:
        return "\N{REPLACEMENT CHARACTER}"
    return str(text)


def _text(value: object) -> str:
    if isinstance(value, str):
        return value
    if isinstance(value, list) and value and isinstance(value[0], dict):
        first = value[0]
        loc = first.get("loc")
        where = ".".join(str(part) for part in loc if part != "body") if isinstance(loc, list) else ""
        return f"{where}: {first.get('msg', '')}" if where else str(first.get("msg", ""))
    return ""
