"""The text of an answer, for whoever judges it."""

from collections.abc import Mapping
from typing import Any


def answer_text(answer: Mapping[str, Any]) -> str:
    """The text of the first choice, its tool calls written out."""
    choices = answer.get("choices")
    choice = choices[0] if isinstance(choices, list) and choices else None
    if not isinstance(choice, dict):
        return ""
    message = choice.get("message")
    if not isinstance(message, dict):
        return str(choice.get("text") or "")
    parts = [str(message.get("content") or message.get("refusal") or "")]
    for call in message.get("tool_calls") or ():
        function = call.get("function") if isinstance(call, dict) else None
        if isinstance(function, dict):
            parts.append(f"[calls {function.get('name')} with {function.get('arguments')}]")
    return "\n".join(part for part in parts if part)
