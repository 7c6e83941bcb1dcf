"""What an agent says of itself, and of whom it works for: it stays here, or goes out as a name that tells nothing."""

import re
from hashlib import blake2b
from typing import Final

from capstan_gateway.dialects.fields import Document

AGENTS_OWN: Final = "client_metadata"
"""Codex' paths of workspaces, remotes, commits and the id of its installation."""
MAX_NAME_CHARS: Final = 64
"""What OpenAI takes as a user, or as the key of a cache."""
_FIT: Final = re.compile(r"[A-Za-z0-9_.:@+-]{1,64}")
_NAMES: Final = ("user", "safety_identifier", "prompt_cache_key")


def without_private(document: Document, *, target: str, whole: bool) -> Document:
    """Give the request without what is the agent's own; the same object where there is nothing of it.

    With `whole` the names of users are made to fit as well: one that is too long, or more than a name (Claude Code's is
    JSON, with the id of the device in it), becomes a hash. It is the same for one user at one model, and another one at
    every other model: `target` is its key.
    """
    if AGENTS_OWN in document:
        document = {key: value for key, value in document.items() if key != AGENTS_OWN}
    if not whole:
        return document
    fit = {name: fitting_name(document[name], target) for name in _NAMES if isinstance(document.get(name), str)}
    return document if all(document[name] == value for name, value in fit.items()) else {**document, **fit}


def fitting_name(name: str, target: str) -> str:
    """Give a name that every API takes: itself, or `u_` and 32 hexadecimal digits of a hash (BLAKE2b) with a key."""
    if not name or _FIT.fullmatch(name):
        return name
    key = blake2b(target.encode("utf-8", "surrogatepass"), digest_size=32).digest()
    return f"u_{blake2b(name.encode('utf-8', 'surrogatepass'), key=key, digest_size=16).hexdigest()}"
