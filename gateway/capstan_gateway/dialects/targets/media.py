"""Pictures and files in data URLs, as strict APIs take them: of a known type, without parameters."""

import base64
import binascii
from typing import Final

_SAME: Final = {"image/jpg": "image/jpeg", "image/pjpeg": "image/jpeg", "image/x-png": "image/png"}
_MAGIC: Final = (
    (b"\x89PNG\r\n\x1a\n", "image/png"), (b"\xff\xd8\xff", "image/jpeg"), (b"GIF8", "image/gif"),
    (b"%PDF-", "application/pdf"),
)  # fmt: skip
_HEAD_CHARS: Final = 24
"""Of base64: eighteen bytes, more than any of these signatures has."""


def type_of_data(data: str) -> str:
    """Give the media type that the beginning of a file in base64 tells; empty when it is none that is known."""
    try:
        head = base64.b64decode(data[:_HEAD_CHARS], validate=True)
    except (binascii.Error, ValueError):
        return ""
    if head[:4] == b"RIFF" and head[8:12] == b"WEBP":
        return "image/webp"
    return next((kind for magic, kind in _MAGIC if head.startswith(magic)), "")


def fitting_type(media_type: str, data: str) -> str:
    """Give the media type to write for this data: what it is where its first bytes tell, else what it is said to be."""
    kind = media_type.partition(";")[0].strip().lower()
    return type_of_data(data) or _SAME.get(kind, kind)


def split_data_url(url: str) -> tuple[str, str] | None:
    """Give media type and base64 of a data URL, or of bare base64 of a known type; None for another URL."""
    if url[:5].lower() != "data:":
        found = type_of_data(url) if "://" not in url[:32] else ""
        return (found, url) if found else None
    head, comma, data = url[5:].partition(",")
    kind, *parameters = head.split(";")
    if not comma or not any(parameter.strip().lower() == "base64" for parameter in parameters):
        return None
    return fitting_type(kind, data), data


def fitting_url(url: str) -> str:
    """Give a picture's URL as strict engines take it; itself where nothing is to change."""
    found = split_data_url(url)
    return url if found is None else f"data:{found[0]};base64,{found[1]}"
