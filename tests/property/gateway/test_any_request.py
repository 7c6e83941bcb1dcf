"""Whatever a client sends, it gets an answer, or is told what is wrong with which field: never that we failed."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fakes.anthropic_upstream import event, message, stream_events, text
from fakes.openai_upstream import Received, Wire, completion, stream_frames
from support.near_json import nearly, written
from support.world import TALKERS, VECTORS, World, envelope_fault, world_of

Document = dict[str, Any]
GOLDEN: Final = Path(__file__).parents[2] / "golden/dialects"


def golden(name: str) -> Document:
    """Give a request that uses everything that a dialect has."""
    given: Document = json.loads((GOLDEN / f"{name}.json").read_text())["given"]
    return given


CHAT, MESSAGES, RESPONSES = golden("chat_to_messages"), golden("messages_to_chat"), golden("responses_to_chat")


@dataclass(frozen=True)
class Asked:
    """A route, a request that is right there, models to ask, and further fields that it may have."""

    path: str
    document: Document
    models: tuple[str, ...] = (*TALKERS, "auto")
    fields: tuple[str, ...] = ()


ROUTES: Final = {
    "chat": Asked("/v1/chat/completions", CHAT, fields=(
        "messages", "stream", "stream_options", "n", "max_tokens", "min_tokens", "function_call", "functions", "audio",
        "modalities", "logit_bias", "prediction", "web_search_options", "safety_identifier", "prompt_cache_key",
        "client_metadata", "echo", "min_p", "top_logprobs",
    )),
    "completions": Asked("/v1/completions", {"model": "m", "prompt": ["a", "b"], "max_tokens": 5}, fields=(
        "stream", "stream_options", "user", "client_metadata", "suffix", "prompt", "echo", "best_of",
    )),
    "embeddings": Asked("/v1/embeddings", {"model": "m", "input": ["a", [1, 2]], "dimensions": 3}, (VECTORS,), (
        "stream", "user", "client_metadata", "input", "messages",
    )),
    "messages": Asked("/v1/messages", MESSAGES, fields=(
        "container", "mcp_servers", "context_management", "output_format", "client_metadata", "user", "thinking",
        "messages", "system", "tools", "max_tokens", "stream", "stop_sequences",
    )),
    "count": Asked("/v1/messages/count_tokens", {
        key: MESSAGES[key] for key in ("model", "messages", "system", "tools", "tool_choice", "thinking", "metadata")
    }, fields=("messages", "system", "tools", "stream", "mcp_servers", "max_tokens", "client_metadata")),
    "responses": Asked("/v1/responses", RESPONSES, fields=(
        "input", "tools", "tool_choice", "reasoning", "text", "previous_response_id", "conversation", "prompt",
        "background", "truncation", "include", "max_tool_calls", "top_logprobs", "client_metadata", "user",
        "safety_identifier", "frequency_penalty", "presence_penalty", "stream", "context_management", "moderation",
    )),
}  # fmt: skip


async def engine(request: Received, wire: Wire) -> None:
    """Answer on every route, whatever is asked, as long as it is JSON."""
    document = orjson.loads(request.body)
    whole, stream = ANSWERS.get(request.path.removeprefix("/v1"), CHAT_ANSWER)
    if document.get("stream") is True:
        await wire.stream_head()
        for piece in stream:
            await wire.chunk(piece)
        await wire.end()
    else:
        await wire.json(whole)


HELLO: Final = [text("Hello")]
RESPONSE: Final = {"id": "resp_1", "object": "response", "status": "completed", "output": [], "usage": None}
CHAT_ANSWER: Final = (completion("up"), stream_frames("up"))
ANSWERS: Final[dict[str, tuple[Document, list[bytes]]]] = {
    "/messages": (message(HELLO), stream_events(HELLO)),
    "/messages/count_tokens": ({"input_tokens": 3}, []),
    "/responses": (
        RESPONSE,
        [event("response.created", response=RESPONSE), event("response.completed", response=RESPONSE)],
    ),
    "/embeddings": (
        {"object": "list", "model": "up", "data": [], "usage": {"prompt_tokens": 3, "total_tokens": 3}},
        [],
    ),
}
"""By the path: whole, and in pieces."""


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """One for all examples."""
    with world_of(tmp_path_factory.mktemp("gateway"), engine) as world:
        yield world


@pytest.mark.parametrize("name", ROUTES)
@given(data=st.data())
def test_every_request_is_answered_or_told_what_is_wrong(world: World, name: str, data: st.DataObject) -> None:
    """A request near a right one gets an answer, or a 4xx in the route's own envelope that names a field."""
    asked = ROUTES[name]
    right = {**asked.document, "model": data.draw(st.sampled_from(asked.models))}
    if "stream" in right:
        right["stream"] = data.draw(st.booleans())
        if not right["stream"]:
            right.pop("stream_options", None)
    body = written(data.draw(nearly(right, asked.fields)))
    status, said = world.ask(asked.path, body)
    assert status == 200 or (400 <= status < 500 and envelope_fault(asked.path, said, names_field=True) is None), said
