"""What writes entries, by the file whose content seals them."""

import logging
from collections.abc import Callable, Container
from typing import Final

from capstan_contract.config import ModelQueue
from capstan_contract.queue.wire import Packing

log = logging.getLogger(__name__)

_OPEN: Final = Packing()
"""Where nothing is to be sealed."""


class Packings:
    """Made anew when a secret changes: what was sealed by the one before is then unreadable, and is asked for again."""

    def __init__(self, secret_of: Callable[[str], bytes | None]) -> None:
        self._secret_of = secret_of
        self._known: dict[str, tuple[bytes, Packing | None]] = {}

    def of(self, rules: ModelQueue) -> Packing | None:
        """Give what writes entries; None where they are to be sealed and what seals them is missing, or too short."""
        name = rules.secretFile
        if name is None:
            return _OPEN
        secret = self._secret_of(name) or b""
        known = self._known.get(name)
        if known is None or known[0] != secret:
            known = self._known[name] = (secret, _sealing(name, secret))
        return known[1]

    def retain(self, names: Container[str | None]) -> None:
        """Forget all other files."""
        self._known = {name: known for name, known in self._known.items() if name in names}

    def notes(self) -> tuple[str, ...]:
        """Say which files cannot be used that were asked for."""
        unusable = sorted(name for name, (_, packing) in self._known.items() if packing is None)
        return tuple(f"nothing is queued that {name} is to seal: it cannot be used" for name in unusable)


def _sealing(name: str, secret: bytes) -> Packing | None:
    try:
        if secret:
            return Packing(secret)
        reason = "there is no such file"
    except (ValueError, ImportError) as error:
        reason = str(error)
    log.error("nothing is queued: what seals entries cannot be used", extra={"file": name, "reason": reason})
    return None
