"""Which files of the directory are the tokenizer of a name, and what is in them. Blocking: for a thread.

    NAME/tokenizer.json      NAME.tokenizer.json           a ConfigMap has no folders
    NAME/tokenizer_config.json  NAME.tokenizer_config.json its special tokens, and its template if that is not beside it
    NAME/chat_template.jinja NAME.chat_template.jinja
    o200k_base.tiktoken      cl100k_base.tiktoken

Each may be compressed (`.gz`). NAME may be of two parts, `organisation/model`.
"""

import gzip
import hashlib
import os
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Final

MEBIBYTE: Final = 1024 * 1024
MAX_DEPTH: Final = 3
MAX_FILES: Final = 4096
"""Of what lies in the directory; what is beyond is not looked at."""


class Role(StrEnum):
    """What a file is of a tokenizer."""

    TOKENIZER = "tokenizer.json"
    CONFIG = "tokenizer_config.json"
    TEMPLATE = "chat_template.jinja"
    RANKS = "tiktoken"


MAX_BYTES: Final[Mapping[Role, int]] = {
    Role.TOKENIZER: 64 * MEBIBYTE, Role.CONFIG: 4 * MEBIBYTE, Role.TEMPLATE: MEBIBYTE, Role.RANKS: 16 * MEBIBYTE,
}  # fmt: skip
"""Of a file, unpacked. The largest tokenizers of 2026 (Gemma, Llama 4) have 30 MiB."""
State = tuple[str, int, int, int]
"""Path, inode, time of the last change in ns, and bytes: what changes when a file does."""


class Unusable(Exception):
    """A tokenizer that cannot be used. `reason` is one of a few, for metrics; the message is for people; `may_pass`
    says that the same files may do another time."""

    def __init__(self, reason: str, message: str, *, may_pass: bool = False) -> None:
        super().__init__(message)
        self.reason: Final = reason
        self.may_pass: Final = may_pass


@dataclass(frozen=True, slots=True)
class Files:
    """The files of one tokenizer."""

    paths: Mapping[Role, Path]
    state: tuple[State, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Shipped:
    """What is in them."""

    tokenizer: bytes
    """`tokenizer.json`, or ranks."""
    config: bytes | None = None
    template: bytes | None = None
    ranks: bool = False

    @property
    def version(self) -> str:
        """The SHA-256 of all of it."""
        digest = hashlib.sha256()
        for part in (self.tokenizer, self.config, self.template):
            digest.update(b"-" if part is None else b"%d:%b" % (len(part), part))
        return digest.hexdigest()


def role_of(parts: tuple[str, ...]) -> tuple[str, Role] | None:
    """Say which tokenizer a file is of, and what it is of it; `parts` are those of its path. None: of none."""
    *folders, file = parts
    file = file.removesuffix(".gz")
    name, dot, ending = file.rpartition(".")
    if ending == Role.RANKS and name and not folders:
        return name, Role.RANKS
    for role in (Role.TOKENIZER, Role.CONFIG, Role.TEMPLATE):
        if file == role and folders:
            return "/".join(folders), role
        if dot and not folders and file.endswith(f".{role}") and len(file) > len(role) + 1:
            return file.removesuffix(f".{role}"), role
    return None


def scan(directory: Path) -> dict[str, Files]:
    """Give the tokenizers of a directory by name; none of one that is not there. Of two files of a role, the first."""
    paths: dict[str, dict[Role, Path]] = {}
    states: dict[str, list[State]] = {}
    for path in _files(directory):
        found = role_of(path.relative_to(directory).parts)
        if found is None:
            continue
        name, role = found
        of_name = paths.setdefault(name, {})
        if role in of_name:
            continue
        try:
            state = path.stat()
        except OSError:
            continue  # It went away after the listing.
        of_name[role] = path
        states.setdefault(name, []).append((str(path), state.st_ino, state.st_mtime_ns, state.st_size))
    return {name: Files(of_name, tuple(states[name])) for name, of_name in paths.items() if _is_one(of_name)}


def _is_one(paths: Mapping[Role, Path]) -> bool:
    return Role.TOKENIZER in paths or Role.RANKS in paths


def _files(directory: Path) -> Iterator[Path]:
    left = MAX_FILES
    for folder, folders, files in os.walk(directory, followlinks=True):
        depth = len(Path(folder).relative_to(directory).parts)
        # NB: a mounted ConfigMap has the real files in ..data; those that count are symlinks beside it.
        folders[:] = sorted(name for name in folders if not name.startswith("..")) if depth + 1 < MAX_DEPTH else []
        for name in sorted(files):
            if not left:
                return
            left -= 1
            yield Path(folder, name)


def read(files: Files) -> Shipped:
    """Read a tokenizer; raises Unusable."""
    if Role.TOKENIZER not in files.paths:
        return Shipped(tokenizer=_read(files.paths[Role.RANKS], Role.RANKS), ranks=True)
    config, template = files.paths.get(Role.CONFIG), files.paths.get(Role.TEMPLATE)
    return Shipped(
        tokenizer=_read(files.paths[Role.TOKENIZER], Role.TOKENIZER),
        config=None if config is None else _read(config, Role.CONFIG),
        template=None if template is None else _read(template, Role.TEMPLATE),
    )


def _read(path: Path, role: Role) -> bytes:
    most = MAX_BYTES[role]
    try:
        if not path.is_file():
            raise Unusable("unreadable", f"{path.name} is no file")
        with gzip.open(path) if path.suffix == ".gz" else path.open("rb") as file:
            found = file.read(most + 1)
    except (OSError, EOFError, zlib.error) as error:
        passes = isinstance(error, OSError) and not isinstance(error, gzip.BadGzipFile)
        message = f"{path.name} cannot be read: {type(error).__name__}"
        raise Unusable("unreadable", message, may_pass=passes) from error
    if len(found) > most:
        raise Unusable("too large", f"{path.name} has more than {most} bytes")
    return found
