"""The key that entries in shared stores are sealed with: read from a credential whenever it is needed."""

from collections.abc import Callable
from hashlib import blake2b
from typing import Final

from capstan_contract.caches import LEAST_SEALING_BYTES
from capstan_gateway.caches.codec import SECRET_BYTES


class Sealing:
    """What one policy's entries are sealed with. A key that comes later, or changes, is the next request's."""

    def __init__(self, file: str | None = None, secret_of: Callable[[str], bytes | None] = lambda _: None) -> None:
        """Make it. `file` names the credential; None: nothing is sealed."""
        self._file: Final = file
        self._secret_of: Final = secret_of
        self._given: bytes | None = None
        self._secret = b""

    @property
    def secret(self) -> bytes:
        """32 bytes; empty where nothing is sealed, and as long as the key is not there, or can be guessed."""
        if self._file is None:
            return b""
        given = self._secret_of(self._file)
        if given is not self._given:
            self._given = given
            enough = given is not None and len(given) >= LEAST_SEALING_BYTES
            self._secret = blake2b(given or b"", digest_size=SECRET_BYTES, person=b"cache").digest() if enough else b""
        return self._secret

    @property
    def may_leave(self) -> bool:
        """Whether entries may be written outside of the process: what is to be sealed may not without its key."""
        return self._file is None or bool(self.secret)
