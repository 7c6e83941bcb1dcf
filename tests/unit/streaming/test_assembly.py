"""Assembling and replaying answers, form by form."""

from typing import Any

import orjson
import pytest

from capstan_gateway.streaming.assembly import Assembler
from capstan_gateway.streaming.errors import StreamBroken
from capstan_gateway.streaming.replay import to_chunks, to_frames
from capstan_gateway.streaming.sse import DONE

Document = dict[str, Any]


def assembled(*chunks: Document) -> Document:
    """Give the answer of these chunks."""
    assembler = Assembler()
    for chunk in chunks:
        assembler.add(chunk)
    return assembler.answer()


def deltas(*pieces: Document) -> Document:
    """Give the message of one choice whose deltas these are."""
    message: Document = assembled(*({"choices": [{"index": 0, "delta": piece}]} for piece in pieces))["choices"][0]
    found: Document = message["message"]
    return found


def test_a_head_is_what_came_first() -> None:
    """An id that changes in the middle is still one answer; what was null at first may be said later."""
    first = {"id": "a", "model": None, "created": 0, "object": "chat.completion.chunk", "extra": [1]}
    answer = assembled(first, {"id": "b", "model": "m", "created": 7, "late": True, "object": "other"})
    assert answer == {
        "id": "a", "model": "m", "created": 0, "extra": [1], "late": True, "object": "chat.completion", "choices": [],
    }  # fmt: skip


@pytest.mark.parametrize(
    ("objects", "written"),
    [
        ((None,), "chat.completion"),
        (("",), "chat.completion"),
        (("chat.completion.chunk",), "chat.completion"),
        (("text_completion",), "text_completion"),
        ((None, "text_completion", "chat.completion.chunk"), "text_completion"),
    ],
)
def test_an_answer_is_a_chat_unless_it_says_that_it_is_none(objects: tuple[object, ...], written: str) -> None:
    """By the first chunk that says what it is."""
    assert assembled(*({"object": kind} for kind in objects))["object"] == written


def test_usage_is_the_last_that_was_told() -> None:
    """Engines that tell it with each chunk count on; null takes nothing back."""
    assert "usage" not in assembled({"usage": None})
    assert assembled({"usage": {"n": 1}}, {"usage": {"n": 2}}, {"usage": None})["usage"] == {"n": 2}


def test_choices_stand_in_their_order() -> None:
    """Whichever spoke first; one without an index is the first."""
    answer = assembled(
        {"choices": [{"index": 2, "delta": {"content": "c"}}, {"delta": {"content": "a"}}]},
        {"choices": [{"index": None, "delta": {"content": "b"}, "finish_reason": "stop"}]},
        {"choices": [{"index": 0, "delta": None, "finish_reason": None}]},
    )
    assert answer["choices"] == [
        {"index": 0, "logprobs": None, "finish_reason": "stop", "message": {"role": "assistant", "content": "ab"}},
        {"index": 2, "logprobs": None, "finish_reason": None, "message": {"role": "assistant", "content": "c"}},
    ]


def test_an_answer_is_whole_when_all_its_choices_are() -> None:
    """One that has no choices is not."""
    assembler = Assembler()
    assert not assembler.whole
    assembler.add({"choices": [{"index": 0, "finish_reason": "stop"}, {"index": 1}]})
    assert not assembler.whole
    assembler.add({"choices": [{"index": 1, "finish_reason": "length"}]})
    assert assembler.whole


def test_all_text_is_counted() -> None:
    """Of every choice and every kind: whoever holds answers bounds them by it."""
    assembler = Assembler()
    assembler.add({"choices": [{"delta": {"content": "abc"}}, {"index": 1, "delta": {"reasoning": "de"}}]})
    assembler.add({"choices": [{"text": "f"}]})
    assert assembler.text.ascii == 6
    with pytest.raises(StreamBroken):
        assembler.add({"choices": [{"delta": {"content": 7}}]})


def test_a_message_is_joined_where_it_came_in_pieces() -> None:
    """Texts are joined, what is not known stays as it came last, null says nothing, and there is always a content."""
    assert deltas({}) == {"role": "assistant", "content": None}
    assert deltas({"role": "tool", "x": 1}, {"y": None, "x": 2}, {"x": None, "content": None}) == {
        "role": "tool", "content": None, "x": 2,
    }  # fmt: skip
    for name in ("content", "refusal", "reasoning", "reasoning_content"):
        assert deltas({name: "a"}, {name: ""}, {name: "b"})[name] == "ab"


def test_content_in_parts_stays_in_parts() -> None:
    """A text between them becomes a part of its own."""
    part = {"type": "thinking", "thinking": "t"}
    assert deltas({"content": "a"}, {"content": [part, part]}, {"content": "b"})["content"] == [
        {"type": "text", "text": "a"}, part, part, {"type": "text", "text": "b"},
    ]  # fmt: skip


def call(index: int | None = None, **more: Any) -> Document:
    """Give a delta with a piece of one call."""
    return {"tool_calls": [({} if index is None else {"index": index}) | more]}


@pytest.mark.parametrize(
    ("pieces", "calls"),
    [
        (
            [call(0, id="a", function={"name": "f", "arguments": "{"}), call(0, id="b", function={"arguments": "}"})],
            [{"id": "a", "function": {"name": "f", "arguments": "{}"}}],
        ),
        (
            [call(1, id="b", type=None), call(0, id="a"), call(1, type="function")],
            [{"id": "a"}, {"id": "b", "type": "function"}],
        ),
        (
            [call(id="a", function={"arguments": "x"}), call(function={"arguments": "y"}), call(id="a", extra=1)],
            [{"id": "a", "function": {"arguments": "xy"}, "extra": 1}],
        ),
        ([call(id="a"), call(id="b"), call(x=1)], [{"id": "a"}, {"id": "b", "x": 1}]),
        ([call(7, id="a"), call(id="b"), call(8, x=1)], [{"id": "a"}, {"id": "b", "x": 1}]),
        ([call(id="a"), call(0, x=1)], [{"id": "a", "x": 1}]),
        ([call(id="a"), call(id="", x=1)], [{"id": "a", "x": 1}]),
        ([call(id=None), call(id="a")], [{"id": None}, {"id": "a"}]),
        ([call(0, function=None), call(0, function={"name": "f"})], [{"function": {"name": "f"}}]),
        (
            [
                call(0, function={"name": None, "arguments": None}),
                call(0, function={"name": "f", "arguments": {"a": 1}}),
            ],
            [{"function": {"name": "f", "arguments": '{"a":1}'}}],
        ),
        ([call(0, function={"name": "f"}), call(0, function={"name": "g"})], [{"function": {"name": "f"}}]),
        ([{"tool_calls": []}], None),
    ],
)
def test_a_call_has_all_its_pieces(pieces: list[Document], calls: list[Document] | None) -> None:
    """By its index; without one a piece goes on with the newest call, unless its id is another one."""
    assert deltas(*pieces).get("tool_calls") == calls


def test_the_older_form_of_a_call_too() -> None:
    """A function call without a list around it is joined in the same way."""
    pieces = [{"function_call": piece} for piece in ({"name": "f", "arguments": "{"}, {"arguments": "}"})]
    assert deltas(*pieces)["function_call"] == {"name": "f", "arguments": "{}"}


def test_log_probabilities_go_on() -> None:
    """Lists are joined, null takes nothing back, what is something else stays as it came last."""
    pieces = [{"content": [1], "refusal": None, "x": 1}, {"content": [2, 3], "refusal": [4], "x": None}, None,
              {"content": None, "x": 2, "y": 5}]  # fmt: skip
    chunks = [{"choices": [{"delta": {}, "logprobs": piece}]} for piece in pieces]
    assert assembled(*chunks)["choices"][0]["logprobs"] == {"content": [1, 2, 3], "refusal": [4], "x": 2, "y": 5}
    assert assembled(*chunks, {"choices": [{"logprobs": [7]}]})["choices"][0]["logprobs"] == [7]


def test_what_else_a_choice_says_stays() -> None:
    """A value is not taken back by null, but null is said where nothing else is."""
    chunks = [{"choices": [{"text": "a", "stop_reason": None, "x": 1}]}, {"choices": [{"text": "b", "x": None}]}]
    assert assembled(*({**chunk, "object": "text_completion"} for chunk in chunks))["choices"] == [
        {"index": 0, "stop_reason": None, "x": 1, "logprobs": None, "finish_reason": None, "text": "ab"}
    ]


CHAT: Document = {
    "id": "c", "object": "chat.completion", "created": 1, "model": "m", "extra": 5, "usage": {"n": 1},
    "choices": [
        {"index": 0, "message": {"role": "assistant", "content": "hi", "refusal": None, "tool_calls": []},
         "logprobs": {"content": []}, "finish_reason": "length", "stop_reason": 7},
        {"index": 1, "message": {"content": None, "tool_calls": [{"id": "a"}, {"id": "b"}]}, "finish_reason": None},
    ],
}  # fmt: skip
HEAD = {"id": "c", "created": 1, "model": "m", "object": "chat.completion.chunk"}


def test_a_chat_is_replayed_choice_by_choice() -> None:
    """Each says all it has, then why it ended; what else the answer has is in the first chunk."""
    calls = [{"id": "a", "index": 0}, {"id": "b", "index": 1}]
    pieces: list[Document] = [
        {"index": 0, "delta": {"role": "assistant", "content": "hi"}, "finish_reason": None,
         "logprobs": {"content": []}},
        {"index": 0, "delta": {}, "finish_reason": "length", "logprobs": None, "stop_reason": 7},
        {"index": 1, "delta": {"role": "assistant", "tool_calls": calls}, "finish_reason": None, "logprobs": None},
        {"index": 1, "delta": {}, "finish_reason": "stop", "logprobs": None},
    ]  # fmt: skip
    chunks = [{**HEAD, "choices": [piece]} for piece in pieces]
    chunks[0]["extra"] = 5
    assert list(to_chunks(CHAT, usage=False)) == chunks
    told = [{**chunk, "usage": None} for chunk in chunks]
    assert list(to_chunks(CHAT, usage=True)) == [*told, {**HEAD, "choices": [], "usage": {"n": 1}}]


def test_a_completion_is_replayed_as_its_choices() -> None:
    """They have the same form whole and in a stream, and each says why it ended."""
    answer = {
        "id": "c",
        "object": "text_completion",
        "choices": [{"text": "a"}, {"index": 1, "text": "b", "finish_reason": "length"}],
    }
    assert list(to_chunks(answer, usage=False)) == [
        {"id": "c", "object": "text_completion", "choices": [{"text": "a", "index": 0, "finish_reason": "stop"}]},
        {"id": "c", "object": "text_completion", "choices": [{"index": 1, "text": "b", "finish_reason": "length"}]},
    ]


def test_a_choice_that_says_little_is_replayed_too() -> None:
    """One without an index is the first; what is no list of calls stays as it is."""
    message = {"content": "hi", "tool_calls": {"a": 1}}
    first, last = to_chunks({"object": "chat.completion", "choices": [{"message": message}]}, usage=False)
    assert first["choices"][0] == {
        "index": 0, "delta": {"role": "assistant", **message}, "finish_reason": None, "logprobs": None,
    }  # fmt: skip
    assert last["choices"][0] == {"index": 0, "delta": {}, "finish_reason": "stop", "logprobs": None}


def test_an_answer_without_choices_is_a_stream_too() -> None:
    """Nothing but its end, and its usage for who asked."""
    assert to_frames({}, usage=False) == DONE
    assert list(to_chunks({"extra": 1}, usage=True)) == [
        {"extra": 1, "object": "text_completion", "choices": [], "usage": None}
    ]
    frames = to_frames(CHAT, usage=True).split(b"\n\n")
    assert [orjson.loads(frame[6:]) for frame in frames[:-2]] == list(to_chunks(CHAT, usage=True))
    assert frames[-2:] == [b"data: [DONE]", b""]


def test_log_probabilities_go_on_in_place() -> None:
    """What is known is not copied for each chunk, however many there are; and the chunks stay their giver's."""
    assembler = Assembler()
    chunks = [{"choices": [{"index": 0, "delta": {}, "logprobs": {"content": [n], "refusal": None}}]} for n in range(3)]
    lists = []
    for chunk in chunks:
        assembler.add(chunk)
        lists.append(assembler.answer()["choices"][0]["logprobs"]["content"])
    assert lists[0] is lists[1] is lists[2]
    assert lists[0] == [0, 1, 2]
    assert [chunk["choices"][0]["logprobs"]["content"] for chunk in chunks] == [[0], [1], [2]]  # type: ignore[index]
