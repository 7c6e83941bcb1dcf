"""Reading requests: from JSON to what is to be generated, with vLLM's complaints about what cannot be."""

from collections.abc import Callable
from dataclasses import dataclass

import orjson

from capstan_contract.kv_events import root_name
from capstan_worker.simulator.answers import Answer, Bounds, make_seed
from capstan_worker.simulator.checking import Fault, refusal
from capstan_worker.simulator.errors import ApiError
from capstan_worker.simulator.plans import (
    Plan,
    as_json,
    choose_tools,
    may_reason,
    parameters_of,
    wanted_schema,
    write_answer,
)
from capstan_worker.simulator.protocol import Body, checked_chat, checked_completion
from capstan_worker.simulator.questions import Known, is_drawn, is_harmful, known_answer
from capstan_worker.simulator.sampling import MAX_CHOICES, named
from capstan_worker.simulator.settings import Dials, SimulatorSettings
from capstan_worker.simulator.tokens import split

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
    root: int
    """The name of what stands in front of its prompt's first block: for whom it is computed."""
    echo: bool
    reasoning_fields: tuple[str, ...]
    """Under which names the reasoning is told."""
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
        raise refusal((Fault("json_invalid", ("body", error.pos), "JSON decode error", {}),)) from error
    if not isinstance(document, dict):
        message = "Input should be a valid dictionary"
        raise refusal((Fault("dict_type", ("body",), message, document),))
    return document


def check_model(body: Body, settings: SimulatorSettings) -> str:
    """Give the model's name; without one it is the base model. Raises ApiError 404."""
    name = body.get("model")
    if name is None or name == "":
        return settings.model
    if name == settings.model or name in settings.aliases:
        return str(name)
    raise ApiError(404, f"The model `{str(name)[:256]}` does not exist.", type="NotFoundError", param="model")


def parse_chat(given: Body, settings: SimulatorSettings, dials: Dials) -> Generation:
    """Understand a chat request. Raises ApiError."""
    body = checked_chat(given)
    messages, tools = body["messages"], body.get("tools") or []
    text = "".join(f"<|{m['role']}|>{content_text(m)}<|end|>" for m in messages) + "<|assistant|>"
    if tools:
        text = f"<|tools|>{as_json(tools)}<|end|>" + text
    last = content_text(messages[-1])
    called = choose_tools(body, tools, last, dials.parallel_calls)
    wanted = wanted_schema(body)
    wanted_forms = () if wanted is None else (wanted,)
    forms = tuple(parameters_of(tools, name) for name in called) if called else wanted_forms
    top = _integer(body, "top_logprobs", 0, high=20)
    plan = Plan(
        schemas=forms, tools=called, known=_known(body, settings, dials, [last]), bare=dials.bare_answers,
        reasoning_tokens=dials.reasoning_tokens if may_reason(body) else 0,
        refuses=_refuses(body, settings, dials, text, last=last),
        refuses_in_text=settings.refusal_form == "text",
    )  # fmt: skip
    return _generation(
        body, settings, dials, [text], chat=True, plan=plan, logprobs=top if body.get("logprobs") else None
    )


def parse_completion(given: Body, settings: SimulatorSettings, dials: Dials) -> Generation:
    """Understand a completion request. Raises ApiError."""
    body = checked_completion(given)
    if body.get("suffix"):
        raise ApiError(400, "suffix is not currently supported", param="suffix")
    prompts = prompt_texts(body.get("prompt"), "prompt")
    wanted = wanted_schema(body)
    known = () if wanted is not None else _known(body, settings, dials, prompts)
    plan = Plan(schemas=() if wanted is None else (wanted,), known=known, bare=dials.bare_answers)
    logprobs = _integer(body, "logprobs", None, high=20)
    return _generation(body, settings, dials, prompts, chat=False, plan=plan, logprobs=logprobs)


def _known(body: Body, settings: SimulatorSettings, dials: Dials, questions: list[str]) -> tuple[Known | None, ...]:
    """Give what is answered to each choice of each question, where its answer is known."""
    return tuple(
        known_answer(question, accuracy=dials.accuracy, salt=f"{_salt(body, settings)} {index}", book=settings.answers)
        for question in questions
        for index in range(_choices(body))
    )


def _refuses(body: Body, settings: SimulatorSettings, dials: Dials, text: str, *, last: str) -> bool:
    salt = _salt(body, settings)
    if is_drawn(dials.refusal_rate, "refusal", salt, text):
        return True
    return is_drawn(dials.harmful_refusal_rate, "harmful", salt, last) and is_harmful(last)


def _salt(body: Body, settings: SimulatorSettings) -> str:
    """What decides, besides the question, whether it is answered rightly: not the model."""
    return f"{settings.seed} {body.get('seed')}"


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
        parts.append(as_json(message["tool_calls"]))
    return "".join(parts)


def _part_text(part: object) -> str:
    if not isinstance(part, dict):
        raise ApiError(400, "each part of `content` must be an object.", param="messages")
    if isinstance(part.get("text"), str):
        return str(part["text"])
    return f"<{make_seed(as_json(part)):x}>" + "#" * _IMAGE_TOKENS


def _choices(body: Body) -> int:
    n = 1 if body.get("n") is None else int(body["n"])
    if n < 1:
        raise named(f"n must be at least 1, got {n}.", "n", n)
    if n > MAX_CHOICES:
        raise named(f"n must be at most {MAX_CHOICES}, got {n}.", "n", n)
    if n > 1 and body.get("temperature") == 0:
        raise ApiError(400, f"n must be 1 when using greedy sampling, got {n}.")
    return n


def _generation(
    body: Body,
    settings: SimulatorSettings,
    dials: Dials,
    texts: list[str],
    *,
    chat: bool,
    plan: Plan,
    logprobs: int | None,
) -> Generation:
    model = check_model(body, settings)
    prompts = tuple(tuple(split(text)) for text in texts)
    bounds = _bounds(body, settings, longest=max(len(prompt) for prompt in prompts), chat=chat)
    options = body.get("stream_options") or {}
    n = _choices(body)
    form = as_json([plan.schemas, plan.tools])
    common = (model, str(settings.seed), str(body.get("seed")), form)
    seeds = tuple(make_seed(*common, text, str(index)) for text in texts for index in range(n))
    places = {seed: place for place, seed in enumerate(seeds)}

    def write(seed: int) -> Answer:
        known = plan.known[places[seed]] if plan.known else None
        return write_answer(plan, known, seed, model=model, mean_tokens=dials.answer_tokens, bounds=bounds)

    usage = bool(options.get("include_usage"))
    field = settings.reasoning_field
    return Generation(
        chat=chat,
        model=model,
        prompts=prompts,
        n=n,
        stream=bool(body.get("stream")),
        include_usage=usage,
        continuous_usage=usage and bool(options.get("continuous_usage_stats")),
        logprobs=logprobs,
        root=root_name(salt=body.get("cache_salt") or "", adapter="" if model == settings.model else model),
        echo=bool(body.get("echo")) and not chat,
        reasoning_fields=("reasoning", "reasoning_content") if field == "both" else (field,),
        max_tokens=bounds.max_tokens,
        seeds=seeds,
        write=write,
    )


def _bounds(body: Body, settings: SimulatorSettings, *, longest: int, chat: bool) -> Bounds:
    name = "max_completion_tokens" if chat and body.get("max_completion_tokens") is not None else "max_tokens"
    asked: int | None = body.get(name)
    if asked is None and not chat:
        asked = 16
    if asked is not None and asked < 1:
        raise named(f"max_tokens must be at least 1, got {asked}.", "max_tokens", asked)
    least: int = body.get("min_tokens") or 0
    if least < 0:
        raise ApiError(400, f"min_tokens must be greater than or equal to 0, got {least}.")
    if asked is not None and least > asked:
        raise ApiError(400, f"min_tokens must be less than or equal to max_tokens={asked}, got {least}.")
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
    return Bounds(
        max_tokens=asked or window - longest,
        # Nobody can ask for more than there is room for.
        min_tokens=min(least, window - longest),
        # Without a bound there would be no end to it.
        ignore_eos=bool(body.get("ignore_eos")) and asked is not None,
        stop=(stop,) if isinstance(stop, str) else tuple(stop),
        keep_stop=bool(body.get("include_stop_str_in_output")),
    )


def _integer(body: Body, name: str, default: int | None, *, high: int) -> int | None:
    value: int | None = body.get(name)
    if value is None:
        return default
    if value == -1:  # As many as there are.
        return high
    if value < 0:
        raise named(f"{name} must be non-negative or -1, got {value}.", name, value)
    if value > high:
        message = f"Requested sample logprobs of {value}, which is greater than max allowed: {high}"
        raise named(message, "logprobs", value)
    return value
