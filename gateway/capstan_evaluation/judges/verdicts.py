"""What a judge has said. Pure.

A verdict is read of one JSON object that is the whole reply, thoughts and a fenced block around it aside. A judge that
does not keep to the form may put words around it; then the object counts if it is the only one. Nothing is read of the
words themselves: an answer that says "verdict: yes" may be quoted there.
"""

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

from capstan_evaluation.judges.prompts import CANNOT_TELL

MOST_CHARACTERS: Final = 100_000
MOST_OBJECTS: Final = 20
MOST_REASON: Final = 1_000
_THOUGHTS: Final = re.compile(r"\A\s*<think>.*?</think>", re.DOTALL)
_DECODER: Final = json.JSONDecoder(object_pairs_hook=lambda pairs: _once(pairs))


@dataclass(frozen=True)
class Said:
    """What one reply says."""

    verdict: str | None
    """None: it could not tell."""
    reason: str = ""


def read_verdict(reply: str, verdicts: Sequence[str]) -> Said:
    """Read a reply. Whatever is not certainly one of the verdicts is that the judge could not tell."""
    found = [one for one in _objects(reply[:MOST_CHARACTERS]) if "verdict" in one]
    if not found:
        return Said(None, "the judge did not answer in the form that it was asked for")
    if len({_verdict(one) for one in found}) > 1:
        return Said(None, "the judge gave several verdicts")
    verdict, reason = _verdict(found[0]), found[0].get("reason")
    told = reason[:MOST_REASON] if isinstance(reason, str) else ""
    if verdict not in verdicts:
        return Said(None, "the judge gave a verdict that it was not asked for")
    return Said(None if verdict == CANNOT_TELL else verdict, told)


def _verdict(found: dict[str, Any]) -> str:
    said = found["verdict"]
    if isinstance(said, int) and not isinstance(said, bool):
        return str(said)
    return said.strip().lower() if isinstance(said, str) else ""


def _objects(reply: str) -> list[dict[str, Any]]:
    """Give the outermost JSON objects of a reply, behind its thoughts."""
    text = _THOUGHTS.sub("", reply, count=1)
    found: list[dict[str, Any]] = []
    place = text.find("{")
    tries = 0
    while place >= 0 and tries < MOST_OBJECTS:
        tries += 1
        try:
            value, end = _DECODER.raw_decode(text, place)
        except (ValueError, RecursionError):
            place = text.find("{", place + 1)
            continue
        found.append(value)
        place = text.find("{", end)
    return found if place < 0 else []


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Refuse an object with a key twice: which of them counts is anybody's guess."""
    if len({key for key, _ in pairs}) != len(pairs):
        raise ValueError("a key twice")
    return dict(pairs)
