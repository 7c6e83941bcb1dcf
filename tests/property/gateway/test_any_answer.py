"""Whatever an engine or a hosted API answers, the client gets it, or is told that they failed: never that we did."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fakes.anthropic_upstream import message, stream_events, text, tool_use
from fakes.openai_upstream import Received, Wire
from support.answers import Answer, events_of, whole
from support.near_json import nearly, written
from support.world import CLAUDE, ENGINE, OPENAI, VECTORS, World, envelope_fault, world_of

Document = dict[str, Any]


@dataclass
class Script:
    """What the upstream answers next."""

    status: int = 200
    kind: str = "application/json"
    pieces: tuple[bytes, ...] = ()
    ends: bool = True
    """Whether the body ends as it should, or the connection is cut."""

    async def respond(self, _: Received, wire: Wire) -> None:
        """Answer so."""
        await wire.head(self.status, f"content-type: {self.kind}")
        for piece in self.pieces:
            if piece:
                await wire.chunk(piece)
        if self.ends:
            await wire.end()
        else:
            wire.close()


SCRIPT: Final = Script()


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """One for all examples."""
    with world_of(tmp_path_factory.mktemp("gateway"), SCRIPT.respond) as world:
        yield world


SAID: Final = Answer(
    "Hm", "Hello", "", (("call_0", "read", '{"a": 1}'), ("call_1", "run", "{}")), "tool_calls",
    {"prompt_tokens": 5, "completion_tokens": 2, "total_tokens": 7, "prompt_tokens_details": {"cached_tokens": 3}},
)  # fmt: skip
COMPLETION: Final = whole(SAID)
_HEAD: Final = {"id": "chatcmpl-1", "object": "chat.completion.chunk", "created": 1, "model": "up"}


def chunk(delta: Document, finish: str | None = None, **more: Any) -> Document:
    """Give a chunk."""
    return {**_HEAD, "choices": [{"index": 0, "delta": delta, "finish_reason": finish}], **more}


PARTS: Final = [{"type": "thinking", "thinking": [{"type": "text", "text": "Hm"}]}, {"type": "text", "text": "Hello"}]
OLDER: Final = {"role": "assistant", "content": PARTS, "function_call": {"name": "read", "arguments": {"a": 1}}}
ODD: Final = {**COMPLETION, "choices": [{"index": 0, "message": OLDER, "finish_reason": "function_call"}]}
CALL: Final = {"index": 0, "id": "call_0", "type": "function", "function": {"name": "read", "arguments": '{"a"'}}
CHUNKS: Final = [
    chunk({"role": "assistant", "content": ""}), chunk({"reasoning_content": "Hm"}), chunk({"content": "Hello"}),
    chunk({"tool_calls": [CALL]}), chunk({"tool_calls": [{"index": 0, "function": {"arguments": ":1}"}}]}),
    chunk({}, "tool_calls"), {**_HEAD, "choices": [], "usage": SAID.usage},
]  # fmt: skip
BLOCKS: Final = [{"type": "thinking", "thinking": "Hm", "signature": "s"}, text("Hello"), tool_use("read", {"a": 1})]
ANTHROPIC: Final = events_of(b"".join(stream_events(BLOCKS, "tool_use")))
SPOKEN: Final = {"type": "output_text", "text": "x", "annotations": []}
RESPONSE: Final[Document] = {
    "id": "resp_1", "object": "response", "created_at": 1, "model": "up", "status": "completed", "error": None,
    "output": [
        {"type": "message", "id": "msg_1", "role": "assistant", "content": [SPOKEN]},
        {"type": "function_call", "id": "fc_1", "call_id": "call_0", "name": "read", "arguments": "{}"},
    ],
    "usage": {"input_tokens": 3, "input_tokens_details": {"cached_tokens": 1}, "output_tokens": 2, "total_tokens": 5},
}  # fmt: skip
RESPONSE_EVENTS: Final = [
    {"type": "response.created", "sequence_number": 0, "response": {**RESPONSE, "status": "in_progress", "output": []}},
    {"type": "response.output_text.delta", "sequence_number": 1, "item_id": "msg_1", "output_index": 0, "delta": "x"},
    {"type": "response.completed", "sequence_number": 2, "response": RESPONSE},
]
ERROR: Final = {"error": {"message": "no", "type": "invalid_request_error", "param": "messages.0", "code": "bad"}}
TEXTS: Final = {
    "id": "cmpl-1", "object": "text_completion", "created": 1, "model": "up",
    "choices": [{"index": 0, "text": "Hello", "finish_reason": "stop", "logprobs": None}], "usage": SAID.usage,
}  # fmt: skip
TURN: Final = [{"role": "user", "content": "x"}]
TOOLS: Final = [{"name": "read", "input_schema": {"type": "object"}}]


@dataclass(frozen=True)
class Way:
    """From a route to a model: what is asked, and what is answered where all is well."""

    path: str
    request: Document
    whole: Document
    events: list[Document]


MESSAGES: Final = {"max_tokens": 9, "messages": TURN}
VECTOR: Final = {"object": "list", "data": [{"index": 0, "embedding": [0.5]}], "usage": {"prompt_tokens": 3}}
WAYS: Final = {
    "chat of an engine": Way("/v1/chat/completions", {"model": ENGINE, "messages": TURN}, COMPLETION, CHUNKS),
    "chat of an odd engine": Way(
        "/v1/chat/completions", {"model": ENGINE, "messages": TURN}, ODD, [chunk(OLDER), chunk({}, "function_call")]
    ),
    "messages of an odd engine": Way(
        "/v1/messages", {"model": ENGINE, **MESSAGES}, ODD, [chunk(OLDER), chunk({}, "function_call")]
    ),
    "text of an engine": Way("/v1/completions", {"model": ENGINE, "prompt": "x"}, TEXTS, [TEXTS]),
    "messages of an engine": Way("/v1/messages", {"model": ENGINE, **MESSAGES}, COMPLETION, CHUNKS),
    "responses of an engine": Way("/v1/responses", {"model": ENGINE, "input": "x"}, COMPLETION, CHUNKS),
    "chat of Anthropic": Way("/v1/chat/completions", {"model": CLAUDE, "messages": TURN}, message(BLOCKS), ANTHROPIC),
    "messages of Anthropic": Way("/v1/messages", {"model": CLAUDE, **MESSAGES}, message(BLOCKS), ANTHROPIC),
    "responses of Anthropic": Way("/v1/responses", {"model": CLAUDE, "input": "x"}, message(BLOCKS), ANTHROPIC),
    "responses of OpenAI": Way("/v1/responses", {"model": OPENAI, "input": "x"}, RESPONSE, RESPONSE_EVENTS),
    "messages of OpenAI": Way(
        "/v1/messages",
        {"model": OPENAI, **MESSAGES, "output_config": {"effort": "low"}, "tools": TOOLS},
        RESPONSE,
        RESPONSE_EVENTS,
    ),
    "a count of an engine": Way("/v1/messages/count_tokens", {"model": ENGINE, **MESSAGES}, {"input_tokens": 3}, []),
    "a count of Anthropic": Way("/v1/messages/count_tokens", {"model": CLAUDE, **MESSAGES}, {"input_tokens": 3}, []),
    "vectors": Way("/v1/embeddings", {"model": VECTORS, "input": "x"}, VECTOR, []),
}

STATUSES: Final = st.sampled_from([200, 200, 200, 200, 201, 204, 302, 400, 401, 404, 422, 429, 500, 503, 529])
KINDS: Final = st.sampled_from(["application/json", "application/json; charset=utf-8", "text/plain", "text/html", ""])
JUNK: Final = st.sampled_from([b"", b"null", b"[]", b"7", b'"x"', b"<html>", b"\xff", b"{", b'{"error": null}', b"{}"])


@st.composite
def whole_bodies(draw: st.DrawFn, way: Way, status: int) -> bytes:
    """Give a body near the right one."""
    if draw(st.integers(0, 9)) == 0:
        return draw(JUNK)
    body = written(draw(nearly(way.whole if status == 200 else ERROR, ("error", "choices", "usage"), most=3)))
    return body[: draw(st.integers(0, len(body)))] if draw(st.integers(0, 9)) == 0 else body


@st.composite
def streams(draw: st.DrawFn, way: Way) -> tuple[bytes, ...]:
    """Give a stream near the right one: a piece of it wrong, missing or twice, or with something in between."""
    frames: list[bytes] = []
    wrong = draw(st.integers(0, max(0, len(way.events) - 1)))
    for at, one in enumerate(way.events):
        document = draw(nearly(one, ("error", "choices", "usage", "delta"))) if at == wrong else one
        frames.append(b"data: %b\n\n" % written(document))
    kind = draw(st.sampled_from(["", "", "", "missing", "twice", "junk", "cut", "error"]))
    if kind == "missing":
        del frames[wrong]
    elif kind == "twice":
        frames.insert(draw(st.integers(0, len(frames))), frames[wrong])
    elif kind in ("junk", "error"):
        between = draw(JUNK) if kind == "junk" else written(draw(nearly(ERROR)))
        frames.insert(draw(st.integers(0, len(frames))), b"data: %b\n\n" % between)
    if draw(st.integers(0, 3)):
        frames.append(b"data: [DONE]\n\n")
    run = b"".join(frames)
    run = run[: draw(st.integers(0, len(run)))] if kind == "cut" else run
    at = draw(st.integers(0, len(run)))
    return (run[:at], run[at:])


OURS: Final = b"the gateway failed"
"""What it says of a bug."""


@pytest.mark.parametrize("name", WAYS)
@settings(max_examples=60)
@given(data=st.data())
def test_every_whole_answer_is_one_or_theirs_to_mend(world: World, name: str, data: st.DataObject) -> None:
    """An answer near a right one, or an error in any form, is told in the route's own form, and is no bug of ours."""
    way = WAYS[name]
    SCRIPT.status = data.draw(STATUSES)
    SCRIPT.kind = data.draw(KINDS)
    SCRIPT.pieces = (data.draw(whole_bodies(way, SCRIPT.status)),) if SCRIPT.status != 204 else ()
    SCRIPT.ends = data.draw(st.sampled_from([True, True, True, False]))
    status, said = world.ask(way.path, orjson.dumps(way.request))
    assert OURS not in said, (status, said)
    assert status != 500, said
    assert status == 200 or envelope_fault(way.path, said, names_field=False) is None, said
    assert status != 200 or isinstance(json.loads(said), dict), said


@pytest.mark.parametrize("name", [name for name, way in WAYS.items() if way.events])
@settings(max_examples=60)
@given(data=st.data())
def test_every_stream_ends_as_one_or_is_theirs_to_mend(world: World, name: str, data: st.DataObject) -> None:
    """A stream near a right one ends with the last event of its dialect, or with an error, and every event is JSON."""
    way = WAYS[name]
    SCRIPT.status, SCRIPT.kind = 200, "text/event-stream"
    SCRIPT.pieces = data.draw(streams(way))
    SCRIPT.ends = data.draw(st.sampled_from([True, True, True, False]))
    status, said = world.ask(way.path, orjson.dumps({**way.request, "stream": True}))
    assert OURS not in said, (status, said)
    if status != 200:
        assert status != 500
        assert envelope_fault(way.path, said, names_field=False) is None, said
        return
    events = events_of(said)
    assert ends_well(way.path, said, events), said


def ends_well(path: str, said: bytes, events: list[Document]) -> bool:
    """Whether a stream has an end that its clients know."""
    if path == "/v1/messages":
        return events[-1]["type"] in ("message_stop", "error")
    if path == "/v1/responses":
        return events[-1]["type"] in ("response.completed", "response.incomplete", "response.failed")
    return said.endswith(b"data: [DONE]\n\n")
