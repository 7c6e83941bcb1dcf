"""However the network cuts a stream, the client gets the same frames."""

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from capstan_gateway.streaming.errors import StreamBroken
from capstan_gateway.streaming.relay import Rename, StreamRelay
from capstan_gateway.streaming.sse import DONE, FrameSplitter, frame_data
from capstan_gateway.tokens.usage import Usage, find_usage

TEXT = st.text(max_size=20)
USAGE = {"prompt_tokens": 5, "completion_tokens": 3, "total_tokens": 8}


def _chunk(text: str, finish: str | None = None, **extra: object) -> bytes:
    choice = {"index": 0, "delta": {"content": text}, "finish_reason": finish}
    return orjson.dumps({"id": "c", "model": "engine-name", "choices": [choice], **extra})


@st.composite
def streams(draw: st.DrawFn) -> list[bytes]:
    """Whole streams as engines write them: some with spaces after `data:`, some without; comments in between."""
    frames = []
    for text in draw(st.lists(TEXT, max_size=6)):
        prefix = draw(st.sampled_from([b"data: ", b"data:", b": keep-alive\n\ndata: ", b"event: message\ndata: "]))
        frames.append(prefix + _chunk(text, **draw(st.sampled_from([{}, {"usage": None}]))) + b"\n\n")
    frames.append(b"data: " + _chunk("", "stop") + b"\n\n")
    frames.append(b"data: " + orjson.dumps({"id": "c", "choices": [], "usage": USAGE}) + b"\n\n")
    frames.append(DONE)
    return frames


@st.composite
def cuts(draw: st.DrawFn, data: bytes) -> list[bytes]:
    """The same bytes in pieces."""
    at = sorted(draw(st.lists(st.integers(0, len(data)), max_size=12)))
    return [data[start:end] for start, end in zip([0, *at], [*at, len(data)], strict=True)]


def _relay(pieces: list[bytes], **options: object) -> tuple[bytes, StreamRelay]:
    relay = StreamRelay(**{"strip_usage": False, **options})  # type: ignore[arg-type]
    out = b"".join(relay.feed(piece) for piece in pieces if piece)
    return out + relay.finish(), relay


@given(st.data(), st.sampled_from([b"\n", b"\r\n", b"\r"]))
def test_frames_do_not_depend_on_how_bytes_arrive(data: st.DataObject, line_end: bytes) -> None:
    """Any split of the bytes, with any line end, gives the frames of the whole."""
    whole = b"".join(data.draw(streams()))
    pieces = data.draw(cuts(whole.replace(b"\n", line_end)))
    splitter = FrameSplitter()
    assert b"".join(splitter.feed(piece) for piece in pieces) + splitter.rest() == whole


@given(st.data(), st.booleans())
def test_relayed_stream_does_not_depend_on_how_bytes_arrive(data: st.DataObject, strip: bool) -> None:
    """What the client gets, and what is known at the end, is the same for every split."""
    whole = b"".join(data.draw(streams()))
    once, first = _relay([whole], strip_usage=strip)
    split, second = _relay(data.draw(cuts(whole)), strip_usage=strip)
    assert once == split
    assert (first.usage, first.events, first.finished) == (second.usage, second.events, second.finished)
    assert first.usage == Usage(5, 3)
    assert (b'"prompt_tokens":5' in once) is not strip
    assert once.endswith(DONE)
    assert once.count(DONE) == 1


@given(st.data(), st.sampled_from([b"data: {broken\n\n", b"data: 7\n\n", DONE, b""]), st.booleans())
def test_what_came_before_a_break_is_not_lost(data: st.DataObject, junk: bytes, renamed: bool) -> None:
    """Wherever the bytes are cut, the client gets every frame in front of the one that broke the stream."""
    good = b"".join(b"data: " + _chunk(text) + b"\n\n" for text in data.draw(st.lists(TEXT, max_size=5)))
    relay = StreamRelay(strip_usage=True, rename=Rename("engine-name", "served") if renamed else None)
    out = b""
    try:
        for piece in data.draw(cuts(good + junk)):
            out += relay.feed(piece)
        relay.finish()
    except StreamBroken as broken:
        out += broken.before
    else:
        pytest.fail("the stream is broken")
    assert out == (good.replace(b"engine-name", b"served") if renamed else good)


@given(st.data(), TEXT)
def test_renaming_changes_the_model_and_nothing_else(data: st.DataObject, text: str) -> None:
    """The engine's name is replaced in every frame; a text that looks like it stays."""
    tricky = text + '"model":"engine-name"'
    whole = b"data: " + _chunk(tricky) + b"\n\ndata: " + _chunk("", "stop") + b"\n\n" + DONE
    out, _ = _relay(data.draw(cuts(whole)), rename=Rename("engine-name", "sérved"))
    frames = [frame_data(frame) for frame in out.split(b"\n\n") if frame]
    documents = [orjson.loads(frame) for frame in frames if frame not in (None, b"[DONE]")]
    assert [document["model"] for document in documents] == ["sérved", "sérved"]
    assert documents[0]["choices"][0]["delta"]["content"] == tricky


@given(TEXT, st.integers(0, 10**9), st.integers(0, 10**9), st.booleans(), st.integers(0, 2))
def test_usage_is_found_whatever_the_text_says(
    text: str, prompt: int, completion: int, cached: bool, indent: int
) -> None:
    """The usage object is found by its key, never inside a string."""
    details = {"prompt_tokens_details": {"cached_tokens": 7} if cached else None}
    document = {
        "usage": {"prompt_tokens": prompt, "completion_tokens": completion, **details},
        "choices": [{"message": {"content": text + '"usage":{"prompt_tokens":1,"completion_tokens":1}'}}],
    }
    option = orjson.OPT_INDENT_2 if indent else 0
    assert find_usage(orjson.dumps(document, option=option)) == Usage(prompt, completion, 7 if cached else 0)


@given(st.binary(max_size=200))
def test_no_bytes_make_usage_search_fail(junk: bytes) -> None:
    """Arbitrary bytes give a usage or none, and never an exception."""
    assert find_usage(b'{"usage":' + junk) is None or junk.startswith((b"{", b" ", b"\t", b"\r", b"\n"))


@given(st.lists(st.binary(max_size=40), max_size=8))
def test_no_bytes_make_the_splitter_lose_any(pieces: list[bytes]) -> None:
    """Whatever comes in goes out, apart from line ends."""
    splitter = FrameSplitter()
    out = b"".join(splitter.feed(piece) for piece in pieces) + splitter.rest()
    strip = bytes.maketrans(b"\r", b"\n")
    assert out.translate(strip).replace(b"\n", b"") == b"".join(pieces).translate(strip).replace(b"\n", b"")
