"""What the model thought in earlier turns: given back as `reasoning_content`, or left out."""

from typing import Any, Final

from capstan_gateway.dialects.fields import Document

NAMES: Final = ("reasoning_content", "reasoning")
"""The first is what DeepSeek, Kimi and Qwen want; vLLM takes either (vllm-project/vllm PR 42664)."""


def place_reasoning(messages: list[Any], *, keep: bool) -> list[Any]:
    """Give the messages with their reasoning under one name, or without it; the same list when nothing changes.

    A turn may be left that says nothing; see `turns.without_empty`.
    """
    if not any(_has(message, keep=keep) for message in messages):
        return messages
    return [_kept(message) if keep else _dropped(message) for message in messages]


def _has(message: Any, *, keep: bool) -> bool:
    if not isinstance(message, dict) or message.get("role") != "assistant":
        return False
    return "reasoning" in message if keep else any(name in message for name in NAMES)


def _kept(message: Document) -> Document:
    if not _has(message, keep=True):
        return message
    found = message.get("reasoning_content") or message["reasoning"]
    return {**{key: value for key, value in message.items() if key not in NAMES}, NAMES[0]: found}


def _dropped(message: Document) -> Document:
    if not _has(message, keep=False):
        return message
    return {key: value for key, value in message.items() if key not in NAMES}
