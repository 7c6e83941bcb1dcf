"""A picture that is made, not stored."""

import base64
import struct
import zlib


def picture() -> bytes:
    """Give a PNG file of 8 x 8 red points."""

    def part(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    rows = b"".join(b"\0" + b"\xff\0\0" * 8 for _ in range(8))
    head = struct.pack(">IIBBBBB", 8, 8, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + part(b"IHDR", head) + part(b"IDAT", zlib.compress(rows)) + part(b"IEND", b"")


def data_url(image: bytes) -> str:
    """Give a PNG file as the URL that holds it."""
    return f"data:image/png;base64,{base64.b64encode(image).decode()}"
