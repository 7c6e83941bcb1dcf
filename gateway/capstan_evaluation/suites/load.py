"""Suites from files and from ConfigMaps.

On a laptop a path of `data` is relative to the suite's file, and may lead anywhere: who runs it may read there anyhow.
In a ConfigMap it is a key of the same ConfigMap and nothing else, so that a suite reads no other file of the pod.
"""

import os
import stat
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from capstan_evaluation.errors import Fault, SuiteInvalid
from capstan_evaluation.suites.resolve import resolve_suite
from capstan_evaluation.suites.rows import Unreadable
from capstan_evaluation.suites.suite import Suite

SUITE_KEY: Final = "suite.yaml"
MOST_SUITE_BYTES: Final = 16 * 1024 * 1024
MOST_DATA_BYTES: Final = 256 * 1024 * 1024


def load_suite(path: Path) -> Suite:
    """Read a suite and the data that it names. Raises SuiteInvalid with all that is wrong."""

    def read(name: str) -> str:
        return _read(path.parent / name, MOST_DATA_BYTES)

    return resolve_suite(_suite_text(path), file=str(path), read=read)


def load_suite_texts(texts: Mapping[str, str], key: str = SUITE_KEY) -> Suite:
    """Read the suite of a ConfigMap's data. Raises SuiteInvalid with all that is wrong."""

    def read(name: str) -> str:
        if name not in texts:
            raise Unreadable(0, "is no key of the ConfigMap, which has all files of a suite")
        return texts[name]

    if key not in texts:
        raise SuiteInvalid([Fault("is missing in the ConfigMap", key)])
    return resolve_suite(texts[key], file=key, read=read)


def load_mounted_suite(folder: Path, key: str = SUITE_KEY) -> Suite:
    """Read the suite of a ConfigMap that is mounted as a folder. Raises SuiteInvalid with all that is wrong."""

    def read(name: str) -> str:
        if "/" in name or name in (".", ".."):
            raise Unreadable(0, "must be a key of the ConfigMap, and no path")
        return _read(folder / name, MOST_DATA_BYTES)

    return resolve_suite(_suite_text(folder / key), file=key, read=read)


def _suite_text(path: Path) -> str:
    try:
        return _read(path, MOST_SUITE_BYTES)
    except Unreadable as error:
        raise SuiteInvalid([Fault(error.message, str(path))]) from None


def _read(path: Path, most: int) -> str:
    """Read a file of at most so many bytes. Raises Unreadable."""
    try:
        with open(path, "rb", opener=_opener) as file:
            if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
                raise Unreadable(0, "is no file")
            content = file.read(most + 1)
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else "its name is none"
        raise Unreadable(0, f"cannot be read: {reason}") from None
    if len(content) > most:
        raise Unreadable(0, f"has more than {most} bytes")
    try:
        return content.decode()
    except UnicodeDecodeError:
        raise Unreadable(0, "is not written in UTF-8") from None


def _opener(path: str, flags: int) -> int:
    return os.open(path, flags | os.O_NONBLOCK)  # a pipe that nobody writes to must not hang
