"""Whatever a request says, and wherever it says it, is looked at, and can be put back changed."""

import copy
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from capstan_gateway.pipeline.guards.pieces import pieces_of, with_texts
from capstan_gateway.pipeline.guards.vocabulary import ADDRESSES, DATA, NAMES

MARK = "zq marked? zq"
Document = dict[str, Any]

CHAT: Document = {
    "model": "m",
    "messages": [
        {"role": "system", "content": "be nice", "name": "boss"},
        {"role": "developer", "content": [{"type": "text", "text": "be short"}]},
        {
            "role": "user",
            "content": [
                {"type": "text", "text": "hello"},
                {"type": "image_url", "image_url": {"url": "https://example.org/a.png", "detail": "low"}},
                {"type": "image_url", "image_url": {"url": "data:image/png;base64,iVBORw0KGgo="}},
                {"type": "input_audio", "input_audio": {"data": "UklGRg==", "format": "wav"}},
                {"type": "file", "file": {"filename": "a.txt", "file_data": "data:text/plain;base64,aGVsbG8="}},
                {"type": "video_url", "video_url": "https://example.org/v"},
            ],
        },
        {
            "role": "assistant", "content": None, "reasoning_content": "let me see", "refusal": "no",
            "tool_calls": [{"id": "c1", "type": "function", "function": {"name": "f", "arguments": '{"a": "b"}'}}],
            "audio": {"id": "a1"}, "function_call": {"name": "g", "arguments": "{}"},
        },
        {"role": "tool", "tool_call_id": "c1", "content": "found it"},
        {"role": "function", "name": "g", "content": "found it"},
        {"role": "critic", "content": "hm"},
    ],
    "tools": [
        {
            "type": "function",
            "function": {
                "name": "f", "description": "does it",
                "parameters": {
                    "type": "object",
                    "properties": {"city": {"type": "string", "enum": ["a b"], "description": "where"}},
                },
            },
        },
        {"type": "custom", "custom": {"name": "h", "format": {"type": "grammar", "grammar": {"definition": "x"}}}},
    ],
    "functions": [{"name": "g", "description": "old"}],
    "response_format": {"type": "json_schema", "json_schema": {"name": "n", "schema": {"title": "t", "q": [["deep"]]}}},
    "documents": [{"title": "t", "text": "retrieved"}],
    "prediction": {"type": "content", "content": "x"},
    "chat_template": "{{ x }}", "chat_template_kwargs": {"mood": "good"}, "user": "u", "stop": ["end"],
    "metadata": {"k": "v"}, "guided_regex": "a+", "unknown": {"more": ["x", {"y": "z"}]}, "temperature": 0.5,
}  # fmt: skip
REQUESTS: list[Document] = [
    CHAT,
    {"model": "m", "prompt": "once", "suffix": "end", "stop": "x"},
    {"model": "m", "prompt": ["once", "twice"]},
    {"model": "m", "input": "once", "user": "u"},
    {"model": "m", "input": ["once", "twice"], "dimensions": 3},
    {"model": "m", "input": [{"text": "a"}, {"image": "https://example.org/b.png"}]},
    {"model": "m", "query": "q", "documents": ["a", {"text": "b"}], "top_n": 2, "instruction": "i"},
    {"model": "m", "text_1": "q", "text_2": ["a", "b"]},
    {"model": "m", "queries": ["q"], "documents": [{"content": [{"type": "text", "text": "c"}]}]},
]


def places(value: Any, at: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Give every place of a text, and of a name (with None behind it)."""
    if isinstance(value, str):
        return [at]
    if isinstance(value, list):
        return [place for n, one in enumerate(value) for place in places(one, (*at, n))]
    if isinstance(value, dict):
        found = [(*at, name, None) for name in value]
        return found + [place for name, one in value.items() for place in places(one, (*at, name))]
    return []


def planted(document: Document, place: tuple[Any, ...], *, instead: bool) -> Document:
    """Give the request with the mark there: behind the text that is there, or in its place."""
    document = copy.deepcopy(document)
    holder: Any = document
    is_name = place[-1] is None
    *way, last = place[:-1] if is_name else place
    for step in way:
        holder = holder[step]
    if is_name:
        holder[f"{last} {MARK}"] = holder.pop(last)
    else:
        holder[last] = MARK if instead else f"{holder[last]} {MARK}"
    return document


JSON = st.recursive(
    st.text(max_size=8) | st.integers() | st.booleans() | st.none(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)
FIELDS = st.sampled_from(sorted(NAMES | DATA | ADDRESSES)) | st.text(min_size=1, max_size=6)


@settings(max_examples=300)
@given(
    st.sampled_from(REQUESTS), st.dictionaries(FIELDS, JSON, max_size=3), st.booleans(), st.data()
)  # fmt: skip
def test_every_text_is_seen(document: Document, more: Document, instead: bool, data: st.DataObject) -> None:
    """A mark at any place of a request, in a text or a name, is in a piece, whatever the name of the place is."""
    document = {**more, **document}
    place = data.draw(st.sampled_from([one for one in places(document) if one != ("model",)]))
    if place[:2] == ("model", None):
        return
    found = pieces_of(planted(document, place, instead=instead))
    assert any(MARK in piece.text for piece in found.texts)


@given(st.sampled_from(REQUESTS), st.dictionaries(FIELDS, JSON, max_size=3))
def test_a_text_is_put_back_where_it_was(document: Document, more: Document) -> None:
    """Every text that can be replaced is replaced there, all others stay, and the document that was given stays too."""
    document = {**more, **document}
    before = copy.deepcopy(document)
    pieces = [piece for piece in pieces_of(document).texts if piece.is_written and not piece.fixed]
    written = with_texts(document, [(piece.place, f"<{n}>") for n, piece in enumerate(pieces)])
    assert document == before
    for number, piece in enumerate(pieces):
        value: Any = written
        for step in piece.place.steps():
            value = value[step]
        assert value == f"<{number}>"
    again = with_texts(written, [(piece.place, piece.text) for piece in pieces])
    assert again == with_texts(document, [(piece.place, piece.text) for piece in pieces])  # Of numbers, their texts.
    texts = [(piece.place, piece.text) for piece in pieces if not piece.text.isdigit()]
    assert with_texts(document, texts) == document


@given(st.integers(0, 20_000))
def test_depth_is_no_trouble(depth: int) -> None:
    """However deep a text is, it is found and replaced."""
    value: Any = "deep"
    for _ in range(depth):
        value = [value]
    document = {"model": "m", "unknown": value}
    (_, piece) = pieces_of(document).texts
    found: Any = with_texts(document, [(piece.place, "x")])["unknown"]
    while isinstance(found, list):
        (found,) = found
    assert found == "x"
