"""Arguments of calls, cut anywhere: they come out as they went in, on every route."""

from typing import Any

import orjson
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from capstan_gateway.dialects.clients.presented import PresentedRelay
from capstan_gateway.dialects.clients.spoken import MESSAGES, RESPONSES
from capstan_gateway.streaming.asked import Asked
from capstan_gateway.streaming.json_so_far import JsonSoFar
from capstan_gateway.streaming.relay import StreamRelay
from support.dialects import frames, read_messages, read_responses

Document = dict[str, Any]
ROUTES = ("chat", "messages", "responses")
DIALECTS = {"messages": MESSAGES, "responses": RESPONSES}
STYLES = ("standard", "without an index", "index 0", "id and name again")
LEAVES = st.sampled_from([1, None, True, -2.5, "a", "{", "}", '"', "\\", 'a":{', '{"a":', "é", ": 1}", ",", "]"])
NAMES = st.sampled_from(["a", "b", "", ": 1", ",", "{", '{"a'])
VALUES = st.recursive(
    LEAVES, lambda one: st.dictionaries(NAMES, one, max_size=2) | st.lists(one, max_size=3), max_leaves=8
)


@st.composite
def like_themselves(draw: st.DrawFn) -> Any:
    """Objects within objects of the same form, as filters and trees are."""
    value, name = draw(VALUES), draw(NAMES)
    for _ in range(draw(st.integers(1, 4))):
        value = draw(st.sampled_from([{name: value}, {name: [value]}, {"x": 1, name: value}, {name: [value, value]}]))
    return value


def _text(value: Any, spaces: bool) -> str:
    written = orjson.dumps(value).decode() if not spaces else orjson.dumps(value, option=orjson.OPT_INDENT_2).decode()
    return written.replace("\n", " ") if spaces else written


OBJECTS = st.builds(_text, like_themselves() | st.dictionaries(NAMES, VALUES, max_size=3), st.booleans())


@st.composite
def cut(draw: st.DrawFn, text: str) -> list[str]:
    """A text in pieces, cut at places that make a piece look like the beginning as well."""
    alike = [at for at in range(1, len(text)) if text[at] == "{"]
    anywhere = st.integers(1, max(1, len(text) - 1))
    places = draw(st.lists((st.sampled_from(alike) if alike else anywhere) | anywhere, max_size=6))
    ends = sorted({min(place, len(text)) for place in places} | {len(text)})
    return [text[start:end] for start, end in zip([0, *ends[:-1]], ends, strict=True)]


@st.composite
def answers(draw: st.DrawFn) -> tuple[list[str], list[Document]]:
    """The arguments of some calls, and the pieces in which an engine sends them."""
    style = draw(st.sampled_from(STYLES))
    texts = draw(st.lists(OBJECTS, min_size=1, max_size=3))
    each = []
    for place, text in enumerate(texts):
        pieces = []
        for at, part in enumerate(draw(cut(text))):
            piece: Document = {"function": {"arguments": part}}
            if style != "without an index":
                piece["index"] = 0 if style == "index 0" else place
            if at == 0 or style == "id and name again":
                piece["id"], piece["function"]["name"] = f"c{place}", "f"
            pieces.append(piece)
        each.append(pieces)
    if style in ("standard", "id and name again") and draw(st.booleans()):
        turns = draw(st.permutations([place for place, pieces in enumerate(each) for _ in pieces]))
        left = [iter(pieces) for pieces in each]
        return texts, [next(left[place]) for place in turns]
    return texts, [piece for pieces in each for piece in pieces]


def streamed(route: str, pieces: list[Document]) -> list[tuple[str, str, Any]]:
    """Id, name and arguments of the calls that a client puts together."""
    request = {"model": "m", "messages": [], "tools": [{"type": "function", "function": {"name": "f"}}]}
    relay: Any = StreamRelay(strip_usage=False, asked=Asked(request, chat=True, client_reads_chat=route == "chat"))
    if route != "chat":
        relay = PresentedRelay(relay, DIALECTS[route].presenter({"model": "m"}))
    choices: list[Document] = [
        {"index": 0, "delta": {"tool_calls": [piece]}, "finish_reason": None} for piece in pieces
    ]
    choices.append({"index": 0, "delta": {}, "finish_reason": "tool_calls"})
    chunks = [b"data: " + orjson.dumps({"id": "c", "model": "m", "choices": [choice]}) + b"\n\n" for choice in choices]
    out = b"".join(relay.feed(chunk) for chunk in [*chunks, b"data: [DONE]\n\n"])
    assert route != "chat" or relay.kept == 0
    if route == "messages":
        return [(one["id"], one["name"], one["input"]) for one in read_messages(out)["content"]]
    if route == "responses":
        return [(one["call_id"], one["name"], one["arguments"]) for one in read_responses(out)["output"]]
    calls: dict[int, list[str]] = {}
    for _, chunk in frames(out):
        for piece in chunk["choices"][0]["delta"].get("tool_calls") or ():
            call = calls.setdefault(piece["index"], [piece.get("id", ""), piece["function"].get("name", ""), ""])
            call[2] += piece["function"]["arguments"]
    return [(calls[place][0], calls[place][1], calls[place][2]) for place in sorted(calls)]


def _pieces(*parts: str) -> tuple[list[str], list[Document]]:
    first: Document = {"index": 0, "id": "c0", "function": {"name": "f", "arguments": parts[0]}}
    others: list[Document] = [{"index": 0, "function": {"arguments": part}} for part in parts[1:]]
    return ["".join(parts)], [first, *others]


@example(_pieces('{"node":', '{"node":1}}'))
@example(_pieces('{"and":[', '{"and":[1]}', "]}"))
@example(_pieces('{"a": {"b": 1}, "x":', '{"a": {"b": 1}, "x":2}}'))
@example(_pieces('{"a":', '{"a":', '{"a":', "{}", "}}}"))
@example(_pieces('{"', '{": 1}'))
@given(answers())
def test_arguments_come_out_as_they_went_in(made: tuple[list[str], list[Document]]) -> None:
    """Any JSON object in any pieces, though a piece may begin with all that came before, on every route."""
    texts, pieces = made
    for route in ROUTES:
        calls = sorted(streamed(route, pieces))
        wanted = [orjson.loads(text) if route == "messages" else text for text in texts]
        assert calls == [(f"c{place}", "f", one) for place, one in enumerate(wanted)]


@given(OBJECTS, st.data())
def test_what_may_become_json_in_any_pieces(text: str, data: st.DataObject) -> None:
    """Every beginning of a document is one, and only the whole is complete."""
    document = JsonSoFar()
    parts = data.draw(cut(text))
    for at, part in enumerate(parts):
        assert document.copy().feed(part)
        assert document.feed(part)
        assert document.complete is (at == len(parts) - 1)
    assert not document.feed("{")


@pytest.mark.parametrize(
    "text",
    [
        "{{", '{"a"{', '{"a":1,{', '{"a":1{', '{"a":1 2', '{"a":}', "[1,]", "{,", "[}", "{]", "}", '{"a"1', "1:", ",",
        '{"a","b"', "{1", '{"a":"b""', "[" * 1025,
    ],
)  # fmt: skip
def test_what_no_document_begins_with(text: str) -> None:
    """Brackets, commas and colons out of place, and more depth than parsers take."""
    assert not JsonSoFar().feed(text)


@pytest.mark.parametrize("parts", [["1", "2"], ["tr", "ue"], ['"a\\', '"b"'], ["[1,", "2]", " "], ["-1.", "5e3"]])
def test_what_may_be_cut_in_two(parts: list[str]) -> None:
    """Words and escapes."""
    document = JsonSoFar()
    assert all(document.feed(part) for part in parts)
