"""Request ids: the client's own if it is harmless, ours otherwise."""

import secrets
from itertools import count
from typing import Final

MAX_BYTES: Final = 128
_ALLOWED: Final = b"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_.:"


class RequestIds:
    """Makes ids that no other process makes: a random part for the process, then a counter."""

    def __init__(self) -> None:
        self._prefix = b"req_" + secrets.token_hex(8).encode()
        self._numbers = count(1)

    def make(self) -> bytes:
        """Give a fresh id."""
        return b"%b%08x" % (self._prefix, next(self._numbers))

    def accept(self, value: bytes) -> bytes:
        """Give the client's id, or a fresh one when it is too long or holds anything but letters, digits and -_.:"""
        if 0 < len(value) <= MAX_BYTES and not value.translate(None, _ALLOWED):
            return value
        return self.make()
