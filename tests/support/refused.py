"""What APIs refuse of a conversation, by the rules that they document and the errors that they are known to give."""

import json
import re
from collections.abc import Iterator
from itertools import pairwise
from typing import Any, Final

Document = dict[str, Any]

_ID: Final = re.compile(r"[a-zA-Z0-9_-]{1,64}")


def refused_by_anthropic(request: Document) -> list[str]:
    """Give what Anthropic refuses of a request; nothing when it takes it.

    https://platform.claude.com/docs/en/build-with-claude/handling-stop-reasons and .../agents-and-tools/tool-use, and
    the API's own words: "text content blocks must contain non-whitespace text", "final assistant content cannot end
    with trailing whitespace", "`tool_use` ids were found without `tool_result` blocks immediately after", "unexpected
    `tool_use_id` found in `tool_result` blocks", "`tool_use` ids must be unique", "first message must use the user
    role".
    """
    messages = request["messages"]
    return [*_turns(messages), *_pairs(messages), *_texts([*messages, {"content": request.get("system") or []}])]


def _turns(messages: list[Document]) -> Iterator[str]:
    if not messages:
        yield "no message"
        return
    if messages[0]["role"] != "user":
        yield "the first message is not the user's"
    for before, message in pairwise(messages):
        if before["role"] == message["role"]:
            yield "two turns of one role"
    for place, message in enumerate(messages):
        if not message["content"]:
            yield f"turn {place} is empty"
    last = messages[-1]
    if last["role"] == "assistant" and last["content"] and last["content"][-1]["type"] == "text":
        text = last["content"][-1]["text"]
        if text != text.rstrip():
            yield "the last turn is the assistant's and ends with white space"


def _texts(messages: list[Document]) -> Iterator[str]:
    for message in messages:
        for block in message["content"]:
            inner = block.get("content") if block["type"] == "tool_result" else None
            for one in [block, *(inner if isinstance(inner, list) else ())]:
                if one["type"] == "text" and not one["text"].strip():
                    yield "a text of nothing but white space"
            if block["type"] == "thinking" and not block.get("signature"):
                yield "a thought without a signature"


def _pairs(messages: list[Document]) -> Iterator[str]:
    seen: set[str] = set()
    for message, behind in pairwise([{"content": []}, *messages, {"role": "user", "content": []}]):
        calls = [block["id"] for block in message["content"] if block["type"] == "tool_use"]
        results = [block["tool_use_id"] for block in behind["content"] if block["type"] == "tool_result"]
        if any(block["type"] != "tool_result" for block in behind["content"][: len(results)]):
            yield "results behind something else"
        if sorted(results) != sorted(calls):
            yield f"calls {calls} and results {results}"
        if any(not _ID.fullmatch(call) for call in calls):
            yield f"an id among {calls} has other characters"
        if seen & set(calls) or len(set(calls)) < len(calls):
            yield "an id twice"
        seen.update(calls)


def refused_by_chat(request: Document) -> list[str]:
    """Give what strict servers of chat completions refuse of a translated request: OpenAI's, or a chat template."""
    return [*_chat_turns(request["messages"]), *_chat_pairs(request["messages"])]


def _chat_turns(messages: list[Document]) -> Iterator[str]:
    if not messages:
        yield "no message"
    for place, message in enumerate(messages):
        role, content = message["role"], message.get("content")
        if role not in ("system", "user", "assistant", "tool"):
            yield f"messages.{place} has the role {role}"
        if content is None and not (role == "assistant" and message.get("tool_calls")):
            yield f"messages.{place} has no content"
        if content == [] or message.get("tool_calls") == []:
            yield f"messages.{place} has an empty list"
        for call in message.get("tool_calls") or ():
            if not isinstance(json.loads(call["function"]["arguments"]), dict):
                yield f"messages.{place} has arguments that are no object"


def _chat_pairs(messages: list[Document]) -> Iterator[str]:
    waiting: list[str] = []
    for place, message in enumerate(messages):
        if message["role"] == "tool":
            if message["tool_call_id"] in waiting:
                waiting.remove(message["tool_call_id"])
            else:
                yield f"messages.{place} is the result of no call of the message before it"
            continue
        waiting = [call["id"] for call in message.get("tool_calls") or ()]
