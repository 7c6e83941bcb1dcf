"""Requests that OpenAI takes as responses only: an effort beside tools."""

from itertools import pairwise
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from capstan_gateway.dialects.clients.messages_answer import to_message
from capstan_gateway.dialects.clients.messages_stream import MessageEvents
from capstan_gateway.dialects.clients.presented import PresentedRelay
from capstan_gateway.dialects.clients.responses_request import to_chat_request
from capstan_gateway.dialects.clients.spoken import MESSAGES
from capstan_gateway.dialects.upstreams.openai_answer import response_to_completion
from capstan_gateway.dialects.upstreams.openai_request import fits_responses, to_responses_request
from capstan_gateway.dialects.upstreams.openai_stream import ResponsesRelay
from capstan_gateway.errors import InvalidRequest, UpstreamFailed, UpstreamRejected
from capstan_gateway.streaming.errors import StreamBroken
from fakes.anthropic_upstream import event
from support.dialects import read_chat, read_messages

TOOL = {"type": "function", "function": {"name": "w", "description": "d", "parameters": {"type": "object"}}}
CALL = {"id": "functions.w:0", "type": "function", "function": {"name": "w", "arguments": '{"c":1}'}}
CHAT: dict[str, Any] = {
    "model": "m", "messages": [{"role": "user", "content": "x"}], "tools": [TOOL], "reasoning_effort": "high",
}  # fmt: skip
IMAGE = {"type": "image_url", "image_url": {"url": "https://e.com/a.png", "detail": "low"}}


@pytest.mark.parametrize(
    ("changes", "fits"),
    [
        ({}, True),
        ({"reasoning_effort": None}, False),
        ({"reasoning_effort": "none"}, False),
        ({"tools": []}, False),
        ({"stop": ["a"]}, False),
        ({"stop": None}, True),
        ({"logit_bias": {"1": 2}}, False),
        ({"top_k": 5}, False),
        ({"stream": True, "stream_options": {"include_usage": True}, "temperature": 1, "user": "u"}, True),
    ],
)
def test_only_what_both_can_say_goes_there(changes: dict[str, Any], fits: bool) -> None:
    """An effort beside tools, and nothing that the Responses API has not: else chat is asked, without the effort."""
    assert fits_responses({**CHAT, **changes}) is fits


def test_a_conversation_of_an_agent() -> None:
    """Every turn, call and result is there in its order; nothing is stored, and tools are as strict as chat's."""
    messages = [
        {"role": "system", "content": "S"},
        {"role": "user", "content": [{"type": "text", "text": "look"}, IMAGE]},
        {"role": "assistant", "content": "ok", "tool_calls": [CALL], "reasoning_content": "t"},
        {"role": "tool", "tool_call_id": "functions.w:0", "content": "r"},
        {"role": "assistant", "content": [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]},
        {"role": "user", "content": [{"type": "file", "file": {"filename": "f", "file_data": "data:x;base64,QQ=="}}]},
    ]
    schema = {"name": "answer", "schema": {"type": "object"}, "strict": True}
    request = to_responses_request(
        {
            **CHAT, "messages": messages, "max_tokens": 5,
            "tool_choice": {"type": "function", "function": {"name": "w"}},
            "parallel_tool_calls": False, "stream": True, "stream_options": {}, "user": "u", "verbosity": "low",
            "response_format": {"type": "json_schema", "json_schema": schema},
        },
        model="gpt-x",
    )  # fmt: skip
    assert request == {
        "model": "gpt-x", "store": False, "stream": True, "user": "u", "parallel_tool_calls": False,
        "reasoning": {"effort": "high"},
        "max_output_tokens": 16,
        "tool_choice": {"type": "function", "name": "w"},
        "text": {"verbosity": "low", "format": {"type": "json_schema", **schema}},
        "tools": [
            {"type": "function", "name": "w", "description": "d", "parameters": {"type": "object"}, "strict": False}
        ],
        "input": [
            {"type": "message", "role": "system", "content": "S"},
            {"type": "message", "role": "user", "content": [
                {"type": "input_text", "text": "look"},
                {"type": "input_image", "image_url": "https://e.com/a.png", "detail": "low"},
            ]},
            {"type": "message", "role": "assistant", "content": [{"type": "output_text", "text": "ok"}]},
            {"type": "function_call", "call_id": "functions.w:0", "name": "w", "arguments": '{"c":1}'},
            {"type": "function_call_output", "call_id": "functions.w:0", "output": "r"},
            {"type": "message", "role": "assistant", "content": [{"type": "output_text", "text": "ab"}]},
            {"type": "message", "role": "user", "content": [
                {"type": "input_file", "filename": "f", "file_data": "data:x;base64,QQ=="}
            ]},
        ],
    }  # fmt: skip
    # What we make is what we read: back in chat it is the same conversation.
    back = to_chat_request(request)["messages"]
    kept = [{key: value for key, value in message.items() if key != "reasoning_content"} for message in messages]
    assert back == [*kept[:4], {"role": "assistant", "content": "ab"}, kept[5]]


def test_what_cannot_be_said_is_refused_with_its_path() -> None:
    """As everywhere."""
    odd = {**CHAT, "messages": [{"role": "user", "content": [{"type": "video_url"}]}]}
    with pytest.raises(InvalidRequest) as caught:
        to_responses_request(odd, model="m")
    assert caught.value.param == "messages.0.content.0.type"


USAGE = {
    "input_tokens": 10, "output_tokens": 5, "total_tokens": 15,
    "input_tokens_details": {"cached_tokens": 4}, "output_tokens_details": {"reasoning_tokens": 3},
}  # fmt: skip
OUTPUT: list[dict[str, Any]] = [
    {"type": "reasoning", "id": "rs", "summary": [{"type": "summary_text", "text": "think"}]},
    {"type": "message", "id": "m", "role": "assistant", "content": [{"type": "output_text", "text": "Hi"}]},
    {"type": "function_call", "id": "fc", "call_id": "call_1", "name": "w", "arguments": '{"c":1}'},
    {"type": "function_call", "id": "fd", "call_id": "call_2", "name": "v", "arguments": ""},
    {"type": "web_search_call", "id": "ws"},
]


def response(**fields: Any) -> dict[str, Any]:
    """A response of OpenAI's."""
    return {
        "id": "resp_1", "object": "response", "created_at": 1, "model": "gpt-x", "status": "completed", "error": None,
        "output": OUTPUT, "usage": USAGE, **fields,
    }  # fmt: skip


def completion(**fields: Any) -> dict[str, Any]:
    """The same as a chat completion."""
    body, usage = response_to_completion(orjson.dumps(response(**fields)), model="served", created=7)
    assert usage is not None
    assert (usage.prompt_tokens, usage.completion_tokens, usage.cached_tokens) == (10, 5, 4)
    found: dict[str, Any] = orjson.loads(body)
    return found


def test_an_answer_is_whole() -> None:
    """Thoughts, text and calls of it, what it cost, and why it ended."""
    found = completion()
    (choice,) = found["choices"]
    assert (found["model"], found["created"], choice["finish_reason"]) == ("served", 7, "tool_calls")
    message = choice["message"]
    assert (message["content"], message["reasoning"]) == ("Hi", "think")
    calls = [(call["id"], call["function"]["name"], call["function"]["arguments"]) for call in message["tool_calls"]]
    assert calls == [("call_1", "w", '{"c":1}'), ("call_2", "v", "{}")]
    assert found["usage"]["completion_tokens_details"] == {"reasoning_tokens": 3}
    said = to_message(found)
    assert [block["type"] for block in said["content"]] == ["thinking", "text", "tool_use", "tool_use"]
    cut = {"status": "incomplete", "incomplete_details": {"reason": "max_output_tokens"}, "output": OUTPUT[:2]}
    assert completion(**cut)["choices"][0]["finish_reason"] == "length"
    refused = {"output": [{"type": "message", "content": [{"type": "refusal", "refusal": "no"}]}]}
    assert completion(**refused)["choices"][0]["message"]["refusal"] == "no"


def test_what_is_no_answer_is_an_error() -> None:
    """A failure inside a response is told as one, what is none is the upstream's fault, and chat is understood."""
    failed = response(status="failed", error={"code": "context_length_exceeded", "message": "too long"})
    with pytest.raises(UpstreamRejected) as caught:
        response_to_completion(orjson.dumps(failed), model="m", created=1)
    assert (caught.value.status, caught.value.code) == (400, "context_length_exceeded")
    for body in (b"[]", b"{}", b"x", b'{"output":[{}]}'):
        with pytest.raises(UpstreamFailed):
            response_to_completion(body, model="m", created=1)
    chat = {"object": "chat.completion", "model": "gpt-x", "choices": [], "usage": None}
    assert response_to_completion(orjson.dumps(chat), model="m", created=1) == (
        orjson.dumps({**chat, "model": "m"}),
        None,
    )


def events(*, whole_arguments: bool = False) -> bytes:
    """A stream of the answer above."""
    said = [
        event("response.created", response=response(status="in_progress", output=[], usage=None)),
        event("response.reasoning_summary_text.delta", output_index=0, delta="think"),
        event("response.output_item.added", output_index=1, item={"type": "message"}),
        event("response.output_text.delta", output_index=1, delta="H"),
        event("response.output_text.delta", output_index=1, delta="i"),
    ]
    for place in (2, 3):
        item = OUTPUT[place]
        said.append(event("response.output_item.added", output_index=place, item={**item, "arguments": ""}))
        if item["arguments"] and not whole_arguments:
            for piece in ('{"c"', ":1}"):
                said.append(event("response.function_call_arguments.delta", output_index=place, delta=piece))
        said.append(event("response.output_item.done", output_index=place, item=item))
    said.append(event("response.unknown", x=1))
    return b"".join((*said, event("response.completed", response=response()), b"data: [DONE]\n\n"))


@pytest.mark.parametrize("whole_arguments", [True, False])
@given(cuts=st.lists(st.integers(0, 3000), max_size=6))
def test_a_stream_says_what_the_whole_says(whole_arguments: bool, cuts: list[int]) -> None:
    """However its bytes come, as chat and for a client of messages."""
    data = events(whole_arguments=whole_arguments)
    at = sorted({0, *(cut for cut in cuts if cut < len(data)), len(data)})
    expected = completion()
    for presented in (False, True):
        relay: Any = ResponsesRelay(model="served", usage_asked=True, created=7)
        inner = relay
        if presented:
            relay = PresentedRelay(relay, MessageEvents())
        out = b"".join(relay.feed(data[begin:end]) for begin, end in pairwise(at)) + relay.finish()
        assert (inner.finished, inner.done, inner.error) == (True, True, None)
        assert inner.usage.completion_tokens == 5
        if presented:
            assert read_messages(out)["content"] == MESSAGES.write_answer(expected, {})["content"]
        else:
            found = read_chat(out)
            assert found["choices"][0]["message"] == expected["choices"][0]["message"]
            assert found["usage"] == expected["usage"]


@pytest.mark.parametrize(
    "last",
    [
        event("response.failed", response=response(status="failed", error={"code": "server_error", "message": "m"})),
        event("error", code="server_error", message="m"),
        event("error", error={"code": "rate_limit_exceeded", "message": "m"}),
    ],
)
def test_a_stream_that_fails_says_so(last: bytes) -> None:
    """Once, and nothing of whose account it was."""
    relay = ResponsesRelay(model="served", usage_asked=True, created=7)
    out = relay.feed(events()[:400].rpartition(b"\n\n")[0] + b"\n\n" + last)
    assert relay.error is not None
    assert relay.error.status in (429, 502)
    assert out.count(b'"error"') == 1
    assert relay.done


def test_a_call_of_which_only_the_end_comes_is_whole() -> None:
    """Some servers tell an item when it is done, and not before."""
    relay = ResponsesRelay(model="served", usage_asked=True, created=7)
    begun = event("response.created", response=response(status="in_progress", output=[], usage=None))
    done = event("response.output_item.done", output_index=0, item=OUTPUT[2])
    out = relay.feed(begun + done + event("response.completed", response=response())) + relay.finish()
    (call,) = read_chat(out)["choices"][0]["message"]["tool_calls"]
    assert (call["id"], call["function"]) == ("call_1", {"name": "w", "arguments": '{"c":1}'})


def test_a_stream_that_ends_early_is_broken() -> None:
    """An answer without its last event was cut off."""
    relay = ResponsesRelay(model="served", usage_asked=True, created=7)
    relay.feed(events().partition(b"event: response.completed")[0])
    with pytest.raises(StreamBroken):
        relay.finish()
    with pytest.raises(StreamBroken):
        ResponsesRelay(model="m", usage_asked=True, created=7).feed(event("response.output_text.delta"))
