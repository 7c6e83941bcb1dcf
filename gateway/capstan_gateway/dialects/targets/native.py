"""A request in the dialect of the hosted API that gets it: what that API would refuse of another model's turns."""

from collections.abc import Callable
from functools import partial
from typing import Any, Final

from capstan_contract.config import Provider
from capstan_gateway.dialects.fields import Document
from capstan_gateway.dialects.signatures import is_ours, may_be_openais
from capstan_gateway.dialects.targets.ids import PairedIds, fitting_id
from capstan_gateway.dialects.targets.limits import within_limits
from capstan_gateway.dialects.targets.media import fitting_file, fitting_url
from capstan_gateway.dialects.targets.native_turns import spoken, with_outputs, with_results
from capstan_gateway.dialects.targets.private import without_private, without_user_id
from capstan_gateway.dialects.targets.target import Target

_IDS: Final = {"tool_use": "id", "tool_result": "tool_use_id"}
_MESSAGES_LIMIT: Final = "max_tokens"
_RESPONSES_LIMIT: Final = "max_output_tokens"
LEAST_BUDGET: Final = 1024
"""Tokens of thoughts: Anthropic takes no smaller budget."""


def shape_native(document: Document, target: Target) -> Document:
    """Give the request as this API takes it; the very same object when it takes it as it is.

    The limit of an answer is one that the model takes, the names of users are hashes, pictures are of a known type, no
    turn is empty and no call without a result.
    Thoughts without a signature are another model's, which Anthropic refuses; so are ids with other characters than its
    own have. OpenAI refuses thoughts that it neither encrypted nor keeps. What is signed stays as it came, to the byte.
    InvalidRequest names a limit that the model's owner wants refused.
    """
    if target.provider == Provider.OPENAI:
        document = within_limits(without_private(document, target, whole=True), target, fields=(_RESPONSES_LIMIT,))
        return _with_list(document, "input", lambda items: with_outputs(_each(items, _fitting_item)))
    document = without_user_id(without_private(document, target, whole=False), target)
    if target.provider != Provider.ANTHROPIC:
        return document
    limited = within_limits(document, target, fields=(_MESSAGES_LIMIT,))
    document = limited if limited is document else _within_budget(limited)
    fit = partial(_fitting, ids=PairedIds())
    return _with_list(document, "messages", lambda messages: with_results(spoken(_each(messages, fit))))


def _with_list(document: Document, field: str, fit: Callable[[list[Any]], list[Any]]) -> Document:
    """Give the document with a list of it as it should be; the same object when that is the same."""
    given = document.get(field)
    if not isinstance(given, list):
        return document
    items = fit(given)
    return document if items is given else {**document, field: items}


def _each(items: list[Any], fit: Callable[[Any], Any]) -> list[Any]:
    """Give the items as they should be, without those of which nothing is left; the same list when none changes."""
    fitting = [fit(item) for item in items]
    if all(new is old for new, old in zip(fitting, items, strict=True)):
        return items
    return [item for item in fitting if item is not None]


def _within_budget(document: Document) -> Document:
    """Give thoughts a budget below the limit of the whole answer, which Anthropic wants."""
    thinking, limit = document.get("thinking"), document.get(_MESSAGES_LIMIT)
    budget = thinking.get("budget_tokens") if isinstance(thinking, dict) else None
    if type(budget) is not int or type(limit) is not int or budget < limit or not isinstance(thinking, dict):
        return document
    if limit <= LEAST_BUDGET:
        return {**document, "thinking": {"type": "disabled"}}
    return {**document, "thinking": {**thinking, "budget_tokens": limit - 1}}


def _fitting(message: Any, ids: PairedIds) -> Any:
    """Give the message, or one of which something is left out; None when nothing is left of it."""
    if isinstance(message, dict) and message.get("role") == "assistant":
        ids.begin_turn()
    content = message.get("content") if isinstance(message, dict) else None
    if not isinstance(content, list):
        return message
    blocks = [_block(block, ids) for block in content]
    if all(new is old for new, old in zip(blocks, content, strict=True)):
        return message
    left = [block for block in blocks if block is not None]
    return {**message, "content": left} if left else None


def _block(block: Any, ids: PairedIds) -> Any:
    kind = block.get("type") if isinstance(block, dict) else None
    if kind == "thinking":
        return block if block.get("signature") and not is_ours(block["signature"]) else None
    if kind in ("image", "document"):
        return _with_file(block)
    if kind == "tool_result" and isinstance(block.get("content"), list):
        inner = [_block(one, ids) for one in block["content"]]
        if any(new is not old for new, old in zip(inner, block["content"], strict=True)):
            block = {**block, "content": inner}
    name = _IDS.get(kind) if isinstance(kind, str) else None
    if name is None or not isinstance(block.get(name), str):
        return block
    fit = ids.of_call(block[name]) if kind == "tool_use" else ids.of_result(block[name])
    return block if fit == block[name] else {**block, name: fit}


def _with_file(block: Document) -> Document:
    source = block.get("source")
    if not isinstance(source, dict) or source.get("type") != "base64":
        return block
    kind, data = source.get("media_type"), source.get("data")
    if not isinstance(kind, str) or not isinstance(data, str):
        return block
    fit = fitting_file(kind, data)
    return block if fit == (kind, data) else {**block, "source": {**source, "media_type": fit[0], "data": fit[1]}}


def _fitting_item(item: Any) -> Any:
    """Give an item of `input` with pictures, files and ids that OpenAI takes; None of one that it could not read."""
    if not isinstance(item, dict):
        return item
    if is_ours(item.get("encrypted_content")) or (item.get("type") == "reasoning" and not may_be_openais(item)):
        return None  # What another model's engine wants to see again, or has thought.
    call_id = item.get("call_id")
    if isinstance(call_id, str) and (fitting := fitting_id(call_id)) != call_id:
        item = {**item, "call_id": fitting}
    for name in ("content", "output"):
        parts = item.get(name)
        if isinstance(parts, list):
            fit = [_input_part(part) for part in parts]
            if any(new is not old for new, old in zip(fit, parts, strict=True)):
                item = {**item, name: fit}
    return item


def _input_part(part: Any) -> Any:
    kind = part.get("type") if isinstance(part, dict) else None
    name = {"input_image": "image_url", "input_file": "file_data"}.get(kind) if isinstance(kind, str) else None
    url = None if name is None else part.get(name)
    if not isinstance(url, str):
        return part
    fit = fitting_url(url)
    return part if fit is url else {**part, name: fit}
