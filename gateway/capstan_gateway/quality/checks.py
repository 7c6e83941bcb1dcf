"""Checks of an answer that need no model: is it there, does it refuse, has it the form asked for, is it whole?

    score  what
    1      nothing is wrong; or a content filter ended it, which is never asked around
    0.5    nothing is known to be wrong, and its form could not be checked: the schema asks for too much work
    0.4    it was cut off at a limit that the client did not set
    0.1    it refuses, in one of the usual English phrases at its beginning
    0      it is empty; it is not the JSON that was asked for; a tool call is not one of the tools offered

Of several faults the worst counts, of several choices the worst one.
"""

import re
from collections.abc import Iterator, Mapping
from typing import Any, Final

import orjson

from capstan_gateway.quality.schema import Steps, fits
from capstan_gateway.selection.needs import read_max_tokens

FINE: Final = 1.0
UNCHECKED: Final = 0.5
CUT_OFF: Final = 0.4
REFUSED: Final = 0.1
USELESS: Final = 0.0
HEAD_CHARS: Final = 200
"""Refusals come at once; later in a text the same words are part of what it says."""
_NOT: Final = r"(?:can['\u2019]?t|cannot|won['\u2019]?t|am unable to|am not able to)"
_DO: Final = "help|assist|provide|answer|comply|fulfill|do that|discuss|create|generate"
_REFUSAL: Final = re.compile(
    rf"^\W*(?:(?:i['\u2019]?m|i am) (?:\w+ )?sorry\b.{{0,20}}?\b{_NOT}"
    rf"|sorry,? (?:but )?i {_NOT}"
    rf"|(?:unfortunately,? )?i {_NOT} (?:\w+ )?(?:{_DO})"
    r"|i['\u2019]m (?:unable|not able) to "
    r"|(?:unfortunately,? )?i (?:must|have to) decline"
    r"|as an ai\b.{0,60}?\b(?:can['\u2019]?t|cannot|unable|not able|don['\u2019]?t)"
    r"|i (?:do not|don['\u2019]?t) (?:know|have (?:access|enough information|the ability)))",
    re.IGNORECASE | re.DOTALL,
)


def check_answer(answer: Mapping[str, Any], request: Mapping[str, Any]) -> float:
    """The score of a chat completion, or of a text completion."""
    choices = answer.get("choices")
    if not isinstance(choices, list) or not choices:
        return USELESS
    steps, offered = Steps(), dict(_offered(request.get("tools")))
    return min(_check_choice(choice, request, offered, steps) for choice in choices)


def _check_choice(choice: Any, request: Mapping[str, Any], offered: Mapping[str, Any], steps: Steps) -> float:
    if not isinstance(choice, dict):
        return USELESS
    finish = choice.get("finish_reason")
    if finish == "content_filter":
        return FINE
    message = choice.get("message")
    message = message if isinstance(message, dict) else {"content": choice.get("text")}
    text = message.get("content")
    text = text.strip() if isinstance(text, str) else ""
    if message.get("tool_calls"):
        score = _check_calls(message["tool_calls"], offered, steps)
    else:
        score = _check_text(text, message, request, steps)
    if finish == "length" and read_max_tokens(request) is None:
        score = min(score, CUT_OFF)
    return score


def _check_text(text: str, message: Mapping[str, Any], request: Mapping[str, Any], steps: Steps) -> float:
    if message.get("refusal"):
        return REFUSED
    if not text or request.get("tool_choice") == "required":
        return USELESS
    wanted = request.get("response_format")
    kind = wanted.get("type") if isinstance(wanted, dict) else None
    known: bool | None = True
    if kind in ("json_object", "json_schema"):
        known = _is_wanted_json(text, wanted if kind == "json_schema" else None, steps)
    if known is False:
        return USELESS
    return REFUSED if _REFUSAL.search(text[:HEAD_CHARS]) else _score_of(known)


def _score_of(known: bool | None) -> float:
    return UNCHECKED if known is None else FINE if known else USELESS


def _is_wanted_json(text: str, wanted: Mapping[str, Any] | None, steps: Steps) -> bool | None:
    try:
        value = orjson.loads(text)
    except orjson.JSONDecodeError:
        return False
    if wanted is None:
        return isinstance(value, dict)
    inner = wanted.get("json_schema")
    schema = inner.get("schema") if isinstance(inner, dict) else None
    return fits(value, schema, steps) if isinstance(schema, dict) else True


def _check_calls(calls: Any, offered: Mapping[str, Any], steps: Steps) -> float:
    if not isinstance(calls, list):
        return USELESS
    return min(_score_of(_is_call(call, offered, steps)) for call in calls)


def _offered(tools: Any) -> Iterator[tuple[str, Any]]:
    """The names of the functions that the request offers, with the schemas of their parameters."""
    for tool in tools if isinstance(tools, list) else ():
        function = tool.get("function") if isinstance(tool, dict) else None
        if isinstance(function, dict) and isinstance(function.get("name"), str):
            yield function["name"], function.get("parameters")


def _is_call(call: Any, offered: Mapping[str, Any], steps: Steps) -> bool | None:
    function = call.get("function") if isinstance(call, dict) else None
    if not isinstance(function, dict):
        return isinstance(call, dict) and call.get("type") not in (None, "function")
    name, arguments = function.get("name"), function.get("arguments")
    if not isinstance(name, str) or name not in offered or not isinstance(arguments, str):
        return False
    try:
        value = orjson.loads(arguments or "{}")
    except orjson.JSONDecodeError:
        return False
    return fits(value, offered[name], steps) if isinstance(value, dict) else False
