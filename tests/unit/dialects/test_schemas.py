"""Schemas of tools, as Anthropic takes them."""

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
