"""The config from a directory, watched: local mode, and the boot fallback in a cluster."""

from pathlib import Path

from capstan_contract.names import CONFIG_FILE
from capstan_gateway.config.files import changes, read_files
from capstan_gateway.config.store import DIRECTORY, ConfigStore
from capstan_gateway.life.threads import Threads


class DirectorySource:
    """Offers what is in the directory whenever it changes."""

    def __init__(self, directory: Path, store: ConfigStore) -> None:
        self._directory = directory
        self._store = store
        self._threads = Threads("config-files")
        self._seen: dict[str, bytes] | None = None

    async def run(self) -> None:
        """Watch for ever."""
        async for _ in changes(self._directory, self._threads):
            await self.take(await self._threads.run(read_files, self._directory))

    async def take(self, files: dict[str, bytes]) -> None:
        """Offer these files if they are other ones than last time."""
        if files == self._seen:
            return
        self._seen = files
        if CONFIG_FILE in files:
            await self._store.offer(files, source=DIRECTORY)
        else:
            self._store.reject(f"{CONFIG_FILE} is not in the config directory", source=DIRECTORY)
