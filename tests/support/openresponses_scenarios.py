"""What the tests of the Open Responses compliance suite send, in our own words, and the engine behind them."""

from typing import Any

from fakes.openai_upstream import DONE, Received, Wire, completion, delta, frame, usage_chunk

Document = dict[str, Any]
WEATHER: Document = {
    "type": "function", "name": "get_weather", "description": "Get the current weather for a location",
    "parameters": {"type": "object", "properties": {"location": {"type": "string"}}, "required": ["location"]},
}  # fmt: skip
PIXEL = (
    "data:image/png;base64,iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJg"
    "gg=="
)
PDF = {"type": "input_file", "filename": "a.pdf", "file_data": "data:application/pdf;base64,JVBERg=="}


def user(*content: Document | str) -> Document:
    """Give what a user says: one text as it is, more as parts."""
    if len(content) == 1 and isinstance(content[0], str):
        return {"type": "message", "role": "user", "content": content[0]}
    parts = [{"type": "input_text", "text": part} if isinstance(part, str) else part for part in content]
    return {"type": "message", "role": "user", "content": parts}


def said(text: str, **fields: Any) -> Document:
    """Give what the model had said."""
    return {"type": "message", "role": "assistant", "content": text, **fields}


CALLED: list[Document] = [
    {"type": "function_call", "call_id": "call_1", "name": "get_weather", "arguments": '{"location":"Ulm"}'},
    {"type": "function_call_output", "call_id": "call_1", "output": '{"temperature":9}'},
]
SCENARIOS: dict[str, Document] = {
    "basic text": {"input": [user("Say hello in exactly 3 words.")]},
    "assistant message phase": {
        "input": [said("I look.", phase="commentary"), said("It is 4.", phase="final_answer"), user("Say the number.")]
    },
    "streaming": {"input": [user("Count from 1 to 5.")], "stream": True},
    "system prompt": {
        "input": [{"type": "message", "role": "system", "content": "You are a pirate."}, user("Say hello.")]
    },
    "tool calling": {"input": [user("What's the weather in Ulm?")], "tools": [WEATHER]},
    "tool calling, streaming": {"input": [user("What's the weather?")], "tools": [WEATHER], "stream": True},
    "function call round trip": {"input": [user("Weather?"), *CALLED], "tools": [WEATHER], "tool_choice": "none"},
    "image input": {"input": [user("What is this?", {"type": "input_image", "image_url": PIXEL})]},
    "file input": {
        "input": [user(PDF)]
    },
    "multi-turn": {"input": [user("My name is Al."), said("Hello Al!"), user("What is my name?")]},
}  # fmt: skip
CONTINUED: dict[str, tuple[Document, Document, tuple[str, ...]]] = {
    "previous response id": ({"input": "My name is Al."}, {"input": "What is my name?"}, ("user", "assistant", "user")),
    "function call round trip": (
        {"input": "Weather?", "tools": [WEATHER], "tool_choice": {"type": "function", "name": "get_weather"}},
        {"input": [{"type": "function_call_output", "call_id": "call_7", "output": "9 degrees"}]},
        ("user", "assistant", "tool"),
    ),
}
"""Two requests, the second of which refers to the first one's answer, and whose turns the engine then has."""


async def respond(request: Received, wire: Wire) -> None:
    """Call the first tool where the model may, and say hello otherwise."""
    asked = request.document
    call = {"id": "call_7", "type": "function", "function": {"name": "get_weather", "arguments": '{"location":"Ulm"}'}}
    calls = bool(asked.get("tools")) and asked.get("tool_choice") != "none"
    if not asked.get("stream"):
        message = {"role": "assistant", "content": None, "tool_calls": [call]}
        choices = [{"index": 0, "message": message, "finish_reason": "tool_calls"}]
        await wire.json(completion("m", choices=choices) if calls else completion("m"))
        return
    await wire.stream_head()
    if calls:
        function = {"name": "get_weather", "arguments": '{"loca'}
        first = {"tool_calls": [{**call, "index": 0, "function": function}]}
        second = {"tool_calls": [{"index": 0, "function": {"arguments": 'tion":"Ulm"}'}}]}
        for piece, finish in ((first, None), (second, "tool_calls")):
            choice = {"index": 0, "delta": piece, "finish_reason": finish}
            await wire.chunk(frame({**delta("m", None), "choices": [choice]}))
    else:
        for text in ("1, ", "2, ", "3"):
            await wire.chunk(frame(delta("m", text)))
        await wire.chunk(frame(delta("m", None, "stop")))
    await wire.chunk(frame(usage_chunk("m")) + DONE)
    await wire.end()
