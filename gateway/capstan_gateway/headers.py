"""HTTP headers as bytes, on both sides of the gateway."""

from collections.abc import Sequence

Header = tuple[bytes, bytes]
"""A name in lower case, and a value."""


def header_lines(headers: Sequence[Header]) -> bytes:
    """Write headers, each with its line end. Raises ValueError for a name or value that would be more than one."""
    lines = b"".join([b"%b: %b\r\n" % header for header in headers])
    if lines.count(b"\n") != len(headers) or lines.count(b"\r") != len(headers) or b"\0" in lines:
        raise ValueError("a header holds a character that is not allowed in it")
    return lines
