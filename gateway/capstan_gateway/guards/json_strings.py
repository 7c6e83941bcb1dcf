"""Where in the source of a JSON document that comes in pieces strings are, and where the document is complete. Pure."""

import re
from collections.abc import Iterator
from typing import Final

from capstan_gateway.streaming.json_marks import JsonMarks

_TO_AN_END: Final = re.compile(r"[^}\]]*[}\]]|[^}\]]+\Z")


class JsonPlace(JsonMarks):
    """A place in the source of a document. Brackets outside of one end nothing."""

    __slots__ = ("complete",)

    def __init__(self) -> None:
        super().__init__()
        self.complete = False
        """Whether an object or a list has ended that was not in another one."""

    def close(self) -> None:
        """Take a bracket that ends an object or a list."""
        if self.depth:
            self.depth -= 1
            self.complete = self.complete or self.depth == 0


def to_ends(text: str) -> Iterator[str]:
    """Cut a piece of source behind each bracket that may end the document."""
    return (found.group() for found in _TO_AN_END.finditer(text))


def replacement(written: str, begins: bool, ends: bool) -> str:
    """Give what stands in the source for something that begins, and ends, inside a string or outside of one.

    A word that stands for a number or another bare value is a string.
    """
    return f"{'' if begins else chr(34)}{written}{'' if ends else chr(34)}"
