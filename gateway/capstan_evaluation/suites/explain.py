"""What pydantic finds in a suite, as paths and sentences that say what is allowed. Pure."""

import json
from collections.abc import Iterator, Mapping
from typing import Any, Final, TypeVar, get_args

from pydantic import BaseModel, ValidationError

from capstan_contract.places import field_path, unknown_field
from capstan_evaluation.suites.checks import TYPES, Check

Part = TypeVar("Part", bound=BaseModel)
_UNIONS: Final = frozenset((*TYPES, "constrained-str"))
_NAMES: Final = {
    "string_type": "must be a text",
    "int_type": "must be a whole number",
    "int_from_float": "must be a whole number",
    "float_type": "must be a number",
    "bool_type": "must be true or false",
    "tuple_type": "must be a list",
    "dict_type": "must be an object",
    "model_type": "must be an object",
    "model_attributes_type": "must be an object",
    "missing": "is required",
    "finite_number": "must be a number that JSON has",
    "json_invalid": "is no valid text",
}


class Faulty(Exception):
    """A part of a suite with these faults: paths within the part, and what is allowed."""

    def __init__(self, faults: list[tuple[str, str]]) -> None:
        super().__init__(f"{len(faults)} faults")
        self.faults = faults


def read_part(kind: type[Part], raw: object) -> Part:
    """Read a part from plain JSON data. Raises Faulty with all that is wrong."""
    try:
        return kind.model_validate_json(json.dumps(raw), strict=True)
    except ValidationError as error:
        raise Faulty(list(_explain(error, kind))) from None


def _explain(error: ValidationError, root: type[BaseModel]) -> Iterator[tuple[str, str]]:
    for entry in error.errors(include_url=False, include_input=False):
        location = tuple(_without_unions(entry["loc"]))
        if location and location[-1] == "[key]":
            allowed = str(entry.get("ctx", {}).get("expected", "")).replace("'", "")
            yield field_path(location[:-2]), f"has a key that is not allowed; it must be {allowed}"
        else:
            yield field_path(location), _sentence(entry, root)


def _without_unions(location: tuple[int | str, ...]) -> Iterator[int | str]:
    """Leave out the type of a check, which pydantic puts behind its place in the list."""
    for place, part in enumerate(location):
        if not (part in _UNIONS and place and isinstance(location[place - 1], int)):
            yield part


def _sentence(entry: Mapping[str, Any], root: type[BaseModel]) -> str:
    context = entry.get("ctx", {})
    match entry["type"]:
        case "value_error":
            return str(context["error"])
        case "extra_forbidden":
            return unknown_field(str(entry["loc"][-1]), _class_at(entry["loc"][:-1], root).model_fields)
        case "enum" | "literal_error":
            return f"must be {str(context['expected']).replace(chr(39), '')}"
        case "union_tag_invalid" | "union_tag_not_found":
            return f"needs `type`, one of {', '.join(TYPES)}"
        case "greater_than":
            return f"must be more than {context['gt']:g}"
        case "greater_than_equal":
            return f"must be at least {context['ge']:g}"
        case "less_than":
            return f"must be less than {context['lt']:g}"
        case "less_than_equal":
            return f"must be at most {context['le']:g}"
        case "string_too_short":
            return "must not be empty"
        case "string_too_long":
            return f"must have at most {context['max_length']} characters"
        case "too_long":
            return f"must have at most {context['max_length']} items"
        case "too_short":
            return f"must have at least {context['min_length']} items"
        case kind:
            return _NAMES.get(kind, f"is not valid ({kind})")


def _class_at(location: tuple[int | str, ...], root: type[BaseModel]) -> type[BaseModel]:
    """Follow a location through the classes; a check's class is the one of its type."""
    found = root
    for part in location:
        if isinstance(part, str) and part in found.model_fields:
            found = next(_models_in(found.model_fields[part].annotation), found)
        elif part in TYPES:
            found = next((one for one in _models_in(Check) if one.__name__ == part), found)
    return found


def _models_in(annotation: Any) -> Iterator[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for part in get_args(annotation):
        yield from _models_in(part)
