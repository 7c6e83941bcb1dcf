"""LangChain's chat models: langchain-openai on chat and Responses, langchain-anthropic."""

import base64
from typing import Any

import scenarios
from langchain_anthropic import ChatAnthropic
from langchain_core.messages import HumanMessage, ToolMessage
from langchain_core.tools import tool
from langchain_openai import ChatOpenAI
from pydantic import BaseModel


class Report(BaseModel):
    """The weather of a city."""

    city: str
    degrees: int


@tool
def weather(city: str) -> str:
    """Give the weather of a city."""
    return scenarios.WEATHER[city]


def scenarios_of(model: Any, *, counts: bool = False) -> scenarios.Scenarios:
    """Give what a chat model does; `counts`: it can ask how many tokens a prompt has."""

    def chat(prompt: str) -> Any:
        return {"text": model.invoke(prompt).text}

    def stream(prompt: str) -> Any:
        return {"pieces": [chunk.text for chunk in model.stream(prompt) if chunk.text]}

    def tools(prompt: str) -> Any:
        bound = model.bind_tools([weather])
        turns: list[Any] = [HumanMessage(prompt)]
        first = bound.invoke(turns)
        turns += [
            first,
            *(ToolMessage(weather.invoke(call["args"]), tool_call_id=call["id"]) for call in first.tool_calls),
        ]
        pairs = [(call["name"], call["args"]) for call in first.tool_calls]
        return {"calls": scenarios.calls(*pairs), "text": bound.invoke(turns).text}

    def structured(prompt: str) -> Any:
        return {"object": model.with_structured_output(Report).invoke(prompt).model_dump()}

    def images(prompt: str) -> Any:
        data = base64.b64encode(scenarios.PICTURE.read_bytes()).decode()
        picture = {"type": "image", "base64": data, "mime_type": "image/png"}
        return {"text": model.invoke([HumanMessage([{"type": "text", "text": prompt}, picture])]).text}

    def errors(prompt: str) -> Any:
        return scenarios.failures(model.invoke, prompt)

    def counting(prompt: str) -> Any:
        whole = model.invoke(prompt).usage_metadata
        streamed = sum_of(model.stream(prompt)).usage_metadata
        found = scenarios.counted(*([usage["input_tokens"], usage["output_tokens"]] for usage in (whole, streamed)))
        if counts:
            found["counted"] = model.get_num_tokens_from_messages([HumanMessage(prompt)])
        return found

    return {
        "chat": chat, "stream": stream, "tools": tools, "structured output": structured, "images": images,
        "errors": errors, "counting": counting,
    }  # fmt: skip


def sum_of(chunks: Any) -> Any:
    """Add a stream's chunks up, as LangChain does."""
    whole = None
    for chunk in chunks:
        whole = chunk if whole is None else whole + chunk
    return whole


OPENAI: dict[str, Any] = {
    "model": scenarios.MODEL, "base_url": scenarios.V1, "api_key": scenarios.KEY, "max_retries": 0,
    "stream_usage": True,
}  # fmt: skip
CLAUDE = ChatAnthropic(
    model=scenarios.MODEL, base_url=scenarios.GATEWAY, api_key=scenarios.KEY, max_retries=0, max_tokens=1000
)

if __name__ == "__main__":
    scenarios.run({
        "langchain-openai, chat": scenarios_of(ChatOpenAI(**OPENAI)),
        "langchain-openai, Responses": scenarios_of(ChatOpenAI(**OPENAI, use_responses_api=True)),
        "langchain-anthropic": scenarios_of(CLAUDE, counts=True),
    })  # fmt: skip
