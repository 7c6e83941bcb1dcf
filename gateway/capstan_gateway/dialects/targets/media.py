"""Pictures and files in data URLs, as strict APIs take them: of a known type, without parameters, in plain base64."""

import base64
import binascii
from typing import Any, Final
from urllib.parse import unquote

from capstan_gateway.dialects.fields import Document, data_url

_SAME: Final = {"image/jpg": "image/jpeg", "image/pjpeg": "image/jpeg", "image/x-png": "image/png"}
_MAGIC: Final = (
    (b"\x89PNG\r\n\x1a\n", "image/png"), (b"\xff\xd8\xff", "image/jpeg"), (b"GIF8", "image/gif"),
    (b"%PDF-", "application/pdf"),
)  # fmt: skip
_HEAD_CHARS: Final = 24
"""Of base64: eighteen bytes, more than any of these signatures has."""
_MARKS: Final = (("\n", ""), ("\r", ""), (" ", ""), ("\t", ""), ("-", "+"), ("_", "/"))
"""What other base64 has: line breaks (MIME, RFC 2045), and the alphabet for URLs and file names (RFC 4648, part 5)."""
_GROUP: Final = 4


def plain_base64(data: str) -> str:
    """Give the same base64 in the standard alphabet, in one line and padded; the same object where it is so already."""
    if "%" in data:
        data = unquote(data)
    for mark, plain in _MARKS:
        if mark in data:
            data = data.replace(mark, plain)
    if len(data) % _GROUP:
        data = data.rstrip("=")
        if len(data) % _GROUP != 1:  # No bytes have such a length: it stays as it came.
            data += "=" * (-len(data) % _GROUP)
    return data


def type_of_data(data: str) -> str:
    """Give the media type that the beginning of a file in base64 tells; empty when it is none that is known."""
    try:
        head = base64.b64decode(data[:_HEAD_CHARS], validate=True)
    except (binascii.Error, ValueError):
        return ""
    if head[:4] == b"RIFF" and head[8:12] == b"WEBP":
        return "image/webp"
    return next((kind for magic, kind in _MAGIC if head.startswith(magic)), "")


def fitting_file(media_type: str, data: str) -> tuple[str, str]:
    """Give the media type and the base64 to write for this file.

    Its type is what it is where its first bytes tell, else what it is said to be.
    """
    data = plain_base64(data)
    kind = media_type.partition(";")[0].strip().lower()
    return type_of_data(data) or _SAME.get(kind, kind), data


def split_data_url(url: str) -> tuple[str, str] | None:
    """Give media type and base64 of a data URL, or of bare base64 of a known type; None for another URL."""
    if url[:5].lower() != "data:":
        found = type_of_data(plain_base64(url[: 2 * _HEAD_CHARS])) if "://" not in url[:32] else ""
        return (found, plain_base64(url)) if found else None
    head, comma, data = url[5:].partition(",")
    kind, *parameters = head.split(";")
    if not comma or not any(parameter.strip().lower() == "base64" for parameter in parameters):
        return None
    return fitting_file(kind, data)


def fitting_url(url: str) -> str:
    """Give a file's URL as strict engines take it; itself where nothing is to change."""
    found = split_data_url(url)
    if found is None:
        return url
    fit = data_url(*found)
    return url if fit == url else fit


def fit_media(messages: list[Any]) -> list[Any]:
    """Give a chat's messages with pictures and files that strict engines take; the same list when nothing changes."""
    placed = [_message(message) for message in messages]
    return messages if all(new is old for new, old in zip(placed, messages, strict=True)) else placed


def _message(message: Any) -> Any:
    content = message.get("content") if isinstance(message, dict) else None
    if not isinstance(content, list):
        return message
    parts = [_part(part) for part in content]
    if all(new is old for new, old in zip(parts, content, strict=True)):
        return message
    return {**message, "content": parts}


def _part(part: Any) -> Any:
    kind = part.get("type") if isinstance(part, dict) else None
    if kind == "image_url":
        given = part.get(kind)
        return {**part, kind: {"url": fitting_url(given)}} if isinstance(given, str) else _with_url(part, kind, "url")
    return _with_url(part, kind, "file_data") if kind == "file" else part


def _with_url(part: Document, kind: str, name: str) -> Document:
    """Give the part with the URL that stands under this name in its object as it should be."""
    held = part.get(kind)
    url = held.get(name) if isinstance(held, dict) else None
    if not isinstance(held, dict) or not isinstance(url, str):
        return part
    fit = fitting_url(url)
    return part if fit is url else {**part, kind: {**held, name: fit}}
