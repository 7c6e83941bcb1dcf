"""Whether a gateway can use a JSON Schema of a guard of type Format.

As with expressions, what a gateway refuses is found here before, and a test holds the two together.
"""

from collections.abc import Iterator, Mapping
from typing import Any, Final

from capstan_operator.desired.expressions import expression_fault

MOST_DEPTH: Final = 64
REFUSED: Final = ("$dynamicRef", "$recursiveRef", "unevaluatedProperties", "unevaluatedItems")
_TYPES: Final = ("object", "array", "string", "number", "integer", "boolean", "null")
_SCHEMAS: Final = ("additionalProperties", "contains", "else", "if", "items", "not", "propertyNames", "then")
_LISTS: Final = ("allOf", "anyOf", "oneOf", "prefixItems")
_MAPS: Final = ("$defs", "definitions", "dependentSchemas", "patternProperties", "properties")
_NUMBERS: Final = (
    "exclusiveMaximum", "exclusiveMinimum", "maxContains", "maxItems", "maxLength", "maxProperties", "maximum",
    "minContains", "minItems", "minLength", "minProperties", "minimum", "multipleOf",
)  # fmt: skip


def schema_fault(document: Mapping[str, Any]) -> tuple[str, str] | None:
    """Give the first fault of a schema: its place, such as `.properties.a`, and what is wrong there; None for none."""
    return next(_faults(document, document, "", 0), None)


def _faults(root: Any, schema: Any, place: str, depth: int) -> Iterator[tuple[str, str]]:
    if isinstance(schema, bool):
        return
    if not isinstance(schema, dict):
        yield place, "must be an object or a boolean"
        return
    if depth > MOST_DEPTH:
        yield place, f"is nested more than {MOST_DEPTH} deep"
        return
    yield from ((f"{place}.{name}", "is not checked by gateways") for name in REFUSED if name in schema)
    yield from ((f"{place}.{name}", said) for name, said in _value_faults(root, schema))
    yield from _pattern_faults(schema, place)
    for name in _SCHEMAS:
        if name in schema:
            yield from _faults(root, schema[name], f"{place}.{name}", depth + 1)
    for name in _LISTS:
        ways = schema.get(name, [])
        if not isinstance(ways, list):
            yield f"{place}.{name}", "must be a list"
            continue
        for number, way in enumerate(ways):
            yield from _faults(root, way, f"{place}.{name}[{number}]", depth + 1)
    for name in _MAPS:
        parts = schema.get(name, {})
        if not isinstance(parts, dict):
            yield f"{place}.{name}", "must be an object"
            continue
        for part, inner in parts.items():
            yield from _faults(root, inner, f"{place}.{name}.{part}", depth + 1)


def _value_faults(root: Any, schema: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    for name in _NUMBERS:
        value = schema.get(name, 1)
        if isinstance(value, bool) or not isinstance(value, int | float) or (name == "multipleOf" and value <= 0):
            yield name, "must be a number above 0" if name == "multipleOf" else "must be a number"
    types = schema.get("type", [])
    if not all(isinstance(one, str) and one in _TYPES for one in (types if isinstance(types, list) else [types])):
        yield "type", f"must be of {', '.join(_TYPES)}"
    yield from ((name, "must be a list") for name in ("required", "enum") if not isinstance(schema.get(name, []), list))
    dependent = schema.get("dependentRequired", {})
    if not isinstance(dependent, dict) or not all(isinstance(names, list) for names in dependent.values()):
        yield "dependentRequired", "must be an object of lists"
    if "$ref" in schema and (said := _reference_fault(root, schema["$ref"])) is not None:
        yield "$ref", said


def _pattern_faults(schema: Mapping[str, Any], place: str) -> Iterator[tuple[str, str]]:
    patterns = [("pattern", schema["pattern"])] if "pattern" in schema else []
    inner = schema.get("patternProperties", {})
    patterns += [("patternProperties", pattern) for pattern in inner] if isinstance(inner, dict) else []
    for name, pattern in patterns:
        if not isinstance(pattern, str):
            yield f"{place}.{name}", "must be a string"
        elif (why := expression_fault(pattern, whole=True)) is not None:
            yield f"{place}.{name}", f"must be an expression in the syntax of RE2: {why}"


def _reference_fault(root: Any, reference: Any) -> str | None:
    """Say why `#/...` is none, or names nothing."""
    if not isinstance(reference, str) or not (reference == "#" or reference.startswith("#/")):
        return "must be within the schema, such as #/$defs/name"
    found = root
    for part in reference[2:].split("/") if reference != "#" else ():
        name = part.replace("~1", "/").replace("~0", "~")
        if isinstance(found, dict) and name in found:
            found = found[name]
        elif isinstance(found, list) and name.isdigit() and int(name) < len(found):
            found = found[int(name)]
        else:
            return "names nothing"
    return None
