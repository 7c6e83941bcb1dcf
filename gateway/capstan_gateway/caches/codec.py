"""An entry as bytes, for stores outside of the process. Pure.

    magic, version │ flags │ nonce │ checksum over all of it and the key │ head (JSON) and body, small, sealed

What does not read is no entry: of another version, damaged, changed by somebody, or put under another key than its own.
With a secret nobody who lacks it can make or change an entry (AES-256-GCM, whose tag is over the key and the flags as
well); without one the checksum finds damage, and not somebody who means it: then whoever can write into the store can
say what models answer.
"""

import os
import struct
import zlib
from hashlib import blake2b
from typing import Any, Final, NamedTuple

import orjson

from capstan_contract.caches import Compression
from capstan_gateway.caches.port import CacheKey, Entry, Form
from capstan_gateway.tokens.usage import Usage

_MAGIC: Final = b"CPC"
_VERSION: Final = 1
_SMALL: Final = 1
_SEALED: Final = 2
_KNOWN: Final = _SMALL | _SEALED
_SUM_BYTES: Final = 16
_NONCE_BYTES: Final = 12
_FIXED: Final = struct.Struct(f">3sBB{_NONCE_BYTES}s{_SUM_BYTES}s")
_LEVEL: Final = 1
"""Of zlib: JSON becomes a quarter at any level, and this one takes a third of the time of the usual one."""
_LEAST_COMPRESSED: Final = 512
SECRET_BYTES: Final = 32


class Unreadable(ValueError):
    """Bytes that are no entry under this key; the message says why, and holds nothing of them."""


class Codec(NamedTuple):
    """How entries are written."""

    compression: Compression = Compression.NONE
    secret: bytes = b""
    """32 bytes that entries are sealed with; empty: they are not."""
    most_bytes: int = 16 * 1024**2
    """Of what an entry unpacks to: what is larger is no entry of ours."""

    def write(self, key: CacheKey, entry: Entry) -> bytes:
        """Give the bytes of an entry that is kept under this key."""
        head = orjson.dumps(
            {
                "form": entry.form, "type": entry.content_type.decode("latin-1"), "created": entry.created_ms,
                "expires": entry.expires_ms, "usage": None if entry.usage is None else list(entry.usage),
                "price": entry.nano_dollars, "question": entry.question,
            }
        )  # fmt: skip
        text = len(head).to_bytes(4, "big") + head + entry.body
        flags = 0
        if self.compression is Compression.ZLIB and len(text) >= _LEAST_COMPRESSED:
            text, flags = zlib.compress(text, _LEVEL), flags | _SMALL
        nonce = bytes(_NONCE_BYTES)
        if self.secret:
            nonce, flags = os.urandom(_NONCE_BYTES), flags | _SEALED
            text = self._cipher().encrypt(nonce, text, _bound(key, flags))
        return _FIXED.pack(_MAGIC, _VERSION, flags, nonce, self._sum(key, flags, nonce, text)) + text

    def read(self, key: CacheKey, data: bytes) -> Entry:
        """Give the entry again. Raises Unreadable."""
        if len(data) < _FIXED.size:
            raise Unreadable("too short")
        magic, version, flags, nonce, told = _FIXED.unpack_from(data)
        text = data[_FIXED.size :]
        if magic != _MAGIC or version != _VERSION or flags & ~_KNOWN:
            raise Unreadable("of another format")
        if bool(flags & _SEALED) != bool(self.secret):
            raise Unreadable("sealed, and there is no key" if flags & _SEALED else "not sealed")
        if told != self._sum(key, flags, nonce, text):
            raise Unreadable("damaged, or of another key")
        if flags & _SEALED:
            text = self._opened(key, flags, nonce, text)
        if flags & _SMALL:
            text = self._unpacked(text)
        return _entry(text)

    def _sum(self, key: CacheKey, flags: int, nonce: bytes, text: bytes) -> bytes:
        digest = blake2b(key=self.secret, digest_size=_SUM_BYTES, person=b"entry")
        digest.update(_bound(key, flags))
        digest.update(nonce)
        digest.update(text)
        return digest.digest()

    def _cipher(self) -> Any:
        # NB: imported where it is used: few installations seal their entries.
        from cryptography.hazmat.primitives.ciphers.aead import AESGCM

        return AESGCM(self.secret)

    def _opened(self, key: CacheKey, flags: int, nonce: bytes, text: bytes) -> bytes:
        from cryptography.exceptions import InvalidTag

        try:
            opened: bytes = self._cipher().decrypt(nonce, text, _bound(key, flags))
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
            raise Unreadable("larger than an entry is, or longer than it says")
        return unpacked


def _bound(key: CacheKey, flags: int) -> bytes:
    """What an entry belongs to: moved under another key, it is none."""
    return key.text.encode() + bytes((_VERSION, flags))


def _entry(text: bytes) -> Entry:
    size = int.from_bytes(text[:4], "big")
    try:
        head = orjson.loads(text[4 : 4 + size])
        usage = head["usage"]
        return Entry(
            form=Form(head["form"]), body=text[4 + size :], content_type=head["type"].encode("latin-1"),
            created_ms=int(head["created"]), expires_ms=int(head["expires"]),
            usage=None if usage is None else Usage._make(usage),
            nano_dollars=None if head["price"] is None else int(head["price"]), question=str(head["question"]),
        )  # fmt: skip
    except (orjson.JSONDecodeError, KeyError, TypeError, ValueError, AttributeError):
        raise Unreadable("its head does not read") from None
