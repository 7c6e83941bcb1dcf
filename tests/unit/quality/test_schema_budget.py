"""Schemas of clients cannot make the gateway work for long."""

from typing import Any

import jsonschema
import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from capstan_gateway.quality.checks import FINE, UNCHECKED, USELESS, check_answer
from capstan_gateway.quality.schema import MAX_STEPS, Steps, fits

LONG = list(range(1, 20_001))


def nested(depth: int, width: int) -> Any:
    """A schema of choices within choices, none of which fits."""
    schema: Any = {"const": "no"}
    for _ in range(depth):
        schema = {"anyOf": [schema] * width}
    return schema


def deep(depth: int) -> Any:
    """A list in a list in a list."""
    value: Any = 1
    for _ in range(depth):
        value = [value]
    return value


HARD: list[tuple[Any, Any]] = [
    ("yes", nested(20, 2)),
    ("yes", nested(8, 8)),
    ([0] * 500, {"items": {"anyOf": [{"enum": [[number] for number in LONG]}] * 3}}),
    ([[0, 1]] * 500, {"items": {"enum": [[0, number] for number in range(2, 2000)]}}),
    (
        [{"a": number} for number in range(500)],
        {"items": {"required": [f"x{n}" for n in LONG], "type": ["object"] * 9}},
    ),
    ([0] * 500, {"items": {"type": ["string", "integer"] * 5000}}),
    ([0] * 100_000, {"items": {"anyOf": [{"type": "integer"}]}}),
    (deep(900), {"const": deep(900)}),
    ([[0] * 1000] * 100, {"items": {"const": [0] * 1000}}),
]


@pytest.mark.parametrize(("value", "schema"), HARD)
def test_work_has_a_bound(value: Any, schema: Any) -> None:
    """Every kind of work takes steps; when none is left the answer is neither right nor wrong, at once."""
    steps = Steps()
    assert fits(value, schema, steps) in (None, False)
    assert steps.left > -20_000


@pytest.mark.parametrize("number", [0, 20_000])
def test_a_long_list_of_values_is_read_once(number: int) -> None:
    """However many items are compared to it: the list that would stall a gateway for a minute is checked to its end."""
    assert fits([number] * 500, {"type": "array", "items": {"enum": LONG}}) is (number in LONG)


def test_steps_are_for_all_of_an_answer() -> None:
    """Many choices, or many calls of tools, do not make many budgets."""
    steps = Steps()
    assert fits([0] * (MAX_STEPS - 10), {"items": {}}, steps)
    assert fits([0] * 100, {"items": {}}, steps) is None
    calls = [
        {"type": "function", "function": {"name": "f", "arguments": orjson.dumps({"a": [0] * 1000}).decode()}}
    ] * 30
    answer = {"choices": [{"finish_reason": "tool_calls", "message": {"content": None, "tool_calls": calls}}]}
    schema = {"properties": {"a": {"items": {"type": "integer"}}}}
    request = {"tools": [{"type": "function", "function": {"name": "f", "parameters": schema}}]}
    assert check_answer(answer, request) == UNCHECKED
    wrong = {"type": "function", "function": {"name": "g", "arguments": "{}"}}
    answer["choices"][0]["message"]["tool_calls"] = [*calls, wrong]  # type: ignore[index]
    assert check_answer(answer, request) == USELESS, "what is certainly wrong is wrong all the same"


def test_what_cannot_be_checked_is_said_to_be_that() -> None:
    """An answer whose schema asks for too much is neither good nor bad."""
    schema = {"type": "json_schema", "json_schema": {"name": "x", "schema": nested(20, 2)}}
    answer = {"choices": [{"finish_reason": "stop", "message": {"content": '"yes"'}}]}
    assert check_answer(answer, {"response_format": schema}) == UNCHECKED
    easy = {"type": "json_schema", "json_schema": {"name": "x", "schema": {"type": "string"}}}
    assert check_answer(answer, {"response_format": easy}) == FINE


@pytest.mark.parametrize(
    ("value", "schema"),
    [({}, {"required": [["a"], 5]}), ({}, {"type": [["a"], {}]}), (1, {"enum": [{}, [], None]}), ([], {"items": 5})],
)
def test_odd_schemas_end_nothing(value: Any, schema: Any) -> None:
    """A schema that is none is no bug of ours."""
    assert fits(value, schema) in (True, False)


_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-2, 2) | st.sampled_from(["", "a", "b"]) | st.sampled_from([0.5, 1.0]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from("ab"), inner, max_size=2),
    max_leaves=6,
)
_TYPES = st.sampled_from(["object", "array", "string", "number", "integer", "boolean", "null"])
_SCHEMAS = st.recursive(
    st.fixed_dictionaries(
        {}, optional={"type": _TYPES | st.lists(_TYPES, min_size=1, max_size=2, unique=True), "const": _VALUES,
                      "enum": st.lists(_VALUES, min_size=1, max_size=3)},
    ),
    lambda inner: st.fixed_dictionaries(
        {}, optional={"anyOf": st.lists(inner, min_size=1, max_size=3), "items": inner, "type": _TYPES,
                      "properties": st.dictionaries(st.sampled_from("ab"), inner, max_size=2),
                      "required": st.lists(st.sampled_from("ab"), max_size=2, unique=True),
                      "additionalProperties": st.just(False)},
    ),
    max_leaves=5,
)  # fmt: skip


@given(_VALUES, _SCHEMAS)
def test_it_agrees_with_a_whole_validator(value: Any, schema: Any) -> None:
    """As far as it looks: what it calls wrong is wrong, what it calls right is right."""
    assert fits(value, schema) is jsonschema.Draft202012Validator(schema).is_valid(value)
