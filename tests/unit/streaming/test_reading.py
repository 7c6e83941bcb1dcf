"""How a relay reads: what of a run is passed on unread, what is known afterwards, and where a run breaks."""

from collections.abc import Sequence

import orjson
import pytest

from capstan_gateway.streaming import relay as relays
from capstan_gateway.streaming.deltas import Said
from capstan_gateway.streaming.errors import StreamBroken
from capstan_gateway.streaming.likeness import _MARK, TRIES, Likeness, add_insides
from capstan_gateway.streaming.relay import LONG_RUN_BYTES, Rename, StreamRelay, error_end
from capstan_gateway.streaming.sse import DONE
from capstan_gateway.tokens.estimate import TextCount
from capstan_gateway.tokens.usage import Usage


def frame(document: object, prefix: bytes = b"data: ") -> bytes:
    """Write a frame as engines do."""
    return prefix + orjson.dumps(document) + b"\n\n"


def text(content: str, index: int = 0, finish: str | None = None, **more: object) -> bytes:
    """Write a frame with a piece of text."""
    choice = {"index": index, "delta": {"content": content}, "finish_reason": finish}
    return frame({"id": "c", "model": "engine", "choices": [choice], **more})


USAGE = frame({"choices": [], "usage": {"prompt_tokens": 5, "completion_tokens": 3}})
FINISH = text("", finish="stop")
PING = b": ping\n\n"
ERROR = frame({"error": {"message": "no", "code": 429, "type": "x"}})


@pytest.mark.parametrize(
    ("frames", "out", "events", "ascii_bytes"),
    [
        ([text("ab"), text("cd")], [0, 1], 2, 4),
        ([text("ab"), USAGE], [0], 1, 2),
        ([text("ab"), PING, text("c")], [0, 1, 2], 2, 3),
        ([PING, USAGE, PING], [0, 2], 0, 0),
        ([USAGE], [], 0, 0),
        ([text("ab"), text("c", usage={"prompt_tokens": 5, "completion_tokens": 3}), text("d")], [0, 1, 2], 3, 4),
        ([text("ab"), text("c", usage={"prompt_tokens": 5, "completion_tokens": 3})], [0, 1], 2, 3),
        ([text("ab", usage=None), FINISH, USAGE, DONE], [0, 1, 3], 2, 2),
        ([text("ab"), text("é"), text("c", 1), text("d")], [0, 1, 2, 3], 4, 4),
        ([text("a"), frame({"choices": []}), frame({}), text("b")], [0, 1, 2, 3], 4, 2),
        ([b" data: 7\n\n", text("a"), b"Xdata: 7\n\n", text("b")], [0, 1, 2, 3], 2, 2),
    ],
)
@pytest.mark.parametrize("pieces", ["whole", "each"])
def test_each_frame_is_passed_on_once_and_counted_once(
    frames: list[bytes], out: Sequence[int], events: int, ascii_bytes: int, pieces: str
) -> None:
    """Alone or in a run: the client gets every frame but those that it did not ask for, as the bytes that came."""
    relay = StreamRelay(strip_usage=True)
    fed = frames if pieces == "each" else [b"".join(frames)]
    assert b"".join(map(relay.feed, fed)) == b"".join(frames[number] for number in out)
    assert (relay.events, relay.text.ascii) == (events, ascii_bytes)
    asked_for = Usage(5, 3) if any(b"prompt_tokens" in one for one in frames) else None
    assert relay.usage == asked_for
    assert relay.done == (DONE in frames)


def test_an_error_ends_the_answer_and_not_the_stream() -> None:
    """It goes out in our words, in its place; a stream that ends behind it ended properly."""
    for run in ([text("a"), ERROR, DONE], [text("a") + ERROR + DONE], [text("a") + ERROR, DONE]):
        relay = StreamRelay(strip_usage=True)
        sent = b"".join(map(relay.feed, run)).split(b"\n\n")
        assert sent[0] + b"\n\n" == text("a")
        assert orjson.loads(sent[1][6:])["error"]["code"] == "rate_limit_exceeded"
        assert sent[2:] == [b"data: [DONE]", b""]
        assert relay.error is not None
        assert (relay.events, relay.done, relay.finished) == (1, True, False)
    relay = StreamRelay(strip_usage=True)
    relay.feed(ERROR)
    assert relay.finish() == DONE


def test_an_error_of_an_operators_account_is_told_to_nobody() -> None:
    """Of a hosted API neither the refusal of a key nor whose it is goes to a client."""
    refused = frame({"error": {"message": "Incorrect API key provided: sk-1", "code": 401}})
    assert b"sk-1" in StreamRelay(strip_usage=True).feed(refused)
    assert b"the hosted model refused" in StreamRelay(strip_usage=True, hosted=True).feed(refused)


BROKEN = {
    b"data: {\n\n": "the model's answer held an event that is not JSON",
    b"data: 7\n\n": "the model's answer held an event that is not an object",
    b"data: [1]\n\n": "the model's answer held an event that is not an object",
    text("x").replace(b'"x"', b"7"): "the model's engine sent a malformed answer: `content` must be a string",
    text("").replace(b":0,", b':"0",', 1): "the model's engine sent a malformed answer: `index` must be a whole number",
    text("").replace(b":0,", b':"",', 1): "the model's engine sent a malformed answer: `index` must be a whole number",
    b'data: {"choices":\n[]}\n\n': "the model's answer held an event that is not JSON",
    DONE: "the model's answer ended before it was finished",
}


@pytest.mark.parametrize("broken", BROKEN)
@pytest.mark.parametrize(
    "front", [[], [text("a")], [text("a"), PING], [text("a")] * 40, [text("é"), USAGE, text("a", 1)]]
)
@pytest.mark.parametrize("behind", [b"", text("z"), text("z") * 2, text("z") * 20])
def test_what_came_in_front_of_a_break_is_not_lost(broken: bytes, front: list[bytes], behind: bytes) -> None:
    """The client gets it, renamed, and the break says what it was; nothing behind it counts."""
    kept = b"".join(front).replace(USAGE, b"")
    for rename in (None, Rename("engine", "served")):
        relay = StreamRelay(strip_usage=True, rename=rename)
        with pytest.raises(StreamBroken) as error:
            relay.feed(b"".join(front) + broken + behind)
        assert str(error.value) == BROKEN[broken]
        assert error.value.before == (kept if rename is None else rename(kept))
        assert relay.events == sum(part not in (PING, USAGE) for part in front)
        assert relay.text.ascii == sum(part.count(b'"a"') for part in front)


def test_what_an_engine_left_without_a_blank_line() -> None:
    """A whole frame at the end is taken as one; half of one, or a comment, is not; and nothing behind the end."""
    nothing = (PING[:-2], FINISH[:-9], b" " + FINISH[:-2], FINISH[:-2] + b"X", b"data: 7 7")
    for rest, out in ((FINISH[:-2], FINISH), (FINISH[:-2] + b"\n", FINISH), *((rest, b"") for rest in nothing)):
        relay = StreamRelay(strip_usage=True, rename=Rename("engine", "served"))
        relay.feed(text("a"))
        assert relay.feed(rest) == b""
        if out:
            assert relay.finish() == out.replace(b"engine", b"served") + DONE
            assert relay.done
            continue
        with pytest.raises(StreamBroken, match="ended before it was finished"):
            relay.finish()
    relay = StreamRelay(strip_usage=True)
    relay.feed(FINISH + b"data: [DONE]")
    assert relay.finish() == DONE
    relay = StreamRelay(strip_usage=True)
    relay.feed(FINISH + PING[:-2])
    assert relay.finish() == DONE
    relay = StreamRelay(strip_usage=True)
    relay.feed(FINISH + DONE + text("a")[:-2])
    assert (relay.finish(), relay.events) == (b"", 1)


def test_a_name_is_replaced_where_it_is_the_model() -> None:
    """With or without a space behind the colon, and never in what the model says."""
    rename = Rename("engine", "served")
    assert rename(b'{"model":"engine","x":"engine"}') == b'{"model":"served","x":"engine"}'
    assert rename(b'{"model": "engine"}') == b'{"model":"served"}'
    assert rename(b'{"model":"engine-2","text":"\\"model\\":\\"engine\\""}').count(b"served") == 0
    relay = StreamRelay(strip_usage=True, rename=rename)
    assert b"engine" not in relay.feed(text("a") + FINISH + DONE)


def test_a_stream_that_cannot_go_on_ends_with_the_error() -> None:
    """As every stream that breaks: an error that the SDKs raise, and the end."""
    assert StreamRelay(strip_usage=True).failure(StreamBroken("it broke")) == error_end(StreamBroken("it broke"))


def counted(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Give a list of how many frames were parsed in each go."""
    parsed: list[int] = []
    read = relays._read_run

    def reading(run: bytes) -> object:
        parsed.append(run.count(b"\n\n"))
        return read(run)

    monkeypatch.setattr(relays, "_read_run", reading)
    return parsed


def test_of_a_long_run_the_first_frames_are_read_to_know_the_others(monkeypatch: pytest.MonkeyPatch) -> None:
    """One, or two where the first has but the role; a short run is read at once, and one that is known not at all."""
    parsed = counted(monkeypatch)
    long = [text("abc") for _ in range(LONG_RUN_BYTES // len(text("abc")) + 1)]
    role = text("")
    for run, reads in (
        (long, [1]),
        ([role, *long], [1, 1]),
        ([role, role, *long], [1, 1, len(long)]),
        (long[:-1], [len(long) - 1]),
        ([*long, USAGE], [1, 1]),
        ([text("w" * LONG_RUN_BYTES)], [1]),
        ([role, PING, *long], [1, 1, 1 + len(long)]),
        ([role, USAGE, *long], [1, 1, 1 + len(long)]),
        ([*long, text("w", 1), *long], [1, 1, 2 * len(long) - 1]),
    ):
        parsed.clear()
        relay = StreamRelay(strip_usage=False)
        assert relay.feed(b"".join(run)) == b"".join(run)
        assert (parsed, relay.events) == (reads, len(run) - run.count(PING))
        assert relay.text.ascii == 3 * run.count(long[0]) + b"".join(run).count(b"w")
        assert (relay.usage is not None) == (USAGE in run)


@pytest.mark.parametrize(
    ("run", "chunks"),
    [
        (b"data: 1\n\n", [1]),
        (b"data: 1\n\ndata: [2]\n\ndata: {}\n\n", [1, [2], {}]),
        (b"data: 1\n\n\ndata: 2\n\n", None),
        (b"data: [1,\n2]\n\n", None),
        (b"data:1\n\n", None),
        (b"data: 1\n\ndata:2\n\n", None),
        (b"data: 1,2\n\n", None),
        (b"data: 1,2\n\ndata: 3\n\n", None),
        (b"data: {\n\n", None),
        (b": ping\n\n", None),
    ],
)
def test_a_run_is_parsed_at_once_where_each_frame_is_one_document(run: bytes, chunks: list[object] | None) -> None:
    """In one line, and all of them in the plain form; any other run is looked at frame by frame."""
    assert relays._read_run(run) == chunks


def test_a_chunk_that_goes_on_with_the_one_open_choice_is_not_looked_into(monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither in the run in which the choice began nor in those behind it, also where no two frames are alike."""
    noted: list[int] = []
    note = Said.note

    def noting(self: Said, choices: list[dict[str, object]]) -> None:
        noted.append(len(choices))
        note(self, choices)

    monkeypatch.setattr(Said, "note", noting)
    relay = StreamRelay(strip_usage=True)
    runs = [b"".join(text("ab", number=10 * run + number) for number in range(4)) for run in range(3)]
    assert relay.feed(runs[0]) == runs[0]
    assert noted == [1]
    relay.feed(runs[1])
    assert noted == [1]
    relay.feed(text("ab", usage={"prompt_tokens": 1, "completion_tokens": 1}))
    relay.feed(runs[2])
    assert noted == [1, 1]
    assert (relay.events, relay.text.ascii) == (13, 26)
    two = frame({"choices": [{"index": 0, "delta": {"content": "ab", "refusal": "cd"}}]})
    for other, looks in ((text("é"), 2), (two, 2), (text("ab", 1), 6), (text("ab", finish="stop"), 6)):
        noted.clear()
        StreamRelay(strip_usage=True).feed(runs[0] + other + runs[1])
        assert len(noted) == looks


def test_a_frame_is_read_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of a run that was parsed none is cut out and parsed again: not the end marker's, and not the last one's."""
    cut: list[bytes] = []
    read = StreamRelay._frame

    def reading(self: StreamRelay, one: bytes) -> bytes:
        cut.append(one)
        return read(self, one)

    monkeypatch.setattr(StreamRelay, "_frame", reading)
    for run, frames in (
        ([text("a"), FINISH, DONE], [DONE[:-2]]),
        ([text("a"), USAGE], []),
        ([USAGE], []),
        ([text("a"), USAGE, text("b")], [USAGE[:-2], text("b")[:-2], b""]),
    ):
        cut.clear()
        StreamRelay(strip_usage=True).feed(b"".join(run))
        assert cut == frames


@pytest.mark.parametrize("numbers", [[1], [1, 2], [1, 2, 3]])
def test_what_is_learned_of_a_run_is_its_last_frame(monkeypatch: pytest.MonkeyPatch, numbers: list[int]) -> None:
    """Those that follow are most likely like it: the next one of its kind is known without being parsed."""
    parsed = counted(monkeypatch)
    relay = StreamRelay(strip_usage=True)
    relay.feed(b"".join(text("a", number=number) for number in numbers))
    relay.feed(text("b", number=numbers[-1]))
    assert parsed == [len(numbers)]
    relay.feed(text("b", number=0))
    assert parsed == [len(numbers), 1]


def learned(*frames: bytes) -> Likeness:
    """Give what was learned of the last frame."""
    likeness = Likeness(TextCount())
    for one in frames:
        likeness.learn(orjson.loads(one[6:]), one)
    return likeness


@pytest.mark.parametrize("name", ["content", "reasoning_content", "reasoning"])
def test_a_mould_is_what_is_around_the_text(name: str) -> None:
    """Whichever kind of text it is; frames with another piece of it are alike, and all of it is counted."""

    def of(said: str) -> bytes:
        return frame({"choices": [{"index": 0, "delta": {name: said}, "finish_reason": None}]})

    likeness = learned(of("a"))
    run = [of("bcd"), of("é"), of("\n"), of(""), of("漢字")]
    assert likeness.match(b"".join(run)) == len(b"".join(run))
    assert likeness.frames == 5
    assert (likeness._count.ascii, likeness._count.other) == (4, 8)
    start = len(run[0])
    assert likeness.match(b"".join(run[:2]), start) == len(b"".join(run[:2]))
    assert (likeness.frames, likeness._count.other) == (1, 10)


def test_a_text_completion_has_a_mould_too() -> None:
    """Its text stands in the choice itself."""

    def of(said: str) -> bytes:
        return frame({"choices": [{"index": 0, "text": said}]})

    assert learned(of("a")).match(of("b") + FINISH) == len(of("b"))


def test_a_frame_that_says_two_things_is_no_mould() -> None:
    """What is said beside the text would be counted once, and not again."""
    two = frame({"choices": [{"delta": {"content": "a", "reasoning": "b"}}]})
    likeness = learned(two)
    assert (likeness.match(two), likeness.tries) == (0, TRIES)
    for choice in (
        {"delta": {"content": "a", "tool_calls": [{"function": {"name": "a"}}]}},
        {"delta": {"content": "a"}, "text": "b"},
        {"delta": {"nobody-knows": "a"}},
        {"delta": {"content": "a"}, "finish_reason": "stop"},
    ):
        named = frame({"choices": [choice]})
        assert (learned(named).match(named), learned(named).tries) == (0, TRIES)
    for choices in ("x", [], [{"text": "a"}, {"text": "a"}], [7]):
        other = frame({"choices": choices})
        assert (learned(other).match(other), learned(other).tries) == (0, TRIES)
    plain = frame({"choices": [{"delta": {"role": "assistant", "content": "a", "refusal": None, "tool_calls": []}}]})
    assert learned(plain).match(plain) == len(plain)


def test_a_text_that_reads_like_something_else_is_no_mould() -> None:
    """Neither where it stands a second time, nor where it is what separates two others, nor our own mark."""
    for frame_ in (text("a", other="a"), text(",", tags=["x", "y"]), text(_MARK, other=_MARK)):
        likeness = learned(frame_)
        assert likeness.match(frame_) == 0
        assert likeness.match(frame_.replace(b'"a"]', b'"b"]')) == 0


def test_the_last_mould_counts() -> None:
    """One that is no mould takes the one before away once it was tried; what was not tried leaves it."""
    first, other = text("a"), text("a", 1)
    assert learned(first, other).match(first) == 0
    assert learned(first, other).match(other) == len(other)
    assert learned(first, FINISH).match(first) == len(first)
    assert learned(first, text("c")).match(first) == len(first)
    assert learned(text("a"), text("fox", model="fox")).match(first) == 0


def test_a_run_is_alike_as_far_as_it_goes() -> None:
    """Up to the first frame of another form, from where one begins; of more behind it nothing is known."""
    likeness, one = learned(text("a")), text("b")
    assert likeness.match(one * 3 + USAGE) == 3 * len(one)
    assert likeness.match(USAGE + one) == 0
    assert likeness.match(USAGE + one, len(USAGE)) == len(USAGE + one)
    assert likeness.match(one * 2 + USAGE + one, len(one * 2 + USAGE)) == len(one * 2 + USAGE + one)
    assert likeness.match(one + USAGE + one) == len(one)
    assert likeness.match(one + USAGE + one * 2) == 0
    assert Likeness(TextCount()).match(one) == 0
    assert likeness.match(one[:-2]) == 0


@pytest.mark.parametrize(
    ("texts", "counts"),
    [
        ([b"abc"], (3, 0)),
        ([b"ab", b"c", b""], (3, 0)),
        ([b""], (0, 0)),
        (["é".encode(), b"a"], (1, 2)),
        (["é".encode(), "漢".encode(), b""], (0, 5)),
        ([b"\\n"], (1, 0)),
        ([b"\\n", b"a", b"\\u00e9"], (2, 2)),
        ([b'\\"', b"a"], (2, 0)),
        ([b'\\"'], (1, 0)),
        ([b"\xc3"], None),
        ([b"\xc3", b"\xa9"], None),
        ([b"a", b'"'], None),
        ([b'"', b'"'], None),
        ([b'a","b', b'\\"'], None),
        ([b"\\", b"a"], None),
        ([b"a\\", b"b"], None),
        ([b"a", b"c\\", b',"d'], None),
        ([b"\n"], None),
        ([b"\x00", b"a"], None),
        ([b"\x1f"], None),
        ([b"\x20\x7f"], (2, 0)),
        ([b"\\ud83d"], None),
    ],
)
def test_insides_of_strings_are_counted_or_none(texts: list[bytes], counts: tuple[int, int] | None) -> None:
    """All of them or, when one is no inside of a string, nothing: two halves in two texts do not make one."""
    count = TextCount()
    assert add_insides(texts, count) == (counts is not None)
    assert (count.ascii, count.other) == (counts or (0, 0))
