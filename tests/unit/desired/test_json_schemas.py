"""What the operator takes for a JSON Schema is what a gateway takes for one."""

from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from capstan_gateway.guards.plain.schema import read_schema
from capstan_operator.desired.json_schemas import schema_fault
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


def gateway_takes(document: dict[str, Any]) -> bool:
    """Whether a gateway can use it."""
    try:
        read_schema(document)
    except ValueError:
        return False
    return True


@example({"patternProperties": 1})
@example({"type": [[]]})
@given(st.dictionaries(st.sampled_from(WORDS), VALUES, max_size=4))
def test_the_operator_takes_what_a_gateway_takes(document: dict[str, Any]) -> None:
    """Whatever is written as a schema, both sides can use it or neither."""
    assert (schema_fault(document) is None) == gateway_takes(document)


@pytest.mark.parametrize(
    ("schema", "field"),
    [
        ({"type": "objekt"}, ".type"),
        ({"properties": {"a": {"unevaluatedProperties": False}}}, ".properties.a.unevaluatedProperties"),
        ({"items": {"pattern": "("}}, ".items.pattern"),
        ({"$ref": "https://example.com/schema"}, ".$ref"),
    ],
)
def test_a_fault_of_a_schema_has_its_place(schema: dict[str, Any], field: str) -> None:
    """The policy says where its schema is wrong, and what was accepted last stays."""
    (fault,) = find_policy_faults(make_guards(output=[{"type": "Format", "jsonSchema": schema}]))
    assert fault.field == f"spec.output[0].jsonSchema{field}"
    assert find_policy_faults(make_guards(output=[{"type": "Format", "jsonSchema": {"type": "object"}}])) == ()
