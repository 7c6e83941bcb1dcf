"""What answers and streams become at the edges of what engines do."""

from typing import Any

import pytest

from capstan_gateway.dialects.clients.messages_answer import error_type, to_message
from capstan_gateway.dialects.clients.native import check_count, read_native_message, read_native_response
from capstan_gateway.dialects.clients.port import Dialect
from capstan_gateway.dialects.clients.spoken import MESSAGES, RESPONSES
from capstan_gateway.dialects.upstreams.anthropic_stream import AnthropicRelay
from capstan_gateway.errors import GatewayError, UpstreamFailed
from capstan_gateway.streaming.errors import StreamBroken
from fakes.anthropic_upstream import STOP, begin, end, event, text_delta, tool_use
from fakes.openai_upstream import completion
from support.dialects import frames, read_chat


def call(arguments: str) -> dict[str, Any]:
    """Give a tool call."""
    return {"id": "call_1", "type": "function", "function": {"name": "f", "arguments": arguments}}


def answered(finish: str = "stop", *, stop_reason: object = None, **message: Any) -> dict[str, Any]:
    """Give a chat completion with this message."""
    said = {"role": "assistant", "content": None, **message}
    choice = {"index": 0, "message": said, "finish_reason": finish, "stop_reason": stop_reason}
    return completion("m", choices=[choice])


@pytest.mark.parametrize(
    ("finish", "matched", "calls", "expected"),
    [
        ("stop", None, (), ("end_turn", None)),
        ("stop", "END", (), ("stop_sequence", "END")),
        ("stop", 2, (), ("end_turn", None)),
        ("stop", None, (call("{}"),), ("tool_use", None)),
        ("tool_calls", None, (call("{}"),), ("tool_use", None)),
        ("length", None, (call('{"a'),), ("max_tokens", None)),
        ("content_filter", None, (), ("refusal", None)),
    ],
)
def test_stop_reasons(finish: str, matched: object, calls: tuple[Any, ...], expected: tuple[str, str | None]) -> None:
    """A matched stop string is told, a token's number is not; a forced call ends in tool_use whatever engines say."""
    said = to_message(answered(finish, stop_reason=matched, tool_calls=list(calls)))
    assert (said["stop_reason"], said["stop_sequence"]) == expected


@pytest.mark.parametrize(
    ("arguments", "given"),
    [
        ('{"a', {"arguments": '{"a'}), ("[1]", {"arguments": "[1]"}), ("7", {"arguments": "7"}), ("", {}),
        ("null", {}), ('{"a":1}', {"a": 1}), ({"a": 1}, {"a": 1}),
        ('"{\\"a\\":1}"', {"a": 1}), ('"x"', {"arguments": '"x"'}),
    ],
)  # fmt: skip
def test_input_of_a_call_is_an_object(arguments: Any, given: Any) -> None:
    """Anthropic's clients get objects; of what is none they get the text as it came, which is no empty call."""
    (block,) = to_message(answered("tool_calls", tool_calls=[call(arguments)]))["content"]
    assert block["input"] == given


@pytest.mark.parametrize("answer", [{}, {"choices": []}, {"choices": [{}]}, {"choices": [{"message": "x"}]}])
@pytest.mark.parametrize("dialect", [MESSAGES, RESPONSES])
def test_answer_without_a_message_is_an_error(dialect: Dialect, answer: dict[str, Any]) -> None:
    """JSON that is no chat completion is an engine's failure."""
    with pytest.raises(UpstreamFailed):
        dialect.write_answer(answer, {})


@pytest.mark.parametrize("dialect", [MESSAGES, RESPONSES])
def test_a_call_that_was_closed_takes_no_more(dialect: Dialect) -> None:
    """Blocks follow each other; a piece for a call that is over cannot be told, and is not put elsewhere."""
    presenter = dialect.presenter({})
    for number in (0, 1):
        presenter.chunk({"choices": [{"delta": {"tool_calls": [{**call("{}"), "index": number}]}}]})
    with pytest.raises(StreamBroken):
        presenter.chunk({"choices": [{"delta": {"tool_calls": [{"index": 0, "function": {"arguments": "x"}}]}}]})


@pytest.mark.parametrize("dialect", [MESSAGES, RESPONSES])
def test_nothing_follows_a_failure(dialect: Dialect) -> None:
    """A failed stream has ended: no further piece, no end, no second failure."""
    presenter = dialect.presenter({})
    assert frames(presenter.failure(GatewayError("x", status=502)))
    piece = {"choices": [{"delta": {"content": "x"}}]}
    assert presenter.chunk(piece) + presenter.end() + presenter.failure(GatewayError("y")) == b""


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (400, "invalid_request_error"), (401, "authentication_error"), (403, "permission_error"),
        (404, "not_found_error"), (413, "request_too_large"), (415, "invalid_request_error"), (429, "rate_limit_error"),
        (500, "api_error"), (502, "api_error"), (503, "overloaded_error"), (504, "timeout_error"),
    ],
)  # fmt: skip
def test_error_types(status: int, kind: str) -> None:
    """Each status has Anthropic's word; where they say 529, so does the gateway."""
    error = GatewayError("x", status=status)
    assert error_type(error) == kind
    assert MESSAGES.write_error(error, "r")[0] == (529 if status == 503 else status)
    assert RESPONSES.write_error(error, "r")[0] == status


def feed(*events: bytes) -> tuple[bytes, AnthropicRelay]:
    """Give what chat makes of Anthropic's events."""
    relay = AnthropicRelay(model="m", usage_asked=True, created=5)
    return relay.feed(b"".join(events)), relay


def test_call_without_input_has_empty_arguments() -> None:
    """No pieces of input are an empty object, which is JSON; no arguments at all would not be."""
    block = {"index": 0, "content_block": tool_use("f", {})}
    out, _ = feed(begin(), event("content_block_start", **block), event("content_block_stop", index=0), end("tool_use"))
    assert read_chat(out)["choices"][0]["message"]["tool_calls"][0]["function"]["arguments"] == "{}"


def test_stop_sequence_reaches_chat() -> None:
    """The sequence that ended the answer is told as vLLM tells it."""
    out, _ = feed(begin(), text_delta("x"), end("stop_sequence", stop_sequence="END"))
    assert read_chat(out)["choices"][0]["stop_reason"] == "END"


def test_events_that_are_new_are_passed_over() -> None:
    """What that API adds later neither breaks a stream nor shows in it."""
    unknown = event("weather_report", index=0) + event(
        "content_block_delta", index=0, delta={"type": "signature_delta"}
    )
    plain, _ = feed(begin(), text_delta("x"), end("end_turn"))
    with_unknown, _ = feed(begin(), unknown, text_delta("x"), unknown, end("end_turn"))
    assert with_unknown == plain


@pytest.mark.parametrize("last", [b"", STOP, text_delta("y")])
def test_stream_without_its_end_is_broken(last: bytes) -> None:
    """Without a stop reason and message_stop the answer is not whole, whatever else came."""

    def read() -> None:
        _, relay = feed(begin(), text_delta("x"), last)
        relay.finish()

    with pytest.raises(StreamBroken):
        read()


@pytest.mark.parametrize("body", [b"", b"[]", b'"x"', b"{}", b'{"type":"message"}', b'{"object":"response"'])
def test_native_answers_are_checked(body: bytes) -> None:
    """What passes untouched is still an answer of that kind, or an error."""
    for read in (read_native_message, read_native_response, check_count):
        with pytest.raises(UpstreamFailed):
            read(body)
