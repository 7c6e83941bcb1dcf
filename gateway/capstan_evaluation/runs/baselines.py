"""Baselines: whole runs that have a name, as files in a directory, with which others are compared."""

import os
import re
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from capstan_evaluation.records import Run, RunHeader
from capstan_evaluation.runs.files import BadRun, load_run, read_log

DIRECTORY: Final = Path(".capstan/baselines")
SUFFIX: Final = ".jsonl"
_NAME: Final = re.compile(r"[a-z0-9]([a-z0-9._-]{0,61}[a-z0-9])?")


@dataclass(frozen=True)
class Baseline:
    """One of a directory."""

    name: str
    header: RunHeader | None
    fault: str = ""
    """Why it cannot be read."""


def baseline_path(directory: Path, name: str) -> Path:
    """Give the file of a baseline. Raises BadRun for what is no name."""
    if not _NAME.fullmatch(name):
        raise BadRun(f"{name!r} is no name of a baseline: up to 63 of a-z, 0-9, `.`, `_` and `-`, no sign at an end")
    return directory / f"{name}{SUFFIX}"


def set_baseline(directory: Path, name: str, source: Path) -> Path:
    """Keep a copy of a whole run under a name, in place of what had the name, at once or not at all.

    Raises BadRun for a run that is not over, and OSError.
    """
    path = baseline_path(directory, name)
    load_run(source)
    directory.mkdir(parents=True, exist_ok=True)
    file, temporary = tempfile.mkstemp(dir=directory, prefix=".", suffix=SUFFIX)
    try:
        with os.fdopen(file, "wb") as copy:
            copy.write(source.read_bytes())
            copy.flush()
            os.fsync(copy.fileno())
        Path(temporary).replace(path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise
    return path


def load_baseline(directory: Path, name: str) -> Run:
    """Read a baseline. Raises BadRun where there is none of this name, or it cannot be read."""
    path = baseline_path(directory, name)
    if not path.exists():
        known = ", ".join(one.name for one in list_baselines(directory)) or "none"
        raise BadRun(f"there is no baseline {name!r} in {directory} (there are: {known})")
    return load_run(path)


def list_baselines(directory: Path) -> list[Baseline]:
    """Give the baselines of a directory by name; of one that does not exist, none."""
    return [_read(path) for path in sorted(directory.glob(f"[!.]*{SUFFIX}"))]


def _read(path: Path) -> Baseline:
    name = path.name.removesuffix(SUFFIX)
    try:
        log, _ = read_log(path)
    except (BadRun, OSError) as error:
        return Baseline(name, None, str(error))
    return Baseline(name, log.header if log else None, "" if log else "it has no header")
