"""litellm's SDK: chat, Responses and Messages by the name of the provider."""

import base64
import json
import os
from typing import Any

os.environ["LITELLM_LOCAL_MODEL_COST_MAP"] = "True"  # Else it asks a host on the internet for prices when it begins.

import litellm
import scenarios
from pydantic import BaseModel


class Report(BaseModel):
    """The weather of a city."""

    city: str
    degrees: int


TOOL: dict[str, Any] = {
    "type": "function",
    "function": {
        "name": "weather", "description": "Give the weather of a city.",
        "parameters": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
    },
}  # fmt: skip


def of_completion(model: str, base: str) -> scenarios.Scenarios:
    """Give what `completion` does with a model."""

    def ask(prompt: Any, **more: Any) -> Any:
        messages = prompt if isinstance(prompt, list) else [{"role": "user", "content": prompt}]
        return litellm.completion(
            model=model, api_base=base, api_key=scenarios.KEY, messages=messages, max_retries=0, num_retries=0, **more
        )

    def stream(prompt: str) -> Any:
        pieces = [chunk.choices[0].delta.content for chunk in ask(prompt, stream=True)]
        return {"pieces": [piece for piece in pieces if piece]}

    def tools(prompt: str) -> Any:
        turns: list[Any] = [{"role": "user", "content": prompt}]
        first = litellm.stream_chunk_builder([*ask(turns, tools=[TOOL], stream=True)]).choices[0].message
        pairs = [(call.function.name, json.loads(call.function.arguments)) for call in first.tool_calls]
        turns.append(first.model_dump(exclude_none=True))
        turns += [
            {"role": "tool", "tool_call_id": call.id, "content": scenarios.WEATHER[given["city"]]}
            for call, (_, given) in zip(first.tool_calls, pairs, strict=True)
        ]
        return {"calls": scenarios.calls(*pairs), "text": ask(turns, tools=[TOOL]).choices[0].message.content}

    def structured(prompt: str) -> Any:
        said = ask(prompt, response_format=Report).choices[0].message.content
        return {"object": Report.model_validate_json(said).model_dump()}

    def images(prompt: str) -> Any:
        data = base64.b64encode(scenarios.PICTURE.read_bytes()).decode()
        shown = {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{data}"}}
        turn = {"role": "user", "content": [{"type": "text", "text": prompt}, shown]}
        return {"text": ask([turn]).choices[0].message.content}

    def counting(prompt: str) -> Any:
        last = [*ask(prompt, stream=True, stream_options={"include_usage": True})][-1].usage
        usages = (ask(prompt).usage, last)
        return scenarios.counted(*([usage.prompt_tokens, usage.completion_tokens] for usage in usages))

    return {
        "chat": lambda prompt: {"text": ask(prompt).choices[0].message.content},
        "stream": stream, "tools": tools, "structured output": structured, "images": images,
        "errors": lambda prompt: scenarios.failures(ask, prompt), "counting": counting,
    }  # fmt: skip


def of_responses() -> scenarios.Scenarios:
    """Give what `responses` does."""

    def ask(prompt: Any, **more: Any) -> Any:
        return litellm.responses(
            model="openai/gpt-4o", api_base=scenarios.V1, api_key=scenarios.KEY, input=prompt,
            max_retries=0, num_retries=0, **more,
        )  # fmt: skip

    def stream(prompt: str) -> Any:
        return {
            "pieces": [event.delta for event in ask(prompt, stream=True) if event.type == "response.output_text.delta"]
        }

    def counting(prompt: str) -> Any:
        last = [*ask(prompt, stream=True)][-1].response.usage
        return scenarios.counted(*([usage.input_tokens, usage.output_tokens] for usage in (ask(prompt).usage, last)))

    return {
        "chat": lambda prompt: {"text": ask(prompt).output_text},
        "stream": stream,
        "errors": lambda prompt: scenarios.failures(ask, prompt),
        "counting": counting,
    }


if __name__ == "__main__":
    litellm.suppress_debug_info = True
    scenarios.run({
        "litellm, `openai/`": of_completion(f"openai/{scenarios.MODEL}", scenarios.V1),
        "litellm, `openai/`, Responses": of_responses(),
        "litellm, `anthropic/`": of_completion(f"anthropic/{scenarios.MODEL}", scenarios.GATEWAY),
    })  # fmt: skip
