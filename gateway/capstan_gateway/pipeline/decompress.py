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
    left = body
    while True:
        decoder = zlib.decompressobj(bits)
        while not decoder.eof:
            piece = decoder.decompress(left, STEP)
            left = decoder.unconsumed_tail
            if piece:
                yield piece
            elif not left and not decoder.eof:
                raise _broken()
        left = decoder.unused_data
        if not left:
            return
        if not many:
            raise _broken()


def _zstd(body: bytes) -> Iterator[bytes]:
    """A body may be several frames one after the other (RFC 8878)."""
    left = body
    while True:
        decoder: Any = zstd.ZstdDecompressor(options={zstd.DecompressionParameter.window_log_max: _WINDOW_LOG})
        while not decoder.eof:
            piece = decoder.decompress(left, STEP)
            left = b""
            if piece:
                yield piece
            elif decoder.needs_input and not decoder.eof:
                raise _broken()
        left = decoder.unused_data
        if not left:
            return


def _deflate_bits(body: bytes) -> int:
    """`deflate` is the zlib format (RFC 9110, 8.4.1.2); some clients send the bare one."""
    is_zlib = len(body) >= 2 and body[0] & 15 == 8 and int.from_bytes(body[:2], "big") % 31 == 0
    return zlib.MAX_WBITS if is_zlib else -zlib.MAX_WBITS


def _broken() -> InvalidRequest:
    return InvalidRequest("the body is not what its `Content-Encoding` says", param="content-encoding")
