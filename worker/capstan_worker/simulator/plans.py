"""What an answer is made of: reasoning, calls of tools, a refusal, JSON or text; and the writing of it."""

import re
from dataclasses import dataclass
from typing import Any, Final

import orjson

from capstan_worker.simulator import schemas
from capstan_worker.simulator.answers import Answer, Bounds, Kind, Part, cut, prose, thoughts
from capstan_worker.simulator.errors import ApiError
from capstan_worker.simulator.protocol import Body
from capstan_worker.simulator.questions import Known
from capstan_worker.simulator.tokens import split

_REFUSAL: Final = "I cannot help with that (a simulated refusal)."
_REFUSAL_IN_TEXT: Final = "I'm sorry, but I can't help with that (a simulated refusal)."
"""As open models say it, which know no field for it."""


@dataclass(frozen=True)
class Plan:
    """What an answer is made of, beside its length."""

    schemas: tuple[Body, ...] = ()
    """Of the tools that are called, or of the text that is wanted."""
    tools: tuple[str, ...] = ()
    """Tools that are called, each once; none: the answer is text."""
    reasoning_tokens: int = 0
    refuses: bool = False
    refuses_in_text: bool = False
    """Whether it refuses in the words of the answer, instead of in the field for it."""
    known: tuple[Known | None, ...] = ()
    """For each choice, prompt by prompt: what is answered to a question whose answer is known."""
    bare: bool = False
    """Whether a known answer is all that is said."""


def write_answer(plan: Plan, known: Known | None, seed: int, *, model: str, mean_tokens: int, bounds: Bounds) -> Answer:
    """Write one choice: the reasoning, and behind it the calls, a refusal, JSON or text."""
    tokens = thoughts(seed, plan.reasoning_tokens) if plan.reasoning_tokens else []
    parts = [Part(Kind.REASONING)] if tokens else []
    wrong = False
    if plan.refuses:
        parts.append(Part(Kind.TEXT if plan.refuses_in_text else Kind.REFUSAL, len(tokens)))
        tokens += split(_REFUSAL_IN_TEXT if plan.refuses_in_text else _REFUSAL)
    elif plan.tools:
        for place, (name, schema) in enumerate(zip(plan.tools, plan.schemas, strict=True)):
            parts.append(Part(Kind.CALL, len(tokens), name))
            tokens += split(as_json(schemas.example(schema, seed + place)))
    else:
        parts.append(Part(Kind.TEXT, len(tokens)))
        if plan.schemas:
            tokens += split(as_json(schemas.example(plan.schemas[0], seed)))
        else:
            wrong = known is not None and not known.right
            tokens += _text(plan, known, seed, model=model, mean_tokens=mean_tokens, bounds=bounds)
    return cut(tokens, bounds, parts=tuple(parts), wrong=wrong)


def _text(plan: Plan, known: Known | None, seed: int, *, model: str, mean_tokens: int, bounds: Bounds) -> list[str]:
    if known is not None and plan.bare:
        return split(known.text)
    opening = split(f"{known.text}\n\n") if known is not None else []
    return opening + prose(seed, model=model, mean_tokens=mean_tokens, bounds=bounds)


def as_json(value: Any) -> str:
    """Write a value that came in as JSON. Raises ApiError for one that is nested too deeply."""
    try:
        return orjson.dumps(value).decode()
    except TypeError as error:  # It came in as JSON: nothing else about it can be wrong.
        raise ApiError(400, "the request is nested too deeply") from error


def choose_tools(body: Body, tools: list[Any], last_text: str, most: int) -> tuple[str, ...]:
    """Give the tools to call: the one that is demanded; else those that the last message names, in its order."""
    names = list(dict.fromkeys(str(tool["function"]["name"]) for tool in tools))
    choice = body.get("tool_choice") or ("auto" if names else "none")
    if isinstance(choice, dict):
        return (str(choice["function"]["name"]),)
    if choice == "none":
        return ()
    found = ((re.search(rf"(?<![\w-]){re.escape(name)}(?![\w-])", last_text), name) for name in names)
    called = [name for _, name in sorted((match.start(), name) for match, name in found if match)]
    if choice == "required" and not called:
        called = names[:1]
    if body.get("parallel_tool_calls") is False:
        most = 1
    return tuple(called[:most])


def parameters_of(tools: list[Any], name: str) -> Body:
    """Give the schema of a tool's arguments."""
    function = next(tool["function"] for tool in tools if tool["function"]["name"] == name)
    return function.get("parameters") or {"type": "object"}


def wanted_schema(body: Body) -> Body | None:
    """Give the schema that the text of the answer is to fit; None where it may be prose. Raises ApiError."""
    wanted = body.get("response_format") or {}
    kind = wanted.get("type")
    if kind == "json_object":
        return {"type": "object", "properties": {"simulated": {"const": True}, "answer": {"type": "string"}}}
    if kind == "json_schema":
        schema = wanted["json_schema"].get("schema")
        return {"type": "object"} if schema is None else dict(schema)
    if kind == "structural_tag":
        raise ApiError(400, "the simulator knows no structural tags", param="response_format")
    outputs = body.get("structured_outputs") or {}
    return dict(outputs["json"]) if isinstance(outputs.get("json"), dict) else None


def may_reason(body: Body) -> bool:
    """Whether reasoning is not turned off, in one of the ways that there are."""
    template = body.get("chat_template_kwargs") or {}
    asked_for = body.get("include_reasoning", True) and body.get("reasoning_effort") != "none"
    return bool(asked_for) and template.get("enable_thinking") is not False and template.get("thinking") is not False
