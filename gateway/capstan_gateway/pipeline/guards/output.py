"""Whole answers: their texts, and what becomes of an answer that a guard does not let pass. Pure."""

from collections.abc import Mapping, Sequence
from typing import Any, Final

import orjson

from capstan_contract.guards import Source
from capstan_gateway.pipeline.guards.pieces import Piece, Pieces, Place, Within, join, walk

Document = dict[str, Any]
FINISH: Final = "content_filter"
_HEAD: Final = ("id", "object", "created", "model", "system_fingerprint", "service_tier", "usage")
_ECHOES: Final = ("logprobs", "token_ids", "prompt_logprobs", "prompt_token_ids", "stop_reason")
"""Fields of a choice, or of the answer, in which its text may stand once more."""
_REASONING: Final = ("reasoning_content", "reasoning", "reasoning_details", "reasoning_text", "thinking")
_CALLS: Final = ("tool_calls", "function_call")
_ARGUMENTS: Final = frozenset(("arguments", "input"))
"""What a call is made with; the latter of a tool that takes a text."""
_WITHIN: Final = {"content": Within.PARTS, "images": Within.PARTS, "audio": Within.MEDIA}
"""Fields of a message that the API has media in."""


def answer_pieces(answer: Mapping[str, Any]) -> list[Piece]:
    """Give all texts of a chat completion, or of a completion, of all of its choices."""
    found = Pieces()
    for name, value in answer.items():
        if name not in _HEAD and name not in _ECHOES and name != "choices":
            walk(value, Place(None, name), Source.TEXT, found, aside=True)
    choices, top = answer.get("choices"), Place(None, "choices")
    for number, choice in enumerate(choices if isinstance(choices, list) else ()):
        at = Place(top, number)
        if not isinstance(choice, dict):
            walk(choice, at, Source.TEXT, found)
            continue
        for name, value in choice.items():
            if name == "message" and isinstance(value, dict):
                _message(value, Place(at, name), found)
            elif name not in _ECHOES and name != "finish_reason":
                walk(value, Place(at, name), Source.TEXT, found, aside=name != "text")
    return found.texts


def _message(message: Mapping[str, Any], place: Place, found: Pieces) -> None:
    for name, value in message.items():
        at = Place(place, name)
        if name in _REASONING:
            walk(value, at, Source.REASONING, found)
        elif name in _CALLS:
            walk(value, at, Source.TOOL_ARGUMENTS, found)
        elif name != "role":
            within = _WITHIN.get(name, Within.NOTHING)
            begin = len(found.texts)
            walk(value, at, Source.TEXT, found, aside=name not in ("content", "refusal"), within=within)
            if name == "content":
                join(found, begin, at, value)


def may_be_restored(piece: Piece) -> bool:
    """Whether values may stand in a text for their placeholders: in streams they do not in names and ids of calls."""
    if piece.fixed or piece.parts:
        return False
    return piece.source is not Source.TOOL_ARGUMENTS or not _ARGUMENTS.isdisjoint(piece.place.steps())


def withheld(answer: Mapping[str, Any]) -> Document:
    """Give the answer with nothing in it of what the model has said, ended by a content filter; its usage stays."""
    choices = answer.get("choices")
    return {
        **{name: answer[name] for name in _HEAD if name in answer},
        "choices": [_withheld(choice, n) for n, choice in enumerate(choices if isinstance(choices, list) else ())],
    }


def _withheld(choice: Any, number: int) -> Document:
    known = choice if isinstance(choice, dict) else {}
    index = known.get("index")
    said: Document = {"text": ""} if "text" in known else {"message": {"role": "assistant", "content": ""}}
    return {
        "index": index if isinstance(index, int) else number, **said, "logprobs": None, "finish_reason": FINISH,
    }  # fmt: skip


def is_withheld(answer: Mapping[str, Any]) -> bool:
    """Whether a content filter has ended every choice. Where none of them says anything, there is nothing to judge."""
    choices = answer.get("choices")
    return isinstance(choices, list) and all(
        isinstance(one, dict) and one.get("finish_reason") == FINISH for one in choices
    )


def without_echoes(answer: Mapping[str, Any]) -> Document:
    """Give the answer without the fields in which a text stands once more that was rewritten."""
    choices = answer.get("choices")
    kept = {name: value for name, value in answer.items() if name not in _ECHOES}
    return {**kept, "choices": [_quiet(choice) for choice in choices]} if isinstance(choices, list) else kept


def _quiet(choice: Any) -> Any:
    if not isinstance(choice, dict):
        return choice
    kept = {name: value for name, value in choice.items() if name not in _ECHOES}
    return {**kept, "logprobs": None} if "logprobs" in choice else kept


def read_body(body: bytes) -> tuple[Sequence[Piece], Document | None]:
    """Give all texts of an answer, in any dialect, and the answer; nothing of what is no JSON object."""
    try:
        document = orjson.loads(body)
    except orjson.JSONDecodeError:
        return (), None
    if not isinstance(document, dict):
        return (), None
    return (answer_pieces(document), document) if "choices" in document else (texts_of(document), document)


def texts_of(document: Mapping[str, Any]) -> Sequence[Piece]:
    """Give all texts of any other answer."""
    found = Pieces()
    for name, value in document.items():
        walk(value, Place(None, name), Source.TEXT, found)
    return found.texts
