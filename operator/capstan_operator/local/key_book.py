"""The API keys of one session of `capstan up`: read again when their file changes."""

from collections.abc import Callable
from pathlib import Path

from capstan_contract.config import GatewayConfig
from capstan_operator.local.describe import Access
from capstan_operator.local.errors import KeysUnreadable
from capstan_operator.local.key_file import FILE, LocalKeys


class KeyBook:
    """What a session does with keys. A file that cannot be read changes nothing."""

    def __init__(self, state: Path, *, say: Callable[[str, str], None]) -> None:
        """Make the key of a first start, and the credential of the admin pages. Raises LocalError."""
        self._state = state
        self._say = say
        self._keys = LocalKeys(state)
        self._first = self._keys.first()
        self.admin_key = self._keys.admin_key()
        self.admin_file = self._keys.admin_file
        self._good = self._keys.into(GatewayConfig.build(()))
        self._seen = self._signature()
        self._problem = ""

    @property
    def folder(self) -> Path:
        """The folder to watch."""
        return self._keys.folder

    def holds(self, path: Path) -> bool:
        """Whether a file that has changed is that of the keys."""
        return path == (self._keys.folder / FILE).absolute() or path == self._keys.folder / FILE

    def access(self, *, everybody: bool) -> Access:
        """Give what people are told."""
        first = self._first
        if first is None or everybody:
            return Access(everybody=everybody, state=str(self._state))
        return Access(key=first.value, is_new=first.is_new, path=str(first.path), state=str(self._state))

    def has_changed(self) -> bool:
        """Whether the file is another one than when this was asked last."""
        before, self._seen = self._seen, self._signature()
        return before != self._seen

    def into(self, config: GatewayConfig) -> GatewayConfig:
        """Give the config with the keys of the file; while that is damaged, with those of before."""
        problem = ""
        try:
            self._good = self._keys.into(GatewayConfig.build(()))
        except KeysUnreadable as error:
            problem = str(error)
        if problem and problem != self._problem:
            self._say("keys", f"stay as they are: {problem}")
        self._problem = problem
        return config.with_keys(self._good.keys, self._good.keySalt)

    def _signature(self) -> tuple[int, int, int] | None:
        try:
            found = (self._keys.folder / FILE).stat()
        except OSError:
            return None
        return found.st_ino, found.st_mtime_ns, found.st_size
