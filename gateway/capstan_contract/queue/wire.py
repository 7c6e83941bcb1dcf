"""What is in an entry of the queue, and in a piece of an answer.

    {"v":1,"path":"/v1/chat/completions","headers":[["x-request-id","..."]]}     what is asked, readable in Redis
    a byte of flags, then data                                                    a body, or a piece of an answer

Flags: 1: compressed (zlib); 2: sealed, and so not readable in Redis: 12 bytes of nonce, then AES-GCM over the data,
with the entry's id and the kind of the piece as what belongs to it. What is to be sealed and is not, is refused.
"""

import json
import os
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from hashlib import blake2b
from typing import Any, Final

WIRE_VERSION: Final = 1
SMALL_BYTES: Final = 1024
"""Less is not compressed: it would take longer than it saves."""
MOST_BYTES: Final = 256 << 20
"""Of a body, or a piece, when it is not compressed any more."""
LEAST_SECRET_BYTES: Final = 16
_COMPRESSED: Final = 1
_SEALED: Final = 2
_NONCE_BYTES: Final = 12
_QUICK: Final = 1
"""How hard zlib tries: JSON of conversations gets a third of its size at 100 MB/s; more takes much longer."""


class Unreadable(ValueError):
    """What was read is none of this format, or not sealed by the same key; the message holds nothing of it."""


@dataclass(frozen=True, slots=True)
class Ask:
    """What is asked of an engine, without the body."""

    path: str
    """Such as /v1/chat/completions."""
    headers: tuple[tuple[str, str], ...] = ()

    def write(self) -> bytes:
        """Give it as it is written into an entry."""
        said = {"v": WIRE_VERSION, "path": self.path, "headers": self.headers}
        return json.dumps(said, separators=(",", ":")).encode()


def read_ask(data: bytes) -> Ask:
    """Read what `Ask.write` has written; fields that are not known are left out. Raises Unreadable."""
    said = _read_object(data)
    if said.get("v") != WIRE_VERSION:
        raise Unreadable(f"an entry must be of version {WIRE_VERSION}")
    path, headers = said.get("path"), said.get("headers", [])
    if not isinstance(path, str) or not path.startswith("/"):
        raise Unreadable("an entry's `path` must begin with a slash")
    if not isinstance(headers, list) or not all(
        isinstance(one, list) and len(one) == 2 and all(isinstance(part, str) for part in one) for one in headers
    ):
        raise Unreadable("an entry's `headers` must be pairs of texts")
    return Ask(path, tuple((name, value) for name, value in headers))


@dataclass(frozen=True, slots=True)
class AnswerHead:
    """How an answer begins."""

    status: int
    content_type: str
    worker: str = ""
    """Who answers, in words for a header and a log."""
    address: str = ""
    """Where gateways send to its engine directly, `HOST:PORT` (IPv6 without brackets); "": not known."""

    def write(self) -> bytes:
        """Give it as it is posted."""
        said = {"status": self.status, "type": self.content_type, "worker": self.worker, "address": self.address}
        return json.dumps(said, separators=(",", ":")).encode()


def read_answer_head(data: bytes) -> AnswerHead:
    """Read what `AnswerHead.write` has written. Raises Unreadable."""
    said = _read_object(data)
    status, kind, worker = said.get("status"), said.get("type"), said.get("worker", "")
    address = said.get("address", "")  # A worker from before the field says none.
    if type(status) is not int or not 100 <= status <= 599:
        raise Unreadable("an answer's `status` must be from 100 to 599")
    if not isinstance(kind, str) or not isinstance(worker, str):
        raise Unreadable("an answer's `type` and `worker` must be texts")
    return AnswerHead(status, kind, worker, address if isinstance(address, str) else "")


class Packing:
    """How bodies and pieces are written: sealed where there is a secret."""

    def __init__(self, secret: bytes = b"") -> None:
        """Make it. Raises ValueError for a secret of less than LEAST_SECRET_BYTES, which could be guessed."""
        if secret and len(secret) < LEAST_SECRET_BYTES:
            raise ValueError(f"the secret of a queue must have at least {LEAST_SECRET_BYTES} bytes")
        self._cipher: Any = None
        if secret:
            # Only where something is sealed: nobody else needs the library.
            from cryptography.hazmat.primitives.ciphers.aead import AESGCM

            self._cipher = AESGCM(blake2b(secret, digest_size=32, person=b"queue").digest())

    def pack(self, entry_id: str, kind: str, data: bytes) -> bytes:
        """Give data as it is written for an entry: `kind` is b for the body, else that of the piece."""
        flags = 0
        if len(data) > SMALL_BYTES:
            smaller = zlib.compress(data, _QUICK)
            if len(smaller) < len(data):
                data, flags = smaller, _COMPRESSED
        if self._cipher is None:
            return bytes((flags,)) + data
        nonce = os.urandom(_NONCE_BYTES)
        flags |= _SEALED
        sealed: bytes = self._cipher.encrypt(nonce, data, _belonging(entry_id, kind, flags))
        return bytes((flags,)) + nonce + sealed

    def unpack(self, entry_id: str, kind: str, data: bytes) -> bytes:
        """Give what `pack` was given. Raises Unreadable."""
        if not data or data[0] & ~(_COMPRESSED | _SEALED):
            raise Unreadable("data must begin with flags that are known")
        flags, data = data[0], data[1:]
        if bool(flags & _SEALED) != (self._cipher is not None):
            raise Unreadable("data is sealed, and there is no key" if flags & _SEALED else "data must be sealed")
        if flags & _SEALED:
            data = self._open(entry_id, kind, flags, data)
        if not flags & _COMPRESSED:
            return data
        reader = zlib.decompressobj()
        try:
            whole = reader.decompress(data, MOST_BYTES)
        except zlib.error:
            raise Unreadable("data must be compressed as its flags say") from None
        if not reader.eof or reader.unused_data:
            raise Unreadable(f"data must be whole, and of at most {MOST_BYTES} bytes")
        return whole

    def _open(self, entry_id: str, kind: str, flags: int, data: bytes) -> bytes:
        from cryptography.exceptions import InvalidTag

        nonce, sealed = data[:_NONCE_BYTES], data[_NONCE_BYTES:]
        try:
            return bytes(self._cipher.decrypt(nonce, sealed, _belonging(entry_id, kind, flags)))
        except (InvalidTag, ValueError):
            raise Unreadable("data is not sealed by this key, or was changed") from None


def _belonging(entry_id: str, kind: str, flags: int) -> bytes:
    return f"{kind}{flags}:{entry_id}".encode()


def _read_object(data: bytes) -> Mapping[str, Any]:
    try:
        said = json.loads(data)
    except (ValueError, RecursionError):
        raise Unreadable("it must be JSON") from None
    if not isinstance(said, dict):
        raise Unreadable("it must be an object")
    return said
