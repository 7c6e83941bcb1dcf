"""An entry as bytes, for stores outside of the process: a box (`box.py`) with its head (JSON) and its body. Pure.

What does not read is no entry. With a secret nobody who lacks it can make or change one; without one whoever can write
into the store can say what models answer.
"""

from typing import Final, NamedTuple

import orjson

from capstan_contract.caches import Compression
from capstan_gateway.caches.box import SECRET_BYTES, Box, Unreadable
from capstan_gateway.caches.port import CacheKey, Entry, Form
from capstan_gateway.tokens.usage import Usage

__all__ = ("SECRET_BYTES", "Codec", "Unreadable")
_MAGIC: Final = b"CPC"
_VERSION: Final = 1
_USAGE_NUMBERS: Final = 9
"""How many of a usage's numbers are written, in their order: gateways of another release read no more and no fewer.
What stands behind them in a `Usage` is of requests with a file, whose answers no cache keeps."""


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
                "expires": entry.expires_ms,
                "usage": None if entry.usage is None else entry.usage[:_USAGE_NUMBERS],
                "price": entry.nano_dollars, "question": entry.question, "id": entry.id,
            }
        )  # fmt: skip
        return self._box().close(key.text.encode(), len(head).to_bytes(4, "big") + head + entry.body)

    def read(self, key: CacheKey, data: bytes) -> Entry:
        """Give the entry again. Raises Unreadable."""
        return _entry(self._box().open(key.text.encode(), data))

    def _box(self) -> Box:
        return Box(_MAGIC, _VERSION, b"entry", self.secret, self.compression is Compression.ZLIB, self.most_bytes)


def _entry(text: bytes) -> Entry:
    size = int.from_bytes(text[:4], "big")
    try:
        head = orjson.loads(text[4 : 4 + size])
        usage = head["usage"]
        return Entry(
            form=Form(head["form"]), body=text[4 + size :], content_type=head["type"].encode("latin-1"),
            created_ms=int(head["created"]), expires_ms=int(head["expires"]),
            usage=None if usage is None else Usage(*usage[:_USAGE_NUMBERS]),
            nano_dollars=None if head["price"] is None else int(head["price"]), question=str(head["question"]),
            id=str(head.get("id") or ""),
        )  # fmt: skip
    except (orjson.JSONDecodeError, KeyError, TypeError, ValueError, AttributeError):
        raise Unreadable("its head does not read") from None
