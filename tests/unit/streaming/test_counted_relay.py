"""A stream with usage in every chunk: it is read there, and its client sees a stream like any other."""

from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from capstan_gateway.streaming.counted_relay import CountedRelay
from capstan_gateway.streaming.errors import StreamBroken
from capstan_gateway.streaming.relay import StreamRelay
from capstan_gateway.streaming.sse import DONE, MAX_FRAME_BYTES
from capstan_gateway.tokens.usage import Usage


def chunk(text: str | None, finish: str | None = None, **more: Any) -> dict[str, Any]:
    """Give a chunk of a chat stream, as vLLM writes it."""
    delta = {} if text is None else {"content": text}
    choice = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish}
    head = {"id": "c", "object": "chat.completion.chunk", "created": 1, "model": "m"}
    return {**head, "choices": [choice], **more}


def usage(output: int, **more: Any) -> dict[str, Any]:
    """Give a count as vLLM writes it."""
    return {"prompt_tokens": 7, "total_tokens": 7 + output, "completion_tokens": output, **more}


def frame(payload: dict[str, Any]) -> bytes:
    """Give it as a frame."""
    return b"data: " + orjson.dumps(payload) + b"\n\n"


FINAL = frame({**chunk(None), "choices": [], "usage": usage(9)})


def relay(*, strip: bool = True, strip_usage: bool = True) -> CountedRelay:
    """Give one."""
    return CountedRelay(StreamRelay(strip_usage=strip_usage), strip=strip)


def test_counts_are_read_and_taken_out() -> None:
    """The client gets the very bytes that an engine sends which was not asked for counts."""
    one = relay()
    run = frame(chunk("a", usage=usage(3))) + frame(chunk("b", usage=usage(5)))
    assert one.feed(run) == frame(chunk("a")) + frame(chunk("b"))
    assert (one.usage, one.counted, one.finished) == (Usage(7, 5), True, False)


def test_the_usage_of_the_whole_answer_is_for_who_asked_for_it() -> None:
    """The chunk at the end is as it always was: there, or not, and all of it counts."""
    told = frame(chunk("a", usage=usage(3))) + frame(chunk(None, "stop", usage=usage(8))) + FINAL + DONE
    plain = frame(chunk("a")) + frame(chunk(None, "stop"))
    for asked, end in ((True, FINAL + DONE), (False, DONE)):
        one = relay(strip_usage=not asked)
        assert one.feed(told) == plain + end
        assert (one.usage, one.done) == (Usage(7, 9), True)


def test_a_client_that_asked_for_counts_gets_them() -> None:
    """Its bytes pass as they came; they are read all the same."""
    one = relay(strip=False)
    data = frame(chunk("a", usage=usage(3)))
    assert one.feed(data) == data
    assert (one.usage, one.counted) == (Usage(7, 3), True)


OTHERS: list[tuple[str, bytes, dict[str, Any]]] = [
    ("with spaces", b'data: {"choices": [{"index": 0, "delta": {"content": "a"}}], "usage": {"prompt_tokens": 7, '
     b'"completion_tokens": 3}}\n\n', {"choices": [{"index": 0, "delta": {"content": "a"}}]}),
    ("in the middle", frame({"usage": usage(3), **chunk("a")}), chunk("a")),
    ("with details", frame(chunk("a", usage=usage(3, prompt_tokens_details={"cached_tokens": 0}))), chunk("a")),
    ("with braces in a text of its own", frame(chunk("a", usage=usage(3, note="}}{"))), chunk("a")),
    ("as a text that looks like it", frame(chunk(',"usage":{"prompt_tokens":1}}', usage=usage(3))),
     chunk(',"usage":{"prompt_tokens":1}}')),
    ("beside another one further in", frame({"usage": usage(3), **chunk("a"), "x": {"k": 1, "usage": usage(1)}}),
     {**chunk("a"), "x": {"k": 1, "usage": usage(1)}}),
    ("behind a comment", b": ping\n\n" + frame(chunk("a", usage=usage(3))), chunk("a")),
    ("in lines", b"event: message\ndata: " + orjson.dumps(chunk("a", usage=usage(3))) + b"\n\n", chunk("a")),
]  # fmt: skip


@pytest.mark.parametrize(("data", "left"), [other[1:] for other in OTHERS], ids=[other[0] for other in OTHERS])
def test_counts_of_any_form_are_taken_out(data: bytes, left: dict[str, Any]) -> None:
    """However an engine writes them; only those of the chunk itself."""
    one = relay()
    given = one.feed(data)
    lines = [line.removeprefix(b"data: ") for line in given.split(b"\n") if line.startswith(b"data: ")]
    assert [orjson.loads(line) for line in lines] == [left]
    assert one.usage is not None
    assert (one.usage.prompt_tokens, one.usage.completion_tokens, one.counted) == (7, 3, True)


def test_an_engine_that_stops_to_count_is_estimated() -> None:
    """What it told is the least; what came since is estimated from the text."""
    one = relay()
    one.feed(frame(chunk("a", usage=usage(3))))
    one.feed(frame(chunk("a" * 400)))
    assert not one.counted
    assert one.usage == Usage(7, one.text.tokens)
    one.feed(frame(chunk("b", usage=usage(90))))
    assert (one.counted, one.usage) == (True, Usage(7, 90))


def test_an_engine_that_counts_nothing_has_not_counted() -> None:
    """Else its answers would be free."""
    one = relay()
    one.feed(frame(chunk("", usage=usage(0))))
    assert one.counted
    one.feed(frame(chunk("abcdefgh", usage=usage(0))))
    assert (one.counted, one.usage) == (False, Usage(7, 2))


def test_what_makes_no_sense_is_judged_as_ever() -> None:
    """What came before it is told, without counts; an end that is too early stays one."""
    one = relay()
    with pytest.raises(StreamBroken) as broken:
        one.feed(frame(chunk("a", usage=usage(3))) + b"data: nonsense\n\n")
    assert broken.value.before == frame(chunk("a"))
    two = relay()
    two.feed(frame(chunk("a", usage=usage(3))))
    with pytest.raises(StreamBroken, match="ended before"):
        two.finish()
    with pytest.raises(StreamBroken, match="too large"):
        relay().feed(b"data: " + b"x" * (MAX_FRAME_BYTES + 1))


def test_a_last_frame_without_its_end_is_given_without_counts() -> None:
    """As any that is whole: engines forget the blank line."""
    one = relay()
    one.feed(frame(chunk("a", usage=usage(3))) + frame(chunk(None, "stop", usage=usage(4)))[:-2])
    assert one.kept > 0
    assert one.finish() == frame(chunk(None, "stop")) + DONE
    assert one.usage == Usage(7, 4)


TEXTS = st.one_of(st.text(max_size=6), st.sampled_from(['}}"', ',"usage":{"a":1}}', "data: [DONE]\n\n", "\r\n"]))
CHUNKS = st.lists(st.tuples(TEXTS, st.booleans(), st.booleans()), max_size=8)


@given(chunks=CHUNKS, cuts=st.lists(st.integers(1, 40), min_size=1, max_size=5), carriage=st.booleans())
def test_its_client_sees_what_it_would_without_counts(
    chunks: list[tuple[str, bool, bool]], cuts: list[int], carriage: bool
) -> None:
    """Wherever the bytes are cut, whatever the texts hold, in whichever place the counts stand."""
    counted, plain, total = b"", b"", 0
    for number, (text, has_count, is_first) in enumerate(chunks, 1):
        payload = chunk(text)
        plain += frame(payload)
        total = 3 * number if has_count else total
        count = {"usage": usage(3 * number)} if has_count else {}
        counted += frame({**count, **payload} if is_first else {**payload, **count})
    end = frame(chunk(None, "stop")) + DONE
    counted, plain = counted + frame(chunk(None, "stop", usage=usage(99))) + DONE, plain + end
    if carriage:
        counted = counted.replace(b"\n", b"\r\n")
    one, other, given, at, turn = relay(), StreamRelay(strip_usage=True), b"", 0, 0
    while at < len(counted):
        size = cuts[turn % len(cuts)]
        given += one.feed(counted[at : at + size])
        at, turn = at + size, turn + 1
        assert one.usage is None or one.usage.completion_tokens >= 3 * (one.events > 0 and one.counted)
    assert given == other.feed(plain)
    assert (one.usage, one.counted, one.events) == (Usage(7, 99), True, other.events)
    assert one.text.tokens == other.text.tokens
