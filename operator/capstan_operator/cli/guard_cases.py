"""Labelled prompts from a file: lines of JSON, or a table in CSV."""

import csv
import json
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

MOST_CASES: Final = 1_000_000
MOST_CHARACTERS: Final = 16 * 1024 * 1024
"""Of a field of a table."""
ATTACK: Final = frozenset(("attack", "1", "true", "yes", "malicious", "unsafe", "injection", "jailbreak", "positive"))
BENIGN: Final = frozenset(("benign", "0", "false", "no", "safe", "harmless", "negative"))


@dataclass(frozen=True)
class Case:
    """One text, and what is to be found in it."""

    line: int
    text: str = field(repr=False)
    is_attack: bool
    """Whether something is to be found."""
    entities: Mapping[str, int] | None = None
    """How many of each kind; None: nobody says."""


class Unreadable(ValueError):
    """A file that holds something else; the message says where."""


def read_cases(path: Path) -> Iterator[Case]:
    """Give the cases of a file. Raises Unreadable, and OSError."""
    try:
        rows = _table(path) if path.suffix.lower() == ".csv" else _lines(path)
        for number, (line, row) in enumerate(rows, start=1):
            if number > MOST_CASES:
                raise Unreadable(f"{path} has more than {MOST_CASES} prompts")
            yield _case(path, line, row)
    except UnicodeDecodeError:
        raise Unreadable(f"{path} is not written in UTF-8") from None
    except csv.Error as error:
        raise Unreadable(f"{path} is no table in CSV: {error}") from None


def _lines(path: Path) -> Iterator[tuple[int, Mapping[str, Any]]]:
    with path.open(encoding="utf-8") as file:
        for number, line in enumerate(file, start=1):
            if not line.strip():
                continue
            try:
                row = json.loads(line)
            except ValueError:
                raise Unreadable(f"{path}:{number}: is no line of JSON") from None
            if not isinstance(row, dict):
                raise Unreadable(f"{path}:{number}: must be an object with `text`")
            yield number, row


def _table(path: Path) -> Iterator[tuple[int, Mapping[str, Any]]]:
    with path.open(encoding="utf-8", newline="") as file:
        csv.field_size_limit(MOST_CHARACTERS)
        reader = csv.DictReader(file)
        for row in reader:
            entities = row.get("entities")
            words = {"entities": [word for word in entities.replace(";", " ").split() if word]} if entities else {}
            yield reader.line_num, {key: value for key, value in row.items() if key != "entities" and value} | words


def _case(path: Path, line: int, row: Mapping[str, Any]) -> Case:
    try:
        return _read(line, row)
    except ValueError as error:
        raise Unreadable(f"{path}:{line}: {error}") from None


def _read(line: int, row: Mapping[str, Any]) -> Case:
    text = row.get("text", row.get("prompt"))
    if not isinstance(text, str):
        raise ValueError("must have `text`, a string")
    entities = row.get("entities")
    if entities is None:
        return Case(line, text, _is_attack(row.get("label")))
    if not isinstance(entities, list):
        raise ValueError("`entities` must be a list")
    kinds = Counter(_kind(one) for one in entities)
    return Case(line, text, bool(kinds), kinds)


def _kind(entity: object) -> str:
    kind = entity.get("type") if isinstance(entity, dict) else entity
    if not isinstance(kind, str):
        raise ValueError("each of `entities` must be a kind such as Email, or an object with `type`")
    return kind


def _is_attack(label: object) -> bool:
    word = str(label).strip().lower()
    if word not in ATTACK | BENIGN:
        raise ValueError("`label` must be attack or benign")
    return word in ATTACK
