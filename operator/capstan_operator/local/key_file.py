"""API keys of local mode: a file with their hashes in the state directory, and the one that `capstan up` has made.

keys/keys.json   salted hashes, and whose they are; `capstan keys` and `capstan up` change it one after the other
keys/api-key     the key that `capstan up` has made at its first start, for its owner alone
keys/admin-key   the credential of the gateway's admin pages
"""

import fcntl
import os
import secrets
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import orjson
from pydantic import BaseModel, ConfigDict, ValidationError

from capstan_contract.config import GatewayConfig
from capstan_contract.keys import SALT_BYTES, KeyEntry
from capstan_operator.desired.api_keys import KeyFault, build_entry, check_key
from capstan_operator.desired.issued import Issued, Terms, make_key
from capstan_operator.local.configdir import write_atomically
from capstan_operator.local.errors import KeysUnreadable, NoSuchKey
from capstan_operator.local.statedir import KEYS, prepare

FILE: Final = "keys.json"
FIRST: Final = "api-key"
ADMIN: Final = "admin-key"
FIRST_NAME: Final = "local"


class _Kept(BaseModel):
    """One key in the file."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    entry: KeyEntry
    created: int = 0
    models: str = ""
    tenant: str = ""
    """As they were said."""


class _File(BaseModel):
    """The file."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    salt: str
    keys: tuple[_Kept, ...] = ()


@dataclass(frozen=True)
class FirstKey:
    """The key of whoever started `capstan up`."""

    value: str
    is_new: bool
    path: Path


class LocalKeys:
    """The keys of one state directory."""

    def __init__(self, state: Path, *, clock: Callable[[], float] = time.time) -> None:
        self._state = state
        self._folder = state / KEYS
        self._clock = clock

    @property
    def folder(self) -> Path:
        """Where they are."""
        return self._folder

    @property
    def admin_file(self) -> Path:
        """The file with the credential of the gateway's admin pages."""
        return self._folder / ADMIN

    async def all(self) -> list[Issued]:
        """Give those that were made. Raises KeysUnreadable."""
        return [_issued(kept) for kept in self._read().keys]

    async def create(self, name: str, value: str, terms: Terms) -> None:
        """Keep the hash of a key. Raises KeyFault where there is one of this name."""
        with self._changing() as (file, save):
            save(self._with(file, name, value, terms))

    async def expire(self, issued: Issued, at: int) -> None:
        """Have a key end. Raises NoSuchKey."""
        with self._changing() as (file, save):
            if all(one.entry.id != issued.name for one in file.keys):
                raise NoSuchKey(f"there is no API key '{issued.name}' in {self._folder}")
            kept = tuple(_ending(one, at) if one.entry.id == issued.name else one for one in file.keys)
            save(file.model_copy(update={"keys": kept}))

    async def delete(self, issued: Issued) -> None:
        """Forget a key; one that is gone is a success."""
        with self._changing() as (file, save):
            save(file.model_copy(update={"keys": tuple(one for one in file.keys if one.entry.id != issued.name)}))

    async def replaced(self, old: Issued, value: str) -> None:
        """Keep this one in clear where the old one is: as the key that `capstan up` shows."""
        path = self._folder / FIRST
        with self._changing() as (file, _):
            held = _text(path)
            digest = held and build_entry(FIRST_NAME, held.encode(), {}, file.salt).digest
            if any(kept.entry.id == old.name and kept.entry.digest == digest for kept in file.keys):
                write_atomically(path, f"{value}\n")

    def into(self, config: GatewayConfig) -> GatewayConfig:
        """Give the config with these keys. Raises KeysUnreadable."""
        file = self._read()
        return config.with_keys((kept.entry for kept in file.keys), file.salt)

    def first(self) -> FirstKey | None:
        """Give the key that `capstan up` shows: made at the first start, and at the first one after the file of keys is
        removed; None when somebody has revoked it."""
        path = self._folder / FIRST
        with self._changing() as (file, save):
            value = _text(path)
            if not (self._folder / FILE).exists() or (value is None and not file.keys):
                value = make_key()
                write_atomically(path, f"{value}\n")
                # NB: no user, so that the users whom requests name are told apart, as behind an application.
                save(self._with(file, FIRST_NAME, value, Terms(tenant=FIRST_NAME)))
                return FirstKey(value, is_new=True, path=path)
            if value is None:
                return None
            digest = build_entry(FIRST_NAME, value.encode(), {}, file.salt).digest
            found = next((kept for kept in file.keys if kept.entry.digest == digest), None)
            is_valid = found is not None and not 0 < found.entry.expires <= self._clock()
            return FirstKey(value, is_new=False, path=path) if is_valid else None

    def admin_key(self) -> str:
        """Give the credential of the gateway's admin pages; it is made once."""
        with self._changing():
            value = _text(self.admin_file)
            if value is None:
                value = secrets.token_urlsafe(32)
                write_atomically(self.admin_file, f"{value}\n")
            return value

    def _with(self, file: _File, name: str, value: str, terms: Terms) -> _File:
        if any(kept.entry.id == name for kept in file.keys):
            raise KeyFault(f"there is an API key '{name}' already")
        entry = build_entry(name, check_key(value.encode()), terms.annotations, file.salt)
        if any(kept.entry.digest == entry.digest for kept in file.keys):
            raise KeyFault("there is this API key already, under another name")
        kept = _Kept(entry=entry, created=int(self._clock()), models=terms.models, tenant=terms.tenant)
        return file.model_copy(update={"keys": (*file.keys, kept)})

    def _read(self) -> _File:
        try:
            return _File.model_validate_json((self._folder / FILE).read_bytes())
        except FileNotFoundError:
            return _File(salt="0" * 32)
        except (OSError, ValidationError) as error:
            raise KeysUnreadable(
                f"{self._folder / FILE} cannot be read ({type(error).__name__}): put it right, or remove it,"
                " which revokes all its keys"
            ) from None

    @contextmanager
    def _changing(self) -> Iterator[tuple[_File, Callable[[_File], None]]]:
        """Give the file and what writes it, while nobody else changes it."""
        prepare(self._state)
        descriptor = os.open(self._folder / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            is_there = (self._folder / FILE).exists()
            file = self._read() if is_there else _File(salt=secrets.token_hex(SALT_BYTES))
            yield file, self._save
        finally:
            os.close(descriptor)

    def _save(self, file: _File) -> None:
        document = file.model_dump(mode="json")
        write_atomically(self._folder / FILE, orjson.dumps(document, option=orjson.OPT_INDENT_2).decode() + "\n")


def _text(path: Path) -> str | None:
    try:
        return path.read_text().strip() or None
    except (OSError, ValueError):
        return None


def _issued(kept: _Kept) -> Issued:
    entry = kept.entry
    terms = Terms(entry.user, entry.team, kept.tenant, entry.tier, kept.models, entry.expires)
    return Issued(entry.id, terms, created=kept.created)


def _ending(kept: _Kept, at: int) -> _Kept:
    return kept.model_copy(update={"entry": kept.entry.model_copy(update={"expires": at})})
