"""Compressed bodies, in bounded steps: whoever takes the steps decides how many."""

import sys
import zlib
from collections.abc import Iterator
from typing import Any, Final

from capstan_gateway.errors import InvalidRequest

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

STEP: Final = 64 * 1024
"""Bytes that one step gives at most."""
CODINGS: Final = frozenset((b"gzip", b"x-gzip", b"deflate", b"zstd"))
ACCEPTED: Final = b"gzip, deflate, zstd"
MAX_MEMBERS: Final = 1024
"""Members of gzip, or frames of zstd, that a body may have. Tools that write many give each 64 KiB; an empty one takes
9 bytes, and up to 0.1 ms."""
_GZIP: Final = 16 + zlib.MAX_WBITS
_WINDOW_LOG: Final = 23
"""8 MiB, the largest window of the content coding (RFC 9659): a decompressor takes so much memory."""


def decompressed(coding: bytes, body: bytes) -> Iterator[bytes]:
    """Give what a body is, decompressed, in pieces of at most STEP bytes. Raises InvalidRequest when it is broken."""
    try:
        if coding == b"zstd":
            yield from _zstd(body)
        else:
            yield from _zlib(body, _GZIP if coding != b"deflate" else _deflate_bits(body), many=coding != b"deflate")
    except (zlib.error, zstd.ZstdError) as error:
        raise _broken() from error


def _zlib(body: bytes, bits: int, *, many: bool) -> Iterator[bytes]:
    """gzip may be several members one after the other (RFC 1952)."""
    source, members = _Windows(body), 0
    while source.left:
        members = _one_more(members)
        decoder, given = zlib.decompressobj(bits), b""
        while not decoder.eof:
            given = given or source.take()
            piece = decoder.decompress(given, STEP)
            if piece:
                yield piece
            elif not given and not decoder.eof:
                raise _broken()
            given = decoder.unconsumed_tail
        source.give_back(len(decoder.unused_data))
        if source.left and not many:
            raise _broken()


def _zstd(body: bytes) -> Iterator[bytes]:
    """A body may be several frames one after the other (RFC 8878)."""
    source, members = _Windows(body), 0
    while source.left:
        members = _one_more(members)
        decoder: Any = zstd.ZstdDecompressor(options={zstd.DecompressionParameter.window_log_max: _WINDOW_LOG})
        while not decoder.eof:
            wanted = decoder.needs_input
            given = source.take() if wanted else b""
            piece = decoder.decompress(given, STEP)
            if piece:
                yield piece
            elif wanted and not given and not decoder.eof:
                raise _broken()
        source.give_back(len(decoder.unused_data))


class _Windows:
    """A body in small pieces. A decoder copies what it leaves of its input: of one piece that is little."""

    def __init__(self, body: bytes) -> None:
        self._body = body
        self._at = 0

    @property
    def left(self) -> int:
        return len(self._body) - self._at

    def take(self) -> bytes:
        piece = self._body[self._at : self._at + STEP]
        self._at += len(piece)
        return piece

    def give_back(self, size: int) -> None:
        self._at -= size


def _one_more(members: int) -> int:
    if members >= MAX_MEMBERS:
        raise InvalidRequest(
            f"the body is compressed in more than {MAX_MEMBERS} parts", code="invalid_value", param="content-encoding"
        )
    return members + 1


def _deflate_bits(body: bytes) -> int:
    """`deflate` is the zlib format (RFC 9110, 8.4.1.2); some clients send the bare one."""
    is_zlib = len(body) >= 2 and body[0] & 15 == 8 and int.from_bytes(body[:2], "big") % 31 == 0
    return zlib.MAX_WBITS if is_zlib else -zlib.MAX_WBITS


def _broken() -> InvalidRequest:
    return InvalidRequest("the body is not what its `Content-Encoding` says", param="content-encoding")
