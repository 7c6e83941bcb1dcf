"""Our reading of JSON Schema is that of the reference implementation in Python."""

from typing import Any

import jsonschema
from hypothesis import given
from hypothesis import strategies as st

from capstan_gateway.guards.plain.schema import read_schema

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-3, 3) | st.sampled_from([0.5, 1.0, 2.5]) | st.sampled_from(["", "a", "ab", "b1"]),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.sampled_from("abc"), inner, max_size=3),
    max_leaves=8,
)  # fmt: skip
_COUNTS = st.integers(0, 3)
_NAMES = st.lists(st.sampled_from("abc"), max_size=2)
_LEAVES: dict[str, st.SearchStrategy[Any]] = {
    "type": st.sampled_from(["object", "array", "string", "number", "integer", "boolean", "null"]) | st.just(["string", "integer"]),
    "enum": st.lists(VALUES, min_size=1, max_size=3), "const": VALUES, "minimum": st.integers(-2, 2), "maximum": st.integers(-2, 2),
    "exclusiveMinimum": st.integers(-2, 2), "exclusiveMaximum": st.integers(-2, 2), "multipleOf": st.sampled_from([1, 2, 0.5]),
    "minLength": _COUNTS, "maxLength": _COUNTS, "pattern": st.sampled_from(["^a", "b$", "[0-9]"]), "minItems": _COUNTS, "maxItems": _COUNTS,
    "uniqueItems": st.booleans(), "required": _NAMES, "minProperties": _COUNTS, "maxProperties": _COUNTS,
    "dependentRequired": st.dictionaries(st.sampled_from("abc"), _NAMES, max_size=2),
}  # fmt: skip


def _larger(inner: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    named = st.dictionaries(st.sampled_from("abc"), inner, max_size=2)
    ways = st.lists(inner, min_size=1, max_size=3)
    return st.fixed_dictionaries(
        {},
        optional={
            **_LEAVES, "properties": named, "additionalProperties": inner, "patternProperties": st.dictionaries(st.sampled_from(["^a", "c"]), inner, max_size=1),
            "propertyNames": inner, "items": inner, "prefixItems": ways, "contains": inner, "minContains": _COUNTS, "maxContains": _COUNTS,
            "anyOf": ways, "allOf": ways, "oneOf": ways, "not": inner, "if": inner, "then": inner, "else": inner,
            "dependentSchemas": named, "$ref": st.just("#/$defs/one"),
        },
    ).map(_few)  # fmt: skip


def _few(schema: dict[str, Any]) -> dict[str, Any]:
    """Leave six keywords: with all of them nothing fits."""
    return dict(list(schema.items())[:: max(1, len(schema) // 6)])


SCHEMAS = st.recursive(
    st.booleans() | st.fixed_dictionaries({}, optional=_LEAVES).map(_few), _larger, max_leaves=6
).map(lambda one: {**one, "$defs": {"one": {"type": ["integer", "array", "object"]}}} if isinstance(one, dict) else one)  # fmt: skip


@given(SCHEMAS, VALUES)
def test_the_same_fits_as_by_the_reference(schema: Any, value: Any) -> None:
    """For schemas of all keywords that are checked, both say the same of any value."""
    wanted = jsonschema.Draft202012Validator(schema).is_valid(value)
    assert (read_schema(schema).fault(value) is None) == wanted
