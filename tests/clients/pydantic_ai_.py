"""pydantic-ai's agents on its three models: chat, Responses, Anthropic."""

from typing import Any

import scenarios
from anthropic import AsyncAnthropic
from openai import AsyncOpenAI
from pydantic import BaseModel
from pydantic_ai import Agent, BinaryContent
from pydantic_ai.messages import ModelRequest, ToolCallPart
from pydantic_ai.models import ModelRequestParameters
from pydantic_ai.models.anthropic import AnthropicModel
from pydantic_ai.models.openai import OpenAIChatModel, OpenAIResponsesModel
from pydantic_ai.providers.anthropic import AnthropicProvider
from pydantic_ai.providers.openai import OpenAIProvider


class Report(BaseModel):
    """The weather of a city."""

    city: str
    degrees: int


def weather(city: str) -> str:
    """Give the weather of a city."""
    return scenarios.WEATHER[city]


def scenarios_of(model: Any, *, counts: bool = False) -> scenarios.Scenarios:
    """Give what an agent does on a model made for each run; `counts`: it can ask how many tokens a prompt has."""

    async def ask(prompt: Any) -> Any:
        return await Agent(model()).run(prompt)

    async def chat(prompt: str) -> Any:
        return {"text": (await ask(prompt)).output}

    async def stream(prompt: str) -> Any:
        async with Agent(model()).run_stream(prompt) as run:
            return {"pieces": [piece async for piece in run.stream_text(delta=True, debounce_by=None)]}

    async def tools(prompt: str) -> Any:
        ran = await Agent(model(), tools=[weather]).run(prompt)
        made = [part for message in ran.all_messages() for part in message.parts if isinstance(part, ToolCallPart)]
        return {"calls": scenarios.calls(*((call.tool_name, call.args_as_dict()) for call in made)), "text": ran.output}

    async def structured(prompt: str) -> Any:
        return {"object": (await Agent(model(), output_type=Report).run(prompt)).output.model_dump()}

    async def images(prompt: str) -> Any:
        return {
            "text": (await ask([prompt, BinaryContent(scenarios.PICTURE.read_bytes(), media_type="image/png")])).output
        }

    async def counting(prompt: str) -> Any:
        whole = usage_of(await ask(prompt))
        async with Agent(model()).run_stream(prompt) as run:
            await run.get_output()
            streamed = usage_of(run)
        found = scenarios.counted(*([usage.input_tokens, usage.output_tokens] for usage in (whole, streamed)))
        if counts:
            asked = await model().count_tokens([ModelRequest.user_text_prompt(prompt)], None, ModelRequestParameters())
            found["counted"] = asked.input_tokens
        return found

    return {
        "chat": chat, "stream": stream, "tools": tools, "structured output": structured, "images": images,
        "errors": lambda prompt: scenarios.failures(ask, prompt), "counting": counting,
    }  # fmt: skip


def usage_of(run: Any) -> Any:
    """Give a run's usage, which is a method in some versions."""
    return run.usage() if callable(run.usage) else run.usage


def openai(kind: Any) -> Any:
    """Give a maker of models that speak with OpenAI's package: a client belongs to one event loop."""

    def make() -> Any:
        client = AsyncOpenAI(base_url=scenarios.V1, api_key=scenarios.KEY, max_retries=0)
        return kind(scenarios.MODEL, provider=OpenAIProvider(openai_client=client))

    return make


def claude() -> Any:
    """Give a model that speaks with Anthropic's package."""
    client = AsyncAnthropic(base_url=scenarios.GATEWAY, api_key=scenarios.KEY, max_retries=0)
    return AnthropicModel(scenarios.MODEL, provider=AnthropicProvider(anthropic_client=client))


if __name__ == "__main__":
    scenarios.run({
        "pydantic-ai, chat": scenarios_of(openai(OpenAIChatModel)),
        "pydantic-ai, Responses": scenarios_of(openai(OpenAIResponsesModel)),
        "pydantic-ai, Messages": scenarios_of(claude, counts=True),
    })  # fmt: skip
