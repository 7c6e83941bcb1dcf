"""A JSON value that fits a JSON schema, for `response_format` and for the arguments of a tool call.

It covers what people put into such schemas: types, properties, items, enum, const, bounds, anyOf, oneOf, allOf, $ref
within the schema. What it does not know (patterns, conditions) it ignores.
"""

import random
from collections.abc import Mapping
from typing import Any, Final

from capstan_worker.simulator.errors import ApiError

Json = Any
_DEEPEST = 12
_MOST_VALUES: Final = 10_000
_LONGEST_TEXT: Final = 100_000
_FORMATS = {
    "date-time": "2026-01-01T00:00:00Z",
    "date": "2026-01-01",
    "time": "00:00:00Z",
    "email": "simulated@example.com",
    "uri": "https://example.com/simulated",
    "uuid": "00000000-0000-4000-8000-000000000000",
    "ipv4": "192.0.2.1",
}


class _Draws(random.Random):
    """What an example is drawn from, and how many values it may still have."""

    left = _MOST_VALUES


def example(schema: Mapping[str, Json], seed: int) -> Json:
    """Make a value that the schema allows, the same for the same seed. Raises ApiError for what is no schema."""
    try:
        return _value(schema, schema, _Draws(seed), 0)
    except (AttributeError, IndexError, KeyError, OverflowError, RecursionError, TypeError, ValueError) as error:
        raise ApiError(400, "Invalid JSON schema: the simulator cannot make an example of it") from error


def _value(schema: Json, root: Mapping[str, Json], rng: _Draws, depth: int) -> Json:
    rng.left -= 1
    if rng.left < 0:
        raise ApiError(400, f"Invalid JSON schema: its values have more than {_MOST_VALUES} parts")
    if not isinstance(schema, Mapping) or depth > _DEEPEST:
        return "simulated" if depth <= _DEEPEST else None
    schema = _resolve(schema, root)
    if "const" in schema:
        return schema["const"]
    if schema.get("enum"):
        return rng.choice(schema["enum"])
    for key in ("anyOf", "oneOf"):
        if schema.get(key):
            options = schema[key]
            # Deep down the option without further nesting ends a recursive schema.
            chosen = options[-1] if depth > _DEEPEST // 2 else options[0]
            return _value(chosen, root, rng, depth + 1)
    return _of_type(_type_of(schema), schema, root, rng, depth)


def _resolve(schema: Mapping[str, Json], root: Mapping[str, Json]) -> Mapping[str, Json]:
    for _ in range(_DEEPEST):
        reference = schema.get("$ref")
        if not isinstance(reference, str) or not reference.startswith("#"):
            break
        target: Json = root
        for part in reference.lstrip("#/").split("/"):
            if part:
                target = target.get(part, {}) if isinstance(target, Mapping) else {}
        schema = target if isinstance(target, Mapping) else {}
    merged = dict(schema)
    for option in schema.get("allOf", ()):
        addition = _resolve(option, root)
        properties = {**merged.get("properties", {}), **addition.get("properties", {})}
        required = [*merged.get("required", []), *addition.get("required", [])]
        merged.update(addition)
        if properties:
            merged["properties"] = properties
        if required:
            merged["required"] = required
    return merged


def _type_of(schema: Mapping[str, Json]) -> str:
    kind = schema.get("type")
    if isinstance(kind, list):
        kind = next((item for item in kind if item != "null"), "null")
    if isinstance(kind, str):
        return kind
    if "properties" in schema:
        return "object"
    return "array" if "items" in schema else "string"


def _of_type(kind: str, schema: Mapping[str, Json], root: Mapping[str, Json], rng: _Draws, depth: int) -> Json:
    if kind == "object":
        required = set(schema.get("required", ()))
        names = schema.get("properties", {})
        # Deep down only what is required, so that a recursive schema comes to an end.
        wanted = [name for name in names if name in required or depth < _DEEPEST // 2]
        return {name: _value(names[name], root, rng, depth + 1) for name in wanted}
    if kind == "array":
        number = max(int(schema.get("minItems", 1 if depth < _DEEPEST // 2 else 0)), 0)
        number = min(number, int(schema.get("maxItems", number)))
        return [_value(schema.get("items", {}), root, rng, depth + 1) for _ in range(number)]
    if kind == "integer":
        return _integer(schema, rng)
    if kind == "number":
        return float(_integer(schema, rng)) if not _narrow(schema) else float(schema.get("minimum", 0))
    if kind == "boolean":
        return bool(rng.getrandbits(1))
    return None if kind == "null" else _string(schema)


def _narrow(schema: Mapping[str, Json]) -> bool:
    return "minimum" in schema and "maximum" in schema and schema["maximum"] - schema["minimum"] < 1


def _integer(schema: Mapping[str, Json], rng: _Draws) -> int:
    low = schema.get("minimum", schema.get("exclusiveMinimum"))
    high = schema.get("maximum", schema.get("exclusiveMaximum"))
    if low is None and high is None:
        low, high = 0, 100
    low = high - 100 if low is None else low + (1 if "exclusiveMinimum" in schema else 0)
    high = low + 100 if high is None else high - (1 if "exclusiveMaximum" in schema else 0)
    step = int(schema.get("multipleOf", 1)) or 1
    first = -(-int(-(-low // 1)) // step) * step
    last = int(high // step) * step
    return first if last <= first else first + step * rng.randint(0, (last - first) // step)


def _string(schema: Mapping[str, Json]) -> str:
    text = _FORMATS.get(str(schema.get("format")), "simulated")
    least, most = int(schema.get("minLength", 0)), schema.get("maxLength")
    if least > _LONGEST_TEXT:
        raise ApiError(400, f"Invalid JSON schema: minLength is above {_LONGEST_TEXT}")
    if len(text) < least:
        text = (text + "." * least)[:least]
    return text[: int(most)] if most is not None else text
