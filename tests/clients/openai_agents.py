"""openai-agents' runner on its two models: Responses, its default, and chat."""

import base64
import json
from typing import Any

import scenarios
from openai import AsyncOpenAI
from pydantic import BaseModel

from agents import (
    Agent,
    ModelSettings,
    OpenAIChatCompletionsModel,
    OpenAIResponsesModel,
    Runner,
    function_tool,
    set_tracing_disabled,
)


class Report(BaseModel):
    """The weather of a city."""

    city: str
    degrees: int


@function_tool
def weather(city: str) -> str:
    """Give the weather of a city."""
    return scenarios.WEATHER[city]


def scenarios_of(kind: Any) -> scenarios.Scenarios:
    """Give what the runner does on a kind of model, made for each run: a client belongs to one event loop."""

    def agent(**more: Any) -> Any:
        client = AsyncOpenAI(base_url=scenarios.V1, api_key=scenarios.KEY, max_retries=0)
        settings = ModelSettings(include_usage=True)
        return Agent(name="One", model=kind(scenarios.MODEL, client), model_settings=settings, **more)

    async def ask(prompt: Any) -> Any:
        return await Runner.run(agent(), prompt)

    async def streamed(prompt: str) -> tuple[Any, list[str]]:
        run = Runner.run_streamed(agent(), prompt)
        pieces = [
            event.data.delta
            async for event in run.stream_events()
            if event.type == "raw_response_event" and event.data.type == "response.output_text.delta"
        ]
        return run, pieces

    async def chat(prompt: str) -> Any:
        return {"text": (await ask(prompt)).final_output}

    async def stream(prompt: str) -> Any:
        return {"pieces": (await streamed(prompt))[1]}

    async def tools(prompt: str) -> Any:
        ran = await Runner.run(agent(tools=[weather]), prompt)
        made = [item.raw_item for item in ran.new_items if item.type == "tool_call_item"]
        pairs = [(call.name, json.loads(call.arguments)) for call in made]
        return {"calls": scenarios.calls(*pairs), "text": ran.final_output}

    async def structured(prompt: str) -> Any:
        return {"object": (await Runner.run(agent(output_type=Report), prompt)).final_output.model_dump()}

    async def images(prompt: str) -> Any:
        data = base64.b64encode(scenarios.PICTURE.read_bytes()).decode()
        shown = {"type": "input_image", "image_url": f"data:image/png;base64,{data}", "detail": "auto"}
        return {
            "text": (
                await ask([{"role": "user", "content": [{"type": "input_text", "text": prompt}, shown]}])
            ).final_output
        }

    async def counting(prompt: str) -> Any:
        runs = (await ask(prompt), (await streamed(prompt))[0])
        usages = [run.context_wrapper.usage for run in runs]
        return scenarios.counted(*([usage.input_tokens, usage.output_tokens] for usage in usages))

    return {
        "chat": chat, "stream": stream, "tools": tools, "structured output": structured, "images": images,
        "errors": lambda prompt: scenarios.failures(ask, prompt), "counting": counting,
    }  # fmt: skip


if __name__ == "__main__":
    set_tracing_disabled(True)
    scenarios.run({
        "openai-agents, Responses": scenarios_of(OpenAIResponsesModel),
        "openai-agents, chat": scenarios_of(OpenAIChatCompletionsModel),
    })  # fmt: skip
