"""The requests of a batch are cut out of a body in the same way however its bytes come."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from capstan_gateway.batches.json_array import MOST_AROUND, ArraySplitter, NotThatList, ObjectTooLong

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-9, 9) | st.text(st.sampled_from('a"\\{}[],:é\n '), max_size=9),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(st.sampled_from('a"\\{}[]'), max_size=3), inner)
    ),
    max_leaves=9,
)
OBJECTS = st.lists(st.dictionaries(st.text(max_size=4), VALUES, max_size=4), max_size=5)
SPACE = st.sampled_from(("", " ", "\n\t "))


def cut(body: bytes, size: int, *, most: int = 100_000) -> list[bytes]:
    """Cut a body that comes in pieces of this size."""
    splitter = ArraySplitter("requests", most_bytes=most)
    found = [one for at in range(0, len(body), size) for one in splitter.feed(body[at : at + size])]
    splitter.finish()
    return found


@given(objects=OBJECTS, size=st.integers(1, 40), space=SPACE, ascii_only=st.booleans())
def test_objects_are_cut_out_whole(objects: list[Any], size: int, space: str, ascii_only: bool) -> None:
    """Each object is given once, in order, byte by byte as it came, whatever stands in its texts."""
    written = [json.dumps(one, ensure_ascii=ascii_only) for one in objects]
    body = f'{space}{{{space}"requests"{space}:{space}[{space}' + f"{space},{space}".join(written)
    body += f"{space}]{space}}}{space}"
    assert cut(body.encode(), size) == [one.encode() for one in written]


@given(objects=OBJECTS, size=st.integers(1, 40), data=st.data())
def test_half_of_a_body_is_none(objects: list[Any], size: int, data: st.DataObject) -> None:
    """A body that breaks off is told to, wherever that is."""
    body = json.dumps({"requests": objects}).encode()
    with pytest.raises(NotThatList, match="`requests`"):
        cut(body[: data.draw(st.integers(0, len(body) - 1))], size)


@pytest.mark.parametrize("size", [1, 3, 1000])
@pytest.mark.parametrize(
    "body",
    [
        "[]", "{}", '{"requests": {}}', '{"others": []}', '{"requests": [1]}', '{"requests": ["a"]}',
        '{"requests": [{}] "a": 1}', '{"requests": [{},]}', '{"requests": [,{}]}', '{"requests": [{} {}]}',
        '{"requests": [{}], "model": "m"}', '{"requests": [{}]} more', '{"requests": [[{}]]}', "no JSON",
        '{"requests":' + " " * (2 * MOST_AROUND),
    ],
)  # fmt: skip
def test_another_document_is_none(body: str, size: int) -> None:
    """What is not an object with this list alone is refused."""
    with pytest.raises(NotThatList):
        cut(body.encode(), size)


@pytest.mark.parametrize("size", [1, 7, 1000])
def test_an_object_is_bounded(size: int) -> None:
    """One that is too long is told by its place, before all of it is held."""
    body = b'{"requests": [{"a": 1}, {"a": "' + b"x" * 500 + b'"}]}'
    assert len(cut(body, size, most=600)) == 2
    with pytest.raises(ObjectTooLong) as raised:
        cut(body, size, most=400)
    assert raised.value.number == 1
