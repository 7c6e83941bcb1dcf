"""Whether a value has the form of a JSON schema, as far as structured outputs use them.

`type`, `enum`, `const`, `properties`, `required`, `additionalProperties: false`, `items` and `anyOf` are looked at;
whatever else a schema says (references, patterns, numeric bounds) is taken for kept. So a value that does not fit is
certainly wrong, and one that fits is right as far as can be told cheaply.
"""

from collections.abc import Mapping
from typing import Any, Final

MAX_DEPTH: Final = 32
_TYPES: Final[Mapping[str, tuple[type, ...]]] = {
    "object": (dict,),
    "array": (list,),
    "string": (str,),
    "number": (int, float),
    "integer": (int,),
    "boolean": (bool,),
    "null": (type(None),),
}


def fits(value: Any, schema: Any, *, depth: int = 0) -> bool:
    """Say whether `value` has the form of `schema`."""
    if not isinstance(schema, dict) or depth > MAX_DEPTH:
        return schema is not False
    if "$ref" in schema:
        return True
    if not _has_type(value, schema.get("type")):
        return False
    if isinstance(schema.get("enum"), list) and value not in schema["enum"]:
        return False
    if "const" in schema and value != schema["const"]:
        return False
    ways = schema.get("anyOf")
    if isinstance(ways, list) and ways and not any(fits(value, way, depth=depth + 1) for way in ways):
        return False
    if isinstance(value, dict):
        return _object_fits(value, schema, depth)
    if isinstance(value, list) and isinstance(schema.get("items"), dict):
        return all(fits(item, schema["items"], depth=depth + 1) for item in value)
    return True


def _has_type(value: Any, wanted: Any) -> bool:
    names = wanted if isinstance(wanted, list) else [wanted]
    known = [name for name in names if isinstance(name, str) and name in _TYPES]
    return not known or any(_is_a(value, name) for name in known)


def _is_a(value: Any, name: str) -> bool:
    if isinstance(value, bool):
        return name == "boolean"
    if isinstance(value, float) and name == "integer":
        return value.is_integer()
    return isinstance(value, _TYPES[name])


def _object_fits(value: dict[str, Any], schema: Mapping[str, Any], depth: int) -> bool:
    required, properties = schema.get("required"), schema.get("properties")
    properties = properties if isinstance(properties, dict) else {}
    if isinstance(required, list) and any(name not in value for name in required):
        return False
    if schema.get("additionalProperties") is False and not value.keys() <= properties.keys():
        return False
    return all(fits(value[name], part, depth=depth + 1) for name, part in properties.items() if name in value)
