"""What stands where a request has files, images and audio: the text of it, if it is one. Pure.

Only the shape of what stands there counts: what is not written as such data is are words, which somebody may read.
"""

import base64
import binascii
import codecs
from dataclasses import dataclass
from typing import Final
from urllib.parse import unquote_to_bytes

from capstan_gateway.pipeline.guards.vocabulary import TEXT_FILES

SHORT_CHARS: Final = 4096
"""What is no longer, and is not said to be data, may be words that only look so: it is looked at as it stands too."""
_CHARSETS: Final = (
    "ascii", "utf", "iso8859", "cp", "koi8", "mac", "gb", "big5", "euc", "shift_jis", "johab", "tis", "hz",
)  # fmt: skip
"""Beginnings of the names of Python's codecs that are of texts, each in time that grows no faster than the text."""
_BOMS: Final = (
    (codecs.BOM_UTF32_LE, "utf-32"), (codecs.BOM_UTF32_BE, "utf-32"), (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"), (codecs.BOM_UTF8, "utf-8-sig"),
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Read:
    """What such data says."""

    text: str | None
    """What it holds; None where it is none of text."""
    raw: bool
    """Whether what stands there is to be looked at as it stands, as well."""
    is_media: bool
    """Whether there is, or may be, something that nobody can read."""


def read_data(value: str) -> Read:
    """Give what a data URL, or base64 without one, holds."""
    if value[:5].lower() != "data:":
        data = _of_base64(value)
        if data is None:
            return Read(None, raw=True, is_media=False)
        text = _decoded(data, None)
        return Read(text, raw=text is not None or len(value) <= SHORT_CHARS, is_media=text is None)
    head, comma, body = value[5:].partition(",")
    kind, *parameters = (part.strip() for part in head.lower().split(";"))
    kind = kind or "text/plain"
    is_text = kind.startswith("text/") or kind in TEXT_FILES
    if not comma:
        return Read(None, raw=True, is_media=True)
    if "base64" not in parameters:
        text = _decoded(unquote_to_bytes(body), _charset(parameters)) if is_text else None
        return Read(text, raw=text is None, is_media=text is None)
    data = _of_base64(unquote_to_bytes(body).decode(errors="replace") if "%" in body else body)
    if data is None:
        return Read(None, raw=True, is_media=True)
    text = _decoded(data, _charset(parameters)) if is_text else None
    return Read(text, raw=False, is_media=text is None)


def _of_base64(text: str) -> bytes | None:
    """Give what is written so, in either alphabet, over lines, padded or not; None when it is none of it."""
    packed = "".join(text.split()) if any(blank in text for blank in "\r\n\t ") else text
    packed = packed.rstrip("=").translate(_ALPHABET)
    try:
        return base64.b64decode(packed + "=" * (-len(packed) % 4), validate=True)
    except (binascii.Error, ValueError):
        return None


_ALPHABET: Final = str.maketrans("-_", "+/")


def _charset(parameters: list[str]) -> str | None:
    return next((one[8:].strip("\"' ") for one in parameters if one.startswith("charset=")), None)


def _decoded(data: bytes, charset: str | None) -> str | None:
    """Give the text of these bytes; None when they are none, or of a charset that is not known."""
    name = next((name for mark, name in _BOMS if data.startswith(mark)), charset or "utf-8")
    try:
        known = codecs.lookup(name).name
        text = data.decode(known) if known.startswith(_CHARSETS) and known != "utf-7" else None
    except (LookupError, UnicodeError, ValueError):
        return None
    return None if text is None or "\0" in text else text
