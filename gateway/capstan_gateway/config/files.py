"""Watching a directory: changes of files in it, also when Kubernetes swaps the symlink of a mounted ConfigMap."""

import asyncio
import logging
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Final

from watchfiles import awatch

from capstan_gateway.life.threads import Threads

log = logging.getLogger(__name__)

RECHECK_MILLISECONDS: Final = 1000
"""Look at least so often, so that a lost notification, or one before the watch began, is not lost for long."""
ABSENT_SECONDS: Final = 0.5
STEP_MILLISECONDS: Final = 50
"""How often the watching thread wakes up; each time costs an idle gateway some microseconds."""
DEBOUNCE_MILLISECONDS: Final = 100
MAX_FILE_BYTES: Final = 2 * 1024 * 1024

Signature = tuple[tuple[str, int, int, int], ...]


async def changes(directory: Path, threads: Threads) -> AsyncIterator[None]:
    """Yield at the start, then whenever the files in `directory` are other ones. Never ends by itself."""
    seen: Signature | None = None
    async for _ in _hints(directory, threads):
        signature = await threads.run(_signature, directory)
        if signature != seen:
            seen = signature
            yield


async def _hints(directory: Path, threads: Threads) -> AsyncIterator[None]:
    polling = False
    while True:
        yield
        if not await threads.run(directory.is_dir):
            await asyncio.sleep(ABSENT_SECONDS)
            continue
        try:
            async for _ in awatch(
                directory,
                watch_filter=None,
                debounce=DEBOUNCE_MILLISECONDS,
                step=STEP_MILLISECONDS,
                rust_timeout=RECHECK_MILLISECONDS,
                yield_on_timeout=True,
                force_polling=polling or None,
                poll_delay_ms=300,
            ):
                yield
                if not await threads.run(directory.is_dir):
                    break
        except FileNotFoundError:
            continue
        except OSError as error:
            # Out of inotify watches, or a file system without notifications.
            log.warning("watched the directory by polling", extra={"reason": str(error)})
            polling = True


def _signature(directory: Path) -> Signature:
    found = []
    for path in _visible(directory):
        try:
            state = path.stat()
        except OSError:
            # It went away after the listing: what is left is the state.
            continue
        found.append((path.name, state.st_ino, state.st_mtime_ns, state.st_size))
    return tuple(found)


def _visible(directory: Path) -> list[Path]:
    # NB: a mounted ConfigMap has the real files in ..data; those that count are symlinks beside it.
    try:
        return sorted(path for path in directory.iterdir() if not path.name.startswith(".."))
    except OSError:
        return []


def read_files(directory: Path) -> dict[str, bytes]:
    """Give the regular files of a directory by name; what cannot be read, or is too large, is left out."""
    found: dict[str, bytes] = {}
    for path in _visible(directory):
        try:
            if path.is_file() and path.stat().st_size <= MAX_FILE_BYTES:
                found[path.name] = path.read_bytes()
        except OSError:
            # It went away between the listing and the reading: the notification for that is on its way.
            continue
    return found
