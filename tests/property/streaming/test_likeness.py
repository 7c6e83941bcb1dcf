"""A stream of frames that are alike is read as if each of them had been parsed."""

import orjson
from hypothesis import example, given
from hypothesis import strategies as st

from capstan_gateway.streaming.errors import StreamBroken
from capstan_gateway.streaming.likeness import Likeness
from capstan_gateway.streaming.relay import StreamRelay
from capstan_gateway.streaming.sse import DONE
from capstan_gateway.tokens.estimate import TextCount

INSIDES = st.one_of(
    st.text(max_size=8).map(lambda text: orjson.dumps(text)[1:-1]),
    st.sampled_from(
        [b"fox", b"", b" ", b"\\n", b'\\"', b"\\u00e9", b"\\ud83d\\ude00", b"\xc3\xa9", b"\x7f", b"}]}", b"a b c"]
    ),
)
"""Texts as an engine may write them between the quotes."""
NO_INSIDES = st.sampled_from(
    [
        b'"',
        b"\\",
        b"\\x",
        b"\\u12",
        b"\\ud83d",
        b"\xc3",
        b"\xa9",
        b"\xff",
        b"\x00",
        b"\x1f",
        b"\r",
        b'","b":"',
        b'"},{"',
    ],
)
"""What is no inside of a JSON string, or more than one."""
BEGIN = b'data: {"choices":[{"index":0,"delta":{"content":"'
FINISH = b'data: {"choices":[{"index":0,"delta":{},"finish_reason":"stop"}]}\n\n'
OTHER_CHOICE = b'data: {"choices":[{"index":1,"delta":{"content":"x"}}]}\n\n'
BEFORE = st.sampled_from(
    [
        b'data: {"id":"c","choices":[{"index":0,"delta":{"content":"',
        b'data: {"id":"fox","choices":[{"index":0,"delta":{"content":"',
        b'data: {"choices":[{"index":1,"delta":{"content":"',
        b'data: {"choices": [{"delta": {"reasoning_content": "',
        b'data: {"choices":[{"index":0,"text":"',
        b'data:{"choices":[{"index":0,"delta":{"content":"',
        b': ping\n\ndata: {"choices":[{"index":0,"delta":{"content":"',
    ]
)
AFTER = {b'"text"': b'"}]}\n\n', b"": b'"},"finish_reason":null}]}\n\n'}
OTHERS = st.sampled_from(
    [
        b'data: {"choices":[{"index":0,"delta":{"role":"assistant","content":""}}]}\n\n',
        FINISH,
        OTHER_CHOICE,
        b'data: {"choices":[{"index":1,"delta":{"content":"x"},"finish_reason":"stop"}]}\n\n',
        b'data: {"choices":[],"usage":{"prompt_tokens":1,"completion_tokens":2}}\n\n',
        b'data: {"choices":[{"index":0,"delta":{"content":"x"}}],"usage":{"completion_tokens":2}}\n\n',
        b'data: {"error":{"message":"no"}}\n\n',
        b"data: 7\n\n",
        b"data: {}\n\n",
        b": comment\n\n",
        b"\n\n",
        DONE,
    ]
)


@st.composite
def frames(draw: st.DrawFn) -> list[bytes]:
    """Runs of frames from few moulds, with others in between, some of them broken."""
    moulds = draw(st.lists(BEFORE, min_size=1, max_size=2))
    written = st.builds(
        lambda before, text: before + text + AFTER[b'"text"' if b'"text"' in before else b""],
        st.sampled_from(moulds),
        st.one_of(*[INSIDES] * 6, NO_INSIDES) if draw(st.booleans()) else INSIDES,
    )
    return draw(st.lists(st.one_of(*[written] * 8, OTHERS), max_size=40))


def _told(relay: StreamRelay, pieces: list[bytes]) -> tuple[object, ...]:
    out = b""
    broken = ""
    try:
        for piece in pieces:
            out += relay.feed(piece)
        out += relay.finish()
    except StreamBroken as error:
        out, broken = out + error.before, str(error)
    return (
        out,
        broken,
        relay.events,
        relay.usage,
        relay.finished,
        relay.done,
        str(relay.error),
        relay.begun,
        relay.text.tokens,
    )


LONG = [b"fox"] * 30
"""So many that those behind them are looked at as frames which are alike."""


@given(frames(), st.data())
@example([BEGIN + text + b'"}}]}\n\n' for text in (*LONG, b"\xc3", b"\xa9")], None)
@example([BEGIN + text + b'"}}]}\n\n' for text in (*LONG, b"b\\", b"c")], None)
@example([BEGIN + text + b'"}}]}\n\n' for text in (*LONG, b"b\\", b',"c')], None)
@example([BEGIN + text + b'"}}]}\n\n' for text in LONG] + [OTHER_CHOICE, BEGIN + b'a"}}]}\n\n', FINISH, DONE], None)
def test_frames_alike_are_read_as_if_each_were_parsed(given_frames: list[bytes], data: st.DataObject | None) -> None:
    """What the client gets, and what is known of the stream, is the same as without knowing frames by their form."""
    whole = b"".join(given_frames)
    at = [] if data is None else sorted(data.draw(st.lists(st.integers(0, len(whole)), max_size=6)))
    pieces = [whole[start:end] for start, end in zip([0, *at], [*at, len(whole)], strict=True)]
    plain, quick = StreamRelay(strip_usage=True), StreamRelay(strip_usage=True)
    plain._likeness.tries = 0
    assert _told(quick, pieces) == _told(plain, pieces)


@given(INSIDES.filter(bool), st.lists(st.one_of(INSIDES, INSIDES, NO_INSIDES), min_size=1, max_size=12))
def test_only_insides_of_strings_are_alike(first: bytes, texts: list[bytes]) -> None:
    """A run is recognised as far as each of its frames is the same JSON document with another text, and no further."""
    before, after = b'data: {"choices":[{"index":0,"delta":{"content":"', b'"}}]}\n\n'
    likeness = Likeness(TextCount())
    mould = before + first + after
    likeness.learn(orjson.loads(mould[6:]), mould)
    run = b"".join(before + text + after for text in texts)
    found = likeness.match(run)
    for frame in run[:found].split(b"\n\n")[:-1]:
        assert list(orjson.loads(frame[6:])["choices"][0]["delta"]) == ["content"]
    if found:
        assert likeness.frames == run[:found].count(b"\n\n")
