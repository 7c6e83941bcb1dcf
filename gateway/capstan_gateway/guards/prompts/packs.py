"""Texts as they fit into one question: long ones in windows that overlap, short ones together where each costs."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from capstan_gateway.guards.prompts.unreadable import Unreadable

OVERLAP: Final = 4
"""The share of a window that it has in common with the next one: a fourth."""
BETWEEN: Final = "\n\n"


@dataclass(frozen=True, slots=True)
class Part:
    """What of a text is in a pack."""

    number: int
    """Which text, of those that were given."""
    start: int
    end: int


@dataclass(frozen=True, slots=True)
class Pack:
    """What one question is about."""

    text: str
    parts: tuple[Part, ...]


def packed(texts: Sequence[str], most: int, *, together: bool, most_packs: int) -> list[Pack]:
    """Give the packs of these texts, none longer than `most` tokens as `weight` takes them.

    Texts without anything but white space are left out. With `together` short ones share a pack. Unreadable when there
    would be more packs than `most_packs`: then not everything could be looked at.
    """
    packs: list[Pack] = []
    open_parts: list[Part] = []
    room = 0
    for part, size in _parts(texts, most):
        if not (together and open_parts and size <= room):
            _close(packs, texts, open_parts)
            open_parts, room = [], most
        open_parts.append(part)
        room -= size + len(BETWEEN)
        if len(packs) >= most_packs:
            raise Unreadable("there is more text than can be asked about")
    _close(packs, texts, open_parts)
    return packs


def _close(packs: list[Pack], texts: Sequence[str], parts: Iterable[Part]) -> None:
    said = tuple(parts)
    if said:
        packs.append(Pack(BETWEEN.join(texts[part.number][part.start : part.end] for part in said), said))


def _parts(texts: Sequence[str], most: int) -> Iterator[tuple[Part, int]]:
    for number, text in enumerate(texts):
        if not text or text.isspace():
            continue
        for start, end, size in windows(text, most):
            yield Part(number, start, end), size


def windows(text: str, most: int) -> Iterator[tuple[int, int, int]]:
    """Give where windows of at most `most` tokens begin and end, and their tokens; each overlaps the one before."""
    start = 0
    while True:
        end, size = _fitting(text, start, most)
        yield start, end, size
        if end >= len(text):
            return
        start = max(start + 1, end - max(1, (end - start) // OVERLAP))


def _fitting(text: str, start: int, most: int) -> tuple[int, int]:
    """Give the end of the longest window from `start` on, and its size: whole where that is sure without counting."""
    left = len(text) - start
    if left * _HEAVIEST <= most * _UNIT:
        return len(text), -(-sum(map(_weight, text[start:])) // _UNIT)
    size, end = 0, start
    for character in text[start : start + 2 * most]:
        more = _weight(character)
        if size + more > most * _UNIT and end > start:
            break
        size += more
        end += 1
    return end, -(-size // _UNIT)


_UNIT: Final = 2
_HEAVIEST: Final = 6


def _weight(character: str) -> int:
    """How many halves of a token a character is at most, in the tokenizers of guard models: words of letters are at
    worst cut into pairs, other characters are tokens of their own, rare ones are read as their bytes."""
    if character.isascii():
        return 1 if character.isalpha() or character == " " else 2
    return 2 if ord(character) <= 0xFFFF and character.isalpha() else 6
