"""Which JSON Schemas (draft 2020-12) of guards can be used: what they may assert, and how they are gone through.

As of expressions, the operator and the gateway ask the same: what one takes, the other does.
"""

import re
from collections.abc import Iterator, Mapping
from typing import Any, Final

from capstan_contract.expressions import expression_fault

MOST_DEPTH: Final = 64
REFUSED: Final = ("$dynamicRef", "$recursiveRef", "unevaluatedProperties", "unevaluatedItems")
"""Keywords that assert something and are not looked at; all other ones are, or are annotations in the draft too."""
_TYPES: Final = ("object", "array", "string", "number", "integer", "boolean", "null")
_SCHEMAS: Final = ("additionalProperties", "contains", "else", "if", "items", "not", "propertyNames", "then")
_LISTS: Final = ("allOf", "anyOf", "oneOf", "prefixItems")
_MAPS: Final = ("$defs", "definitions", "dependentSchemas", "patternProperties", "properties")
_NUMBERS: Final = (
    "exclusiveMaximum", "exclusiveMinimum", "maxContains", "maxItems", "maxLength", "maxProperties", "maximum",
    "minContains", "minItems", "minLength", "minProperties", "minimum", "multipleOf",
)  # fmt: skip
_INDEX: Final = re.compile("[0-9]{1,9}")
Fault = tuple[str, str]
"""A place, such as `.properties.a`, and what is wrong there."""


def schema_fault(document: Any) -> Fault | None:
    """Give the first fault of a schema; None for none."""
    return next(_faults(document, document, "", 0), None)


def patterns_of(document: Any) -> Iterator[str]:
    """Give the expressions of a schema without a fault; each is to match a whole text."""
    if isinstance(document, dict):
        if "pattern" in document:
            yield document["pattern"]
        yield from document.get("patternProperties", {})
        for _, inner in _inner(document):
            yield from patterns_of(inner)


def resolve(root: Any, reference: str) -> Any:
    """Give the schema that `#/...` names. Raises LookupError."""
    found = root
    for part in reference[2:].split("/") if reference != "#" else ():
        name = part.replace("~1", "/").replace("~0", "~")
        if isinstance(found, dict) and name in found:
            found = found[name]
        elif isinstance(found, list) and _INDEX.fullmatch(name) and int(name) < len(found):
            found = found[int(name)]
        else:
            raise LookupError(reference)
    return found


def _faults(root: Any, schema: Any, place: str, depth: int) -> Iterator[Fault]:
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
    yield from ((f"{place}.{name}", said) for name, said in _pattern_faults(schema))
    for name in _LISTS:
        if not isinstance(schema.get(name, []), list):
            yield f"{place}.{name}", "must be a list"
            return
    for name in _MAPS:
        if not isinstance(schema.get(name, {}), dict):
            yield f"{place}.{name}", "must be an object"
            return
    for name, inner in _inner(schema):
        yield from _faults(root, inner, f"{place}.{name}", depth + 1)


def _inner(schema: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    """Give the schemas that one is made of, and their places in it."""
    for name in _SCHEMAS:
        if name in schema:
            yield name, schema[name]
    for name in _LISTS:
        yield from ((f"{name}[{number}]", way) for number, way in enumerate(schema.get(name, ())))
    for name in _MAPS:
        yield from ((f"{name}.{part}", inner) for part, inner in schema.get(name, {}).items())


def _value_faults(root: Any, schema: Mapping[str, Any]) -> Iterator[Fault]:
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


def _pattern_faults(schema: Mapping[str, Any]) -> Iterator[Fault]:
    patterns = [("pattern", schema["pattern"])] if "pattern" in schema else []
    inner = schema.get("patternProperties", {})
    patterns += [("patternProperties", pattern) for pattern in inner] if isinstance(inner, dict) else []
    for name, pattern in patterns:
        if not isinstance(pattern, str):
            yield name, "must be a string"
        elif (why := expression_fault(pattern, whole=True)) is not None:
            yield name, f"must be an expression that guards can use: {why}"


def _reference_fault(root: Any, reference: Any) -> str | None:
    if not isinstance(reference, str) or not (reference == "#" or reference.startswith("#/")):
        return "must be within the schema, such as #/$defs/name"
    try:
        resolve(root, reference)
    except LookupError:
        return "names nothing"
    return None
