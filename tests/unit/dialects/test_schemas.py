"""Schemas of tools, as Anthropic takes them."""

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from capstan_gateway.dialects.targets.schemas import fitting_schema

A, B = {"type": "string"}, {"type": "integer"}
BOTH = [{"properties": {"a": A}, "required": ["a"]}, {"properties": {"a": B, "b": B}, "required": ["a"]}]


@pytest.mark.parametrize(
    ("schema", "fit"),
    [
        (None, {"type": "object", "properties": {}}),
        ({}, {"type": "object", "properties": {}}),
        ({"properties": {"a": A}}, {"type": "object", "properties": {"a": A}}),
        ({"$schema": "x", "$id": "y", "type": "object"}, {"type": "object"}),
        (
            {"anyOf": BOTH},
            {"type": "object", "properties": {"a": A, "b": B}, "required": ["a"]},
        ),
        (
            {"type": "object", "properties": {"c": A}, "required": ["c"],
             "oneOf": [{"properties": {"a": A}, "required": ["a"]}, {"properties": {"b": B}, "required": ["b"]}]},
            {"type": "object", "properties": {"c": A, "a": A, "b": B}, "required": ["c"]},
        ),
        (
            {"allOf": [{"properties": {"a": A}, "required": ["a"]}, {"properties": {"b": B}, "required": ["b"]}]},
            {"type": "object", "properties": {"a": A, "b": B}, "required": ["a", "b"]},
        ),
        (
            {"$ref": "#/$defs/X", "$defs": {"X": {"type": "object", "properties": {"a": A}}}},
            {"type": "object", "properties": {"a": A}, "$defs": {"X": {"type": "object", "properties": {"a": A}}}},
        ),
        (
            {"anyOf": [{"$ref": "#/$defs/X"}, {"type": "null"}], "$defs": {"X": {"properties": {"a": A}}}},
            {"type": "object", "properties": {"a": A}, "$defs": {"X": {"properties": {"a": A}}}},
        ),
        ({"$ref": "#/$defs/none"}, {"type": "object"}),
        ({"$ref": "#/$defs/X", "$defs": {"X": {"$ref": "#/$defs/X"}}}, None),
    ],
)  # fmt: skip
def test_the_top_is_an_object(schema: Any, fit: Any) -> None:
    """Without alternatives, references and addresses of drafts, and with all properties."""
    found = fitting_schema(schema)
    assert found == fit if fit is not None else found["type"] == "object"


def test_what_fits_is_the_same_object() -> None:
    """A prompt cache sees the schema as it was; alternatives below the top are none of it."""
    schema = {"type": "object", "properties": {"a": {"anyOf": [A, B]}}, "$defs": {}}
    assert fitting_schema(schema) is schema


class _Read:
    """How many values were looked at."""

    values = 0


class Counted(dict[str, Any]):
    """An object that counts who reads it."""

    def __iter__(self) -> Iterator[str]:
        _Read.values += len(self)
        return super().__iter__()

    def keys(self) -> Any:
        """Count its names."""
        _Read.values += len(self)
        return super().keys()

    def items(self) -> Any:
        """Count its members."""
        _Read.values += len(self)
        return super().items()

    def get(self, key: str, default: Any = None) -> Any:
        """Count a look."""
        _Read.values += 1
        return super().get(key, default)


class CountedList(list[Any]):
    """A list that counts who reads it."""

    def __iter__(self) -> Iterator[Any]:
        _Read.values += len(self)
        return super().__iter__()


def wide(count: int) -> Any:
    """An object with so many properties, all of them required, and as many further keywords."""
    names = [f"p{number}" for number in range(count)]
    keywords = {f"x{number}": 1 for number in range(count)}
    return Counted({"properties": Counted.fromkeys(names, A), "required": CountedList(names), **keywords})


def many_to_one(count: int, name: str = "anyOf", **beside: Any) -> Any:
    """Many alternatives that all are the same."""
    one = wide(count)
    one["$ref"] = "#/$defs/a"
    alternatives = [Counted({"$ref": "#/$defs/a", **beside}) for _ in range(count)]
    return Counted({name: CountedList(alternatives), "$defs": Counted({"a": one})})


def many_through_chains(count: int) -> Any:
    """Many alternatives that come to the same by several references."""
    definitions = Counted({f"d{number}": Counted({"$ref": f"#/$defs/d{number + 1}"}) for number in range(6)})
    definitions["d6"] = wide(count)
    alternatives = [Counted({"$ref": f"#/$defs/d{number % 6}"}) for number in range(count)]
    return Counted({"$ref": "#/$defs/d0", "oneOf": CountedList(alternatives), "$defs": definitions})


def far_away(count: int) -> Any:
    """Many alternatives whose reference is a long one."""
    deep: Any = wide(1)
    for _ in range(count):
        deep = Counted({"a": deep})
    return Counted({"anyOf": CountedList([Counted({"$ref": "#/" + "a/" * count + "properties"})] * count), "a": deep})


@pytest.mark.parametrize(
    "make",
    [
        many_to_one,
        lambda count: many_to_one(count, "allOf", title="t"),
        lambda count: many_to_one(count, "oneOf", required=[]),
        many_through_chains,
        far_away,
    ],
)
def test_the_work_grows_with_the_schema_only(make: Callable[[int], Any]) -> None:
    """Of twice as large a schema twice as much is read: not each alternative times all that it refers to."""
    read = []
    for count in (200, 400):
        schema = make(count)
        _Read.values = 0
        fitting_schema(schema)
        read.append(_Read.values)
    assert read[1] < 2.5 * read[0]
    assert read[1] < 40 * 400


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=3),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["anyOf", "oneOf", "allOf", "$ref", "$defs", "properties", "required", "type", "a"]),
            inner | st.just("#/$defs/a"),
            max_size=4,
        )
    ),
    max_leaves=12,
)


@given(JSON)
def test_nothing_is_too_odd(schema: Any) -> None:
    """Whatever a client calls a schema, what goes out is an object without alternatives at its top."""
    found = fitting_schema(schema)
    assert found["type"] == "object"
    assert not {"anyOf", "oneOf", "allOf", "$ref"} & found.keys()
