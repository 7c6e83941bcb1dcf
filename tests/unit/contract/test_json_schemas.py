"""Which JSON Schemas of guards can be used: what has a fault no gateway reads, and it reads everything else."""

from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from capstan_contract.json_schemas import MOST_DEPTH, schema_fault
from capstan_gateway.guards.plain.schema import read_schema
from capstan_operator.desired.policy_kinds import find_policy_faults
from support.plainpolicies import make_guards

WORDS = [
    *("type", "properties", "items", "required", "enum", "$ref", "$defs", "anyOf", "prefixItems", "pattern", "not"),
    *(
        "patternProperties",
        "multipleOf",
        "minimum",
        "dependentRequired",
        "unevaluatedItems",
        "if",
        "additionalProperties",
    ),
]
VALUES = st.recursive(
    st.sampled_from(["object", "string", "#", "#/$defs/a", "#/nothing", "(", "a+", 1, 0, -1.5, True, None, [], {}])
    | st.lists(st.sampled_from(["string", "a"]), max_size=2),
    lambda inner: st.dictionaries(st.sampled_from([*WORDS, "a"]), inner, max_size=3) | st.lists(inner, max_size=2),
    max_leaves=8,
)


@example({"patternProperties": 1})
@example({"type": [[]]})
@example({"$ref": "#/anyOf/\u00b2", "anyOf": [{}]})
@example({"$ref": "#/anyOf/" + "1" * 5000, "anyOf": [{}]})
@given(st.dictionaries(st.sampled_from(WORDS), VALUES, max_size=4))
def test_a_gateway_reads_what_has_no_fault(document: dict[str, Any]) -> None:
    """Whatever is written as a schema, it has a fault that says where, or values can be looked at by it."""
    fault = schema_fault(document)
    if fault is None:
        read_schema(document)
        return
    assert fault[0] == "" or fault[0].startswith(".")
    with pytest.raises(ValueError, match=r"^`schema"):
        read_schema(document)


def test_a_schema_is_bounded_in_depth() -> None:
    """However deep it is nested, it is read without recursion beyond that."""

    def nested(depth: int) -> dict[str, Any]:
        schema: dict[str, Any] = {}
        for _ in range(depth):
            schema = {"not": schema}
        return schema

    assert schema_fault(nested(MOST_DEPTH)) is None
    assert schema_fault(nested(50 * MOST_DEPTH)) == (".not" * (MOST_DEPTH + 1), "is nested more than 64 deep")


@pytest.mark.parametrize(
    ("schema", "field"),
    [
        ({"type": "objekt"}, ".type"),
        ({"properties": {"a": {"unevaluatedProperties": False}}}, ".properties.a.unevaluatedProperties"),
        ({"items": {"pattern": "("}}, ".items.pattern"),
        ({"$ref": "https://example.com/schema"}, ".$ref"),
        ({"anyOf": [{}, {"$ref": "#/anyOf/\u00b2"}]}, ".anyOf[1].$ref"),
        ({"properties": {"a": {"pattern": r"(?=a)"}}}, ".properties.a.pattern"),
    ],
)
def test_a_fault_of_a_schema_has_its_place(schema: dict[str, Any], field: str) -> None:
    """The policy says where its schema is wrong, and what was accepted last stays."""
    (fault,) = find_policy_faults(make_guards(output=[{"type": "Format", "jsonSchema": schema}]))
    assert fault.field == f"spec.output[0].jsonSchema{field}"
    assert find_policy_faults(make_guards(output=[{"type": "Format", "jsonSchema": {"type": "object"}}])) == ()
