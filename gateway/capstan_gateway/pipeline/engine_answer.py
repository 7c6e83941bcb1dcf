"""Answers of engines in one piece: whether they are answers, and what their clients read.

A small one is simply read; what has to be written anew is, and else the bytes pass as they came. A large one is JSON,
as was seen before, and only searched, unless something in it may have to be mended.
"""

import re
from typing import Any, Final

import orjson

from capstan_gateway.documents import to_json
from capstan_gateway.engine_errors import upstream_error_event
from capstan_gateway.errors import UpstreamFailed
from capstan_gateway.pipeline.beside import LARGE_BYTES
from capstan_gateway.pipeline.request import CHAT_PATH, Request
from capstan_gateway.streaming.answers import ODD_FINISHES, mend_answer
from capstan_gateway.streaming.asked import Asked
from capstan_gateway.streaming.deltas import FAILED
from capstan_gateway.streaming.forms import REASONING, is_odd
from capstan_gateway.streaming.mended_json import read_mended
from capstan_gateway.tokens.usage import Usage, find_usage, parse_usage

FINISHING: Final = frozenset((CHAT_PATH, b"/completions"))
"""Where every answer says why it ended."""
_ERROR_SIGNS: Final = rb'"error"\s*+:\s*+(?!null|"")|"object"\s*:\s*"error"'
_SIGNS_OF_ERROR: Final = re.compile(_ERROR_SIGNS)
_SIGNS: Final = re.compile(
    _ERROR_SIGNS
    + rb'|"(?:function_call|reasoning|reasoning_text|reasoning_details|thinking)"\s*+:\s*+(?!null|""|\[\s*\]|\{\s*\})'
    rb'|"content"\s*:\s*\[|"reasoning_content"\s*:\s*\{|"index"\s*:\s*[1-9]'
    rb'|"finish_reason"\s*:\s*(?:null|""|"error")|"tool_calls"(?!\s*:\s*(?:\[\s*\]|null))'
)
_FINISHED: Final = (b'"finish_reason":"', b'"finish_reason": "')
NO_JSON: Final = "the model's engine answered with something that is not JSON"
_NO_FINISH: Final = (None, FAILED)
_PLAIN_FINISHES: Final = ("stop", "length")
_TELLING: Final = frozenset(("tool_calls", *REASONING))
"""Fields of a message in which something may be in another form, beside its content."""
_UNFINISHED: Final = "the model's engine answered without a finish reason"


def asked_by(request: Request) -> Asked:
    """What is needed of a request to read its answer."""
    route = request.route
    chat = route.upstream_path == CHAT_PATH
    return Asked(request.document, chat=chat, client_reads_chat=chat and route.dialect is None)


def read_answer(request: Request, body: bytes, *, hosted: bool) -> tuple[bytes, Usage | None]:
    """Give an answer in one piece as its client reads it, and its usage.

    UpstreamFailed when it is none, or has no finish reason where it must. A small one is simply read. A large one is
    JSON, as was seen before, and only searched: inside JSON strings quotes are escaped, so that the name of a field in
    quotes is never part of a text.
    """
    if len(body) > LARGE_BYTES:
        if not body.lstrip().startswith(b"{"):
            raise UpstreamFailed(NO_JSON)
        if request.route.upstream_path in FINISHING and not any(found in body for found in _FINISHED):
            raise UpstreamFailed(_UNFINISHED)
        return body, find_usage(body)
    try:
        document = orjson.loads(body)
    except orjson.JSONDecodeError:
        document = None
    if not _is_plain(document):
        body, document = _read(request, body, hosted=hosted)
    return body, parse_usage(document.get("usage"))


def _is_plain(document: Any) -> bool:
    """Whether it is what most answers are: one choice that has ended, with a text. Of all else nothing is said."""
    try:
        (choice,) = document["choices"]
        message = choice["message"]
        return (
            type(message["content"]) is str
            and choice["finish_reason"] in _PLAIN_FINISHES
            and (_TELLING.isdisjoint(message) or not any(map(message.get, _TELLING)))
            and document.get("error") is None
            and document.get("object") != "error"
        )
    except (KeyError, TypeError, ValueError):  # Something of it is not there, or of another type.
        return False


def looks_odd(body: bytes, *, finishes: bool = True) -> bool:
    """Whether a large answer is to be read rather than searched: there may be an error in it, or, in one that
    `finishes` with a reason, a call, several choices, or another form.

    It may take a while. What is no sign of these is in nearly every answer: nulls, empty lists and texts.
    """
    if not finishes:
        return _SIGNS_OF_ERROR.search(body) is not None
    # A reason within a choice's other fields could pass for its own.
    return (
        _SIGNS.search(body) is not None
        or body.count(b'"message"') + body.count(b'"text"') > 1
        or body.count(b'"finish_reason"') > 1
    )


def mended_large(request: Request, body: bytes, *, hosted: bool) -> bytes:
    """Give a large answer as its client reads it; UpstreamFailed as for a small one. It may take a while."""
    return _read(request, body, hosted=hosted)[0]


def _read(request: Request, body: bytes, *, hosted: bool) -> tuple[bytes, dict[str, Any]]:
    """Give an answer as its client reads it, and what it says."""
    mended = False
    try:
        document = orjson.loads(body)
    except orjson.JSONDecodeError:
        document, mended = _mended(body), True
    if type(document) is not dict:
        raise UpstreamFailed(NO_JSON)
    if document.get("error") is not None:
        raise upstream_error_event(document, external=hosted)
    if document.get("object") == "error":  # The form of older vLLM.
        raise upstream_error_event({"error": document}, external=hosted)
    if request.route.upstream_path in FINISHING and _may_be_odd(document.get("choices")):
        mended = mend_answer(document, asked_by(request)) or mended
    return to_json(document) if mended else body, document


def _mended(body: bytes) -> Any:
    try:
        return read_mended(body)
    except orjson.JSONDecodeError as error:
        raise UpstreamFailed(NO_JSON) from error


def _may_be_odd(choices: Any) -> bool:
    """Whether something in these choices is perhaps in a form that not every client reads.

    UpstreamFailed unless there are choices, and each says why it ended.
    """
    if type(choices) is not list or not choices:
        raise UpstreamFailed(_UNFINISHED)
    odd = len(choices) > 1
    for choice in choices:
        if type(choice) is not dict or (reason := choice.get("finish_reason")) in _NO_FINISH:
            raise UpstreamFailed(_UNFINISHED)
        message = choice.get("message")
        if reason in ODD_FINISHES or (type(message) is dict and (message.get("tool_calls") or is_odd(message))):
            odd = True
    return odd
