"""Messages and tools as an engine hands them to its model's template: what vLLM makes of a chat request.

(vllm/entrypoints/chat_utils.py: `parse_chat_messages` and `_postprocess_messages`; tools are dumped from
`ChatCompletionToolsParam`.) Other engines are near to it; where they are not, `trust` finds out.
"""

import re
from collections.abc import Mapping, Sequence
from typing import Any, Final

import orjson

_LOOPS_OVER_PARTS: Final = re.compile(r"""for\s+\w+\s+in\s+\w+\s*(?:\.content\b|\[\s*['"]content['"]\s*\])""")
_FUNCTION_FIELDS: Final = ("name", "description", "parameters")


_ANOTHER_PROMPT: Final = ("truncate_prompt_tokens", "prompt_embeds")


class NotText(Exception):
    """There is more in it than text, or it is no conversation: nobody here can tell how many tokens that is."""


def takes_parts(template: str) -> bool:
    """Whether a template takes the parts of a content one by one; all others get them as one text, a line each."""
    return _LOOPS_OVER_PARTS.search(template) is not None


def messages_of(document: Mapping[str, Any], *, parts: bool) -> list[dict[str, Any]]:
    """Give the messages of a chat request; raises NotText."""
    messages = document.get("messages")
    if not isinstance(messages, list) or not messages:
        raise NotText
    return [_message(message, parts=parts) for message in messages]


def _message(message: Any, *, parts: bool) -> dict[str, Any]:
    if not isinstance(message, dict) or not isinstance(message.get("role"), str):
        raise NotText
    given = {key: value for key, value in message.items() if value is not None}
    given["content"] = _content(message.get("content"), parts=parts)
    calls = message.get("tool_calls")
    if isinstance(calls, list):
        given["tool_calls"] = [_call(call) for call in calls]
    return given


def _content(content: Any, *, parts: bool) -> Any:
    if content is None:
        return ""
    if isinstance(content, str):
        return content
    if not isinstance(content, list):
        raise NotText
    texts = [_text(part) for part in content]
    if parts and len(texts) > 1:
        return [{"type": "text", "text": text} for text in texts]
    return "\n".join(texts)


def _text(part: Any) -> str:
    if isinstance(part, str):
        return part
    if isinstance(part, dict) and part.get("type") == "text" and isinstance(part.get("text"), str):
        return str(part["text"])
    raise NotText


def _call(call: Any) -> dict[str, Any]:
    function = call.get("function") if isinstance(call, dict) else None
    if not isinstance(function, dict):
        raise NotText
    arguments = function.get("arguments")
    if isinstance(arguments, str):
        try:
            arguments = orjson.loads(arguments) if arguments else {}
        except orjson.JSONDecodeError as error:
            raise NotText from error
    return {**call, "function": {**function, "arguments": {} if arguments is None else arguments}}


def tools_of(document: Mapping[str, Any]) -> list[dict[str, Any]] | None:
    """Give the tools of a chat request; None where there are none. Raises NotText."""
    tools = document.get("tools")
    if not tools:
        return None
    if not isinstance(tools, list):
        raise NotText
    return [_tool(tool) for tool in tools]


def _tool(tool: Any) -> dict[str, Any]:
    function = tool.get("function") if isinstance(tool, dict) else None
    if not isinstance(function, dict):
        raise NotText
    named = {field: function.get(field) for field in _FUNCTION_FIELDS}
    more = {key: value for key, value in function.items() if key not in named}
    return {"type": tool.get("type", "function"), "function": {**named, **more}}


def check_whole(document: Mapping[str, Any]) -> None:
    """Raise NotText where an engine puts another prompt in than what is said: cut, with what is no text, or perhaps
    without its tools (vLLM's `--exclude-tools-when-tool-choice-none`)."""
    if any(document.get(field) is not None for field in _ANOTHER_PROMPT):
        raise NotText
    if document.get("tools") and document.get("tool_choice") == "none":
        raise NotText


def texts_of(prompt: Any) -> Sequence[str] | None:
    """Give the texts of a completion's `prompt`, None where it is given as tokens; raises NotText."""
    if isinstance(prompt, str):
        return (prompt,)
    if isinstance(prompt, list) and prompt:
        if all(isinstance(text, str) for text in prompt):
            return prompt
        if all(type(token) is int for token in prompt):
            return None
    raise NotText
