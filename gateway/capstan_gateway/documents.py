"""Pure: how much work and memory a JSON document is, told from its bytes before it is parsed; how one is written; and
what another release has written.

orjson keeps the interpreter's lock while it parses, so that the loop waits for it even when it runs in another thread:
what bounds the wait is how many values there are. `{}` takes 72 bytes of memory, 24 times its size, and 70 ns; a text
takes its size.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any, Final

import orjson

INLINE_BYTES: Final = 64 * 1024
"""A document up to this size is parsed where it is needed: at worst in 2 ms."""
MAX_VALUES: Final = 1 << 19
"""Values that a large document may have: the 300,000 tokens that an embedding request of OpenAI's may have, and more.
At worst they are parsed in 40 ms."""
MAX_CONTAINERS: Final = 1 << 17
"""How many of them may be objects and lists, which cost most. At worst they are parsed in 15 ms."""
WORST_FACTOR: Final = 32
"""No document takes more than so many times its size (measured with CPython 3.11 and orjson 3.11: at most 28.5)."""
TINY_BYTES: Final = 1024
"""A document up to this size is not counted: what bounds those is the number of requests."""
CONTAINER_BYTES: Final = 72
PAIR_BYTES: Final = 120
"""A name, and the place of its value in an object."""
VALUE_BYTES: Final = 64
WIDE_FACTOR: Final = 3
"""How much more a text takes that has characters beyond ASCII: four bytes for each of its characters."""
WINDOW: Final = 256 * 1024
_DECIDING: Final = re.compile(rb'"(?:model|messages|stream|stream_options)"')
COUNTED_BYTES: Final = 2048
"""Up to here it is faster to count each name than to find all of them at once."""
_BACKSLASH: Final = ord("\\")
_ESCAPE: Final = b"\\u00"
_ESCAPED_NAME: Final = re.compile(rb"\\u00(?:[67][0-9a-fA-F]|5[fF])")
"""A letter of ASCII, or the underscore, written as an escape. Who writes JSON in earnest escapes neither."""


class TooDeep(ValueError):
    """A value has more levels of objects and lists than can be written; parsers read deeper ones."""


def to_json(value: object) -> bytes:
    """Write a value that came from JSON. Raises TooDeep for one of more than 254 levels.

    orjson's own error is `TypeError` under another name: who catches that catches every mistake of the code around.
    """
    try:
        return orjson.dumps(value)
    except TypeError as error:
        if "Recursion" not in str(error):
            raise
        raise TooDeep("more than 254 levels of objects and lists") from error


def known_fields(kind: type, document: Mapping[str, Any]) -> dict[str, Any]:
    """Leave out what a newer release has written of this dataclass beside what this one knows of."""
    names = {one.name for one in fields(kind)}
    return {name: value for name, value in document.items() if name in names}


@dataclass(frozen=True, slots=True)
class Counts:
    """How many values a document has."""

    containers: int = 0
    """Objects and lists."""
    pairs: int = 0
    commas: int = 0

    @property
    def values(self) -> int:
        """An upper bound of all values, names among them."""
        return self.containers + self.pairs + self.commas + 1


def count_values(body: bytes) -> Counts:
    """Count what stands outside of texts. Of what is no JSON the count means nothing, and the parser refuses it."""
    containers = pairs = commas = 0
    inside, left = False, b""
    for at in range(0, len(body), WINDOW):
        window = left + body[at : at + WINDOW]
        # An escape is never cut apart.
        odd = (len(window) - len(window.rstrip(b"\\"))) % 2
        left, window = (b"\\", window[:-1]) if odd else (b"", window)
        if b"\\" in window:
            window = window.replace(b"\\\\", b"").replace(b'\\"', b"")
        parts = window.split(b'"')
        outside = b"".join(parts[1 if inside else 0 :: 2])
        inside ^= len(parts) % 2 == 0
        containers += outside.count(b"{") + outside.count(b"[")
        pairs += outside.count(b":")
        commas += outside.count(b",")
    return Counts(containers, pairs, commas)


def memory_of(body: bytes, counts: Counts) -> int:
    """An upper bound of what the parsed document takes, beside its texts, which are counted with the body."""
    wide = 0 if body.isascii() and b"\\u" not in body else WIDE_FACTOR * len(body)
    return CONTAINER_BYTES * counts.containers + PAIR_BYTES * counts.pairs + VALUE_BYTES * (counts.commas + 1) + wide


def is_too_much(counts: Counts) -> bool:
    """Whether to parse it would take too long."""
    return counts.values > MAX_VALUES or counts.containers > MAX_CONTAINERS


def is_read_alike(body: bytes, document: dict[str, Any]) -> bool:
    """Whether every parser finds the fields by which the gateway decides where this one did, which read `document`.

    JSON lets a name stand twice, of which parsers take the first, the last or none, and lets it be written with
    escapes. Raw quotes stand only at the ends of texts, so that a name is in the bytes as often as it is a name, or a
    text of its own. False also for what is only perhaps read in two ways: a name deeper down, escapes in a text.
    """
    # NB: looking for bytes with `in` takes three times as long: it first tries whether they are a number.
    if _BACKSLASH in body and body.find(_ESCAPE) >= 0 and _ESCAPED_NAME.search(body) is not None:
        return False
    if len(body) > COUNTED_BYTES:
        found = _DECIDING.findall(body)
        return len(found) == len(set(found))
    count = body.count
    return not (
        count(b'"model"') > 1
        or count(b'"messages"') > 1
        or ("stream" in document and count(b'"stream"') > 1)
        or ("stream_options" in document and count(b'"stream_options"') > 1)
    )
