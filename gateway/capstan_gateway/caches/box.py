"""Bytes that say whether they are what was written, for stores outside of the process. Pure.

    magic, version │ flags │ nonce │ checksum over all of it and what it belongs to │ text, small, sealed

What does not read is nothing: of another version, damaged, changed by somebody, or put where it does not belong. With a
secret nobody who lacks it can make or change one (AES-256-GCM, whose tag is over what it belongs to and the flags as
well); without one the checksum finds damage, and not somebody who means it.
"""

import os
import struct
import zlib
from hashlib import blake2b
from typing import Any, Final, NamedTuple

_SMALL: Final = 1
_SEALED: Final = 2
_KNOWN: Final = _SMALL | _SEALED
_SUM_BYTES: Final = 16
_NONCE_BYTES: Final = 12
_FIXED: Final = struct.Struct(f">3sBB{_NONCE_BYTES}s{_SUM_BYTES}s")
FIXED_BYTES: Final = _FIXED.size
"""What stands before the text."""
_LEVEL: Final = 1
"""Of zlib: JSON becomes a quarter at any level, and this one takes a third of the time of the usual one."""
_LEAST_COMPRESSED: Final = 512
SECRET_BYTES: Final = 32


class Unreadable(ValueError):
    """Bytes that are not what is looked for there; the message says why, and holds nothing of them."""


class Box(NamedTuple):
    """How one kind of thing is written."""

    magic: bytes
    """Three bytes that say which kind it is."""
    version: int
    person: bytes
    """The kind in its checksums: what is of one kind is of no other."""
    secret: bytes = b""
    """32 bytes that texts are sealed with; empty: they are not."""
    compressed: bool = False
    most_bytes: int = 16 * 1024**2
    """Of what a text unpacks to: what is larger is none of ours."""

    def close(self, belongs: bytes, text: bytes) -> bytes:
        """Give the bytes of a text that belongs to this."""
        flags = 0
        if self.compressed and len(text) >= _LEAST_COMPRESSED:
            text, flags = zlib.compress(text, _LEVEL), flags | _SMALL
        nonce = bytes(_NONCE_BYTES)
        if self.secret:
            nonce, flags = os.urandom(_NONCE_BYTES), flags | _SEALED
            text = self._cipher().encrypt(nonce, text, self._bound(belongs, flags))
        return _FIXED.pack(self.magic, self.version, flags, nonce, self._sum(belongs, flags, nonce, text)) + text

    def open(self, belongs: bytes, data: bytes) -> bytes:
        """Give the text again. Raises Unreadable."""
        if len(data) < _FIXED.size:
            raise Unreadable("too short")
        magic, version, flags, nonce, told = _FIXED.unpack_from(data)
        text = data[_FIXED.size :]
        if magic != self.magic or version != self.version or flags & ~_KNOWN:
            raise Unreadable("of another format")
        if bool(flags & _SEALED) != bool(self.secret):
            raise Unreadable("sealed, and there is no key" if flags & _SEALED else "not sealed")
        if told != self._sum(belongs, flags, nonce, text):
            raise Unreadable("damaged, or of another key")
        if flags & _SEALED:
            text = self._opened(belongs, flags, nonce, text)
        return self._unpacked(text) if flags & _SMALL else text

    def _bound(self, belongs: bytes, flags: int) -> bytes:
        """What a text belongs to: moved elsewhere, it is none."""
        return belongs + bytes((self.version, flags))

    def _sum(self, belongs: bytes, flags: int, nonce: bytes, text: bytes) -> bytes:
        digest = blake2b(key=self.secret, digest_size=_SUM_BYTES, person=self.person)
        digest.update(self._bound(belongs, flags))
        digest.update(nonce)
        digest.update(text)
        return digest.digest()

    def _cipher(self) -> Any:
        # NB: imported where it is used: few installations seal their entries.
        from cryptography.hazmat.primitives.ciphers.aead import AESGCM

        return AESGCM(self.secret)

    def _opened(self, belongs: bytes, flags: int, nonce: bytes, text: bytes) -> bytes:
        from cryptography.exceptions import InvalidTag

        try:
            opened: bytes = self._cipher().decrypt(nonce, text, self._bound(belongs, flags))
        except InvalidTag:
            raise Unreadable("sealed with another key") from None
        return opened

    def _unpacked(self, text: bytes) -> bytes:
        unpacking = zlib.decompressobj()
        try:
            unpacked = unpacking.decompress(text, self.most_bytes)
        except zlib.error:
            raise Unreadable("not packed as it says") from None
        if not unpacking.eof or unpacking.unused_data:
            raise Unreadable("larger than it may be, or longer than it says")
        return unpacked
