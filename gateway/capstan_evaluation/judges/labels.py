"""Pairs of answers of which people have said which one is better, as files have them. Pure.

A file is a JSON array, lines of JSON, or a table in CSV. A row has `input` (what was asked), `output_1`, `output_2`,
and `label`: 1, 2, or 0 where people saw no difference.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

import orjson

from capstan_evaluation.errors import LabelsInvalid
from capstan_evaluation.suites.rows import MOST_ROWS, Unreadable, format_of, read_rows

FIRST_BETTER: Final = 1
SECOND_BETTER: Final = 2
NO_DIFFERENCE: Final = 0
LABELS: Final = (FIRST_BETTER, SECOND_BETTER, NO_DIFFERENCE)
TEXTS: Final = ("input", "output_1", "output_2")


@dataclass(frozen=True)
class Pair:
    """Two answers to one question."""

    question: str = field(repr=False)
    first: str = field(repr=False)
    second: str = field(repr=False)
    label: int
    """Which one people find better: 1, 2, or 0."""


def read_pairs(text: str, file: str) -> list[Pair]:
    """Read a file's text. Raises LabelsInvalid, which says where, for one that holds something else, or nothing."""
    try:
        pairs = [_pair(row, line) for line, row in _rows(text, file)]
    except Unreadable as error:
        where = f"{file}:{error.line}" if error.line else file
        raise LabelsInvalid(f"{where}: {error.message}") from None
    if not pairs:
        raise LabelsInvalid(f"{file}: has no pairs")
    return pairs


def _rows(text: str, file: str) -> Iterator[tuple[int, Mapping[str, Any]]]:
    if not file.lower().endswith(".json"):
        yield from read_rows(text, format_of(file, None))
        return
    try:
        rows = orjson.loads(text)
    except orjson.JSONDecodeError as error:
        raise Unreadable(error.lineno, "is no JSON") from None
    if not isinstance(rows, list) or len(rows) > MOST_ROWS:
        raise Unreadable(0, f"must be a JSON array of at most {MOST_ROWS} objects")
    for number, row in enumerate(rows, start=1):
        if not isinstance(row, dict):
            raise Unreadable(0, f"item {number} must be an object")
        yield 0, {**row, "": number}


def _pair(row: Mapping[str, Any], line: int) -> Pair:
    item = "" if line else f"item {row.get('')}: "
    texts = [row.get(name) for name in TEXTS]
    if missing := [name for name, text in zip(TEXTS, texts, strict=True) if not isinstance(text, str)]:
        raise Unreadable(line, f"{item}`{missing[0]}` must be a text")
    label = row.get("label")
    label = int(label) if isinstance(label, str) and label in ("0", "1", "2") else label
    if isinstance(label, bool) or label not in LABELS:
        raise Unreadable(line, f"{item}`label` must be 1, 2, or 0 for no difference")
    question, first, second = map(str, texts)
    return Pair(question, first, second, label)


def longer_wins(pair: Pair) -> int:
    """Give what the trivial judge says: the longer answer is better; the second where both are as long."""
    return FIRST_BETTER if len(pair.first) > len(pair.second) else SECOND_BETTER
