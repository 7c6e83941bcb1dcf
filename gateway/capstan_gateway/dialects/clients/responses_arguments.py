"""Text out of a function's arguments: a tool that takes plain text is, in chat, a function with one string, `input`."""

import json
import re
from contextlib import suppress
from enum import Enum
from typing import Any, Final

MEMBER: Final = "input"
"""The one member of such a function's arguments."""
_OPENING: Final = f'{{"{MEMBER}":"'
_BLANKS: Final = " \t\r\n"
_BLANK_BEFORE: Final = frozenset((0, 1, len(_OPENING) - 2, len(_OPENING) - 1))
"""Places of the opening in front of which JSON allows white space."""
_SHORT: Final = {'"': '"', "\\": "\\", "/": "/", "b": "\b", "f": "\f", "n": "\n", "r": "\r", "t": "\t"}
_LOST: Final = "\ufffd"
_RUN: Final = re.compile(r'[^"\\]+')
_UNICODE: Final = re.compile(r"\\u([0-9a-fA-F]{4})")
_CUT_UNICODE: Final = re.compile(r"\\(u[0-9a-fA-F]{0,3})?")
"""What may become an escape when more comes."""
_CLOSING: Final = re.compile(r'"[ \t\r\n]*(\}[ \t\r\n]*)?')


class _State(Enum):
    OPENING = "opening"
    INSIDE = "inside"
    BEHIND = "behind"
    OTHER = "other"


class InputText:
    """Reads `{"input": "..."}` as it comes in pieces, and gives the text of the string as early as it is known.

    The pieces given and what `finish` gives are the same text for every way to cut the arguments. Models do not always
    write JSON: quotes without a backslash belong to the text when the whole is no JSON, a cut string ends where it was
    cut, an only member with another name is taken for `input`, and what is no object is the text itself.
    """

    def __init__(self) -> None:
        self._state = _State.OPENING
        self._seen = 0
        """How much of the opening was there."""
        self._pieces: list[str] = []
        self._held = ""
        """Of the string: what can only be read when more of it is there."""
        self._behind: list[str] = []
        """What came behind the end of the string."""

    def feed(self, piece: str) -> str:
        """Take a piece of the arguments; give the text that is known by it."""
        self._pieces.append(piece)
        if self._state is _State.OPENING:
            piece = self._open(piece)
        if self._state is _State.INSIDE:
            return self._inside(self._held + piece)
        if self._state is _State.BEHIND:
            self._behind.append(piece)
        return ""

    def finish(self) -> str:
        """Give the rest of the text; there are no more pieces."""
        if self._state in (_State.OPENING, _State.OTHER):
            return _other_text("".join(self._pieces))
        self._held += "".join(self._behind)
        if self._state is _State.BEHIND:
            whole = _CLOSING.fullmatch(self._held) or isinstance(_parsed("".join(self._pieces)), dict)
            return "" if whole else _literal(self._held)
        return _literal(self._held)

    def _open(self, piece: str) -> str:
        """Read the opening; give what is behind it."""
        for at, character in enumerate(piece):
            if character == _OPENING[self._seen]:
                self._seen += 1
                if self._seen == len(_OPENING):
                    self._state = _State.INSIDE
                    return piece[at + 1 :]
            elif character not in _BLANKS or self._seen not in _BLANK_BEFORE:
                self._state = _State.OTHER
                return ""
        return ""

    def _inside(self, text: str) -> str:
        out, at = _decoded(text, closes=True)
        self._held = text[at:]
        if self._held.startswith('"'):
            # The end of the string, unless it turns out at the end that this is no JSON.
            self._state = _State.BEHIND
        return out


def input_text(arguments: str) -> str:
    """Give the text of whole arguments, as `InputText` reads them."""
    reader = InputText()
    return reader.feed(arguments) + reader.finish()


def _decoded(text: str, *, closes: bool) -> tuple[str, int]:
    """Decode the inside of a JSON string; give the text, and the place up to which it was read.

    It stops in front of a quote, where one `closes`, and in front of an escape that is not there as a whole.
    """
    out: list[str] = []
    at = 0
    while at < len(text):
        run = _RUN.match(text, at)
        if run is not None:
            out.append(run.group())
            at = run.end()
        elif text[at] == '"':
            if closes:
                break
            out.append('"')
            at += 1
        else:
            decoded, length = _escape(text, at)
            if not length:
                break
            out.append(decoded)
            at += length
    return "".join(out), at


def _escape(text: str, at: int) -> tuple[str, int]:
    """Decode the escape that begins here: the text, and how long it was; 0 when more of it must come."""
    if _CUT_UNICODE.fullmatch(text, at):
        return "", 0
    found = _UNICODE.match(text, at)
    if found is None:
        short = _SHORT.get(text[at + 1])
        # What is no escape stays as it is: patches are full of backslashes, and not every model doubles them.
        return ("\\", 1) if short is None else (short, 2)
    code = int(found.group(1), 16)
    if not 0xD800 <= code <= 0xDFFF:
        return chr(code), 6
    if code >= 0xDC00:
        return _LOST, 6
    if len(text) == at + 6 or _CUT_UNICODE.fullmatch(text, at + 6):
        return "", 0
    second = _UNICODE.match(text, at + 6)
    low = int(second.group(1), 16) if second is not None else 0
    if not 0xDC00 <= low <= 0xDFFF:
        return _LOST, 6
    return chr(0x10000 + ((code - 0xD800) << 10) + low - 0xDC00), 12


def _literal(rest: str) -> str:
    """Read what is left of a string that did not end, or ended where it should not: its quotes are text."""
    end = re.search(r'"[ \t\r\n]*\}[ \t\r\n]*\Z', rest)
    rest = rest if end is None else rest[: end.start()]
    out, at = _decoded(rest, closes=False)
    if at == len(rest):
        return out
    # A high surrogate whose second half never came, or an escape that was cut.
    return out + _UNICODE.sub(_LOST, rest[at:], count=1)


def _other_text(arguments: str) -> str:
    parsed = _parsed(arguments)
    if isinstance(parsed, dict):
        texts = [value for value in parsed.values() if isinstance(value, str)]
        found = parsed.get(MEMBER)
        text = found if isinstance(found, str) else texts[0] if len(parsed) == len(texts) == 1 else None
        parsed = "" if not parsed else text
    if isinstance(parsed, str):
        return parsed.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    return arguments


def _parsed(arguments: str) -> Any:
    """Give the value of JSON, whose strings may hold line ends; None for what is none."""
    with suppress(ValueError, RecursionError):
        return json.loads(arguments, strict=False)
    return None
