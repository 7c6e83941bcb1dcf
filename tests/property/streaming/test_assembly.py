"""Chunks and whole answers: one and the same thing, said in two ways."""

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from capstan_gateway.streaming.answers import mend_answer
from capstan_gateway.streaming.assembly import Assembler
from capstan_gateway.streaming.relay import StreamRelay
from capstan_gateway.streaming.replay import to_chunks, to_frames
from capstan_gateway.streaming.sse import DONE

Document = dict[str, Any]
TEXT = st.text(min_size=1, max_size=12)
LOGPROBS = st.lists(
    st.fixed_dictionaries({"token": TEXT, "logprob": st.floats(-9, 0), "top_logprobs": st.just([])}), max_size=4
)


@st.composite
def calls(draw: st.DrawFn) -> list[Document]:
    """Tool calls with ids of their own."""
    named = draw(st.lists(st.tuples(TEXT, st.text(max_size=12)), max_size=3))
    return [
        {"id": f"call_{number}", "type": "function", "function": {"name": name, "arguments": arguments}}
        for number, (name, arguments) in enumerate(named)
    ]


@st.composite
def answers(draw: st.DrawFn) -> Document:
    """Whole chat completions."""
    choices = []
    for index in range(draw(st.integers(1, 3))):
        message: Document = {"role": "assistant", "content": draw(st.none() | TEXT)}
        for name in ("refusal", "reasoning", "reasoning_content"):
            if draw(st.booleans()):
                message[name] = draw(TEXT)
        if found := draw(calls()):
            message["tool_calls"] = found
        logprobs = draw(st.none() | st.fixed_dictionaries({"content": LOGPROBS, "refusal": st.none()}))
        choice = {"index": index, "message": message, "logprobs": logprobs}
        choice["finish_reason"] = draw(st.sampled_from(["stop", "length", "tool_calls", "content_filter"]))
        if draw(st.booleans()):
            choice["stop_reason"] = draw(TEXT)
        choices.append(choice)
    usage = {"prompt_tokens": draw(st.integers(0, 9)), "completion_tokens": 3, "total_tokens": 12}
    extra = draw(st.sampled_from([{}, {"system_fingerprint": "fp"}, {"kv_transfer_params": {"a": 1}}]))
    return {
        "id": "chatcmpl-1", "created": 5, "model": "m", "object": "chat.completion", "choices": choices,
        "usage": usage, **extra,
    }  # fmt: skip


def _pieces(draw: st.DrawFn, text: str) -> list[str]:
    at = sorted(draw(st.lists(st.integers(0, len(text)), max_size=3)))
    return [text[start:end] for start, end in zip([0, *at], [*at, len(text)], strict=True)]


@st.composite
def chunkings(draw: st.DrawFn, answer: Document) -> list[Document]:
    """Chunks that an engine may write for an answer: its choices in any order between each other."""
    lanes = []
    for choice in answer["choices"]:
        message, index = choice["message"], choice["index"]
        deltas: list[Document] = [{"role": "assistant"}]
        for name in ("reasoning", "reasoning_content", "refusal", "content"):
            if message.get(name) is not None:
                deltas += [{name: piece} for piece in _pieces(draw, message[name])]
        for number, call in enumerate(message.get("tool_calls", ())):
            begin, *rest = _pieces(draw, call["function"]["arguments"])
            function = {"name": call["function"]["name"], "arguments": begin}
            deltas.append({"tool_calls": [{**call, "index": number, "function": function}]})
            deltas += [{"tool_calls": [{"index": number, "function": {"arguments": piece}}]} for piece in rest]
        lane = [{"index": index, "delta": delta, "finish_reason": None} for delta in deltas]
        if choice["logprobs"] is not None:
            lane[0]["logprobs"] = {"content": [], "refusal": None}
            places = sorted(draw(st.integers(0, len(lane) - 1)) for _ in choice["logprobs"]["content"])
            for place, entry in zip(places, choice["logprobs"]["content"], strict=True):
                lane[place].setdefault("logprobs", {"content": [], "refusal": None})["content"].append(entry)
        more = {name: choice[name] for name in ("stop_reason",) if name in choice}
        lane.append({"index": index, "delta": {}, "finish_reason": choice["finish_reason"], **more})
        lanes.append(lane)
    head = {name: value for name, value in answer.items() if name not in ("object", "choices", "usage")}
    chunks = []
    while lanes := [lane for lane in lanes if lane]:
        piece = draw(st.sampled_from(lanes)).pop(0)
        chunks.append({**head, "object": "chat.completion.chunk", "choices": [piece]})
    return [*chunks, {**head, "object": "chat.completion.chunk", "choices": [], "usage": answer["usage"]}]


def _assembled(chunks: list[Document]) -> Document:
    assembler = Assembler()
    for chunk in chunks:
        assembler.add(chunk)
    assert assembler.whole
    return assembler.answer()


@given(st.data())
def test_any_chunking_assembles_to_the_answer(data: st.DataObject) -> None:
    """However an answer is cut into chunks, and its choices mixed, it is the same answer in the end."""
    answer = data.draw(answers())
    assert _assembled(data.draw(chunkings(answer))) == answer


@given(answers(), st.booleans())
def test_an_answer_is_what_its_chunks_say(answer: Document, usage: bool) -> None:
    """Replaying an answer and assembling the stream gives the answer; its usage only to who asked."""
    expected = answer if usage else {name: value for name, value in answer.items() if name != "usage"}
    assert _assembled(list(to_chunks(answer, usage=usage))) == expected


@given(answers())
def test_a_replayed_answer_is_a_whole_stream(answer: Document) -> None:
    """What is replayed passes through the relay like an engine's own stream, and is complete."""
    relay = StreamRelay(strip_usage=False)
    mend_answer(answer)
    frames = to_frames(answer, usage=True)
    assert relay.feed(frames) == frames
    assert relay.done
    assert relay.finished
    assert frames.endswith(DONE)
    assert relay.usage is not None


@given(st.lists(st.tuples(TEXT, st.sampled_from(["stop", "length"])), min_size=1, max_size=3))
def test_text_completions_too(texts: list[tuple[str, str]]) -> None:
    """The older form has a text in place of a message."""
    choices = [
        {"index": index, "text": text, "logprobs": None, "finish_reason": finish}
        for index, (text, finish) in enumerate(texts)
    ]
    answer = {"id": "cmpl-1", "object": "text_completion", "created": 1, "model": "m", "choices": choices}
    assert _assembled(list(to_chunks(answer, usage=False))) == answer
