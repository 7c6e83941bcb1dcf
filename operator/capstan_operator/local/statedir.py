"""The folder in which one session keeps its config, logs and credentials: only its owner's, and only one session's."""

import fcntl
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from capstan_operator.local.errors import AlreadyRunning

PARTS = ("config", "credentials", "logs", "prefixes")


@contextmanager
def state_directory(folder: Path) -> Iterator[Path]:
    """Give an emptied state directory that nobody else uses. Raises AlreadyRunning."""
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    folder.chmod(0o700)
    descriptor = os.open(folder / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        _lock(descriptor, folder)
        for part in PARTS:
            shutil.rmtree(folder / part, ignore_errors=True)
            (folder / part).mkdir(mode=0o700)
        yield folder
        shutil.rmtree(folder / "credentials", ignore_errors=True)
    finally:
        os.close(descriptor)


def _lock(descriptor: int, folder: Path) -> None:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        owner = os.pread(descriptor, 32, 0).decode().strip()
        raise AlreadyRunning(
            f"another `capstan up` (process {owner}) uses {folder}; end it, or choose another folder with --state-dir"
        ) from None
    os.ftruncate(descriptor, 0)
    os.pwrite(descriptor, f"{os.getpid()}\n".encode(), 0)
