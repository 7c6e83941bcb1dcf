"""What a request and its answer say, as a person reads them: whatever dialect they are in. Pure."""

from collections.abc import Iterable, Iterator
from typing import Any, Final

import orjson

from capstan_contract.guards import Source
from capstan_contract.samples import Turn
from capstan_gateway.pipeline.guards.watching import read_stream
from capstan_gateway.pipeline.request import Request

Document = dict[str, Any]
_TEXTS: Final = ("text", "input_text", "output_text", "refusal", "thinking")
"""Types of parts that are text."""
_SAYS: Final = ("text", "refusal")
"""In which field."""


def turns_of(request: Request) -> tuple[Turn, ...]:
    """Give the conversation of a request; nothing where it has no text, as one of token ids."""
    native = request.native
    document = request.document if request.untranslatable is None or native is None else native.document
    return tuple(turn for turn in _turns(document) if turn.text)


def _turns(document: Document) -> Iterator[Turn]:
    for name in ("instructions", "system"):
        if document.get(name):
            yield Turn(role="system", text=_said(document[name]))
    prompt = document.get("prompt")
    if isinstance(prompt, str):
        yield Turn(role="user", text=prompt)
    elif isinstance(prompt, list):
        yield from (Turn(role="user", text=one) for one in prompt if isinstance(one, str))
    given = document.get("input")
    if isinstance(given, str):
        yield Turn(role="user", text=given)
    for messages in (given, document.get("messages")):
        for message in messages if isinstance(messages, list) else ():
            if isinstance(message, dict):
                yield _turn(message)


def _turn(message: Document) -> Turn:
    kind = message.get("type")
    if kind in ("function_call", "custom_tool_call"):
        return Turn(role="assistant", text=_call(message.get("name"), message.get("arguments", message.get("input"))))
    if isinstance(kind, str) and kind.endswith("_output"):
        return Turn(role="tool", text=_said(message.get("output")))
    text = _said(message.get("content"))
    calls = "\n".join(_calls(message.get("tool_calls")))
    return Turn(role=str(message.get("role") or "user")[:32], text="\n".join(filter(None, (text, calls))))


def _said(content: Any) -> str:
    """Give the text of a content: itself, or its parts behind one another."""
    if isinstance(content, str):
        return content
    return "".join(_part(part) for part in content) if isinstance(content, list) else ""


def _part(part: Any) -> str:
    if isinstance(part, str):
        return part
    if not isinstance(part, dict):
        return ""
    kind = part.get("type")
    for name in _SAYS:
        if isinstance(part.get(name), str):
            return str(part[name])
    if kind == "tool_use":
        return _call(part.get("name"), part.get("input"))
    if kind == "tool_result":
        return _said(part.get("content"))
    return f"[{str(kind)[:32]}]" if isinstance(kind, str) and kind not in _TEXTS else ""


def _calls(calls: Any) -> Iterator[str]:
    for call in calls if isinstance(calls, list) else ():
        function = call.get("function") if isinstance(call, dict) else None
        if isinstance(function, dict):
            yield _call(function.get("name"), function.get("arguments"))


def _call(name: Any, arguments: Any) -> str:
    said = arguments if isinstance(arguments, str) else orjson.dumps(arguments).decode()
    return f"[calls {name if isinstance(name, str) else 'a tool'} with {said}]"


def answer_of(body: bytes) -> str:
    """Give the text of an answer in one piece; of several choices the first. Empty where it says nothing.

    Raises ValueError for what is no JSON.
    """
    answer = orjson.loads(body)
    if not isinstance(answer, dict):
        return ""
    choices = answer.get("choices")
    if isinstance(choices, list):
        return _choice(choices[0]) if choices and isinstance(choices[0], dict) else ""
    if isinstance(answer.get("content"), list):
        return _lines(_part(part) for part in answer["content"] if _is_said(part))
    output = answer.get("output")
    items = [item for item in output if isinstance(item, dict)] if isinstance(output, list) else []
    return _lines(_turn(item).text for item in items if item.get("type") != "reasoning")


def _is_said(part: Any) -> bool:
    return not isinstance(part, dict) or part.get("type") not in ("thinking", "redacted_thinking")


def _choice(choice: Document) -> str:
    if isinstance(choice.get("text"), str):
        return str(choice["text"])
    message = choice.get("message")
    if not isinstance(message, dict):
        return ""
    refusal = message.get("refusal")
    said = (_said(message.get("content")), refusal if isinstance(refusal, str) else "")
    return _lines((*said, *_calls(message.get("tool_calls"))))


def _lines(texts: Iterable[str]) -> str:
    return "\n".join(text for text in texts if text)


def streamed_answer(body: bytes, *, native: bool) -> str:
    """Give the same of the frames of a stream. Raises ValueError, or StreamBroken, for what is none."""
    pieces, answer = read_stream(body, native=native)
    if answer is not None:
        choices = answer.get("choices")
        return _choice(choices[0]) if isinstance(choices, list) and choices else ""
    said = "".join(piece.text for piece in pieces if piece.source is Source.TEXT)
    return _lines((said, *(_call(None, piece.text) for piece in pieces if piece.source is Source.TOOL_ARGUMENTS)))
