"""Rows of data files: lines of JSON, or a table in CSV. Pure."""

import csv
import io
from collections.abc import Iterator, Mapping
from typing import Any, Final

import orjson

MOST_ROWS: Final = 200_000
MOST_CELL_CHARACTERS: Final = 16 * 1024 * 1024


class Unreadable(Exception):
    """A file that cannot be read; `line` is counted from 1, 0 for the file as a whole."""

    def __init__(self, line: int, message: str) -> None:
        super().__init__(message)
        self.line = line
        self.message = message


def format_of(file: str, named: str | None) -> str:
    """Give the format of a file: as it is named, or by its suffix. Raises Unreadable."""
    if named is not None:
        return named
    suffix = file.rpartition(".")[2].lower()
    formats = {"jsonl": "JSONL", "ndjson": "JSONL", "csv": "CSV"}
    if suffix not in formats:
        raise Unreadable(0, "has none of the suffixes .jsonl, .ndjson, .csv: say `format`, JSONL or CSV")
    return formats[suffix]


def read_rows(text: str, kind: str) -> Iterator[tuple[int, Mapping[str, Any]]]:
    """Give the rows of a file, each with its line. Raises Unreadable at the first fault."""
    rows = _table(text) if kind == "CSV" else _lines(text)
    for number, row in enumerate(rows, start=1):
        if number > MOST_ROWS:
            raise Unreadable(row[0], f"has more than {MOST_ROWS} rows")
        yield row


def _lines(text: str) -> Iterator[tuple[int, Mapping[str, Any]]]:
    # NB: not splitlines(), which also ends a line at characters that JSON has inside of texts.
    for number, line in enumerate(text.removeprefix("\ufeff").split("\n"), start=1):
        if not line.strip():
            continue
        try:
            row = orjson.loads(line)
        except orjson.JSONDecodeError:
            raise Unreadable(number, "is no line of JSON") from None
        if not isinstance(row, dict):
            raise Unreadable(number, "must be a JSON object")
        yield number, row


def _table(text: str) -> Iterator[tuple[int, Mapping[str, Any]]]:
    csv.field_size_limit(MOST_CELL_CHARACTERS)
    reader = csv.DictReader(io.StringIO(text.removeprefix("\ufeff"), newline=""), strict=True)
    try:
        names = reader.fieldnames or ()
        if len(set(names)) != len(names):
            raise Unreadable(1, "has a column twice")
        last = reader.line_num
        for row in reader:
            first, last = last + 1, reader.line_num
            if None in row or None in row.values():
                raise Unreadable(first, f"must have {len(names)} cells, as its first line has")
            yield first, row
    except csv.Error as error:
        raise Unreadable(reader.line_num, f"is no table in CSV: {error}") from None
