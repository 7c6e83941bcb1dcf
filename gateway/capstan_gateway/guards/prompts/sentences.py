"""Where the sentences of a text are. Pure, and no more than a splitter by marks: in linear time, for any script."""

import re
from collections.abc import Iterator
from typing import Final

_END: Final = re.compile(r"[.!?…]+[\"')\]»”’]*(?=\s)|[。！？]+[」』”’]*|\n+", re.UNICODE)  # noqa: RUF001
_SHORT: Final = re.compile(
    r"(?:\b(?:[A-Z]|Mr|Mrs|Ms|Dr|Prof|St|vs|etc|No|Nr|Fig|Inc|Ltd|Jr|Sr|e\.g|i\.e|z\.B|d\.h|bzw|ca|approx)|^\s*\d+)\.\Z",
    re.MULTILINE,
)
_LOOK_BACK: Final = 16
_SAYS: Final = re.compile(r"\w")


def sentences_of(text: str) -> Iterator[tuple[int, int]]:
    """Give where each sentence begins and ends, in characters, without the white space around it.

    What has neither a letter nor a digit in it is none; neither is the dot of an abbreviation or a number an end.
    """
    start = 0
    for mark in _END.finditer(text):
        end = mark.end()
        if mark[0] == "." and _SHORT.search(text, max(start, end - _LOOK_BACK), end):
            continue
        yield from _one(text, start, end)
        start = end
    yield from _one(text, start, len(text))


def _one(text: str, start: int, end: int) -> Iterator[tuple[int, int]]:
    said = text[start:end]
    if _SAYS.search(said):
        start += len(said) - len(said.lstrip())
        yield start, start + len(said.strip())
