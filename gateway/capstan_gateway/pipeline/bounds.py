"""The most output that a request can have, by what stands in it, whichever engine reads it.

    chat completions   the larger one of `max_completion_tokens` and `max_tokens`: engines differ in which one counts
    completions        `max_tokens` alone, for each of its prompts
    Messages           `max_tokens`, and what the chat request says that is made of it
    Responses          `max_output_tokens`, and the same
    sound              none: to vLLM `max_completion_tokens` is of each half minute, and OpenAI knows no such field

times the answers to a prompt, `n` or `best_of`. A bound that only some engines know is none: a limit that believes it
lets the others answer without any. What is no number is refused, because engines read it in their own ways ("128" is
128 to vLLM).
"""

from collections.abc import Mapping
from typing import Any, Final

from capstan_gateway.dialects.clients.spoken import MESSAGES, RESPONSES
from capstan_gateway.errors import InvalidRequest
from capstan_gateway.pipeline.request import Request

COMPLETIONS_PATH: Final = b"/completions"
_CHAT: Final = ("max_completion_tokens", "max_tokens")
_ONE: Final = ("max_tokens",)
_RESPONSES: Final = ("max_output_tokens",)
_LLAMA: Final = "n_predict"
"""To llama.cpp's server it comes before the others, and -1 is without end."""


def bound_of(request: Request) -> int | None:
    """Give the most tokens of output in all answers; None where there may be any number.

    InvalidRequest names a field of a bound that is no whole number.
    """
    if request.form is not None:
        return None
    native, document = request.native, request.document
    dialect = request.route.dialect
    if native is not None and dialect in (MESSAGES, RESPONSES):
        own = _most(native.document, _ONE if dialect is MESSAGES else _RESPONSES)
        if own is None or request.untranslatable is not None:
            return own
        most = _most(document, _CHAT)
        return None if most is None else max(own, most) * answers_of(request)
    most = _most(document, _ONE if request.route.upstream_path == COMPLETIONS_PATH else _CHAT)
    return None if most is None else most * answers_of(request)


def answers_of(request: Request) -> int:
    """Give how many answers are made for it, at least 1; InvalidRequest names a field that is no whole number."""
    document, answers = request.document, 1
    if "n" in document or "best_of" in document:
        answers = max(_whole(document, "n") or 1, _whole(document, "best_of") or 1, 1)
    return answers * _prompts(document) if request.route.upstream_path == COMPLETIONS_PATH else answers


def _prompts(document: Mapping[str, Any]) -> int:
    """Count the prompts of a completion: texts or lists of tokens are many, a list of numbers is one."""
    prompts = 0
    for name in ("prompt", "prompt_embeds"):
        given = document.get(name)
        if isinstance(given, list):
            prompts += sum(type(one) is not int for one in given) or 1
        elif given is not None:
            prompts += 1
    return max(prompts, 1)


def _most(document: Mapping[str, Any], names: tuple[str, ...]) -> int | None:
    """Give the largest bound under these names; None where there is none, or one that is no bound to somebody."""
    most = 0
    for name in names:
        value = _whole(document, name)
        if value < 0:
            return None
        most = max(most, value)
    return None if _LLAMA in document else most or None


def _whole(document: Mapping[str, Any], name: str) -> int:
    """Give the number of a field, 0 where there is none."""
    value = document.get(name)
    if type(value) is int:
        return value
    if value is None:
        return 0
    if type(value) is float and value.is_integer():
        return int(value)
    raise InvalidRequest(f"`{name}` must be a whole number", code="invalid_value", param=name)
