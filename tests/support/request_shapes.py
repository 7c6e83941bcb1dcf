"""Requests in the shapes that clients are known to send, and what their model has to get of each."""

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, Final

import httpx
import pytest

from fakes.openai_upstream import FakeUpstream
from support.gateway import RunningGateway

Document = dict[str, Any]
PATHS: Final = {"chat": "/v1/chat/completions", "messages": "/v1/messages", "responses": "/v1/responses"}
USER: Final[Document] = {"role": "user", "content": "x"}
SCHEMA: Final[Document] = {"type": "object", "properties": {"city": {"type": "string"}}}
_THREAD: Final = re.compile(r"[\w.-]+/[\w.-]+/(?:issues|pull|discussions)/\d+")


@dataclass(frozen=True)
class Shape:
    """What a client sends, and what its model gets."""

    row: str
    sends: str
    source: str
    """Threads as `OWNER/REPOSITORY/issues/N` or `.../pull/N`, or words, with commas between them."""
    on: str
    does: str
    asks: Document
    reads: Callable[[Document], Any]
    """What is looked at of the body that the model got."""
    gives: Any
    model: str = "engine"
    """engine, reasons (an engine that does), claude (hosted by Anthropic) or gpt (by OpenAI)."""


def cases(shapes: Iterable[Shape]) -> list[Any]:
    """Give shapes as parameters, each with the mark of its row."""
    return [
        pytest.param(
            shape,
            id=re.sub(r"\W+", "-", f"{shape.row} {shape.on} {shape.model}".lower()).strip("-"),
            marks=pytest.mark.compatibility(
                table="requests", row=shape.row, sends=shape.sends, source=addresses(shape.source), does=shape.does,
                on=shape.on,
            ),
        )
        for shape in shapes
    ]  # fmt: skip


def addresses(source: str) -> str:
    """Give the addresses of threads, and words as they are."""
    parts = [part.strip() for part in source.split(",")]
    return ", ".join(f"https://github.com/{part}" if _THREAD.fullmatch(part) else part for part in parts)


async def post(gateway: RunningGateway, on: str, model: str, document: Document) -> httpx.Response:
    """Send one request to a route."""
    async with httpx.AsyncClient(timeout=60) as client:
        return await client.post(f"{gateway.url}{PATHS[on]}", json={"model": model, **document})


async def hold(shape: Shape, gateway: RunningGateway, *upstreams: FakeUpstream) -> None:
    """See that a request is answered, and that its model got what it takes."""
    answer = await post(gateway, shape.on, shape.model, shape.asks)
    assert answer.status_code == 200, answer.text
    (request,) = [request for upstream in upstreams for request in upstream.requests]
    assert shape.reads(request.document) == shape.gives


# --- requests -------------------------------------------------------------------------------------------------------


def chat(*messages: Document, **more: Any) -> Document:
    """Give a request of chat completions."""
    return {"messages": list(messages), **more}


def messages(*turns: Document, **more: Any) -> Document:
    """Give a request of Messages."""
    return {"max_tokens": 50, "messages": list(turns), **more}


def responses(*items: Document, **more: Any) -> Document:
    """Give a request of Responses."""
    return {"input": list(items), **more}


def said(role: str, *blocks: Document) -> Document:
    """Give a turn of blocks."""
    return {"role": role, "content": list(blocks)}


def text(words: str) -> Document:
    """Give a block of text."""
    return {"type": "text", "text": words}


def use(call_id: str) -> Document:
    """Give a call of a tool as Messages has it."""
    return {"type": "tool_use", "id": call_id, "name": "w", "input": {}}


def result(call_id: str, *blocks: Document, **more: Any) -> Document:
    """Give a call's result as Messages has it."""
    return {"type": "tool_result", "tool_use_id": call_id, "content": list(blocks) or "r", **more}


def called(call_id: Any, arguments: Any = "{}") -> Document:
    """Give a turn of the model that calls a tool, as chat has it."""
    call = {"id": call_id, "type": "function", "function": {"name": "w", "arguments": arguments}}
    return {"role": "assistant", "content": None, "tool_calls": [call]}


def answered(call_id: Any, content: Any = "r") -> Document:
    """Give a call's result as chat has it."""
    return {"role": "tool", "tool_call_id": call_id, "content": content}


def item(kind: str, call_id: str = "a", **fields: Any) -> Document:
    """Give an item of Responses."""
    return {"type": kind, "call_id": call_id, **fields}


# --- what a model got -----------------------------------------------------------------------------------------------


def turns(sent: Document) -> list[Any]:
    """Give the roles and texts."""
    return [(message["role"], message.get("content")) for message in sent["messages"]]


def functions(sent: Document) -> list[Document]:
    """Give the functions."""
    return [tool["function"] for tool in sent.get("tools") or ()]


def names(sent: Document) -> list[str]:
    """Give the functions' names."""
    return [function["name"] for function in functions(sent)]


def blocks(sent: Document) -> list[list[str]]:
    """Give the types of the blocks of each turn that Anthropic got."""
    return [[block["type"] for block in message["content"]] for message in sent["messages"]]
