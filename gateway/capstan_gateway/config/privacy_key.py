"""The key of users' hashes: a file that is made for an installation, and read again when it changes. Never logged."""

import asyncio
import logging
from pathlib import Path
from typing import Final

from capstan_gateway.dialects.targets.private import LEAST_KEY_BYTES, Pseudonyms
from capstan_gateway.life.threads import Threads

log = logging.getLogger(__name__)

ABSENT_SECONDS: Final = 2.0
"""How often a file is looked for that is not there yet: it may be made after the gateway has begun."""
KNOWN_SECONDS: Final = 60.0
MAX_KEY_FILE_BYTES: Final = 4096


class PrivacyKeyFile:
    """Hands the key to who makes the hashes. Without a file, or until it is there, they have a key of this process."""

    def __init__(self, path: Path | None, pseudonyms: Pseudonyms, *, absent_seconds: float = ABSENT_SECONDS) -> None:
        self._path = path
        self._pseudonyms = pseudonyms
        self._absent_seconds = absent_seconds
        self._known = False
        self._too_short: bytes | None = None
        """What was warned of."""

    async def run(self) -> None:
        """Watch for ever; returns at once without a file."""
        if self._path is None:
            log.info("no key of the installation: hashes of users differ between processes and after a restart")
            return
        threads = Threads("privacy-key")
        while True:
            seconds = self.take(await threads.run(_read, self._path))
            await asyncio.sleep(seconds)

    def take(self, key: bytes | None) -> float:
        """Use what is in the file where it is a key; give the seconds until somebody is to look again.

        A file that is gone, or has no key any more, changes nothing.
        """
        if key is not None and len(key) >= LEAST_KEY_BYTES:
            if not self._known:
                log.info("read the key of users' hashes")
            self._pseudonyms.set_key(key)
            self._known = True
            self._too_short = None
        elif key is not None and key != self._too_short:
            self._too_short = key
            log.warning("the key of users' hashes is too short", extra={"least_bytes": LEAST_KEY_BYTES})
        return KNOWN_SECONDS if self._known else self._absent_seconds


def _read(path: Path) -> bytes | None:
    try:
        with path.open("rb") as file:
            return file.read(MAX_KEY_FILE_BYTES).strip()
    except OSError:
        return None
