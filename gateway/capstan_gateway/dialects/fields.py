"""Reading what a client sent in another dialect: what is wrong is refused with the path of its field."""

from collections.abc import Mapping
from typing import Any

from capstan_gateway.errors import InvalidRequest

Document = dict[str, Any]


def wrong(field: str, must: str) -> InvalidRequest:
    """Give the refusal of a value."""
    return InvalidRequest(f"`{field}` {must}", code="invalid_value", param=field)


def missing(field: str) -> InvalidRequest:
    """Give the refusal of a request without this field."""
    return InvalidRequest(f"`{field}` is required", code="missing_required_parameter", param=field)


def unsupported(field: str, instead: str) -> InvalidRequest:
    """Give the refusal of something that exists, but cannot be translated; `instead` says what is allowed."""
    return InvalidRequest(
        f"`{field}` is not supported for this model: {instead}", code="unsupported_value", param=field
    )


def read_text(document: Mapping[str, Any], key: str, at: str) -> str:
    """Give a string that must be there."""
    value = document.get(key)
    if not isinstance(value, str):
        raise wrong(f"{at}.{key}", "must be a string")
    return value


def word(value: Any) -> str:
    """Give a value that is looked up in a table; what is no string is in none."""
    return value if isinstance(value, str) else ""


def read_object(value: Any, field: str) -> Document:
    """Give an object."""
    if not isinstance(value, dict):
        raise wrong(field, "must be an object")
    return value


def read_objects(value: Any, field: str) -> list[tuple[str, Document]]:
    """Give the objects of a list, each with its path."""
    if not isinstance(value, list):
        raise wrong(field, "must be a list")
    return [(f"{field}.{position}", read_object(item, f"{field}.{position}")) for position, item in enumerate(value)]


def read_limit(value: Any, field: str) -> int:
    """Give a number of tokens."""
    if not isinstance(value, int) or isinstance(value, bool) or value < 1:
        raise wrong(field, "must be a whole number of at least 1")
    return value


def read_switch(document: Mapping[str, Any], key: str) -> bool:
    """Give a switch; one that is not there is off."""
    value = document.get(key)
    if value is None:
        return False
    if not isinstance(value, bool):
        raise wrong(key, "must be true or false")
    return value


def data_url(media_type: str, data: str) -> str:
    """Write a file into a URL."""
    return f"data:{media_type};base64,{data}"
