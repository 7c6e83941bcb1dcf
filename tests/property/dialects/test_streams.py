"""A stream, however the network cuts it, says what the same answer says in one piece: in every dialect."""

import re
from typing import Any

import orjson
from hypothesis import given
from hypothesis import strategies as st

from capstan_gateway.dialects.clients.native import NativeMessagesRelay, NativeResponsesRelay
from capstan_gateway.dialects.clients.port import Dialect
from capstan_gateway.dialects.clients.presented import PresentedRelay
from capstan_gateway.dialects.clients.spoken import MESSAGES, Responses
from capstan_gateway.dialects.upstreams.anthropic_answer import to_chat_completion
from capstan_gateway.dialects.upstreams.anthropic_stream import AnthropicRelay
from capstan_gateway.streaming.errors import StreamBroken
from capstan_gateway.streaming.port import Relay
from capstan_gateway.streaming.relay import Rename, StreamRelay
from capstan_gateway.tokens.usage import Usage
from fakes.anthropic_upstream import message, stream_events, text, tool_use
from fakes.openai_upstream import DONE, frame
from support.dialects import frames, read_chat, read_messages, read_responses

RESPONSES = Responses(clock=lambda: 1_700_000_000.5)
Document = dict[str, Any]
TEXT = st.text(min_size=1, max_size=12)
ARGUMENTS = st.dictionaries(
    st.text(max_size=4), st.integers(-(2**53), 2**53) | st.text(max_size=6) | st.none(), max_size=3
)
REQUEST = {"model": "sim", "instructions": "Be brief", "temperature": 0.5}


@st.composite
def completions(draw: st.DrawFn) -> Document:
    """Whole chat completions: reasoning, text, tool calls."""
    said: Document = {"role": "assistant", "content": draw(st.none() | TEXT)}
    reasoning = draw(st.none() | TEXT)
    if reasoning:
        said[draw(st.sampled_from(["reasoning", "reasoning_content"]))] = reasoning
    given_to = draw(st.lists(ARGUMENTS, max_size=3))
    if given_to:
        said["tool_calls"] = [
            {
                "id": f"call_{n}",
                "type": "function",
                "function": {"name": f"f{n}", "arguments": orjson.dumps(a).decode()},
            }
            for n, a in enumerate(given_to)
        ]
    finish = draw(st.sampled_from(["stop", "length", "tool_calls", "content_filter"]))
    matched = {"stop_reason": draw(st.none() | st.integers() | TEXT)} if draw(st.booleans()) else {}
    cached, fresh = draw(st.integers(0, 50)), draw(st.integers(0, 50))
    usage = {
        "prompt_tokens": cached + fresh, "completion_tokens": 7, "total_tokens": cached + fresh + 7,
        "prompt_tokens_details": draw(st.just({"cached_tokens": cached}) | st.none()),
    }  # fmt: skip
    choice = {"index": 0, "message": said, "finish_reason": finish, **matched}
    return {"id": "chatcmpl-9", "created": 5, "model": "sim", "choices": [choice], "usage": usage}


@st.composite
def chunked(draw: st.DrawFn, completion: Document) -> bytes:
    """The same answer as an engine streams it."""
    choice = completion["choices"][0]
    head = {key: completion[key] for key in ("id", "created", "model")}
    deltas: list[Document] = [{"role": "assistant", "content": ""}]
    for key in ("reasoning", "reasoning_content", "content"):
        deltas += [{key: piece} for piece in draw(pieces(choice["message"].get(key) or ""))]
    for index, call in enumerate(choice["message"].get("tool_calls", ())):
        opening = {**call, "index": index, "function": {**call["function"], "arguments": ""}}
        deltas.append({"tool_calls": [opening]})
        for piece in draw(pieces(call["function"]["arguments"])):
            deltas.append({"tool_calls": [{"index": index, "function": {"arguments": piece}}]})
    ending = {key: choice[key] for key in ("finish_reason", "stop_reason") if key in choice}
    # Engines send the finish reason with the last piece, or in a chunk of its own.
    choices = [{"index": 0, "delta": delta, "finish_reason": None} for delta in deltas]
    if draw(st.booleans()):
        choices[-1] |= ending
    else:
        choices.append({"index": 0, "delta": {}, **ending})
    written = [frame({**head, "choices": [one]}) for one in choices]
    return b"".join([*written, frame({**head, "choices": [], "usage": completion["usage"]}), DONE])


@st.composite
def pieces(draw: st.DrawFn, whole: str) -> list[str]:
    """A text in pieces."""
    at = sorted(draw(st.lists(st.integers(0, len(whole)), max_size=3)))
    return [whole[start:end] for start, end in zip([0, *at], [*at, len(whole)], strict=True) if start < end]


@st.composite
def cuts(draw: st.DrawFn, data: bytes) -> list[bytes]:
    """Bytes in pieces."""
    at = sorted(draw(st.lists(st.integers(0, len(data)), max_size=8)))
    return [data[start:end] for start, end in zip([0, *at], [*at, len(data)], strict=True) if start < end]


def run(relay: Relay, data: list[bytes]) -> bytes:
    """Send everything through."""
    out = b"".join(relay.feed(piece) for piece in data)
    return out if relay.done else out + relay.finish()


def presented(dialect: Dialect) -> PresentedRelay:
    """Give what an engine's stream goes through."""
    return PresentedRelay(StreamRelay(strip_usage=False), dialect.presenter(REQUEST))


@given(st.data())
def test_messages_of_an_engine(data: st.DataObject) -> None:
    """Anthropic's events of an engine's stream add up to Anthropic's message of the same answer."""
    completion = data.draw(completions())
    out = run(presented(MESSAGES), data.draw(cuts(data.draw(chunked(completion)))))
    assert read_messages(out) == MESSAGES.write_answer(completion, REQUEST)


@given(st.data())
def test_responses_of_an_engine(data: st.DataObject) -> None:
    """The response that ends a stream is the response of the same answer."""
    completion = data.draw(completions())
    out = run(presented(RESPONSES), data.draw(cuts(data.draw(chunked(completion)))))
    assert read_responses(out) == RESPONSES.write_answer(completion, REQUEST)


@given(st.data(), st.sampled_from([MESSAGES, RESPONSES]))
def test_broken_stream_says_what_came(data: st.DataObject, dialect: Dialect) -> None:
    """A stream that breaks anywhere gives the events in front of the break, however the bytes arrived."""
    whole = data.draw(chunked(data.draw(completions()))).removesuffix(DONE)
    at = data.draw(st.integers(0, whole.count(b"\n\n") - 2))
    kept = b"".join(part + b"\n\n" for part in whole.split(b"\n\n")[:at])
    said = []
    for pieces_of in (st.just([kept + b"data: {]\n\n"]), cuts(kept + b"data: {]\n\n")):
        relay = presented(dialect)
        out, broken = run_to_break(relay, data.draw(pieces_of))
        said.append(out + relay.failure(broken))
    made_up = re.compile(rb"(?<=resp_)[0-9a-f]{32}")  # The id of an answer that broke before it had one.
    assert made_up.sub(b"", said[0]) == made_up.sub(b"", said[1])
    name, payload = frames(said[0])[-1]
    assert (name, payload["type"]) in (("error", "error"), ("response.failed", "response.failed"))


def run_to_break(relay: Relay, data: list[bytes]) -> tuple[bytes, StreamBroken]:
    """Send everything through; give what came out, and the break."""
    out = b""
    try:
        for piece in data:
            out += relay.feed(piece)
    except StreamBroken as broken:
        return out + broken.before, broken
    raise AssertionError("the stream did not break")


@st.composite
def contents(draw: st.DrawFn) -> list[Document]:
    """Content of Anthropic's messages."""
    blocks: list[Document] = []
    if draw(st.booleans()):
        blocks.append({"type": "thinking", "thinking": draw(TEXT), "signature": "s"})
    blocks += [text(value) for value in draw(st.lists(TEXT, max_size=2))]
    return blocks + [tool_use(f"f{n}", a, f"toolu_{n}") for n, a in enumerate(draw(st.lists(ARGUMENTS, max_size=3)))]


REASONS = st.sampled_from(["end_turn", "max_tokens", "tool_use", "refusal", "pause_turn"])


@given(st.data())
def test_chat_of_anthropic(data: st.DataObject) -> None:
    """Chunks of Anthropic's stream add up to the chat completion of the same message."""
    content, reason = data.draw(contents()), data.draw(REASONS)
    relay = AnthropicRelay(model="served", usage_asked=True, created=5)
    out = run(relay, data.draw(cuts(b"".join(stream_events(content, reason)))))
    usage = {**message([])["usage"], "output_tokens": 9}
    whole, counted = to_chat_completion(orjson.dumps(message(content, reason, usage=usage)), model="served", created=5)
    expected = orjson.loads(whole)
    del expected["object"], expected["choices"][0]["logprobs"]
    assert _parsed(read_chat(out)) == _parsed(expected)
    assert relay.usage == counted == Usage(17, 9, 4, 3)


def _parsed(completion: Document) -> Document:
    """Read arguments: the same JSON may be written in two ways."""
    for call in completion["choices"][0]["message"].get("tool_calls", ()):
        call["function"]["arguments"] = orjson.loads(call["function"]["arguments"])
    return completion


@given(st.data())
def test_native_stream_is_not_touched(data: st.DataObject) -> None:
    """Between two who speak Anthropic nothing changes but the model's name."""
    whole = b"".join(stream_events(data.draw(contents()), data.draw(REASONS)))
    relay = NativeMessagesRelay(Rename("claude-x", "served"))
    assert run(relay, data.draw(cuts(whole))) == whole.replace(b'"model": "claude-x"', b'"model":"served"')
    assert relay.usage == Usage(17, 9, 4, 3)


@given(st.data())
def test_native_responses_are_not_touched(data: st.DataObject) -> None:
    """The same for those who speak the Responses API."""
    completion = data.draw(completions())
    whole = run(presented(RESPONSES), [data.draw(chunked(completion))]).removesuffix(DONE)
    relay = NativeResponsesRelay(Rename("sim", "served"))
    assert run(relay, data.draw(cuts(whole))) == whole.replace(b'"model":"sim"', b'"model":"served"')
    usage = completion["usage"]
    cached = (usage["prompt_tokens_details"] or {}).get("cached_tokens", 0)
    assert relay.usage == Usage(usage["prompt_tokens"], 7, cached)
    assert relay.done
    assert relay.error is None


@given(st.data())
def test_both_ways(data: st.DataObject) -> None:
    """Anthropic's stream made chat and then a response says what the whole message does by the same way."""
    content, reason = data.draw(contents()), data.draw(REASONS)
    relay = PresentedRelay(AnthropicRelay(model="served", usage_asked=True, created=5), RESPONSES.presenter(REQUEST))
    out = read_responses(run(relay, data.draw(cuts(b"".join(stream_events(content, reason))))))
    usage = {**message([])["usage"], "output_tokens": 9}
    whole, _ = to_chat_completion(orjson.dumps(message(content, reason, usage=usage)), model="served", created=5)
    expected = RESPONSES.write_answer(orjson.loads(whole), REQUEST)
    for response in (out, expected):
        for item in response["output"]:
            if item["type"] == "function_call":
                item["arguments"] = orjson.loads(item["arguments"])
    assert out == expected
