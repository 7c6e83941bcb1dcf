"""Frames that are alike but for their text: which are known, and how much is tried to know them."""

import orjson
import pytest

from capstan_gateway.streaming import relay as relays
from capstan_gateway.streaming.likeness import TRIES, Likeness
from capstan_gateway.streaming.relay import StreamRelay
from capstan_gateway.tokens.estimate import TextCount


def _frame(text: str, **extra: object) -> bytes:
    choice = {"index": 0, "delta": {"content": text}, "finish_reason": None}
    return b"data: " + orjson.dumps({"id": "c-1", "choices": [choice], **extra}) + b"\n\n"


def _learned(frame: bytes) -> Likeness:
    likeness = Likeness(TextCount())
    likeness.learn(orjson.loads(frame[6:]), frame)
    return likeness


def test_most_frames_of_a_stream_are_not_parsed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of a run of frames that differ in their text alone the first one is parsed, and of those that follow none."""
    parsed = []
    read = relays._read_run
    monkeypatch.setattr(relays, "_read_run", lambda run: parsed.append(run.count(b"\n\n")) or read(run))
    relay = StreamRelay(strip_usage=True)
    run = b"".join(_frame(f"token {number}\n") for number in range(64))
    assert relay.feed(run) is run
    assert relay.feed(_frame("one")) == _frame("one")
    assert relay.events == 65
    assert parsed == [1]


def test_a_text_that_also_stands_elsewhere_is_told_apart() -> None:
    """What is taken for the text's place is tried: another value may read the same."""
    frame = _frame("fox", model="fox")
    assert _learned(frame).match(frame) == 0
    assert _learned(_frame("fox")).match(_frame("dog")) == len(_frame("dog"))


@pytest.mark.parametrize(
    "frame",
    [
        _frame(""),
        b'data: {"choices":[{"index":0,"delta":{"content":"x"},"finish_reason":"stop"}]}\n\n',
        b'data: {"choices":[{"index":0,"delta":{"content":"x"}},{"index":1,"delta":{"content":"y"}}]}\n\n',
        b'data: {"choices":[{"index":0,"delta":{"content":["x"]}}]}\n\n',
        b'data: {"choices":[{"index":0,"delta":{"content":"\\u0078"}}]}\n\n',
        b'data: {"choices":"x"}\n\n',
    ],
)
def test_what_is_no_mould_is_none(frame: bytes) -> None:
    """Nothing is alike to a frame without one text of its own, that ends a choice, or writes its text otherwise."""
    assert _learned(frame).match(frame) == 0


def test_an_engine_that_never_repeats_itself_is_not_learned_for_ever() -> None:
    """An id that is new in each frame ends the learning after a few tries; a mould that was of use starts it anew."""
    likeness = Likeness(TextCount())
    for number in range(TRIES):
        frame = _frame("x", number=number)
        assert likeness.tries == TRIES - number
        assert likeness.match(frame) == 0
        likeness.learn(orjson.loads(frame[6:]), frame)
    assert likeness.tries == 0
    assert likeness.match(frame) == len(frame)
    assert likeness.tries == TRIES
