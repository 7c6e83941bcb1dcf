"""Whatever an engine sends, it is either an answer, or an error that says the engine is wrong: never a bug of ours."""

from collections.abc import Callable
from contextlib import suppress
from typing import Any, Final

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from capstan_gateway.dialects.clients.native import (
    NativeMessagesRelay,
    NativeResponsesRelay,
    check_count,
    read_native_message,
    read_native_response,
)
from capstan_gateway.dialects.clients.presented import PresentedRelay
from capstan_gateway.dialects.clients.spoken import MESSAGES, RESPONSES
from capstan_gateway.dialects.upstreams.anthropic_answer import to_chat_completion
from capstan_gateway.dialects.upstreams.anthropic_stream import AnthropicRelay
from capstan_gateway.engine_errors import normalise_error, upstream_error_event
from capstan_gateway.errors import GatewayError, UpstreamFailed
from capstan_gateway.streaming.asked import Asked
from capstan_gateway.streaming.errors import StreamBroken
from capstan_gateway.streaming.port import Relay
from capstan_gateway.streaming.relay import StreamRelay

_FIELDS: Final = (
    "choices", "delta", "content", "index", "finish_reason", "tool_calls", "function", "arguments", "name", "id",
    "usage", "error", "message", "type", "text", "refusal", "reasoning_content", "role", "logprobs", "object",
    "content_block", "stop_reason", "input_tokens", "output_tokens", "partial_json", "thinking", "response", "status",
    "code", "sequence_number", "prompt_tokens", "prompt_tokens_details", "input_tokens_details", "cached_tokens",
    "loc", "param", "input", "function_call", "stop_sequence",
)  # fmt: skip
_WORDS: Final = (
    "message_start", "message_delta", "message_stop", "content_block_start", "content_block_delta", "error", "ping",
    "content_block_stop", "text_delta", "thinking_delta", "input_json_delta", "tool_use", "text", "thinking", "stop",
    "end_turn", "response.created", "response.output_text.delta", "response.completed", "response.failed", "failed",
    "chat.completion", "429", "\u00b2", "message", "response", "incomplete",
)  # fmt: skip
_LEAVES = (
    st.none() | st.booleans() | st.integers(-2, 600) | st.floats(allow_nan=False, allow_infinity=False)
    | st.sampled_from(_WORDS) | st.text(max_size=4)
)  # fmt: skip
_VALUES = st.recursive(
    _LEAVES,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(_FIELDS), inner, max_size=4),
    max_leaves=10,
)


def _mostly(right: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    """Give something of the right form, or anything."""
    return st.one_of(right, right, right, _VALUES)


def _object(**fields: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    return _mostly(st.fixed_dictionaries({}, optional={name: _mostly(value) for name, value in fields.items()}))


_TEXT = st.text(max_size=5)
_FUNCTION = _object(name=_TEXT, arguments=_TEXT)
_CALLS = st.lists(_object(index=st.integers(0, 2), id=_TEXT, type=st.just("function"), function=_FUNCTION), max_size=2)
_MESSAGE = _object(
    content=_TEXT, role=st.just("assistant"), tool_calls=_CALLS, refusal=_TEXT, reasoning=_TEXT,
    reasoning_content=_TEXT, function_call=_FUNCTION,
)  # fmt: skip
_FINISH = st.sampled_from(["stop", "length", None])
_CHOICE = _object(index=st.integers(0, 1), delta=_MESSAGE, message=_MESSAGE, finish_reason=_FINISH, text=_TEXT)
_DETAILS = _object(cached_tokens=st.integers(0, 9))
_USAGE = _object(prompt_tokens=st.integers(0, 9), completion_tokens=st.integers(0, 9), prompt_tokens_details=_DETAILS)
_CHUNKS = _object(id=_TEXT, choices=st.lists(_CHOICE, max_size=2), usage=st.none() | _USAGE)
_BLOCK = _object(
    type=st.sampled_from(["text", "tool_use", "thinking"]), text=_TEXT, id=_TEXT, name=_TEXT, thinking=_TEXT,
    input=st.dictionaries(_TEXT, _LEAVES, max_size=1),
)  # fmt: skip
_THEIR_USAGE = _object(input_tokens=st.integers(0, 9), output_tokens=st.integers(0, 9), input_tokens_details=_DETAILS)
_WHOLE = _object(
    id=_TEXT, type=st.just("message"), object=st.just("response"), content=st.lists(_BLOCK, max_size=2),
    usage=_THEIR_USAGE, stop_reason=st.just("end_turn"), status=st.sampled_from(["completed", "failed"]),
    error=_object(type=st.just("api_error"), message=_TEXT, code=st.integers(400, 600)), output=_VALUES,
)  # fmt: skip
_ERRORS = _VALUES | _object(error=_object(message=_TEXT, code=_TEXT))
_PIECE = _object(
    type=st.sampled_from(["text_delta", "thinking_delta", "input_json_delta"]), text=_TEXT, thinking=_TEXT,
    partial_json=_TEXT, stop_reason=st.just("end_turn"),
)  # fmt: skip
_EVENTS = _object(
    type=st.sampled_from(_WORDS), index=st.integers(0, 1), message=_WHOLE, content_block=_BLOCK, delta=_PIECE | _TEXT,
    usage=_THEIR_USAGE, error=_object(type=_TEXT, message=_TEXT), response=_WHOLE, sequence_number=st.integers(0, 9),
)  # fmt: skip
_RELAYS: Final[dict[str, tuple[Callable[[], Relay], st.SearchStrategy[Any]]]] = {
    "chat": (lambda: StreamRelay(strip_usage=True), _CHUNKS),
    "chat for messages": (lambda: _presented(StreamRelay(strip_usage=False), MESSAGES), _CHUNKS),
    "chat for responses": (lambda: _presented(StreamRelay(strip_usage=False), RESPONSES), _CHUNKS),
    "anthropic": (lambda: _anthropic(), _EVENTS),
    "anthropic for responses": (lambda: _presented(_anthropic(), RESPONSES), _EVENTS),
    "anthropic for messages": (lambda: _presented(_anthropic(), MESSAGES), _EVENTS),
    "native messages": (NativeMessagesRelay, _EVENTS),
    "native responses": (NativeResponsesRelay, _EVENTS),
}


def _anthropic() -> Relay:
    return AnthropicRelay(model="m", usage_asked=True, created=1)


def _presented(inner: Relay, dialect: Any) -> Relay:
    return PresentedRelay(inner, dialect.presenter({"model": "m"}))


def _frames(documents: list[Any]) -> bytes:
    return b"".join(b"data: " + orjson.dumps(document) + b"\n\n" for document in documents)


@pytest.mark.parametrize("kind", _RELAYS)
@given(data=st.data())
def test_no_stream_is_a_bug(kind: str, data: st.DataObject) -> None:
    """Every stream of JSON is passed on, or breaks as the engine's fault, and can be ended for the client."""
    make, events = _RELAYS[kind]
    relay = make()
    try:
        for run in data.draw(st.lists(st.lists(events, max_size=3), max_size=3)):
            relay.feed(_frames(run))
        relay.finish()
    except StreamBroken as broken:
        relay.failure(broken)
    assert relay.events >= 0
    assert relay.text.tokens >= 0


_READERS: Final[dict[str, tuple[Callable[[bytes], object], st.SearchStrategy[Any]]]] = {
    "chat for messages": (lambda body: MESSAGES.write_answer(orjson.loads(body), {"model": "m"}), _CHUNKS),
    "chat for responses": (lambda body: RESPONSES.write_answer(orjson.loads(body), {"model": "m"}), _CHUNKS),
    "anthropic": (lambda body: to_chat_completion(body, model="m", created=1), _WHOLE),
    "native message": (read_native_message, _WHOLE),
    "native response": (read_native_response, _WHOLE),
    "count": (check_count, _WHOLE),
}


@pytest.mark.parametrize("kind", _READERS)
@given(data=st.data())
def test_no_whole_answer_is_a_bug(kind: str, data: st.DataObject) -> None:
    """Every JSON is an answer, or the engine's fault."""
    read, documents = _READERS[kind]
    with suppress(UpstreamFailed):
        read(orjson.dumps(data.draw(documents)))


@given(st.sampled_from([400, 401, 404, 422, 429, 500, 503]), _ERRORS)
def test_no_error_answer_is_a_bug(status: int, document: Any) -> None:
    """Whatever an engine's error looks like, it becomes one of ours; also in the middle of a stream."""
    assert isinstance(normalise_error(status, orjson.dumps(document)), GatewayError)
    assert isinstance(normalise_error(status, orjson.dumps(document), external=True), GatewayError)
    assert isinstance(upstream_error_event({"error": document}), GatewayError)


@pytest.mark.parametrize(
    ("chunk", "field"),
    [
        ({"choices": "none"}, "choices"),
        ({"choices": [7]}, "choices"),
        ({"choices": [{"delta": "text"}]}, "delta"),
        ({"choices": [{"delta": {"content": 7}}]}, "content"),
        ({"choices": [{"delta": {"tool_calls": "f"}}]}, "tool_calls"),
        ({"choices": [{"delta": {"tool_calls": [{"index": "0"}]}}]}, "tool_calls.index"),
        ({"choices": [{"delta": {"tool_calls": [{"function": "f"}]}}]}, "tool_calls.function"),
        ({"choices": [{"delta": {}, "finish_reason": 1}]}, "finish_reason"),
        ({"choices": [{"delta": {}, "index": "0"}]}, "index"),
    ],
)
def test_what_is_malformed_is_named(chunk: dict[str, Any], field: str) -> None:
    """The error names the field that no client could read, and what came in front of it is not lost."""
    good = _frames([{"choices": [{"index": 0, "delta": {"content": "a"}}]}])
    for pieces in ([good + _frames([chunk])], [good, _frames([chunk])]):
        relay = StreamRelay(strip_usage=True)
        out = b"".join(relay.feed(piece) for piece in pieces[:-1])
        with pytest.raises(StreamBroken, match=f"malformed answer: `{field}` must be") as caught:
            relay.feed(pieces[-1])
        assert out + caught.value.before == good


@pytest.mark.parametrize(
    "delta", [None, {"content": None}, {"content": [{"type": "text", "text": "a"}]}, {"tool_calls": None}, {}]
)
def test_known_forms_of_engines_pass(delta: Any) -> None:
    """A delta that is null, or whose content is null or in parts, is what engines in the field send."""
    run = _frames([{"choices": [{"index": 0, "delta": delta, "finish_reason": None}]}])
    assert StreamRelay(strip_usage=True).feed(run) == run
    expected = run.replace(b'"delta":null', b'"delta":{}')  # Clients of chat look into it.
    assert StreamRelay(strip_usage=True, asked=Asked({}, chat=True)).feed(run) == expected


_CHUNK: Final = {"choices": [{"index": 0, "delta": {"content": "x"}}]}


@given(
    st.lists(st.just(_CHUNK) | st.fixed_dictionaries({"choices": st.just([]), "x": _VALUES}), min_size=2, max_size=5),
    st.data(),
)
def test_frames_are_whole_each_by_itself(chunks: list[Any], choice: st.DataObject) -> None:
    """Documents that are cut at other commas than those between them are no answer, though together they are JSON."""
    text = orjson.dumps(chunks)[1:-1]
    commas = [at for at in range(len(text)) if text[at : at + 1] == b","]
    count = len(chunks) - 1
    cuts = sorted(choice.draw(st.lists(st.sampled_from(commas), min_size=count, max_size=count, unique=True)))
    pieces = [text[begin + 1 : end] for begin, end in zip([-1, *cuts], [*cuts, len(text)], strict=True)]
    relay = StreamRelay(strip_usage=False)
    try:
        out = relay.feed(b"".join(b"data: %b\n\n" % piece for piece in pieces))
    except StreamBroken as broken:
        out = broken.before
    for frame in out.split(b"\n\n")[:-1]:
        assert isinstance(orjson.loads(frame.removeprefix(b"data: ")), dict)


@pytest.mark.parametrize(
    "pieces",
    [
        (b'{"choices":[]},{"choices":[],"x":[1', b"2]}"),
        (b'{"choices":[],"x":[1', b'2]},"\x7f",{"choices":[]}'),
        (b'{"choices":[],"x":[{}', b'{}]},{"choices":[]}'),
        (b'{"choices":[],"x":[1', b'2]},{"choices":[]},{"choices":[],"x":[1', b"2]}"),
    ],
)
def test_frames_that_are_whole_only_together_are_no_answer(pieces: tuple[bytes, ...]) -> None:
    """However they fit each other, nothing of them goes out that a client could not parse."""
    for presented in (False, True):
        relay: Relay = StreamRelay(strip_usage=False)
        relay = PresentedRelay(relay, MESSAGES.presenter({})) if presented else relay
        with pytest.raises(StreamBroken) as broken:
            relay.feed(b"".join(b"data: %b\n\n" % piece for piece in pieces))
        assert broken.value.before == b""


@pytest.mark.parametrize("response", [None, "x", 1, ["x"]])
def test_a_response_that_is_no_object_is_no_answer(response: object) -> None:
    """A stream of OpenAI's whose head is none breaks there, and its end can still be told."""
    relay = NativeResponsesRelay()
    payload = orjson.dumps({"type": "response.created", "sequence_number": 0, "response": response})
    with pytest.raises(StreamBroken):
        relay.feed(b"data: %b\n\n" % payload)
    assert b"response.failed" in relay.failure(UpstreamFailed("x"))
