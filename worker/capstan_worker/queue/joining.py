"""Several requests as one, and one answer as several: embeddings and scores. Pure.

What is joined says the same but for its inputs. An answer that does not have one row for each input, in order, is not
taken apart: then each request is asked by itself.
"""

import json
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

PATHS: Final[Mapping[str, tuple[str, ...]]] = {
    "/v1/embeddings": ("input",),
    "/embeddings": ("input",),
    "/v1/score": ("text_1", "text_2"),
    "/score": ("text_1", "text_2"),
}
"""Fields with the inputs, by path."""


class NotSplit(ValueError):
    """An answer that cannot be taken apart."""


@dataclass(frozen=True)
class Part:
    """A request that can be joined with others of its kind."""

    kind: Hashable
    """What is the same in all that go together."""
    fields: tuple[str, ...]
    columns: tuple[tuple[str, ...], ...]
    """The inputs of each field."""
    rest: dict[str, Any]

    @property
    def size(self) -> int:
        """How many rows its answer has."""
        return len(self.columns[0])


def read_part(path: str, body: bytes) -> Part | None:
    """Read a request; None where it cannot be joined with others."""
    fields = PATHS.get(path)
    if fields is None:
        return None
    try:
        document = json.loads(body)
    except (ValueError, RecursionError):
        return None
    if not isinstance(document, dict) or document.get("stream"):
        return None
    columns = [_texts(document.get(field)) for field in fields]
    size = max((len(column) for column in columns if column), default=0)
    if any(column is None or len(column) not in (1, size) for column in columns):
        return None
    if len(columns) == 2 and len(columns[1] or ()) != size:
        return None  # Several texts on the left of one: engines do not agree on what that means.
    rest = {key: value for key, value in document.items() if key not in fields}
    wide = tuple(tuple((column or ()) * (size if len(column or ()) == 1 else 1)) for column in columns)
    return Part((path, json.dumps(rest, sort_keys=True)), fields, wide, rest)


def join(parts: Sequence[Part]) -> bytes:
    """Give the body that asks for all of them, which must be of one kind."""
    first = parts[0]
    inputs = {
        field: [text for part in parts for text in part.columns[number]] for number, field in enumerate(first.fields)
    }
    return json.dumps({**first.rest, **inputs}).encode()


def split(body: bytes, parts: Sequence[Part]) -> list[bytes]:
    """Give the answers to each. Raises NotSplit."""
    try:
        document = json.loads(body)
    except (ValueError, RecursionError):
        raise NotSplit("it is no JSON") from None
    rows = document.get("data") if isinstance(document, dict) else None
    if not isinstance(rows, list) or len(rows) != sum(part.size for part in parts):
        raise NotSplit("it has not one row for each input")
    if any(not isinstance(row, dict) or row.get("index") != number for number, row in enumerate(rows)):
        raise NotSplit("its rows are not in order")
    used = _shares(document.get("usage"), parts)
    answers = []
    at = 0
    for number, part in enumerate(parts):
        own = [{**row, "index": index} for index, row in enumerate(rows[at : at + part.size])]
        at += part.size
        answers.append(json.dumps({**document, "data": own, **({"usage": used[number]} if used else {})}).encode())
    return answers


def _texts(value: object) -> list[str] | None:
    if isinstance(value, str):
        return [value]
    if isinstance(value, list) and value and all(isinstance(item, str) for item in value):
        return value
    return None


def _shares(usage: object, parts: Sequence[Part]) -> list[dict[str, Any]]:
    """Part the tokens that the engine has counted by the lengths of the inputs: their sum is what it has told."""
    if not isinstance(usage, dict):
        return []
    weights = [1 + sum(len(text) for column in part.columns for text in column) for part in parts]
    shares: list[dict[str, Any]] = [{} for _ in parts]
    for name, count in usage.items():
        if type(count) is not int or count < 0:
            for share in shares:
                share[name] = count
            continue
        done = total = 0
        for share, weight in zip(shares, weights, strict=True):
            total += weight
            upto = count * total // sum(weights)
            share[name], done = upto - done, upto
    return shares
