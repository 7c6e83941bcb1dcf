"""Which streams are looked at for calls, frame by frame as they come."""

from typing import Any

import orjson
import pytest

from capstan_gateway.dialects.clients.presented import PresentedRelay
from capstan_gateway.dialects.clients.spoken import MESSAGES, RESPONSES
from capstan_gateway.streaming.asked import Asked
from capstan_gateway.streaming.errors import StreamBroken
from capstan_gateway.streaming.relay import Rename, StreamRelay
from support.dialects import frames, read_messages, read_responses


def _chunk(delta: dict[str, Any], finish: str | None = None) -> dict[str, Any]:
    return {"id": "c", "choices": [{"index": 0, "delta": delta, "finish_reason": finish}]}


def _relayed(*chunks: dict[str, Any]) -> list[dict[str, Any]]:
    """Each chunk arrives by itself."""
    relay = StreamRelay(strip_usage=False)
    sent = [relay.feed(b"data: " + orjson.dumps(chunk) + b"\n\n") for chunk in chunks]
    return [orjson.loads(frame[len(b"data: ") :]) for out in sent for frame in out.split(b"\n\n") if frame]


def _finish(chunks: list[dict[str, Any]]) -> Any:
    return chunks[-1]["choices"][0]["finish_reason"]


def test_calls_of_the_older_form_keep_their_finish_reason() -> None:
    """Who calls by `function_call` may say that tools were called: there is a call, so the client is told."""
    call = _chunk({"function_call": {"name": "f", "arguments": "{}"}})
    assert _finish(_relayed(_chunk({"role": "assistant"}), call, _chunk({}, "tool_calls"))) == "tool_calls"


def test_a_finish_that_speaks_of_calls_which_never_came() -> None:
    """A client would wait for tools that nobody called: the answer has simply ended."""
    assert _finish(_relayed(_chunk({"content": "x"}), _chunk({}, "tool_calls"))) == "stop"


@pytest.mark.parametrize("calls", [[], None])
def test_no_call_is_nothing_to_look_for(calls: list[Any] | None) -> None:
    """vLLM writes an empty list of calls beside each text: such frames pass as they came."""
    chunks = [_chunk({"content": "x", "tool_calls": calls}), _chunk({"tool_calls": calls}, "stop")]
    relay = StreamRelay(strip_usage=False)
    for chunk in chunks:
        frame = b"data:  " + orjson.dumps(chunk) + b"\n\n"
        assert relay.feed(frame) == frame


DONE = b"data: [DONE]\n\n"
LATE = [
    _chunk({"content": "x"}),
    _chunk({}, "stop"),
    _chunk({"tool_calls": [{"index": 0, "function": {"name": "g"}}]}),
]


def _sent(route: str, chunks: list[dict[str, Any]], *, marked: bool) -> bytes:
    """What a client is sent of a stream that says `[DONE]`, or only ends."""
    relay: Any = StreamRelay(strip_usage=False, rename=Rename("engine", "served"), asked=Asked({}, chat=True))
    dialect = {"messages": MESSAGES, "responses": RESPONSES}.get(route)
    relay = relay if dialect is None else PresentedRelay(relay, dialect.presenter({"model": "m"}))
    data = b"".join(b"data: " + orjson.dumps({**chunk, "model": "engine"}) + b"\n\n" for chunk in chunks)
    out = relay.feed(data + DONE if marked else data)
    return bytes(out + relay.finish())


def _named_in(route: str, out: bytes) -> list[tuple[str, Any]]:
    if route == "messages":
        return [(one["name"], one["input"]) for one in read_messages(out)["content"] if one["type"] == "tool_use"]
    if route == "responses":
        items = read_responses(out)["output"]
        return [(one["name"], orjson.loads(one["arguments"])) for one in items if one["type"] == "function_call"]
    pieces = [piece for _, chunk in frames(out) for piece in chunk["choices"][0]["delta"].get("tool_calls") or ()]
    name = "".join(piece["function"].get("name", "") for piece in pieces)
    return [(name, orjson.loads("".join(piece["function"]["arguments"] for piece in pieces)))]


@pytest.mark.parametrize("marked", [True, False])
@pytest.mark.parametrize("call_id", [None, "a"])
@pytest.mark.parametrize("route", ["chat", "messages", "responses"])
def test_a_call_behind_the_finish_reason_is_told(route: str, call_id: str | None, marked: bool) -> None:
    """At the end of the stream, with `{}` where no arguments came: no call is lost silently."""
    call: dict[str, Any] = {"index": 0, "id": call_id, "function": {"name": "g"}}
    out = _sent(route, [*LATE[:2], _chunk({"tool_calls": [call]})], marked=marked)
    assert _named_in(route, out) == [("g", {})]
    assert b"engine" not in out
    assert out.count(DONE) == (route != "messages")


@pytest.mark.parametrize("marked", [True, False])
def test_a_nameless_call_behind_the_finish_reason_is_an_error(marked: bool) -> None:
    """Behind all that came well; of a stream that has failed nothing more is told."""
    nameless = _chunk({"tool_calls": [{"index": 0, "id": "a", "function": {}}]})
    with pytest.raises(StreamBroken, match="without a name") as caught:
        _sent("chat", [*LATE[:2], nameless], marked=marked)
    assert marked is (b'"content":"x"' in caught.value.before)
    failed = _sent("chat", [*LATE[:2], nameless, {"error": {"message": "gone"}}], marked=marked)
    assert b'"error":' in failed
    assert b"tool_calls" not in failed
