"""Shared prompts that are kept warm: the file that names them."""

import json
from dataclasses import dataclass
from pathlib import Path

from capstan_worker.errors import UsageError


@dataclass(frozen=True)
class Prefix:
    """A system prompt that many requests begin with."""

    name: str
    system: str


def load_prefixes(path: Path | None) -> tuple[Prefix, ...]:
    """Read the file; no file, no prefixes. Raises UsageError that says what is wrong, never what the prompt says."""
    if path is None:
        return ()
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"--prefixes {path}: cannot be read: {error}") from error
    try:
        return parse_prefixes(text)
    except UsageError as error:
        raise UsageError(f"--prefixes {path}: {error}") from error


def parse_prefixes(text: str) -> tuple[Prefix, ...]:
    """Read what is in the file. Raises UsageError."""
    try:
        document = json.loads(text)
    except ValueError as error:
        raise UsageError(f"is not JSON: line {getattr(error, 'lineno', 1)}") from None
    if not isinstance(document, list):
        raise UsageError("must be a list")
    prefixes = []
    for number, entry in enumerate(document):
        if not isinstance(entry, dict) or not all(isinstance(entry.get(key), str) for key in ("name", "system")):
            raise UsageError(f"entry {number} must be an object with the texts `name` and `system`")
        prefixes.append(Prefix(name=entry["name"], system=entry["system"]))
    return tuple(prefixes)
