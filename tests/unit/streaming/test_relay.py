"""Streams that end too early, hold errors, or make no sense."""

from collections.abc import Callable

import orjson
import pytest

from capstan_gateway.streaming.errors import StreamBroken
from capstan_gateway.streaming.relay import StreamRelay, error_end
from capstan_gateway.streaming.sse import DONE, MAX_FRAME_BYTES

CHUNK = b'data: {"choices":[{"index":0,"delta":{"content":"a"},"finish_reason":null}]}\n\n'
FINISH = b'data: {"choices":[{"index":0,"delta":{},"finish_reason":"stop"}]}\n\n'


def _relay() -> StreamRelay:
    return StreamRelay(strip_usage=True)


def test_plain_frames_pass_as_the_bytes_that_came() -> None:
    """A frame with nothing special in it is not copied, let alone parsed."""
    assert _relay().feed(CHUNK) is CHUNK


def test_end_without_a_finish_reason_is_an_error() -> None:
    """A connection that ended cleanly in the middle of an answer is never a quiet end."""
    relay = _relay()
    relay.feed(CHUNK)
    with pytest.raises(StreamBroken, match="ended before it was finished"):
        relay.finish()


def test_bare_end_marker_is_an_error() -> None:
    """[DONE] without a finish reason is a truncated answer too: the SDKs would take it for a whole one."""
    relay = _relay()
    relay.feed(CHUNK)
    with pytest.raises(StreamBroken):
        relay.feed(DONE)


def test_missing_end_marker_is_supplied() -> None:
    """A finished answer whose engine forgot [DONE] gets one."""
    relay = _relay()
    relay.feed(CHUNK + FINISH)
    assert relay.finish() == DONE


def test_end_marker_inside_a_text_is_text() -> None:
    """A model may say [DONE] without ending anything."""
    relay = _relay()
    talk = CHUNK.replace(b'"a"', b'"[DONE]"')
    assert relay.feed(talk) == talk
    assert not relay.done


def test_nothing_passes_behind_the_end_marker() -> None:
    """What an engine sends after [DONE] is dropped."""
    relay = _relay()
    assert relay.feed(FINISH + DONE + CHUNK) == FINISH + DONE
    assert relay.feed(CHUNK) == b""


@pytest.mark.parametrize(
    "junk", [b"data: {not json}\n\n", b'data: {"choices":[\n\n', b"data: 7\n\n", CHUNK + b'data: {"a":\n\n' + CHUNK]
)
def test_malformed_frame_is_an_error(junk: bytes) -> None:
    """A frame that a client could not parse does not reach it."""
    with pytest.raises(StreamBroken):
        _relay().feed(junk)


def test_endless_frame_is_cut() -> None:
    """What is kept of an unfinished frame is bounded."""
    with pytest.raises(StreamBroken, match=r"^the model's answer held an event that is too large$"):
        _relay().feed(b"data: {" + b"x" * (MAX_FRAME_BYTES + 1))


def test_engine_error_in_a_stream_is_normalised() -> None:
    """vLLM's error frames, with integer codes and class names as types, become OpenAI's."""
    relay = _relay()
    vllm = {"error": {"message": "EngineCore died", "type": "InternalServerError", "param": None, "code": 500}}
    out = relay.feed(CHUNK) + relay.feed(b"data: " + orjson.dumps(vllm) + b"\n\n") + relay.feed(DONE)
    frames = out.split(b"\n\n")
    assert orjson.loads(frames[1][6:]) == {
        "error": {"message": "the model's engine failed (500)", "type": "server_error", "param": None,
                  "code": "upstream_error"}
    }  # fmt: skip
    assert frames[2] == b"data: [DONE]"
    assert relay.error is not None


def test_usage_is_kept_for_a_client_that_asked() -> None:
    """The usage chunk is stripped only from streams whose client did not ask for it."""
    usage = b'data: {"choices":[],"usage":{"prompt_tokens":1,"completion_tokens":2}}\n\n'
    asked = StreamRelay(strip_usage=False)
    assert asked.feed(FINISH + usage + DONE) == FINISH + usage + DONE
    assert _relay().feed(FINISH + usage + DONE) == FINISH + DONE


def test_usage_in_every_chunk_strips_nothing() -> None:
    """Continuous usage belongs to chunks with content, which stay."""
    chunk = CHUNK.replace(b"}]}", b'}],"usage":{"prompt_tokens":1,"completion_tokens":2}}')
    relay = _relay()
    assert relay.feed(chunk) == chunk
    assert relay.usage is not None


def test_error_end_is_an_error_frame_and_the_end_marker() -> None:
    """A stream that cannot go on ends with what the SDKs raise as an error."""
    data = error_end(StreamBroken("it broke"))
    assert orjson.loads(data.split(b"\n\n")[0][6:])["error"] == {
        "message": "it broke", "type": "server_error", "param": None, "code": "upstream_error"
    }  # fmt: skip
    assert data.endswith(DONE)


def _choice(index: int, finish: str | None) -> bytes:
    choices = [{"index": index, "delta": {}, "finish_reason": finish}]
    return b"data: " + orjson.dumps({"choices": choices}) + b"\n\n"


@pytest.mark.parametrize("end", [StreamRelay.finish, lambda relay: relay.feed(DONE)], ids=["end", "marker"])
def test_every_choice_must_finish(end: Callable[[StreamRelay], bytes]) -> None:
    """Of several choices one that finished says nothing of the others, whatever the stream ends with."""
    relay = _relay()
    relay.feed(_choice(0, None) + _choice(1, None) + _choice(0, "stop"))
    with pytest.raises(StreamBroken, match="ended before it was finished"):
        end(relay)


def test_choices_finish_one_by_one() -> None:
    """A stream of several choices is whole when the last of them has its finish reason."""
    relay = _relay()
    relay.feed(_choice(0, None) + _choice(1, None) + _choice(0, "stop"))
    assert not relay.finished
    relay.feed(_choice(1, "length"))
    assert relay.finished
    assert relay.feed(DONE) == DONE
