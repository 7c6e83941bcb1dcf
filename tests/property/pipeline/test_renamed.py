"""A large body gets another model's name without being written anew, and says the same otherwise."""

import json
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from capstan_gateway.pipeline.outgoing import renamed_bytes

TEXT = st.one_of(
    st.text(max_size=6), st.sampled_from(["model", 'say "model', "model\\", "chat", '"model":"chat"', "é"])
)
VALUES = st.recursive(
    TEXT | st.integers() | st.none(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3),
    max_leaves=8,
)


@given(st.dictionaries(TEXT, VALUES, max_size=4), TEXT, TEXT, st.booleans(), st.sampled_from([None, 1]))
def test_only_the_name_changes(
    fields: dict[str, Any], known: str, name: str, ascii_only: bool, indent: int | None
) -> None:
    """What is given instead parses to the same document with the other name in it, or it is not given."""
    raw = json.dumps({**fields, "model": known}, ensure_ascii=ascii_only, indent=indent).encode()
    renamed = renamed_bytes(raw, known, name)
    if renamed is not None:
        assert orjson.loads(renamed) == {**orjson.loads(raw), "model": name}


@pytest.mark.parametrize(
    "raw",
    [
        b'{"model":"chat","model":"chat"}',
        b'{"mod\\u0065l":"chat","a":{"model":"chat"}}',
        b'{"model":"\\u0063hat"}',
        b'{"model":"chat","a":"say \\"model"}',
        b'{"model":"ch\\/at"}',
    ],
)
def test_what_could_be_meant_in_two_ways_is_left_alone(raw: bytes) -> None:
    """A name that stands twice, or may be written with escapes, is only changed by who parses the body."""
    assert renamed_bytes(raw, orjson.loads(raw)["model"], "new") is None


def test_an_ordinary_body_is_renamed() -> None:
    """It is found with any white space around it, and what stands around it stays as it came."""
    raw = b'{ "messages": [{"role": "user", "content": "the model"}], "model" :\t"chat" , "n":1.0}'
    wanted = b'{ "messages": [{"role": "user", "content": "the model"}], "model" :\t"a\\"b" , "n":1.0}'
    assert renamed_bytes(raw, "chat", 'a"b') == wanted
