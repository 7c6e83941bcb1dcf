"""Which streams are looked at for calls, frame by frame as they come."""

from typing import Any

import orjson
import pytest

from capstan_gateway.streaming.relay import StreamRelay


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
