"""API keys of hosted models: one file each, read again when they change. Never logged, never in an error."""

import logging
from pathlib import Path

from capstan_gateway.config.files import changes, read_files
from capstan_gateway.life.threads import Threads

log = logging.getLogger(__name__)


class Credentials:
    """Keys by file name. They outlive configs: a rotated key is used by the next request."""

    def __init__(self, directory: Path | None = None) -> None:
        self._directory = directory
        self._threads = Threads("credentials")
        self._keys: dict[str, bytes] = {}
        self._api_speaks = False

    def key(self, name: str) -> bytes | None:
        """Give the key in this file; None when there is none, or it could not be a header's value."""
        return self._keys.get(name)

    async def run(self) -> None:
        """Watch for ever; returns at once without a directory."""
        if self._directory is None:
            return
        async for _ in changes(self._directory, self._threads):
            files = await self._threads.run(read_files, self._directory)
            # Mounted files lag behind the API: once it has spoken, they could only bring an older key back.
            if not self._api_speaks:
                self.take(files)

    def take_from_api(self, files: dict[str, bytes], *, complete: bool = True) -> None:
        """Use the keys of the Secrets themselves, from now on instead of the directory's.

        While they are not complete, what is known beyond them stays.
        """
        self._api_speaks = True
        self.take(files if complete else {**self._keys, **files})

    def take(self, files: dict[str, bytes]) -> None:
        """Use the keys in these files."""
        keys = {name: key for name, raw in files.items() if (key := raw.strip()) and _fits_a_header(key)}
        if keys != self._keys:
            log.info("read the credentials", extra={"count": len(keys), "unusable": len(files) - len(keys)})
        self._keys = keys


def _fits_a_header(key: bytes) -> bool:
    return all(0x21 <= byte <= 0x7E for byte in key)
