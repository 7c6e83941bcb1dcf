"""Who asks, as far as a verified credential says. Headers of clients say nothing of it."""

from dataclasses import dataclass
from typing import Final

EVERYBODY: Final = "everybody"
"""The tenant of those of whom nothing is known, where a gateway serves them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Principal:
    """Whoever a credential is of. Two requests with one credential have equal ones, as a rule the same object."""

    tenant: str
    """Never empty. What one tenant has stored, cached or may use, no other one sees."""
    user: str = ""
    team: str = ""
    tier: str = ""
    key: str = ""
    """Name of the API key; of a token, its issuer and subject, with a space between. Empty: nobody."""
    models: tuple[str, ...] = ()
    """Served names that it may use, with `*` for any run of characters; empty: all."""

    batch: bool = False
    """Whether it is a request of one of their batches: those wait for all others."""

    @property
    def is_known(self) -> bool:
        """Whether a credential says who it is."""
        return bool(self.key)

    @property
    def issuer(self) -> str:
        """Whose token said who it is; "" where an API key did, whose name has no space, or nothing."""
        issuer, space, _ = self.key.partition(" ")
        return issuer if space else ""


NOBODY: Final = Principal(tenant=EVERYBODY)
"""Of requests without a credential, where the gateway serves everybody."""
