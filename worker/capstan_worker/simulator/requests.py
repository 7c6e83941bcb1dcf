"""Reading requests: from JSON to what is to be generated, with vLLM's complaints about what cannot be."""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import orjson

from capstan_worker.simulator import schemas
from capstan_worker.simulator.answers import Answer, Bounds, cut, make_seed, write_prose
from capstan_worker.simulator.errors import ApiError
from capstan_worker.simulator.settings import SimulatorSettings
from capstan_worker.simulator.tokens import split

Body = Mapping[str, Any]
_IMAGE_TOKENS = 64


@dataclass(frozen=True)
class Generation:
    """A chat or completion request, understood."""

    chat: bool
    model: str
    prompts: tuple[tuple[str, ...], ...]
    """Each as tokens."""
    n: int
    stream: bool
    include_usage: bool
    continuous_usage: bool
    logprobs: int | None
    """How many alternatives per token; None: no logprobs."""
    salt: str
    echo: bool
    tool: str | None
    """The tool that is called; None: the answer is text."""
    forced_tool: bool
    max_tokens: int
    seeds: tuple[int, ...]
    """One per choice, prompt by prompt."""
    write: Callable[[int], Answer]

    def answers(self) -> list[Answer]:
        """Give every choice."""
        return [self.write(seed) for seed in self.seeds]


def parse_body(body: bytes) -> Body:
    """Read the body as a JSON object. Raises ApiError."""
    try:
        document = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise ApiError(400, f"Invalid JSON: {error}") from error
    if not isinstance(document, dict):
        raise ApiError(400, "The request body must be a JSON object.")
    return document


def check_model(body: Body, settings: SimulatorSettings) -> str:
    """Give the model's name; without one it is the base model. Raises ApiError 404."""
    name = body.get("model")
    if name is None or name == "":
        return settings.model
    if name == settings.model or name in settings.aliases:
        return str(name)
    raise ApiError(404, f"The model `{name}` does not exist.", type="NotFoundError", param="model")


def parse_chat(body: Body, settings: SimulatorSettings, mean_tokens: int) -> Generation:
    """Understand a chat request. Raises ApiError."""
    messages = body.get("messages")
    if not isinstance(messages, list) or not messages or not all(isinstance(item, dict) for item in messages):
        raise ApiError(400, "`messages` must be a list with at least one message.", param="messages")
    tools = body.get("tools") or []
    if not isinstance(tools, list):
        raise ApiError(400, "`tools` must be a list.", param="tools")
    text = "".join(f"<|{_role(m)}|>{content_text(m)}<|end|>" for m in messages) + "<|assistant|>"
    if tools:
        text = f"<|tools|>{orjson.dumps(tools).decode()}<|end|>" + text
    tool, forced = _choose_tool(body, tools, content_text(messages[-1]))
    top = _integer(body, "top_logprobs", 0, low=0, high=20)
    wants = bool(body.get("logprobs"))
    if top and not wants:
        raise ApiError(400, "when using `top_logprobs`, `logprobs` must be set to true.", param="top_logprobs")
    schema = _tool_schema(tools, tool) if tool else _format_schema(body)
    return _generation(
        body, settings, mean_tokens, [text], chat=True, schema=schema, tool=tool, forced=forced,
        logprobs=top if wants else None,
    )  # fmt: skip


def parse_completion(body: Body, settings: SimulatorSettings, mean_tokens: int) -> Generation:
    """Understand a completion request. Raises ApiError."""
    if body.get("suffix"):
        raise ApiError(400, "suffix is not currently supported", param="suffix")
    prompts = prompt_texts(body.get("prompt"), "prompt")
    logprobs = _integer(body, "logprobs", None, low=0, high=20)
    return _generation(
        body, settings, mean_tokens, prompts, chat=False, schema=_format_schema(body), tool=None, forced=False,
        logprobs=logprobs,
    )  # fmt: skip


def prompt_texts(value: object, param: str) -> list[str]:
    """Give the texts of a prompt or an embedding input: a text, token numbers, or a list of either."""
    if isinstance(value, str):
        return [value]
    if isinstance(value, list) and value:
        if all(isinstance(item, int) and not isinstance(item, bool) for item in value):
            return ["".join(f" {item}" for item in value)]
        if all(isinstance(item, str) for item in value):
            return list(value)
        if all(isinstance(item, list) and item for item in value):
            return [prompt_texts(item, param)[0] for item in value]
    raise ApiError(400, f"`{param}` must be a text, a list of token numbers, or a list of either.", param=param)


def content_text(message: Body) -> str:
    """Give the text of one message, with a run of marks for each part that is not text."""
    content = message.get("content")
    parts = []
    if isinstance(content, str):
        parts.append(content)
    elif isinstance(content, list):
        parts.extend(_part_text(part) for part in content)
    elif content is not None:
        raise ApiError(400, "`content` must be a text or a list of parts.", param="messages")
    if message.get("tool_calls"):
        parts.append(orjson.dumps(message["tool_calls"]).decode())
    return "".join(parts)


def _part_text(part: object) -> str:
    if not isinstance(part, dict):
        raise ApiError(400, "each part of `content` must be an object.", param="messages")
    if isinstance(part.get("text"), str):
        return str(part["text"])
    return f"<{make_seed(orjson.dumps(part).decode()):x}>" + "#" * _IMAGE_TOKENS


def _role(message: Body) -> str:
    role = message.get("role")
    if not isinstance(role, str) or not role.isidentifier():
        raise ApiError(400, "each message must have a `role`.", param="messages")
    return role


def _generation(
    body: Body,
    settings: SimulatorSettings,
    mean_tokens: int,
    texts: list[str],
    *,
    chat: bool,
    schema: Body | None,
    tool: str | None,
    forced: bool,
    logprobs: int | None,
) -> Generation:
    model = check_model(body, settings)
    prompts = tuple(tuple(split(text)) for text in texts)
    bounds = _bounds(body, settings, longest=max(len(prompt) for prompt in prompts), chat=chat)
    stream = bool(body.get("stream"))
    options = body.get("stream_options") or {}
    if options and not stream:
        raise ApiError(400, "Stream options can only be defined when `stream=True`.", param="stream_options")
    n = _integer(body, "n", 1, low=1, high=128) or 1
    _check_sampling(body)
    form = orjson.dumps([schema, tool], option=orjson.OPT_SORT_KEYS).decode()
    common = (model, str(settings.seed), str(body.get("seed")), form)
    seeds = tuple(make_seed(*common, text, str(index)) for text in texts for index in range(n))

    def write(seed: int) -> Answer:
        if schema is not None:
            return cut(split(orjson.dumps(schemas.example(schema, seed)).decode()), bounds)
        return write_prose(seed, model=model, mean_tokens=mean_tokens, bounds=bounds)

    usage = bool(options.get("include_usage"))
    return Generation(
        chat=chat,
        model=model,
        prompts=prompts,
        n=n,
        stream=stream,
        include_usage=usage,
        continuous_usage=usage and bool(options.get("continuous_usage_stats")),
        logprobs=logprobs,
        salt=f"{model}\0{body.get('cache_salt') or ''}",
        echo=bool(body.get("echo")) and not chat,
        tool=tool,
        forced_tool=forced,
        max_tokens=bounds.max_tokens,
        seeds=seeds,
        write=write,
    )


def _bounds(body: Body, settings: SimulatorSettings, *, longest: int, chat: bool) -> Bounds:
    name = "max_completion_tokens" if chat and body.get("max_completion_tokens") is not None else "max_tokens"
    asked = _integer(body, name, None if chat else 16, low=1)
    window = settings.context_window
    if longest >= window:
        raise ApiError(
            400,
            f"This model's maximum context length is {window} tokens. However, your prompt contains {longest} input "
            f"tokens, which exceeds this limit even without any output tokens. "
            f"Please reduce the length of the input prompt.",
            param="input_tokens",
        )
    if asked is not None and longest + asked > window:
        raise ApiError(
            400,
            f"This model's maximum context length is {window} tokens. However, you requested {asked} output tokens and "
            f"your prompt contains {longest} input tokens, for a total of {longest + asked} tokens. "
            f"Please reduce the length of the input prompt or the number of requested output tokens.",
            param="input_tokens",
        )
    stop = body.get("stop") or ()
    stop = (stop,) if isinstance(stop, str) else tuple(stop)
    if not all(isinstance(item, str) and item for item in stop):
        raise ApiError(400, "`stop` must be a text or a list of texts.", param="stop")
    return Bounds(
        max_tokens=asked or window - longest,
        min_tokens=_integer(body, "min_tokens", 0, low=0) or 0,
        # Without a bound there would be no end to it.
        ignore_eos=bool(body.get("ignore_eos")) and asked is not None,
        stop=stop,
        keep_stop=bool(body.get("include_stop_str_in_output")),
    )


def _check_sampling(body: Body) -> None:
    for name, low, high in (("temperature", 0, math.inf), ("top_p", 0, 1)):
        value = body.get(name)
        if value is None:
            continue
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise ApiError(400, f"`{name}` must be a number.", param=name)
        if not low <= value <= high:
            raise ApiError(400, f"{name} must be in [{low}, {high}], got {value}.", param=name)


def _integer(body: Body, name: str, default: int | None, *, low: int, high: int | None = None) -> int | None:
    value = body.get(name)
    if value is None:
        return default
    if isinstance(value, bool) or not isinstance(value, int):
        raise ApiError(400, f"`{name}` must be a whole number.", param=name)
    if value < low:
        raise ApiError(400, f"{name} must be at least {low}, got {value}.", param=name)
    if high is not None and value > high:
        raise ApiError(400, f"{name} must be at most {high}, got {value}.", param=name)
    return value


def _choose_tool(body: Body, tools: list[Any], last_text: str) -> tuple[str | None, bool]:
    """Give the tool to call: the one that is demanded; on `auto` one whose name is in the last message."""
    names = [str(tool["function"].get("name")) for tool in tools if isinstance(tool, dict) and "function" in tool]
    choice = body.get("tool_choice") or ("auto" if names else "none")
    if isinstance(choice, dict):
        wanted = (choice.get("function") or {}).get("name")
        if wanted not in names:
            raise ApiError(
                400, f"The tool specified in `tool_choice` (`{wanted}`) is not in `tools`.", param="tool_choice"
            )
        return str(wanted), True
    if choice == "required":
        if not names:
            raise ApiError(400, "When using `tool_choice`, `tools` must be set.", param="tool_choice")
        return names[0], False
    if choice == "auto":
        return next((name for name in names if name in last_text), None), False
    return None, False


def _tool_schema(tools: list[Any], name: str) -> Body:
    function = next(tool["function"] for tool in tools if tool.get("function", {}).get("name") == name)
    return function.get("parameters") or {"type": "object"}


def _format_schema(body: Body) -> Body | None:
    wanted = body.get("response_format") or {}
    kind = wanted.get("type") if isinstance(wanted, dict) else None
    if kind == "json_object":
        return {"type": "object", "properties": {"simulated": {"const": True}, "answer": {"type": "string"}}}
    if kind == "json_schema":
        schema = (wanted.get("json_schema") or {}).get("schema")
        if not isinstance(schema, dict):
            raise ApiError(400, "`response_format.json_schema.schema` must be an object.", param="response_format")
        return schema
    if kind not in (None, "text"):
        raise ApiError(400, f"`response_format.type` '{kind}' is not supported.", param="response_format")
    outputs = body.get("structured_outputs")
    if isinstance(outputs, dict) and isinstance(outputs.get("json"), dict):
        return dict(outputs["json"])
    return None
