"""What an agent says of itself, and of whom it works for: it stays here, or goes out as a name that tells nothing."""

import re
import secrets
from hashlib import blake2b
from typing import Any, Final, Protocol

from capstan_gateway.dialects.fields import Document

AGENTS_OWN: Final = "client_metadata"
"""Codex' paths of workspaces, remotes, commits and the id of its installation."""
KEY_BYTES: Final = 32
LEAST_KEY_BYTES: Final = 16
_MAX_KEY_BYTES: Final = 64
"""What BLAKE2b takes."""
_NAMES: Final = ("user", "safety_identifier")
_CACHE_KEY: Final = "prompt_cache_key"
_PLAIN_KEY: Final = re.compile(r"[A-Za-z0-9_.:+-]{1,64}")
"""Of a cache: what OpenAI takes, and no address of a person."""


class Pseudonyms:
    """Names of users as hashes (BLAKE2b) whose key is a secret of the installation: who lacks it cannot tell whether a
    hash is of a name that they guess.

    The key may be set later, and anew: from then on names have other hashes. Until then it is one of this process.
    """

    __slots__ = ("_key",)

    def __init__(self, key: bytes | None = None) -> None:
        self._key = secrets.token_bytes(KEY_BYTES)
        if key is not None:
            self.set_key(key)

    def set_key(self, key: bytes) -> None:
        """Use this key; ValueError when it has less than 16 bytes."""
        if len(key) < LEAST_KEY_BYTES:
            raise ValueError(f"a key has at least {LEAST_KEY_BYTES} bytes")
        self._key = key if len(key) <= _MAX_KEY_BYTES else blake2b(key, digest_size=_MAX_KEY_BYTES).digest()

    def of(self, name: str, *, at: str) -> str:
        """Give the name that stands for this one `at` a model: `u_` and 32 hexadecimal digits.

        It is the same for one user at one model, and another one at every other model.
        """
        text = f"{at}\0{name}".encode("utf-8", "surrogatepass")
        return f"u_{blake2b(text, key=self._key, digest_size=16).hexdigest()}"

    def part(self, name: str, *, of: int) -> int:
        """Give which of so many parts somebody belongs to, always the same one: it tells nothing of the name."""
        text = name.encode("utf-8", "surrogatepass")
        return int.from_bytes(blake2b(text, key=self._key, digest_size=8, person=b"part").digest(), "big") % of

    def salt(self, tenant: str, said: str, *, at: str) -> str:
        """Give what parts one tenant's blocks from all others' in the cache of a model: 32 hexadecimal digits.

        `said` is the salt that the client gives itself, which parts blocks of the same tenant.
        """
        text = f"{at}\0{len(tenant)}\0{tenant}{said}".encode("utf-8", "surrogatepass")
        return blake2b(text, key=self._key, digest_size=16, person=b"cache_salt").hexdigest()


class NamedTarget(Protocol):
    """What is to be known of a model."""

    @property
    def id(self) -> str:
        """Its name in the config."""
        ...

    @property
    def pseudonyms(self) -> Pseudonyms:
        """What gives its users names."""
        ...


def without_private(document: Document, target: NamedTarget, *, whole: bool) -> Document:
    """Give the request without what is the agent's own; the same object where there is nothing of it.

    With `whole` the names of users become hashes as well: a plain name or an address tells who it is, and Claude Code's
    has the id of the device in it. So do keys of caches that are more than a plain id.
    """
    if AGENTS_OWN in document:
        document = {key: value for key, value in document.items() if key != AGENTS_OWN}
    if not whole:
        return document
    hidden = {name: _hidden(document[name], target) for name in _NAMES if _is_name(document.get(name))}
    key = document.get(_CACHE_KEY)
    if isinstance(key, str) and key and not _PLAIN_KEY.fullmatch(key):
        hidden[_CACHE_KEY] = _hidden(key, target)
    return {**document, **hidden} if hidden else document


def without_user_id(document: Document, target: NamedTarget) -> Document:
    """Give a request in Anthropic's own form with a hash as its `metadata.user_id`; the same object without one."""
    metadata = document.get("metadata")
    user = metadata.get("user_id") if isinstance(metadata, dict) else None
    if not isinstance(metadata, dict) or not isinstance(user, str) or not user:
        return document
    return {**document, "metadata": {**metadata, "user_id": _hidden(user, target)}}


def _is_name(value: Any) -> bool:
    return isinstance(value, str) and value != ""


def _hidden(name: str, target: NamedTarget) -> str:
    return target.pseudonyms.of(name, at=target.id)
