"""Answers of a model, as engines and Anthropic send them, whole and in pieces, and as clients' own libraries read them.

What reads is what people have installed: the packages `openai` and `anthropic`, which put streams together.
"""

import json
from dataclasses import dataclass
from functools import cache
from typing import Any

import orjson
from anthropic.lib.streaming._messages import accumulate_event
from anthropic.types import Message, RawMessageStreamEvent
from hypothesis import strategies as st
from openai import omit
from openai.lib.streaming.chat import ChatCompletionStreamState
from openai.lib.streaming.responses._responses import ResponseStreamState
from openai.types.chat import ChatCompletion, ChatCompletionChunk
from openai.types.responses import Response, ResponseStreamEvent
from pydantic import TypeAdapter

from fakes.anthropic_upstream import stream_events, text, tool_use
from support.openresponses import faults_of_event, faults_of_response

Document = dict[str, Any]


@dataclass(frozen=True)
class Answer:
    """What a model says: first it thinks, then it speaks or refuses, then it calls tools."""

    thought: str
    text: str
    refusal: str
    calls: tuple[tuple[str, str, str], ...]
    """Id, name, and the JSON of the arguments."""
    finish: str
    usage: Document | None


@dataclass(frozen=True)
class Heard:
    """What a client has of an answer."""

    thought: str
    text: str
    calls: tuple[tuple[str, str, str], ...]
    end: tuple[Any, ...]
    """Why it ended, and how many tokens it took, in the words of the dialect."""


_CHARACTERS = st.characters(codec="utf-8") | st.sampled_from('\n "\\{}:,\u2028\U0001f600\x7f')
TEXTS = st.just("") | st.text(_CHARACTERS, max_size=12) | st.text(_CHARACTERS, min_size=1, max_size=30)
_ARGUMENTS = st.dictionaries(
    st.text(_CHARACTERS, max_size=4), st.none() | st.integers(-99, 99) | st.text(_CHARACTERS, max_size=6), max_size=3
)


@st.composite
def answers(draw: st.DrawFn) -> Answer:
    """Any answer of these parts."""
    given = draw(st.lists(st.tuples(_ARGUMENTS, st.sampled_from([None, 1])), max_size=3))
    names = st.sampled_from(["read", "run", "mcp__a__b"])
    calls = tuple((f"call_{at}", draw(names), json.dumps(one, indent=how)) for at, (one, how) in enumerate(given))
    spoken, refused = draw(TEXTS), draw(st.just("") | TEXTS)
    cached, fresh, out = (draw(st.integers(0, 50)) for _ in range(3))
    usage = {
        "prompt_tokens": cached + fresh, "completion_tokens": out, "total_tokens": cached + fresh + out,
        "prompt_tokens_details": {"cached_tokens": cached}, "completion_tokens_details": {"reasoning_tokens": out // 2},
    }  # fmt: skip
    finish = draw(st.sampled_from(["stop", "length", "content_filter"] if not calls else ["tool_calls", "stop"]))
    return Answer(draw(TEXTS), spoken, refused, calls, finish, draw(st.sampled_from([usage, usage, None])))


# --- as engines send it ---------------------------------------------------------------------------------------------

_HEAD = {"id": "chatcmpl-9", "created": 5, "model": "up"}


def whole(answer: Answer) -> Document:
    """Give the chat completion."""
    message: Document = {"role": "assistant", "content": answer.text or None}
    if answer.thought:
        message["reasoning_content"] = answer.thought
    if answer.refusal:
        message["refusal"] = answer.refusal
    if answer.calls:
        message["tool_calls"] = [_call(at, call) for at, call in enumerate(answer.calls)]
        for call in message["tool_calls"]:
            del call["index"]
    choice = {"index": 0, "message": message, "finish_reason": answer.finish, "logprobs": None}
    usage = {} if answer.usage is None else {"usage": answer.usage}
    return {**_HEAD, "object": "chat.completion", "choices": [choice], **usage}


def _call(at: int, call: tuple[str, str, str]) -> Document:
    return {"index": at, "id": call[0], "type": "function", "function": {"name": call[1], "arguments": call[2]}}


@st.composite
def streamed(draw: st.DrawFn, answer: Answer) -> bytes:
    """Give the same as a stream of chunks: where pieces end, what shares a chunk, where usage is, how frames look.

    Some of the text may come behind the calls.
    """
    deltas: list[Document] = []
    at = draw(st.integers(0, len(answer.text))) if answer.calls and not answer.refusal else len(answer.text)
    # White space behind a call is nobody's text.
    first, behind = (answer.text[:at], answer.text[at:]) if answer.text[at:].strip() else (answer.text, "")
    for key, said in (("reasoning_content", answer.thought), ("content", first), ("refusal", answer.refusal)):
        deltas += [{key: piece} for piece in draw(pieces(said))]
    deltas += draw(_call_deltas(answer))
    deltas += [{"content": piece} for piece in draw(pieces(behind))]
    deltas = draw(_shared(deltas))
    chunks = [{"index": 0, "delta": delta, "finish_reason": None} for delta in [{"role": "assistant"}, *deltas]]
    if draw(st.booleans()):
        chunks[-1]["finish_reason"] = answer.finish
    else:
        chunks.append({"index": 0, "delta": {}, "finish_reason": answer.finish})
    documents: list[Document] = [{**_HEAD, "object": "chat.completion.chunk", "choices": [one]} for one in chunks]
    if answer.usage is not None:
        way = draw(st.sampled_from(["apart", "with the last", "with each"]))
        for document in documents[-1:] if way == "with the last" else documents if way == "with each" else ():
            document["usage"] = answer.usage
        if way == "apart":
            documents.append({**_HEAD, "object": "chat.completion.chunk", "choices": [], "usage": answer.usage})
    form = draw(
        st.sampled_from([b"data: %b\n\n", b"data: %b\n\n", b"data:%b\n\n", b"data: %b\r\n\r\n", b"id: 1\ndata: %b\n\n"])
    )
    comments = st.sampled_from([b"", b"", b"", b": ping\n\n"])
    written = [draw(comments) + form % orjson.dumps(document) for document in documents]
    return b"".join([*written, form % b"[DONE]"])


@st.composite
def _call_deltas(draw: st.DrawFn, answer: Answer) -> list[Document]:
    """Calls one after the other, or their pieces between each other; they begin in their order."""
    each: list[list[Document]] = []
    for at, call in enumerate(answer.calls):
        first, *more = draw(pieces(call[2])) or [""]
        opens_with = draw(st.sampled_from(["", first]))
        rest = more if opens_with == first else [first, *more]
        later = [{"index": at, "function": {"arguments": piece}} for piece in rest]
        each.append([{"tool_calls": [one]} for one in [_call(at, (*call[:2], opens_with)), *later]])
    if draw(st.booleans()):
        return [delta for deltas in each for delta in deltas]
    mixed: list[Document] = []
    begun: list[list[Document]] = []
    while each or any(begun):
        deltas = draw(st.sampled_from([*filter(None, begun), *each[:1]]))
        if each and deltas is each[0]:
            begun.append(each.pop(0))
        mixed.append(deltas.pop(0))
    return mixed


@st.composite
def _shared(draw: st.DrawFn, deltas: list[Document]) -> list[Document]:
    """Put what follows each other into one chunk here and there."""
    together: list[Document] = []
    for delta in deltas:
        (kind,) = delta
        if together and kind not in together[-1] and draw(st.integers(0, 3)) == 0:
            together[-1] = {**together[-1], **delta}
        else:
            together.append(delta)
    return together


@st.composite
def pieces(draw: st.DrawFn, said: str) -> list[str]:
    """Give a text in pieces; none of an empty one."""
    at = sorted(draw(st.lists(st.integers(0, len(said)), max_size=3)))
    return [said[start:end] for start, end in zip([0, *at], [*at, len(said)], strict=True) if start < end]


@st.composite
def cuts(draw: st.DrawFn, data: bytes) -> list[bytes]:
    """Give bytes in pieces: a few, or each by itself."""
    if draw(st.integers(0, 4)) == 0:
        return [data[at : at + 1] for at in range(len(data))]
    at = sorted(draw(st.lists(st.integers(0, len(data)), max_size=8)))
    return [data[start:end] for start, end in zip([0, *at], [*at, len(data)], strict=True) if start < end]


def blocks(answer: Answer) -> list[Document]:
    """Give the content of Anthropic's message that says the same."""
    content = [{"type": "thinking", "thinking": answer.thought, "signature": "s"}] if answer.thought else []
    content += [text(said) for said in (answer.text, answer.refusal) if said]
    return content + [tool_use(name, json.loads(given), call_id) for call_id, name, given in answer.calls]


def anthropic_events(answer: Answer, reason: str) -> bytes:
    """Give Anthropic's stream of it."""
    return b"".join(stream_events(blocks(answer), reason))


# --- as clients read it ---------------------------------------------------------------------------------------------


def events_of(stream: bytes) -> list[Document]:
    """Give the documents of a stream of events, by the rules of server-sent events."""
    found: list[Document] = []
    for frame in stream.decode().split("\n\n"):
        data = [line[5:].removeprefix(" ") for line in frame.split("\n") if line.startswith("data:")]
        if data and data != ["[DONE]"]:
            found.append(json.loads("\n".join(data)))
    return found


def chat_heard(completion: Document) -> Heard:
    """Read a whole chat completion; the package must know its form."""
    ChatCompletion.model_validate({**completion, "object": "chat.completion"})
    choice = completion["choices"][0]
    message = choice["message"]
    calls = tuple(_called(call["id"], call["function"]) for call in message.get("tool_calls") or ())
    said = (message.get("content") or "") + (message.get("refusal") or "")
    thought = message.get("reasoning_content") or message.get("reasoning") or ""
    return Heard(thought, said, calls, (choice["finish_reason"], completion.get("usage")))


def _called(call_id: str, function: Document) -> tuple[str, str, str]:
    return call_id, function["name"], _canonical(json.loads(function["arguments"]))


def _canonical(given: Any) -> str:
    return json.dumps(given, sort_keys=True)


def chat_stream_heard(stream: bytes) -> Heard:
    """Put chunks together as `openai` does."""
    state: ChatCompletionStreamState[None] = ChatCompletionStreamState()
    usage = None
    for chunk in events_of(stream):
        state.handle_chunk(ChatCompletionChunk.model_validate(chunk))
        usage = chunk.get("usage") or usage
    found = state.current_completion_snapshot.model_dump(mode="json", exclude_none=True)
    for call in found["choices"][0]["message"].get("tool_calls") or ():
        call["function"].pop("parsed_arguments", None)
    return chat_heard({**found, "usage": usage})


def messages_heard(message: Document) -> Heard:
    """Read a whole message of Anthropic's; the package must know its form."""
    Message.model_validate(message)
    content = message["content"]
    thought, said = (
        "".join(block[kind] for block in content if block["type"] == kind) for kind in ("thinking", "text")
    )
    calls = tuple(
        (block["id"], block["name"], _canonical(block["input"])) for block in content if block["type"] == "tool_use"
    )
    counted = ("input_tokens", "output_tokens", "cache_read_input_tokens", "cache_creation_input_tokens")
    usage = tuple(message["usage"].get(name) for name in counted)
    return Heard(thought, said, calls, (message["stop_reason"], message["stop_sequence"], usage))


@cache
def _anthropic_event() -> TypeAdapter[Any]:
    return TypeAdapter(RawMessageStreamEvent)


def messages_stream_heard(stream: bytes) -> Heard:
    """Put events together as `anthropic` does."""
    snapshot: Any = None
    buffers: dict[int, bytes] = {}
    for event in events_of(stream):
        if event["type"] != "ping":
            read = _anthropic_event().validate_python(event)
            snapshot = accumulate_event(event=read, current_snapshot=snapshot, json_bufs=buffers)
    return messages_heard(snapshot.to_dict() | {"stop_sequence": snapshot.stop_sequence})


def responses_heard(response: Document) -> Heard:
    """Read a whole response; it must be what the Open Responses specification and the package say."""
    assert faults_of_response(response) == []
    Response.model_validate(response)
    thought, said, calls = "", "", []
    for item in response["output"]:
        if item["type"] == "reasoning":
            thought += "".join(part["text"] for part in item["content"])
        elif item["type"] == "message":
            said += "".join(part["refusal" if part["type"] == "refusal" else "text"] for part in item["content"])
        else:
            calls.append(_called(item["call_id"], item))
    return Heard(thought, said, tuple(calls), (response["status"], response["incomplete_details"], response["usage"]))


@cache
def _response_event() -> TypeAdapter[Any]:
    return TypeAdapter(ResponseStreamEvent)


def responses_stream_heard(stream: bytes) -> Heard:
    """Put events together as `openai` does: what it has of the pieces must be what the last event says."""
    state: ResponseStreamState[None] = ResponseStreamState(input_tools=omit, text_format=omit)
    snapshots: dict[int, str] = {}
    events = events_of(stream)
    for event in events:
        assert faults_of_event(event) == []
        for told in state.handle_event(_response_event().validate_python(event)):
            if hasattr(told, "snapshot"):
                snapshots[told.output_index] = told.snapshot
    response: Document = events[-1]["response"]
    assert events[-1]["type"] == f"response.{response['status']}"
    for at, item in enumerate(response["output"]):
        if item["type"] == "function_call":
            assert snapshots[at] == item["arguments"]
        elif item["type"] == "message" and item["content"][0]["type"] == "output_text":
            assert snapshots[at] == item["content"][0]["text"]
    return responses_heard(response)
