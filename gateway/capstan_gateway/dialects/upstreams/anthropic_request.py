"""A chat completion request as an Anthropic messages request.

What has no counterpart and would change the answer (`n`, `logprobs`, JSON without a schema) is refused with the field's
name, as is what only engines know and would change it (`min_p`). What has none and only hints is left out. Fields that
nobody knows pass through, for that API to judge.
"""

import base64
import binascii
from collections.abc import Mapping
from itertools import pairwise
from typing import Any, Final

import orjson

from capstan_gateway.dialects.fields import Document, read_object, read_objects, read_text, unsupported, word, wrong
from capstan_gateway.dialects.targets.ids import PairedIds
from capstan_gateway.dialects.targets.media import split_data_url
from capstan_gateway.dialects.targets.schemas import fitting_schema
from capstan_gateway.dialects.targets.turns import INTERRUPTED, NOTHING_SAID

VERSION: Final = b"2023-06-01"
DEFAULT_MAX_TOKENS: Final = 4096
"""That API needs a limit. Taken when neither the request nor the model says one."""
_CHOICES: Final = {"auto": "auto", "none": "none", "required": "any"}
_TRANSLATED: Final = frozenset(
    (
        "max_completion_tokens", "max_tokens", "messages", "model", "parallel_tool_calls", "reasoning_effort",
        "response_format", "stop", "stream", "temperature", "tool_choice", "tools", "user",
    )
)  # fmt: skip
_HINTS: Final = frozenset(
    (
        "metadata", "prediction", "prompt_cache_key", "prompt_cache_options", "prompt_cache_retention",
        "safety_identifier", "seed", "service_tier", "store", "stream_options", "verbosity",
    )
)  # fmt: skip
_ENGINES_HINTS: Final = frozenset(
    (
        "add_generation_prompt", "add_special_tokens", "cache_salt", "chat_template", "chat_template_kwargs",
        "include_reasoning", "media_io_kwargs", "mm_processor_kwargs", "priority", "request_id", "return_token_ids",
        "return_tokens_as_token_ids", "separate_reasoning", "skip_special_tokens", "spaces_between_special_tokens",
        "thinking_token_budget",
    )
)  # fmt: skip
"""What engines know beyond OpenAI's API and that API refuses: how the prompt is made, how the answer is told."""
_NEUTRAL: Final = {"length_penalty": 1, "repetition_penalty": 1}
_REFUSED: Final = {
    **dict.fromkeys(
        (
            "allowed_token_ids", "bad_words", "continue_final_message", "documents", "echo", "guided_choice",
            "guided_grammar", "guided_json", "guided_regex", "ignore_eos", "length_penalty", "min_p", "min_tokens",
            "prompt_logprobs", "regex", "repetition_penalty", "stop_token_ids", "structured_outputs",
            "truncate_prompt_tokens", "use_beam_search",
        ),
        "leave it out",
    ),
    "audio": "leave it out",
    "frequency_penalty": "only 0 is allowed",
    "function_call": "use `tool_choice`",
    "functions": "use `tools`",
    "logit_bias": "leave it out",
    "logprobs": "leave it out",
    "presence_penalty": "only 0 is allowed",
    "top_logprobs": "leave it out",
    "web_search_options": "leave it out",
}  # fmt: skip
"""Refused when they are on; off they say nothing. The first ones are those of engines that change the answer."""
_EFFORTS: Final = {"minimal": "low", "low": "low", "medium": "medium", "high": "high", "xhigh": "xhigh", "max": "max"}


_NOTHING_SAID: Final[Document] = {"type": "text", "text": NOTHING_SAID}
"""That API refuses an empty turn, and a conversation without one."""
_INTERRUPTED: Final[Document] = {
    "type": "tool_result", "is_error": True, "content": INTERRUPTED,
}  # fmt: skip


def to_messages_request(document: Document, *, model: str, max_output_tokens: int | None = None) -> Document:
    """Translate a request; InvalidRequest names the field that cannot be."""
    _refuse(document)
    dropped = _TRANSLATED | _HINTS | _ENGINES_HINTS | _REFUSED.keys() | {"n", "modalities"}
    request = {key: value for key, value in document.items() if key not in dropped and value is not None}
    system, messages = _split_messages(document.get("messages"))
    request |= {
        "model": model,
        "messages": messages,
        "max_tokens": _max_tokens(document) or max_output_tokens or DEFAULT_MAX_TOKENS,
    }
    if system:
        request["system"] = system
    if document.get("stream"):
        request["stream"] = True
    if document.get("temperature") is not None:
        request["temperature"] = _temperature(document["temperature"])
    if document.get("stop"):
        stop = document["stop"]
        request["stop_sequences"] = [stop] if isinstance(stop, str) else stop
    user = document.get("user") or document.get("safety_identifier")
    if isinstance(user, str):
        request["metadata"] = {"user_id": user}
    _add_tools(request, document)
    _add_output(request, document)
    return request


def _refuse(document: Document) -> None:
    if document.get("n") not in (None, 1):
        raise unsupported("n", "only 1 is allowed")
    if document.get("modalities") not in (None, [], ["text"]):
        raise unsupported("modalities", "only text is allowed")
    for field, instead in _REFUSED.items():
        value = document.get(field)
        if value and value != _NEUTRAL.get(field):
            raise unsupported(field, instead)


def _max_tokens(document: Document) -> int | None:
    value = document.get("max_completion_tokens") or document.get("max_tokens")
    return value if isinstance(value, int) else None


def _temperature(value: Any) -> float:
    if not isinstance(value, int | float) or isinstance(value, bool):
        raise wrong("temperature", "must be a number")
    # Their scale ends at 1, OpenAI's at 2.
    return min(value, 1)


def _split_messages(given: Any) -> tuple[list[Document], list[Document]]:
    """The system prompt and the turns: theirs alternate, so neighbours of one role become one."""
    system: list[Document] = []
    turns: list[Document] = []
    ids = PairedIds()
    for field, message in read_objects(given, "messages"):
        role = message.get("role")
        if role in ("system", "developer"):
            blocks = _content(message.get("content"), field)
            if any(block["type"] != "text" for block in blocks):
                raise unsupported(f"{field}.content", "a system message may hold text only")
            system.extend(blocks)
            continue
        speaker = "assistant" if role == "assistant" else "user"
        if speaker == "assistant" and (not turns or turns[-1]["role"] != speaker):
            ids.begin_turn()
        blocks = _blocks(role, message, field, ids)
        if not blocks and role == "user" and (not turns or turns[-1]["role"] != "user"):
            blocks = [_NOTHING_SAID]
        if turns and turns[-1]["role"] == speaker:
            turns[-1]["content"].extend(blocks)
        elif blocks:
            turns.append({"role": speaker, "content": blocks})
    if not turns or turns[0]["role"] == "assistant":
        turns.insert(0, {"role": "user", "content": [_NOTHING_SAID]})  # That API wants the user to begin.
    _trim(turns[-1])
    return system, _answered(turns)


def _trim(last: Document) -> None:
    """Take the white space from the end of an assistant's turn that the model is to go on with: it is refused there."""
    block = last["content"][-1]
    if last["role"] == "assistant" and block["type"] == "text":
        block["text"] = block["text"].rstrip()


def _answered(turns: list[Document]) -> list[Document]:
    """Put the results of a turn before what the user says, and one for each call that was interrupted."""
    if turns and any(block["type"] == "tool_use" for block in turns[-1]["content"]):
        turns = [*turns, {"role": "user", "content": []}]  # A conversation that ends with a call.
    for before, turn in pairwise(turns):
        calls = [block["id"] for block in before["content"] if block["type"] == "tool_use"]
        results = [block for block in turn["content"] if block["type"] == "tool_result"]
        if turn["role"] != "user" or not (calls or results):
            continue
        known = {block["tool_use_id"] for block in results}
        missed = [{**_INTERRUPTED, "tool_use_id": call} for call in calls if call not in known]
        rest = [block for block in turn["content"] if block["type"] != "tool_result"]
        turn["content"] = [*results, *missed, *rest]
    return turns


def _blocks(role: object, message: Document, field: str, ids: PairedIds) -> list[Document]:
    content = _content(message.get("content") or message.get("refusal"), field)
    if role == "user":
        return content
    if role == "assistant":
        calls = read_objects(message.get("tool_calls") or [], f"{field}.tool_calls")
        return content + [_tool_use(call, at, ids) for at, call in calls]
    if role == "tool":
        result: Document = {
            "type": "tool_result",
            "tool_use_id": ids.of_result(read_text(message, "tool_call_id", field)),
        }
        return [{**result, "content": content} if content else result]
    raise wrong(f"{field}.role", "must be system, developer, user, assistant or tool")


def _content(content: Any, field: str) -> list[Document]:
    if content is None:
        return []
    if isinstance(content, str):
        return [{"type": "text", "text": content}] if content.strip() else []
    if not isinstance(content, list):
        raise wrong(f"{field}.content", "must be a string or a list of parts")
    parts = [_part(part, at) for at, part in read_objects(content, f"{field}.content")]
    # That API refuses text of nothing but white space.
    return [part for part in parts if part["type"] != "text" or part["text"].strip()]


def _part(part: Document, field: str) -> Document:
    kind = part.get("type")
    cached = {"cache_control": part["cache_control"]} if isinstance(part.get("cache_control"), dict) else {}
    if kind in ("text", "refusal"):
        return {"type": "text", "text": read_text(part, kind, field), **cached}
    if kind == "image_url":
        given = part.get("image_url")
        image = {"url": given} if isinstance(given, str) else read_object(given, f"{field}.image_url")
        return {"type": "image", "source": _source(read_text(image, "url", f"{field}.image_url"), field), **cached}
    if kind == "file":
        return {**_file(read_object(part.get("file"), f"{field}.file"), f"{field}.file"), **cached}
    raise unsupported(f"{field}.type", "allowed are text, image_url and file")


def _source(url: str, field: str) -> Document:
    found = split_data_url(url)
    if found is not None:
        return {"type": "base64", "media_type": found[0], "data": found[1]}
    if url[:5].lower() == "data:":
        raise wrong(f"{field}.image_url.url", "must be an http(s) URL or data:TYPE;base64,DATA")
    return {"type": "url", "url": url}


def _file(file: Document, field: str) -> Document:
    data = file.get("file_data")
    if not isinstance(data, str):
        raise unsupported(field, "`file_data` is required; files are not stored")
    block: Document = {"type": "document", "source": _plain_text(_source(data, field), field)}
    return {**block, "title": file["filename"]} if file.get("filename") else block


def _plain_text(source: Document, field: str) -> Document:
    """Give a file of text as a text: that API takes PDF alone in base64."""
    if not str(source.get("media_type")).startswith("text/"):
        return source
    try:
        text = base64.b64decode(source["data"], validate=True).decode()
    except (binascii.Error, ValueError) as error:
        raise wrong(f"{field}.file_data", "must be base64 of UTF-8 where its type is a text's") from error
    return {"type": "text", "media_type": "text/plain", "data": text}


def _tool_use(call: Document, field: str, ids: PairedIds) -> Document:
    function = read_object(call.get("function"), f"{field}.function")
    given = _arguments(function.get("arguments"), f"{field}.function.arguments")
    name = read_text(function, "name", f"{field}.function")
    return {"type": "tool_use", "id": ids.of_call(read_text(call, "id", field)), "name": name, "input": given}


def _arguments(given: Any, field: str) -> Document:
    """Read a call's arguments. What is no object is kept as a text, or no later turn could be sent."""
    if isinstance(given, dict):
        return given
    if not isinstance(given, str):
        raise wrong(field, "must be a string")
    try:
        found = orjson.loads(given) if given.strip() else {}
    except orjson.JSONDecodeError:
        found = None
    return found if isinstance(found, dict) else {"arguments": given}


def _add_tools(request: Document, document: Document) -> None:
    if not document.get("tools"):
        return
    request["tools"] = [_tool(tool, field) for field, tool in read_objects(document["tools"], "tools")]
    choice = _tool_choice(document)
    if choice is not None:
        request["tool_choice"] = choice


def _tool(tool: Document, field: str) -> Document:
    if tool.get("type") != "function":
        raise unsupported(f"{field}.type", "only function is allowed")
    function = read_object(tool.get("function"), f"{field}.function")
    schema = fitting_schema(function.get("parameters"))
    made = {"name": read_text(function, "name", f"{field}.function"), "input_schema": schema}
    return made | {key: function[key] for key in ("description", "strict") if function.get(key) is not None}


def _tool_choice(document: Mapping[str, Any]) -> Document | None:
    given = document.get("tool_choice")
    one_at_a_time = document.get("parallel_tool_calls") is False
    if given is None and not one_at_a_time:
        return None
    if isinstance(given, dict):
        if given.get("type") != "function":
            raise unsupported("tool_choice.type", "only function is allowed")
        function = read_object(given.get("function"), "tool_choice.function")
        choice: Document = {"type": "tool", "name": read_text(function, "name", "tool_choice.function")}
    elif given is None or word(given) in _CHOICES:
        choice = {"type": _CHOICES[given or "auto"]}
    else:
        raise wrong("tool_choice", "must be auto, none, required or a function")
    if one_at_a_time and choice["type"] != "none":
        choice["disable_parallel_tool_use"] = True
    return choice


def _add_output(request: Document, document: Document) -> None:
    config: Document = {}
    effort = document.get("reasoning_effort")
    if effort == "none":
        request["thinking"] = {"type": "disabled"}
    elif effort is not None:
        if word(effort) not in _EFFORTS:
            raise wrong("reasoning_effort", f"must be none or one of {', '.join(_EFFORTS)}")
        config["effort"] = _EFFORTS[effort]
    response_format = read_object(document.get("response_format") or {"type": "text"}, "response_format")
    kind = response_format.get("type")
    if kind == "json_schema":
        field = "response_format.json_schema"
        schema = read_object(read_object(response_format.get("json_schema"), field).get("schema"), f"{field}.schema")
        config["format"] = {"type": "json_schema", "schema": schema}
    elif kind != "text":
        raise unsupported("response_format", "allowed are text, and json_schema with a schema")
    if config:
        request["output_config"] = config
