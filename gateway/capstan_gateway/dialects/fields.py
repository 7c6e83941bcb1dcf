"""Reading what a client sent in another dialect: what is wrong is refused with the path of its field."""

from collections.abc import Mapping
from typing import Any

from capstan_gateway.errors import InvalidRequest

Document = dict[str, Any]


class Retrieved(str):
    """A text that the client names as a document or as what a search found, in a dialect whose translation has no place
    for that. Who judges texts by whose they are can tell; to all others it is a text like any."""

    __slots__ = ()


def wrong(field: str, must: str) -> InvalidRequest:
    """A value that cannot be: `must` says what is allowed, after the path of its field."""
    return InvalidRequest(f"`{field}` {must}", code="invalid_value", param=field)


def missing(field: str) -> InvalidRequest:
    """A field that must be there, and is not."""
    return InvalidRequest(f"`{field}` is required", code="missing_required_parameter", param=field)


def unsupported(field: str, instead: str) -> InvalidRequest:
    """Something that the dialect has and we cannot translate; `instead` says what is allowed."""
    return InvalidRequest(
        f"`{field}` is not supported for this model: {instead}", code="unsupported_value", param=field
    )


def read_text(document: Mapping[str, Any], key: str, at: str) -> str:
    """The string under `key`. InvalidRequest names the field as it stands `at` its place."""
    value = document.get(key)
    if not isinstance(value, str):
        raise wrong(f"{at}.{key}", "must be a string")
    return value


def word(value: Any) -> str:
    """A value as a key to look up in a table; what is no string becomes "", which is in none."""
    return value if isinstance(value, str) else ""


def read_object(value: Any, field: str) -> Document:
    """The value, when it is an object; InvalidRequest names the field otherwise."""
    if not isinstance(value, dict):
        raise wrong(field, "must be an object")
    return value


def read_objects(value: Any, field: str) -> list[tuple[str, Document]]:
    """The objects of a list, each with its path; InvalidRequest names the first that is none."""
    if not isinstance(value, list):
        raise wrong(field, "must be a list")
    return [(f"{field}.{position}", read_object(item, f"{field}.{position}")) for position, item in enumerate(value)]


def read_limit(value: Any, field: str) -> int:
    """A number of tokens, at least 1; InvalidRequest otherwise."""
    if not isinstance(value, int) or isinstance(value, bool) or value < 1:
        raise wrong(field, "must be a whole number of at least 1")
    return value


def read_switch(document: Mapping[str, Any], key: str) -> bool:
    """A switch; one that is not there is off, and one that is neither true nor false is refused."""
    value = document.get(key)
    if value is None:
        return False
    if not isinstance(value, bool):
        raise wrong(key, "must be true or false")
    return value


def data_url(media_type: str, data: str) -> str:
    """Write a file into a URL."""
    return f"data:{media_type};base64,{data}"
