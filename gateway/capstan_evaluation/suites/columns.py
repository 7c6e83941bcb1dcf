"""A row of data becomes the fields of a case. Pure."""

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

from capstan_evaluation.suites.document import ColumnDocument
from capstan_evaluation.suites.patterns import extract

LISTS: Final = frozenset(("criteria", "messages", "tags", "turns"))
NUMBERS: Final = frozenset(("weight", "repeats"))
SEPARATOR: Final = ";"
"""Between the tags of a cell of a table."""
_PLACE: Final = re.compile(r"\{\{|\}\}|\{([^{}]{1,200})\}")


class Missing(Exception):
    """A row has no such column, or nothing where an expression looks for something; the message says which."""


def fields_of(row: Mapping[str, Any], columns: Mapping[str, Sequence[ColumnDocument]]) -> dict[str, Any]:
    """Give the fields that the columns are of. Raises Missing."""
    found = {field: _field(row, field, places) for field, places in columns.items()}
    return {field: value for field, value in found.items() if value is not None and value != ""}


def plain_fields(row: Mapping[str, Any], *, table: bool) -> dict[str, Any]:
    """Give the fields of a row that is a case itself. Of a table cells are texts, and empty ones say nothing."""
    if not table:
        return dict(row)
    return {name: _of_cell(name, cell) for name, cell in row.items() if cell != ""}


def _field(row: Mapping[str, Any], field: str, places: Sequence[ColumnDocument]) -> Any:
    values = [_value(row, place) for place in places]
    if field in LISTS:
        joined = [one for value in values for one in _items(field, value)]
        return joined or None
    if len(values) > 1:
        if field != "expected":
            raise Missing(f"`{field}` is of one column, not of {len(values)}")
        return values
    return _of_cell(field, values[0]) if isinstance(values[0], str) else values[0]


def _of_cell(field: str, cell: str) -> Any:
    if field in NUMBERS:
        try:
            number = float(cell)
        except ValueError:
            return cell
        return int(number) if number.is_integer() else number
    return [one.strip() for one in cell.split(SEPARATOR) if one.strip()] if field == "tags" else cell


def _items(field: str, value: Any) -> Iterable[Any]:
    if isinstance(value, list):
        return value
    if value is None or value == "":
        return ()
    cell = _of_cell(field, value) if isinstance(value, str) else value
    return cell if isinstance(cell, list) else (cell,)


def _value(row: Mapping[str, Any], place: ColumnDocument) -> Any:
    value = at(row, place.column) if place.column is not None else _filled(place.template or "", row)
    if place.regex is None or value is None:
        return value
    if not isinstance(value, str):
        raise Missing(f"the column {place.column} has no text, in which `regex` could look")
    found = extract(place.regex, value)
    if found is None:
        raise Missing(f"`regex` matches nowhere in the column {place.column}")
    return found


def at(row: Mapping[str, Any], column: str) -> Any:
    """Give what is in a column, or behind a path into one. Raises Missing where there is no such column."""
    if column in row:
        return row[column]
    value: Any = row
    for part in column.split("."):
        if isinstance(value, dict) and part in value:
            value = value[part]
        elif isinstance(value, list) and part.isdecimal() and len(part) < 10 and int(part) < len(value):
            value = value[int(part)]
        else:
            raise Missing(f"has no column {column}")
    return value


def _filled(template: str, row: Mapping[str, Any]) -> str:
    def fill(found: re.Match[str]) -> str:
        if found[1] is None:
            return found[0][0]
        value = at(row, found[1])
        if isinstance(value, dict | list):
            raise Missing(f"the column {found[1]} is no text, as a template needs")
        return "" if value is None else str(value)

    return _PLACE.sub(fill, template)
