"""The folder in which one session keeps its config, logs and credentials: only its owner's, and only one session's."""

import fcntl
import os
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from capstan_operator.local.errors import AlreadyRunning, ForeignFolder

LOCK = "lock"
ADDRESS = "gateway-url"
"""Where the gateway of the session is that runs."""
KEYS = "keys"
"""The part that outlives a session."""
PARTS = ("config", "credentials", "logs", "prefixes", "files")


@contextmanager
def state_directory(folder: Path) -> Iterator[Path]:
    """Give an emptied state directory that nobody else uses. Raises AlreadyRunning, and ForeignFolder for a folder that
    was not a state directory before: nothing in it is touched."""
    _check_ours(folder)
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    folder.chmod(0o700)
    descriptor = os.open(folder / LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        _lock(descriptor, folder)
        (folder / KEYS).mkdir(mode=0o700, exist_ok=True)
        (folder / ADDRESS).unlink(missing_ok=True)
        for part in PARTS:
            shutil.rmtree(folder / part, ignore_errors=True)
            (folder / part).mkdir(mode=0o700)
        yield folder
        shutil.rmtree(folder / "credentials", ignore_errors=True)
        (folder / ADDRESS).unlink(missing_ok=True)
    finally:
        os.close(descriptor)


def prepare(folder: Path) -> None:
    """Have a state directory with a place for keys, whether or not a session uses it. Raises ForeignFolder."""
    _check_ours(folder)
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    folder.chmod(0o700)
    if not _is_lock(folder / LOCK):
        descriptor = os.open(folder / LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            _lock(descriptor, folder)
        except AlreadyRunning:
            pass  # a session has just begun, and says so itself
        finally:
            os.close(descriptor)
    (folder / KEYS).mkdir(mode=0o700, exist_ok=True)


def _check_ours(folder: Path) -> None:
    """Refuse a folder that holds anything without the lock of a session, because what it holds would be deleted."""
    if not folder.exists():
        return
    if not folder.is_dir():
        raise ForeignFolder(f"{folder} is not a folder; choose another one with --state-dir")
    if {path.name for path in folder.iterdir()} <= {LOCK}:
        return
    if not _is_lock(folder / LOCK):
        raise ForeignFolder(
            f"{folder} holds files that are not of `capstan up`, which would delete some of them; "
            "choose an empty or a new folder with --state-dir"
        )


def _is_lock(path: Path) -> bool:
    """Say whether a file is what `_lock` writes: a process's number and nothing else."""
    if path.is_symlink() or not path.is_file():
        return False
    with path.open("rb") as stream:
        return re.fullmatch(rb" *[0-9]+\n", stream.read(33)) is not None


def _lock(descriptor: int, folder: Path) -> None:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        owner = os.pread(descriptor, 32, 0).decode().strip()
        raise AlreadyRunning(
            f"another `capstan up` (process {owner}) uses {folder}; end it, or choose another folder with --state-dir"
        ) from None
    # Always as long, and written at once: whoever looks sees a number at every moment.
    os.ftruncate(descriptor, os.pwrite(descriptor, f"{os.getpid():>10}\n".encode(), 0))
