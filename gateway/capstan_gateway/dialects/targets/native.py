"""A request in the dialect of the hosted API that gets it: what that API would refuse of another model's turns."""

from typing import Any, Final

from capstan_contract.config import Provider
from capstan_gateway.dialects.fields import Document
from capstan_gateway.dialects.targets.ids import fitting_id
from capstan_gateway.dialects.targets.private import without_private
from capstan_gateway.dialects.targets.target import Target

_IDS: Final = {"tool_use": "id", "tool_result": "tool_use_id"}


def shape_native(document: Document, target: Target) -> Document:
    """Give the request as this API takes it; the very same object when it takes it as it is.

    Thoughts without a signature are another model's, which Anthropic refuses; so are ids with other characters than its
    own have. What is signed stays as it came, to the byte.
    """
    document = without_private(document, target=target.id, whole=target.provider == Provider.OPENAI)
    if target.provider != Provider.ANTHROPIC or not isinstance(document.get("messages"), list):
        return document
    messages = [_fitting(message) for message in document["messages"]]
    if all(new is old for new, old in zip(messages, document["messages"], strict=True)):
        return document
    return {**document, "messages": [message for message in messages if message is not None]}


def _fitting(message: Any) -> Any:
    """Give the message, or one of which something is left out; None when nothing is left of it."""
    content = message.get("content") if isinstance(message, dict) else None
    if not isinstance(content, list):
        return message
    blocks = [_block(block) for block in content]
    if all(new is old for new, old in zip(blocks, content, strict=True)):
        return message
    left = [block for block in blocks if block is not None]
    return {**message, "content": left} if left else None


def _block(block: Any) -> Any:
    kind = block.get("type") if isinstance(block, dict) else None
    if kind == "thinking":
        return block if block.get("signature") else None
    name = _IDS.get(kind) if isinstance(kind, str) else None
    if name is None or not isinstance(block.get(name), str):
        return block
    fit = fitting_id(block[name])
    return block if fit == block[name] else {**block, name: fit}
