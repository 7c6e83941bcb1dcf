"""The official packages: openai on chat and Responses, anthropic."""

import base64
import json
from typing import Any

import scenarios
from anthropic import Anthropic
from openai import OpenAI
from pydantic import BaseModel

OPENAI = OpenAI(base_url=scenarios.V1, api_key=scenarios.KEY, max_retries=0)
CLAUDE = Anthropic(base_url=scenarios.GATEWAY, api_key=scenarios.KEY, max_retries=0)
SCHEMA = {
    "type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"], "additionalProperties": False
}  # fmt: skip
ABOUT = "Give the weather of a city."


class Report(BaseModel):
    """The weather of a city."""

    city: str
    degrees: int


def picture() -> str:
    """Give the picture in base64."""
    return base64.b64encode(scenarios.PICTURE.read_bytes()).decode()


def of_chat() -> scenarios.Scenarios:
    """Give what openai does on chat completions."""

    def create(prompt: Any, **more: Any) -> Any:
        messages = [{"role": "user", "content": prompt}] if not isinstance(prompt, list) else prompt
        return OPENAI.chat.completions.create(model=scenarios.MODEL, messages=messages, **more)  # type: ignore[arg-type]

    def stream(prompt: str) -> Any:
        pieces = [chunk.choices[0].delta.content for chunk in create(prompt, stream=True)]
        return {"pieces": [piece for piece in pieces if piece]}

    def tools(prompt: str) -> Any:
        offered = [{"type": "function", "function": {"name": "weather", "description": ABOUT, "parameters": SCHEMA}}]
        turns: list[Any] = [{"role": "user", "content": prompt}]
        with OPENAI.chat.completions.stream(model=scenarios.MODEL, messages=turns, tools=offered) as events:  # type: ignore[arg-type]
            first = events.get_final_completion().choices[0].message
        made = first.tool_calls or []
        turns.append(first.to_dict())
        pairs = [(call.function.name, json.loads(call.function.arguments)) for call in made]
        turns += [
            {"role": "tool", "tool_call_id": call.id, "content": scenarios.WEATHER[given["city"]]}
            for call, (_, given) in zip(made, pairs, strict=True)
        ]
        return {"calls": scenarios.calls(*pairs), "text": create(turns, tools=offered).choices[0].message.content}

    def structured(prompt: str) -> Any:
        turns: list[Any] = [{"role": "user", "content": prompt}]
        said = OPENAI.chat.completions.parse(model=scenarios.MODEL, messages=turns, response_format=Report)
        return {"object": said.choices[0].message.parsed.model_dump()}

    def images(prompt: str) -> Any:
        shown = {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{picture()}"}}
        return {
            "text": create([{"role": "user", "content": [{"type": "text", "text": prompt}, shown]}])
            .choices[0]
            .message.content
        }

    def counting(prompt: str) -> Any:
        last = [*create(prompt, stream=True, stream_options={"include_usage": True})][-1].usage
        usages = (create(prompt).usage, last)
        return scenarios.counted(*([usage.prompt_tokens, usage.completion_tokens] for usage in usages))

    return {
        "chat": lambda prompt: {"text": create(prompt).choices[0].message.content},
        "stream": stream, "tools": tools, "structured output": structured, "images": images,
        "errors": lambda prompt: scenarios.failures(create, prompt), "counting": counting,
    }  # fmt: skip


def of_responses() -> scenarios.Scenarios:
    """Give what openai does on the Responses API."""

    def create(prompt: Any, **more: Any) -> Any:
        return OPENAI.responses.create(model=scenarios.MODEL, input=prompt, **more)

    def stream(prompt: str) -> Any:
        return {
            "pieces": [
                event.delta for event in create(prompt, stream=True) if event.type == "response.output_text.delta"
            ]
        }

    def tools(prompt: str) -> Any:
        offered = [{"type": "function", "name": "weather", "description": ABOUT, "parameters": SCHEMA, "strict": True}]
        turns: list[Any] = [{"role": "user", "content": prompt}]
        with OPENAI.responses.stream(model=scenarios.MODEL, input=turns, tools=offered) as events:  # type: ignore[arg-type]
            output = events.get_final_response().output
        made = [item for item in output if item.type == "function_call"]
        pairs = [(call.name, json.loads(call.arguments)) for call in made]
        turns += [item.to_dict() for item in output]
        turns += [
            {"type": "function_call_output", "call_id": call.call_id, "output": scenarios.WEATHER[given["city"]]}
            for call, (_, given) in zip(made, pairs, strict=True)
        ]
        return {"calls": scenarios.calls(*pairs), "text": create(turns, tools=offered).output_text}

    def structured(prompt: str) -> Any:
        said = OPENAI.responses.parse(model=scenarios.MODEL, input=prompt, text_format=Report)
        return {"object": said.output_parsed.model_dump()}

    def images(prompt: str) -> Any:
        shown = {"type": "input_image", "image_url": f"data:image/png;base64,{picture()}", "detail": "auto"}
        return {
            "text": create([{"role": "user", "content": [{"type": "input_text", "text": prompt}, shown]}]).output_text
        }

    def counting(prompt: str) -> Any:
        last = [*create(prompt, stream=True)][-1].response.usage
        return scenarios.counted(*([usage.input_tokens, usage.output_tokens] for usage in (create(prompt).usage, last)))

    return {
        "chat": lambda prompt: {"text": create(prompt).output_text},
        "stream": stream, "tools": tools, "structured output": structured, "images": images,
        "errors": lambda prompt: scenarios.failures(create, prompt), "counting": counting,
    }  # fmt: skip


def of_messages() -> scenarios.Scenarios:
    """Give what anthropic does."""
    ask: dict[str, Any] = {"model": scenarios.MODEL, "max_tokens": 1000}

    def create(prompt: Any, **more: Any) -> Any:
        messages = prompt if isinstance(prompt, list) else [{"role": "user", "content": prompt}]
        return CLAUDE.messages.create(**ask, messages=messages, **more)

    def stream(prompt: str) -> Any:
        with CLAUDE.messages.stream(**ask, messages=[{"role": "user", "content": prompt}]) as events:
            return {"pieces": [*events.text_stream]}

    def tools(prompt: str) -> Any:
        offered: list[Any] = [{"name": "weather", "description": ABOUT, "input_schema": SCHEMA}]
        turns: list[Any] = [{"role": "user", "content": prompt}]
        with CLAUDE.messages.stream(**ask, messages=turns, tools=offered) as events:
            first = events.get_final_message()
        made = [block for block in first.content if block.type == "tool_use"]
        results = [
            {"type": "tool_result", "tool_use_id": use.id, "content": scenarios.WEATHER[use.input["city"]]}
            for use in made
        ]
        turns += [first.to_param(), {"role": "user", "content": results}]
        pairs = [(use.name, use.input) for use in made]
        return {"calls": scenarios.calls(*pairs), "text": create(turns, tools=offered).content[0].text}

    def structured(prompt: str) -> Any:
        turns: list[Any] = [{"role": "user", "content": prompt}]
        said = CLAUDE.messages.parse(**ask, messages=turns, output_format=Report)
        return {"object": said.parsed_output.model_dump()}

    def images(prompt: str) -> Any:
        shown = {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": picture()}}
        return {
            "text": create([{"role": "user", "content": [shown, {"type": "text", "text": prompt}]}]).content[0].text
        }

    def counting(prompt: str) -> Any:
        turns: list[Any] = [{"role": "user", "content": prompt}]
        with CLAUDE.messages.stream(**ask, messages=turns) as events:
            last = events.get_final_message().usage
        usages = (create(prompt).usage, last)
        found = scenarios.counted(*([usage.input_tokens, usage.output_tokens] for usage in usages))
        return {**found, "counted": CLAUDE.messages.count_tokens(model=scenarios.MODEL, messages=turns).input_tokens}

    return {
        "chat": lambda prompt: {"text": create(prompt).content[0].text},
        "stream": stream, "tools": tools, "structured output": structured, "images": images,
        "errors": lambda prompt: scenarios.failures(create, prompt), "counting": counting,
    }  # fmt: skip


if __name__ == "__main__":
    scenarios.run({
        "openai (Python), chat": of_chat(),
        "openai (Python), Responses": of_responses(),
        "anthropic (Python)": of_messages(),
    })  # fmt: skip
