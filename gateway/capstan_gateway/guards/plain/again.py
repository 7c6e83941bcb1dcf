"""What a model is asked that is to answer once more, because its answer had not the form that it must have."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

from capstan_gateway.guards.plain.format import Lack

Document = dict[str, Any]

MOST_SAID: Final = 2000
"""Characters of what is said to be wrong."""


def asked_again(document: Mapping[str, Any], answer: Mapping[str, Any], lacks: Iterable[Lack]) -> Document | None:
    """Give the request with a turn more: the answer that was given, and what was wrong with it.

    None where it cannot be asked so: it is no chat request, or there is not one answer of text alone (several choices,
    calls of tools). The second answer is one whole answer: the request says nothing of a stream any more.
    """
    messages, said = document.get("messages"), _only_text(answer)
    if not isinstance(messages, list) or said is None or document.get("n") not in (None, 1):
        return None
    turn = [{"role": "assistant", "content": said}, {"role": "user", "content": complaint(lacks)}]
    kept = {name: value for name, value in document.items() if name not in ("stream", "stream_options")}
    return {**kept, "messages": [*messages, *turn]}


def complaint(lacks: Iterable[Lack]) -> str:
    """Name what was wrong, and ask for the answer."""
    faults = "\n".join(f"- {lack.said}" for lack in lacks)[:MOST_SAID]
    return (
        f"Your answer cannot be used:\n{faults}\n"
        "Give the same answer once more, corrected. Write the answer only, without any word about the correction."
    )


def _only_text(answer: Mapping[str, Any]) -> str | None:
    choices: Sequence[Any] | Any = answer.get("choices")
    if not isinstance(choices, list) or len(choices) != 1 or not isinstance(choices[0], dict):
        return None
    message = choices[0].get("message")
    if not isinstance(message, dict) or message.get("tool_calls") or message.get("function_call"):
        return None
    content = message.get("content")
    return content if isinstance(content, str) else None
