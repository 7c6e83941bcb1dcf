"""The API keys of one config: from a key to whose it is, in the same time whatever keys there are.

It belongs to the Runtime, and is replaced with it: a key that is revoked is refused from the next request on. Those
that are being served by then go on.
"""

from collections.abc import Callable, Generator, Mapping, Sequence
from hashlib import blake2b
from typing import Final

from capstan_contract.keys import DIGEST_BYTES, MAX_KEY_BYTES, KeyEntry
from capstan_gateway.identity.principal import Principal

AT_A_STRETCH: Final = 256
"""So many keys are taken in before somebody else has a turn."""


class Keyring:
    """Keys by their salted hashes. Never changed."""

    __slots__ = ("_expires", "_principals", "_salt", "entries", "known", "salt")

    def __init__(
        self,
        entries: Sequence[KeyEntry],
        salt: str,
        known: Mapping[str, tuple[KeyEntry, bytes, Principal]],
        principals: Mapping[bytes, Principal],
        expires: Mapping[bytes, int],
    ) -> None:
        """Take what `build_keyring` puts together: a keyring of ten thousand keys is not made at one stretch."""
        self.entries: Final = entries
        self.salt: Final = salt
        self.known: Final = known
        """By the id of an entry: the entry, its hash and whose it is."""
        self._salt = bytes.fromhex(salt)
        self._principals = principals
        self._expires = expires

    def __len__(self) -> int:
        return len(self.entries)

    def find(self, key: bytes, wall: Callable[[], float]) -> Principal | None:
        """Give whose key this is; None when it is nobody's, or no longer. `wall` gives the time as Unix seconds."""
        if not self._principals or len(key) > MAX_KEY_BYTES:
            return None
        digest = blake2b(key, digest_size=DIGEST_BYTES, key=self._salt).digest()
        principal = self._principals.get(digest)
        if self._expires and principal is not None and wall() >= self._expires.get(digest, _NEVER):
            return None
        return principal

    def still(self, name: str, wall: Callable[[], float]) -> Principal | None:
        """Give whose the key of this name is by now; None when there is none, or no longer."""
        known = self.known.get(name)
        if known is None or (known[0].expires and wall() >= known[0].expires):
            return None
        return known[2]


_NEVER: Final = float("inf")
NO_KEYS: Final = Keyring((), "", {}, {}, {})


def build_keyring(
    entries: Sequence[KeyEntry], salt: str, previous: Keyring = NO_KEYS
) -> Generator[None, None, Keyring]:
    """Build the keyring of a config, some keys at each step.

    An entry that is as it was in `previous` gives the same Principal again; where all are, it is `previous` itself.
    """
    # Tuples are compared by the identity of their items first: that is how an unchanged config has them.
    if salt == previous.salt and entries == previous.entries:
        return previous
    before = previous.known if salt == previous.salt else {}
    known: dict[str, tuple[KeyEntry, bytes, Principal]] = {}
    principals: dict[bytes, Principal] = {}
    expires: dict[bytes, int] = {}
    for number, entry in enumerate(entries, 1):
        kept = before.get(entry.id)
        if kept is None or kept[0] is not entry:
            kept = entry, bytes.fromhex(entry.digest), _principal(entry)
        known[entry.id] = kept
        principals[kept[1]] = kept[2]
        if entry.expires:
            expires[kept[1]] = entry.expires
        if number % AT_A_STRETCH == 0:
            yield
    return Keyring(entries, salt, known, principals, expires)


def _principal(entry: KeyEntry) -> Principal:
    return Principal(
        tenant=entry.tenant, user=entry.user, team=entry.team, tier=entry.tier, key=entry.id, models=entry.models
    )
