"""What a stream keeps back on its way into another dialect counts: whoever holds the budget sees it."""

from sys import getsizeof
from typing import Any

import orjson
import pytest

from capstan_gateway.dialects.clients.presented import PresentedRelay
from capstan_gateway.dialects.clients.spoken import MESSAGES, RESPONSES
from capstan_gateway.streaming.errors import StreamBroken
from capstan_gateway.streaming.relay import StreamRelay

DIALECTS = {"messages": MESSAGES, "responses": RESPONSES}


def frame(**delta: Any) -> bytes:
    """A chunk with this delta."""
    return b"data: " + orjson.dumps({"choices": [{"index": 0, "delta": delta, "finish_reason": None}]}) + b"\n\n"


def call(call_id: str, name: str, arguments: str, index: int = 0) -> bytes:
    """A chunk with a call, or a piece of one."""
    function = {"name": name, "arguments": arguments} if name else {"arguments": arguments}
    return frame(tool_calls=[{"index": index, **({"id": call_id} if call_id else {}), "function": function}])


@pytest.mark.parametrize("name", list(DIALECTS))
def test_text_behind_an_open_call_is_kept_and_counted(name: str) -> None:
    """It waits for the end of the call; then it is told, and only what the last event repeats is kept."""
    relay = PresentedRelay(StreamRelay(strip_usage=False), DIALECTS[name].presenter({"model": "m"}))
    relay.feed(call("a", "f", '{"x"'))
    before, text = relay.kept, "y" * 3_000_000
    assert relay.feed(frame(content=text)) == b""
    assert relay.kept == before + getsizeof(text)
    out = relay.feed(call("", "", ":1}") + frame(content="!"))
    assert text.encode() in out
    assert relay.kept == 0 if name == "messages" else relay.kept >= getsizeof(text)


def test_calls_between_each_other_are_counted() -> None:
    """Pieces of a later call wait for the end of the one before it."""
    relay = PresentedRelay(StreamRelay(strip_usage=False), MESSAGES.presenter({}))
    relay.feed(call("a", "f", '{"x"'))
    relay.feed(call("b", "g", '{"y":' + " " * 100_000, 1))
    assert relay.kept > 100_000
    out = relay.feed(call("", "", ":1}"))
    assert out.count(b'"type":"content_block_start"') == 1
    assert relay.kept == 0


def test_a_frame_and_a_call_that_are_not_whole_are_counted() -> None:
    """What waits for the rest of a frame, and for the name of a call."""
    relay = StreamRelay(strip_usage=False)
    data = call("a", "", '{"x"')
    assert b'"delta":{}' in relay.feed(data + data[:9])
    assert relay.kept == getsizeof('{"x"') + 9


@pytest.mark.parametrize("name", list(DIALECTS))
def test_no_more_is_kept_than_a_call_is_worth(name: str) -> None:
    """An engine that opens a call and writes on is stopped."""
    relay = PresentedRelay(StreamRelay(strip_usage=False), DIALECTS[name].presenter({}))
    relay.feed(call("a", "f", '{"x"'))
    much = frame(content="y" * 1024 * 1024)
    with pytest.raises(StreamBroken, match="did not end"):
        relay.feed(5 * much)


def test_a_response_counts_what_its_last_event_repeats() -> None:
    """All items are told again in the end: their texts are kept until then."""
    presenter = RESPONSES.presenter({"model": "m"})
    relay = PresentedRelay(StreamRelay(strip_usage=False), presenter)
    for _ in range(4):
        relay.feed(frame(content="z" * 1000))
    assert relay.kept == 4 * getsizeof("z" * 1000)
