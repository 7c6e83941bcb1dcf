"""Lets those in whose credential is known. Nothing is awaited: it stands before the body of every request."""

import time
from collections.abc import Callable

from capstan_gateway.identity.credential import refused
from capstan_gateway.identity.keyring import Keyring
from capstan_gateway.identity.principal import NOBODY, Principal


class Gate:
    """Says who a credential is of."""

    def __init__(self, *, everybody: bool = False, wall: Callable[[], float] = time.time) -> None:
        """Let `everybody` in: a credential that is known is then still recognised, another one is ignored.

        `wall` gives the time as Unix seconds: keys expire by the calendar.
        """
        self._everybody = everybody
        self._wall = wall

    def admit(self, credential: bytes, keyring: Keyring) -> Principal:
        """Give who it is; raises Unauthenticated for nobody."""
        if self._everybody and not credential:
            return NOBODY
        principal = keyring.find(credential, self._wall)
        if principal is not None:
            return principal
        if self._everybody:
            return NOBODY
        raise refused(credential)
