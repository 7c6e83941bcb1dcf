"""Prompts of a model that requests begin with by name: the client sends what comes after. Pure.

Such a request is the one that the client would have sent with the prompt in it: guards, limits, caches and the engine
see the whole of it, in whatever dialect it came. The prompt comes first, so that the engine finds what it has computed
of it; a system message of the client's goes on behind it in the same message, because many chat templates take one.
"""

from collections.abc import Mapping, Sequence
from typing import Any, Final

from capstan_gateway.config.runtime import ServedModel
from capstan_gateway.errors import InvalidRequest
from capstan_gateway.pipeline.options import PREFIX_ID
from capstan_gateway.pipeline.request import Request

_SYSTEM: Final = ("system", "developer")
_BETWEEN: Final = "\n\n"


def with_prefix(request: Request, model: ServedModel, name: str) -> Request:
    """Give the request that begins with this prompt.

    InvalidRequest where the model has none of that name, which says which it has, and where the request has no text to
    go on with. What chat cannot say is refused as it would be by the engine itself.
    """
    system = model.prefixes.get(name)
    if system is None:
        there = ", ".join(f"`{one}`" for one in model.prefixes)
        has = f"has the prefixes {there} only" if there else "has no prefixes"
        raise _invalid(f"names no prefix: the model `{model.name}` {has}")
    if request.untranslatable is not None:
        raise request.untranslatable
    document = request.document
    messages, prompt = document.get("messages"), document.get("prompt")
    if isinstance(messages, list) and messages:
        return request.rewritten({**document, "messages": _before_messages(system, messages)})
    if "prompt" in document:
        return request.rewritten({**document, "prompt": _before_prompt(system, prompt)})
    raise _invalid(f"is not for {request.route.path}: only prompts have a beginning")


def _before_messages(system: str, messages: Sequence[Any]) -> list[Any]:
    first = messages[0]
    if not isinstance(first, Mapping) or first.get("role") not in _SYSTEM:
        return [{"role": "system", "content": system}, *messages]
    said, content = first.get("content"), system
    if isinstance(said, str) and said:
        content = f"{system}{_BETWEEN}{said}"
    elif isinstance(said, list) and said:
        return [{**first, "role": "system", "content": [{"type": "text", "text": system}, *said]}, *messages[1:]]
    return [{**first, "role": "system", "content": content}, *messages[1:]]


def _before_prompt(system: str, prompt: Any) -> Any:
    if isinstance(prompt, str):
        return system + prompt
    if isinstance(prompt, list) and prompt and all(isinstance(one, str) for one in prompt):
        return [system + one for one in prompt]
    raise _invalid("is for a `prompt` of text only")


def _invalid(what: str) -> InvalidRequest:
    return InvalidRequest(f"`{PREFIX_ID}` {what}", code="invalid_value", param=PREFIX_ID)
