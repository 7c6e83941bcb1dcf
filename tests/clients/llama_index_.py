"""llama-index's models: OpenAILike on chat, OpenAIResponses, Anthropic."""

from typing import Any

import scenarios
from llama_index.core.llms import ChatMessage, ImageBlock, TextBlock
from llama_index.core.tools import FunctionTool
from llama_index.llms.anthropic import Anthropic
from llama_index.llms.openai import OpenAIResponses
from llama_index.llms.openai_like import OpenAILike
from pydantic import BaseModel


class Report(BaseModel):
    """The weather of a city."""

    city: str
    degrees: int


def weather(city: str) -> str:
    """Give the weather of a city."""
    return scenarios.WEATHER[city]


TOOL = FunctionTool.from_defaults(weather)


def scenarios_of(model: Any) -> scenarios.Scenarios:
    """Give what a model does."""

    def ask(prompt: str) -> Any:
        return model.chat([ChatMessage(prompt)])

    def stream(prompt: str) -> Any:
        return {"pieces": [piece.delta for piece in model.stream_chat([ChatMessage(prompt)]) if piece.delta]}

    def tools(prompt: str) -> Any:
        turns = [ChatMessage(prompt)]
        first = model.chat_with_tools([TOOL], chat_history=turns, allow_parallel_tool_calls=True)
        made = model.get_tool_calls_from_response(first)
        turns.append(first.message)
        turns += [
            ChatMessage(
                role="tool", content=TOOL(**call.tool_kwargs).content,
                additional_kwargs={"tool_call_id": call.tool_id, "call_id": call.tool_id},
            )
            for call in made
        ]  # fmt: skip
        last = model.chat_with_tools([TOOL], chat_history=turns, allow_parallel_tool_calls=True)
        pairs = [(call.tool_name, call.tool_kwargs) for call in made]
        return {"calls": scenarios.calls(*pairs), "text": last.message.content}

    def structured(prompt: str) -> Any:
        made = model.as_structured_llm(Report).chat([ChatMessage(prompt)])
        return {"object": made.raw.model_dump()}

    def images(prompt: str) -> Any:
        shown = ImageBlock(image=scenarios.PICTURE.read_bytes(), image_mimetype="image/png")
        return {"text": model.chat([ChatMessage(role="user", blocks=[TextBlock(text=prompt), shown])]).message.content}

    return {
        "chat": lambda prompt: {"text": ask(prompt).message.content},
        "stream": stream, "tools": tools, "structured output": structured, "images": images,
        "errors": lambda prompt: scenarios.failures(ask, prompt),
    }  # fmt: skip


OPENAI: dict[str, Any] = {
    "model": scenarios.MODEL, "api_base": scenarios.V1, "api_key": scenarios.KEY, "max_retries": 0,
    "context_window": 200_000,
}  # fmt: skip

if __name__ == "__main__":
    like = OpenAILike(**OPENAI, is_chat_model=True, is_function_calling_model=True)
    scenarios.run({
        "llama-index, OpenAILike": scenarios_of(like),
        "llama-index, OpenAIResponses": scenarios_of(OpenAIResponses(**OPENAI)),
        "llama-index, Anthropic": scenarios_of(
            Anthropic(model="claude-sonnet-4-5", base_url=scenarios.GATEWAY, api_key=scenarios.KEY, max_retries=0)
        ),
    })  # fmt: skip
