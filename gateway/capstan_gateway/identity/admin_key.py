"""The credential of the admin pages: a file that is made for an installation, read again when it changes.

It holds keys with blanks or ends of lines between them. Two of them are valid at once, so that a key is replaced
without a moment in which either its old or its new holder is refused: add the second one, change the holders, remove
the first. Who sends all of the file, as Prometheus does with a Secret, is let in by any key of it: with a blank between
two of them that is a header's value too.
"""

import asyncio
import hmac
import logging
from enum import Enum
from hashlib import blake2b
from pathlib import Path
from typing import Final

from capstan_contract.admin_keys import LEAST_KEY_BYTES, key_words
from capstan_gateway.identity.credential import MAX_CREDENTIAL_BYTES, refused
from capstan_gateway.life.threads import Threads

log = logging.getLogger(__name__)

MOST_KEYS: Final = 2
LOOK_SECONDS: Final = 2.0
"""How often the file is looked at."""
MAX_FILE_BYTES: Final = 4096


class Standing(Enum):
    """What is known of the admin key."""

    NOT_ASKED_FOR = "not asked for"
    """No file is named."""
    NOT_READ = "not read"
    """The file was not looked at yet."""
    ABSENT = "absent"
    """There never was a key in it: whoever makes it has not done so yet."""
    KNOWN = "known"
    """There was one; from then on it is asked for, whatever becomes of the file."""


class AdminKey:
    """The keys of the admin pages that are valid now."""

    def __init__(self, path: Path | None = None, *, look_seconds: float = LOOK_SECONDS) -> None:
        self.standing = Standing.NOT_ASKED_FOR if path is None else Standing.NOT_READ
        self._path = path
        self._look_seconds = look_seconds
        self._digests: tuple[bytes, ...] = ()
        self._said: bytes | None = None

    def check(self, credential: bytes) -> None:
        """Return where this is a valid key; Unauthenticated otherwise. Takes the same time for every wrong one."""
        given = [_digest(key) for key in usable_keys(credential[:MAX_CREDENTIAL_BYTES])]
        fits = [hmac.compare_digest(digest, known) for digest in given for known in self._digests]
        if not any(fits):
            raise refused(credential)

    async def run(self) -> None:
        """Watch the file for ever; returns at once without one."""
        if self._path is None:
            return
        threads = Threads("admin-key")
        while True:
            self.take(await threads.run(_read, self._path))
            await asyncio.sleep(self._look_seconds)

    def take(self, text: bytes | None) -> None:
        """Use what is in the file, None where it is not there; without a key in it nothing changes."""
        keys = usable_keys(text or b"")
        if keys:
            digests = tuple(_digest(key) for key in keys)
            if digests != self._digests:
                log.info("read the admin key", extra={"count": len(keys)})
            self._digests, self.standing = digests, Standing.KNOWN
            return
        if self.standing is Standing.NOT_READ:
            self.standing = Standing.ABSENT
        if text and text != self._said:
            log.warning("the file of the admin key has none", extra={"least_bytes": LEAST_KEY_BYTES})
        self._said = text


def usable_keys(text: bytes) -> list[bytes]:
    """Give the keys in a file: the first two of its words that are long enough, and could be a header's value."""
    return key_words(text)[:MOST_KEYS]


def whole_words(text: bytes) -> bytes:
    """Give what was read of a file without the last word, where there is more of it: half a key is none."""
    return text if len(text) <= MAX_FILE_BYTES else b" ".join(text.split()[:-1])


def _digest(key: bytes) -> bytes:
    return blake2b(key, digest_size=32).digest()


def _read(path: Path) -> bytes | None:
    try:
        with path.open("rb") as file:
            return whole_words(file.read(MAX_FILE_BYTES + 1))
    except OSError:
        return None
