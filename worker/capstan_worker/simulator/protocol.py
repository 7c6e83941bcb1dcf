"""What vLLM takes on its routes, as tables, and what it refuses beyond types.

After `vllm/entrypoints/openai/*/protocol.py` and `vllm/sampling_params.py` of its main branch in November 2026.
"""

from collections.abc import Callable, Mapping
from typing import Any, Final

from capstan_worker.simulator.checking import (
    Checker,
    Fault,
    Invalid,
    boolean,
    dictionary,
    dictionary_of,
    either,
    fields,
    list_of,
    number,
    one_of,
    optional,
    refusal,
    text,
    whole,
    within,
)
from capstan_worker.simulator.errors import ApiError
from capstan_worker.simulator.sampling import MAX_STOPS, check_sampling

Body = Mapping[str, Any]
ROLES: Final = ("system", "developer", "user", "assistant", "tool", "function")
_INT64: Final = 2**63 - 1
_NO_TOOLS: Final = "`tools` must not be an empty array. Either provide at least one tool or omit the field entirely."
_TOOL_USAGE: Final = 'Correct usage: `{"type": "function", "function": {"name": "my_function"}}`'

_STOP = optional(either(str=text, list_str=list_of(text, most=MAX_STOPS)))
_STREAM_OPTIONS = fields({"include_usage": optional(boolean), "continuous_usage_stats": optional(boolean)})
_FORMAT = fields(
    {
        "type": one_of("text", "json_object", "json_schema", "structural_tag"),
        "json_schema": optional(
            fields(
                {
                    "name": text,
                    "description": optional(text),
                    "schema": optional(dictionary),
                    "strict": optional(boolean),
                },
                required=("name",),
            )
        ),
    },
    required=("type",),
)
_SAMPLING: Final[Mapping[str, Checker]] = {
    "model": optional(text),
    "frequency_penalty": optional(number),
    "presence_penalty": optional(number),
    "repetition_penalty": optional(number),
    "temperature": optional(number),
    "top_p": optional(number),
    "top_k": optional(whole),
    "min_p": optional(number),
    "length_penalty": number,
    "logit_bias": optional(dictionary_of(number)),
    "max_tokens": optional(whole),
    "min_tokens": whole,
    "n": optional(whole),
    "seed": optional(within(-(2**63), _INT64)),
    "stop": _STOP,
    "stop_token_ids": optional(list_of(whole)),
    "allowed_token_ids": optional(list_of(whole)),
    "bad_words": list_of(text),
    "stream": optional(boolean),
    "stream_options": optional(_STREAM_OPTIONS),
    "response_format": optional(_FORMAT),
    "structured_outputs": optional(dictionary),
    "ignore_eos": boolean,
    "include_stop_str_in_output": boolean,
    "skip_special_tokens": boolean,
    "spaces_between_special_tokens": boolean,
    "prompt_logprobs": optional(whole),
    "truncate_prompt_tokens": optional(within(-1, _INT64)),
    "priority": within(-(2**63), _INT64),
    "request_id": text,
    "cache_salt": optional(text),
    "user": optional(text),
    "echo": optional(boolean),
}
_CALL = fields({"id": text, "function": fields({"name": text, "arguments": text}, required=("name",))})
_MESSAGE = fields(
    {
        "role": text,
        "name": text,
        "tool_call_id": text,
        "content": optional(either(str=text, list_dict=list_of(dictionary))),
        "refusal": optional(text),
        "reasoning": optional(text),
        "reasoning_content": optional(text),
        "tool_calls": optional(list_of(_CALL)),
    },
    required=("role",),
)
_TOOL = fields(
    {
        "type": one_of("function"),
        "function": fields(
            {
                "name": text,
                "description": optional(text),
                "parameters": optional(dictionary),
                "strict": optional(boolean),
            },
            required=("name",),
        ),
    },
    required=("function",),
)
_CHAT = fields(
    {
        **_SAMPLING,
        "messages": list_of(_MESSAGE),
        "logprobs": optional(boolean),
        "top_logprobs": optional(whole),
        "max_completion_tokens": optional(whole),
        "tools": optional(list_of(_TOOL)),
        "tool_choice": lambda value, _at: value,
        "parallel_tool_calls": optional(boolean),
        "reasoning_effort": optional(one_of("none", "minimal", "low", "medium", "high", "xhigh", "max")),
        "include_reasoning": boolean,
        "add_generation_prompt": boolean,
        "continue_final_message": boolean,
        "add_special_tokens": boolean,
        "documents": optional(list_of(dictionary)),
        "chat_template": optional(text),
        "chat_template_kwargs": optional(dictionary),
        "mm_processor_kwargs": optional(dictionary),
    },
    required=("messages",),
)
_COMPLETION = fields({**_SAMPLING, "logprobs": optional(whole), "suffix": optional(text), "best_of": optional(whole)})


def checked_chat(body: Body) -> Body:
    """Give a chat request as vLLM reads it, or raise the ApiError with which it refuses it."""
    read = _checked(body, _CHAT, (_check_stream_options, _check_logprobs, _check_tools, _check_format))
    if not read["messages"]:
        raise ApiError(400, "`messages` must be a list with at least one message.", param="messages")
    for message in read["messages"]:
        if message["role"] not in ROLES:
            # vLLM has no list of roles: it is the chat templates that refuse others.
            raise ApiError(400, f"Unexpected message role: {message['role'][:64]!r}.", param="messages")
    check_sampling(read)
    return read


def checked_completion(body: Body) -> Body:
    """Do the same with a completion request; its prompt is looked at later."""
    read = _checked(body, _COMPLETION, (_check_stream_options, _check_format))
    check_sampling(read)
    return read


def _checked(body: Body, check: Checker, before: tuple[Callable[[Body], None], ...]) -> Body:
    try:
        for rule in before:
            rule(body)
        read: Body = check(body, ("body",))
    except Invalid as error:
        raise refusal(error.faults) from error
    return read


def _refused(body: Body, message: str, param: str, value: Any = None) -> Invalid:
    """Give the fault of a rule of vLLM's own, which it finds before the types are looked at."""
    named = f"parameter={param}" if value is None else f"parameter={param}, value={value}"
    return Invalid(Fault("value_error", ("body",), f"Value error, {message} ({named})", body, param))


def _check_stream_options(body: Body) -> None:
    if body.get("stream_options") and not body.get("stream"):
        raise _refused(body, "Stream options can only be defined when `stream=True`.", "stream_options")


def _check_logprobs(body: Body) -> None:
    for name in ("prompt_logprobs", "top_logprobs"):
        value = body.get(name)
        if value is None:
            continue
        if not isinstance(value, int | float):
            raise _refused(body, f"`{name}` must be an integer.", name, value)
        if value < 0 and value != -1:
            raise _refused(body, f"`{name}` must be a positive value or -1.", name, value)
        if name == "prompt_logprobs" and body.get("stream") and value:
            raise _refused(body, "`prompt_logprobs` are not available when `stream=True`.", name)
        if name == "top_logprobs" and value and not body.get("logprobs"):
            raise _refused(body, "when using `top_logprobs`, `logprobs` must be set to true.", name)


def _check_format(body: Body) -> None:
    wanted = body.get("response_format")
    if isinstance(wanted, dict) and wanted.get("type") == "json_schema" and wanted.get("json_schema") is None:
        message = "When response_format type is 'json_schema', the 'json_schema' field must be provided."
        raise _refused(body, message, "response_format")


def _check_tools(body: Body) -> None:
    tools, choice = body.get("tools"), body.get("tool_choice")
    if tools == []:
        raise _refused(body, _NO_TOOLS, "tools")
    if choice is None or choice == "none":
        return
    if tools is None:
        raise _refused(body, "When using `tool_choice`, `tools` must be set.", "tool_choice")
    if isinstance(choice, dict):
        _check_named(body, choice, tools)
    elif choice not in ("auto", "required"):
        message = (
            f'Invalid value for `tool_choice`: {choice}! Only named tools, "none", "auto" or "required" are supported.'
        )
        raise _refused(body, message[:400], "tool_choice")


def _check_named(body: Body, choice: Body, tools: Any) -> None:
    function = choice.get("function")
    if not isinstance(function, dict):
        message = f"Invalid value for `function`: `{str(function)[:200]}` in `tool_choice`! {_TOOL_USAGE}"
        raise _refused(body, message, "tool_choice.function")
    if "name" not in function:
        message = f"Expected field `name` in `function` in `tool_choice`! {_TOOL_USAGE}"
        raise _refused(body, message, "tool_choice.function.name")
    name = function["name"]
    if not isinstance(name, str) or not name:
        message = f"Invalid `name` in `function`: `{str(name)[:200]}` in `tool_choice`! {_TOOL_USAGE}"
        raise _refused(body, message, "tool_choice.function.name")
    listed = tools if isinstance(tools, list) else []
    if not any(_name_of(tool) == name for tool in listed):
        message = "The tool specified in `tool_choice` does not match any of the specified `tools`"
        raise _refused(body, message, "tool_choice")


def _name_of(tool: Any) -> Any:
    function = tool.get("function") if isinstance(tool, dict) else None
    return function.get("name") if isinstance(function, dict) else None
