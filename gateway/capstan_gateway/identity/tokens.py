"""Tokens of issuers that are trusted (JWT, RFC 7519; OpenID Connect): from a token to whose it is.

A token is checked once, and then found by its hash until it expires. Other keys of an issuer, and all is checked anew.
"""

from collections import OrderedDict
from collections.abc import Callable, Collection, Sequence
from hashlib import blake2b
from typing import Final

from capstan_gateway.errors import GatewayError, IdentityUnavailable, Unauthenticated
from capstan_gateway.identity.claims import (
    ClaimNames,
    ClaimRefused,
    TokenRefused,
    Unverified,
    check_claims,
    principal_from,
    read_token,
)
from capstan_gateway.identity.credential import MAX_CREDENTIAL_BYTES, refused
from capstan_gateway.identity.issuer import Issuer
from capstan_gateway.identity.principal import Principal

MAX_REMEMBERED: Final = 10_000
_DIGEST_BYTES: Final = 32


class Undecided(Exception):
    """Who it is cannot be told before the issuer's keys were fetched once more; `otherwise` is the answer without."""

    def __init__(self, issuer: Issuer, otherwise: GatewayError) -> None:
        super().__init__(issuer.name)
        self.issuer = issuer
        self.otherwise = otherwise


class Tokens:
    """Checks tokens, and remembers those that it has checked."""

    def __init__(
        self,
        issuers: Sequence[Issuer],
        *,
        audiences: Collection[str],
        names: ClaimNames,
        leeway: float,
        wall: Callable[[], float],
        most: int = MAX_REMEMBERED,
    ) -> None:
        """Take tokens of these issuers that are for one of the audiences. `wall` gives Unix seconds."""
        self.issuers: Final = {issuer.name: issuer for issuer in issuers}
        self._audiences = frozenset(audiences)
        self._names = names
        self._leeway = leeway
        self._wall = wall
        self._most = most
        # By hashes: whoever reads our memory finds no token in it.
        self._known: OrderedDict[bytes, tuple[Principal, float]] = OrderedDict()
        for issuer in issuers:
            issuer.on_changed = self._known.clear

    def __len__(self) -> int:
        return len(self._known)

    def find(self, token: bytes) -> Principal | None:
        """Give whose it is, if it was checked before and has not expired."""
        if len(token) > MAX_CREDENTIAL_BYTES:
            return None
        known = self._known.get(blake2b(token, digest_size=_DIGEST_BYTES).digest())
        return None if known is None or self._wall() >= known[1] else known[0]

    def check(self, token: bytes) -> Principal:
        """Give whose it is; raises Unauthenticated, Undecided, or IdentityUnavailable while there are no keys."""
        try:
            if len(token) > MAX_CREDENTIAL_BYTES:
                raise TokenRefused("it is too long")
            said = read_token(token)
            name = said.claims.get("iss")
            issuer = self.issuers.get(name) if isinstance(name, str) else None
            if issuer is None:
                raise TokenRefused("it is of another issuer")
            # What costs little first: most tokens that are refused have expired.
            until = check_claims(said.claims, audiences=self._audiences, now=self._wall(), leeway=self._leeway)
            self._check_signature(token, said, issuer)
            principal = principal_from(said.claims, self._names, several_issuers=len(self.issuers) > 1)
        except ClaimRefused as error:
            raise Unauthenticated(str(error)) from None
        except TokenRefused:
            raise refused(token) from None
        self._remember(token, principal, until)
        return principal

    def _check_signature(self, token: bytes, said: Unverified, issuer: Issuer) -> None:
        keys = issuer.keys
        key = None if keys is None else keys.find(said.key_id, said.algorithm)
        if key is not None:
            key.check(token)
            return
        otherwise = IdentityUnavailable() if keys is None else refused(token)
        raise Undecided(issuer, otherwise) if issuer.may_learn else otherwise

    def _remember(self, token: bytes, principal: Principal, until: float) -> None:
        while len(self._known) >= self._most:
            self._known.popitem(last=False)
        self._known[blake2b(token, digest_size=_DIGEST_BYTES).digest()] = principal, until
