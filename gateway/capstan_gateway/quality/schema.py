"""Whether a value has the form of a JSON schema, as far as structured outputs use them, and within a budget of steps.

`type`, `enum`, `const`, `properties`, `required`, `additionalProperties: false`, `items` and `anyOf` are looked at;
whatever else a schema says (references, patterns, numeric bounds) is taken for kept. So a value that does not fit is
certainly wrong, and one that fits is right as far as can be told cheaply.

Schemas are the clients': a small one can ask for work without an end (choices within choices, long lists of values for
each of many items). What is not decided within the budget could not be checked, and that is what is said.
"""

from collections.abc import Mapping, Sequence
from typing import Any, Final

MAX_STEPS: Final = 20_000
"""Steps for all that is checked of one answer: some ten milliseconds."""
MAX_DEPTH: Final = 32
CHEAP: Final = 8
"""How many values are looked at for one step where Python's own loops do it."""
_TYPES: Final[Mapping[str, tuple[type, ...]]] = {
    "object": (dict,),
    "array": (list,),
    "string": (str,),
    "number": (int, float),
    "integer": (int,),
    "boolean": (bool,),
    "null": (type(None),),
}


class _Exhausted(Exception):
    """No step is left, or the value is nested too deeply."""


class Steps:
    """The budget, and what was made of the schemas' lists of values."""

    __slots__ = ("_choices", "left")

    def __init__(self, most: int = MAX_STEPS) -> None:
        self.left = most
        self._choices: dict[int, tuple[Sequence[Any], frozenset[Any], list[Any]]] = {}
        """By the id of the list, which is kept beside it so that the id stays its own."""

    def take(self, count: int = 1) -> None:
        """Take so many steps; raises when there are not so many."""
        self.left -= count
        if self.left < 0:
            raise _Exhausted

    def choices(self, values: Sequence[Any]) -> tuple[frozenset[Any], list[Any]]:
        """Give the plain values of a list as a set, and the others. Each list is read once."""
        known = self._choices.get(id(values))
        if known is None:
            self.take(len(values) // CHEAP + 1)
            plain = frozenset(_key(value) for value in values if not isinstance(value, dict | list))
            known = values, plain, [value for value in values if isinstance(value, dict | list)]
            self._choices[id(values)] = known
        return known[1], known[2]


def fits(value: Any, schema: Any, steps: Steps | None = None) -> bool | None:
    """Say whether `value` has the form of `schema`; None when that could not be checked within the steps."""
    try:
        return _fits(value, schema, Steps() if steps is None else steps, 0)
    except _Exhausted:
        return None


def _fits(value: Any, schema: Any, steps: Steps, depth: int) -> bool:
    steps.take()
    if not isinstance(schema, dict):
        return schema is not False
    if depth > MAX_DEPTH:
        raise _Exhausted
    if "$ref" in schema:
        return True
    if not _has_type(value, schema.get("type"), steps):
        return False
    enum = schema.get("enum")
    if isinstance(enum, list) and not _is_one_of(value, enum, steps):
        return False
    if "const" in schema and not _equal(value, schema["const"], steps, 0):
        return False
    ways = schema.get("anyOf")
    if isinstance(ways, list) and ways and not any(_fits(value, way, steps, depth + 1) for way in ways):
        return False
    if isinstance(value, dict):
        return _object_fits(value, schema, steps, depth)
    if isinstance(value, list) and isinstance(schema.get("items"), dict):
        return all(_fits(item, schema["items"], steps, depth + 1) for item in value)
    return True


def _has_type(value: Any, wanted: Any, steps: Steps) -> bool:
    names = wanted if isinstance(wanted, list) else [wanted]
    steps.take(len(names) // CHEAP)
    known = [name for name in names if isinstance(name, str) and name in _TYPES]
    return not known or any(_is_a(value, name) for name in known)


def _is_a(value: Any, name: str) -> bool:
    if isinstance(value, bool):
        return name == "boolean"
    if isinstance(value, float) and name == "integer":
        return value.is_integer()
    return isinstance(value, _TYPES[name])


def _is_one_of(value: Any, enum: Sequence[Any], steps: Steps) -> bool:
    plain, others = steps.choices(enum)
    if not isinstance(value, dict | list):
        return _key(value) in plain
    return any(_equal(value, other, steps, 0) for other in others)


def _key(value: Any) -> Any:
    """A plain value such that only what is equal in JSON is equal: 1 is 1.0, and not true."""
    return (bool, value) if isinstance(value, bool) else value


def _equal(one: Any, other: Any, steps: Steps, depth: int) -> bool:
    steps.take()
    if depth > MAX_DEPTH:
        raise _Exhausted
    if isinstance(one, dict) and isinstance(other, dict):
        return len(one) == len(other) and all(
            name in other and _equal(part, other[name], steps, depth + 1) for name, part in one.items()
        )
    if isinstance(one, list) and isinstance(other, list):
        return len(one) == len(other) and all(
            _equal(part, another, steps, depth + 1) for part, another in zip(one, other, strict=True)
        )
    return not isinstance(one, dict | list) and not isinstance(other, dict | list) and _key(one) == _key(other)


def _object_fits(value: dict[str, Any], schema: Mapping[str, Any], steps: Steps, depth: int) -> bool:
    required, properties = schema.get("required"), schema.get("properties")
    properties = properties if isinstance(properties, dict) else {}
    if isinstance(required, list):
        steps.take(len(required) // CHEAP)
        if any(isinstance(name, str) and name not in value for name in required):
            return False
    steps.take(len(value) // CHEAP)
    if schema.get("additionalProperties") is False and not value.keys() <= properties.keys():
        return False
    return all(_fits(part, properties[name], steps, depth + 1) for name, part in value.items() if name in properties)
