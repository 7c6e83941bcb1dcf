"""The public keys of an issuer, as it publishes them (a JSON Web Key Set, RFC 7517). Pure."""

from collections.abc import Callable, Mapping
from typing import Any, Final, Protocol

import orjson

from capstan_gateway.identity.claims import MAX_CHARS

MAX_KEYS: Final = 64
"""Issuers have a handful; of more the first ones count."""


class Key(Protocol):
    """A public key; `signatures.VerifyingKey` is one."""

    @property
    def algorithm(self) -> str:
        """The one algorithm that it is for."""
        ...

    def check(self, token: bytes) -> None:
        """Return where its owner has signed this token; TokenRefused otherwise."""
        ...


ReadKey = Callable[[Mapping[str, Any]], Key | None]
"""Makes a key of its document; None where it is none that is taken."""


class NoKeys(Exception):
    """What was published is no set of keys, or has none that could be used."""


class KeySet:
    """Keys by their ids and algorithms. Never changed."""

    __slots__ = ("_by_id", "_nameless", "source")

    def __init__(self, source: bytes, keys: list[tuple[str | None, Key]]) -> None:
        self.source: Final = source
        """The text that they were read from."""
        self._by_id = {(name, key.algorithm): key for name, key in reversed(keys) if name is not None}
        self._nameless: dict[str, list[Key]] = {}
        for _, key in keys:
            self._nameless.setdefault(key.algorithm, []).append(key)

    def find(self, key_id: str | None, algorithm: str) -> Key | None:
        """Give the key of this id for this algorithm; of a token that names none, the only one for it."""
        if key_id is not None:
            return self._by_id.get((key_id, algorithm))
        fitting = self._nameless.get(algorithm, [])
        return fitting[0] if len(fitting) == 1 else None


def read_key_set(text: bytes, read: ReadKey) -> KeySet:
    """Read what an issuer has published; NoKeys when nothing of it can be used. Keys of other kinds are passed over."""
    try:
        document = orjson.loads(text)
    except ValueError:
        raise NoKeys("it is not JSON") from None
    listed = document.get("keys") if isinstance(document, dict) else None
    if not isinstance(listed, list):
        raise NoKeys("it has no list `keys`")
    keys: list[tuple[str | None, Key]] = []
    for entry in listed[:MAX_KEYS]:
        name = entry.get("kid") if isinstance(entry, dict) else 0
        if name is None or (isinstance(name, str) and len(name) <= MAX_CHARS):
            key = read(entry)
            if key is not None:
                keys.append((name, key))
    if not keys:
        raise NoKeys("none of its keys is for a signature that is taken")
    return KeySet(text, keys)
