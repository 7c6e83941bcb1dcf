"""HTTP headers as bytes, on both sides of the gateway."""

from collections.abc import Sequence
from typing import Final

Header = tuple[bytes, bytes]
"""A name in lower case, and a value."""
JSON: Final = b"application/json"


def header_lines(headers: Sequence[Header]) -> bytes:
    """Write headers, each with its line end. Raises ValueError for a name or value that would be more than one."""
    lines = b"".join([b"%b: %b\r\n" % header for header in headers])
    if lines.count(b"\n") != len(headers) or lines.count(b"\r") != len(headers) or b"\0" in lines:
        raise ValueError("a header holds a character that is not allowed in it")
    return lines


def find_header(headers: Sequence[Header], wanted: bytes) -> bytes:
    """The value of the first header of this name, which is in lower case; b"" without one."""
    for name, value in headers:
        if name == wanted:
            return value
    return b""


def retry_after_headers(seconds: float) -> tuple[Header, ...]:
    """Tell a client, and the SDKs, when to come back; in whole seconds and in milliseconds, each at least 1."""
    whole = max(1, round(seconds))
    return ((b"retry-after", b"%d" % whole), (b"retry-after-ms", b"%d" % max(1, round(seconds * 1000))))
