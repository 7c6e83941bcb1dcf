"""Lets those in whose credential is known. It stands before the body of every request, and as a rule awaits nothing."""

import time
from collections.abc import Callable

from capstan_gateway.errors import GatewayError
from capstan_gateway.identity.claims import TOKEN_BEGINS, is_token
from capstan_gateway.identity.credential import refused
from capstan_gateway.identity.keyring import Keyring
from capstan_gateway.identity.principal import NOBODY, Principal
from capstan_gateway.identity.tokens import Tokens, Undecided


class Gate:
    """Says who a credential is of."""

    def __init__(
        self, *, everybody: bool = False, tokens: Tokens | None = None, wall: Callable[[], float] = time.time
    ) -> None:
        """Let `everybody` in: a credential that is known is then still recognised, another one is ignored.

        `wall` gives the time as Unix seconds: keys expire by the calendar.
        """
        self._everybody = everybody
        self._tokens = tokens
        self._wall = wall

    def admit(self, credential: bytes, keyring: Keyring) -> Principal:
        """Give who it is; raises Unauthenticated for nobody.

        Where issuers are trusted also IdentityUnavailable, and Undecided: ask once more when its issuer has learned.
        """
        if self._everybody and not credential:
            return NOBODY
        tokens = self._tokens
        if tokens is not None and credential.startswith(TOKEN_BEGINS):
            principal = tokens.find(credential)
            if principal is not None:
                return principal
        principal = keyring.find(credential, self._wall)
        if principal is not None:
            return principal
        try:
            if tokens is not None and is_token(credential):
                return tokens.check(credential)
        except (GatewayError, Undecided):
            if not self._everybody:
                raise
        if self._everybody:
            return NOBODY
        raise refused(credential)

    def still(self, principal: Principal, keyring: Keyring, *, by_key: bool) -> Principal | None:
        """Give who somebody is by now who was let in before; None when their credential holds no more.

        `by_key`: it was an API key, which may have been revoked since, or been given other models. What a token has
        said is believed for as long as the work lasts that was begun with it, and its issuer is trusted: tokens live
        for minutes, and are withdrawn by nobody.
        """
        if not principal.is_known:
            return principal if self._everybody else None
        if not by_key:
            return principal if self._tokens is not None and principal.issuer in self._tokens.issuers else None
        found = keyring.still(principal.key, self._wall)
        return found if found is not None and found.tenant == principal.tenant else None
