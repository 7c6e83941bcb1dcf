"""API keys as gateways know them: salted hashes, and whose they are.

A key has 256 random bits, so that a fast hash protects it as well as a slow one; the salt, one for each installation,
keeps two installations from having the same hash of one key. Who looks a key up makes its hash and finds that in a
table: that takes the same time whatever keys there are, and tells nothing of how much of a guess was right.
"""

from hashlib import blake2b
from typing import Final

from pydantic import Field

from capstan_contract.entries import Entry

DIGEST_BYTES: Final = 32
SALT_BYTES: Final = 16
KEY_PREFIX: Final = "sk-capstan-"
"""What keys begin with that Capstan makes, so that scanners for leaked secrets know them."""
MAX_KEY_BYTES: Final = 512
"""A longer text is no key."""


class KeyEntry(Entry):
    """One API key. Its id is the name of its Secret in the install namespace."""

    digest: str = Field(pattern=r"^[0-9a-f]{64}$")
    user: str = ""
    team: str = ""
    tenant: str
    """Never empty: what a key belongs to that says nothing of it is said in `tenant_for`."""
    tier: str = ""
    models: tuple[str, ...] = ()
    """Served names that it may use, with `*` for any run of characters; empty: all."""
    expires: int = Field(default=0, ge=0)
    """Unix seconds from which on it is refused; 0: never."""


def digest_of(salt: str, key: bytes) -> str:
    """Give the hash (BLAKE2b, 256 bits) of a key, by the salt of its config."""
    return blake2b(key, digest_size=DIGEST_BYTES, key=bytes.fromhex(salt)).hexdigest()


def tenant_for(*, tenant: str, team: str, user: str, key: str) -> str:
    """Give the tenant of a key: what it says, else its team, else its user, else the key is a tenant of its own.

    What is not said has a prefix that nobody can say: a team of one name is no tenant of that name.
    """
    if tenant:
        return tenant
    if team:
        return f"team:{team}"
    return f"user:{user}" if user else f"key:{key}"
