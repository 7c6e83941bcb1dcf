"""What background responses ask of the gateway that they are part of."""

from collections.abc import Sequence
from typing import Protocol

from capstan_gateway.headers import Header
from capstan_gateway.identity.principal import Principal
from capstan_gateway.memory import Share
from capstan_gateway.own_asks import Answer
from capstan_gateway.stores.responses import Stored


class Slot:
    """Where the response is put that is to be kept, in place of the store of responses: one of them, under one id."""

    __slots__ = ("number", "stored")

    def __init__(self, number: str) -> None:
        self.number = number
        """What its id, and those of its items, are made of."""
        self.stored: Stored | None = None

    def keep(self, tenant: str, response_id: str, stored: Stored) -> bool:  # noqa: ARG002 - of a store
        """Take it."""
        self.stored = stored
        return True


class Asks(Protocol):
    """Asks the gateway for answers, in its own process."""

    @property
    def is_ready(self) -> bool:
        """Whether it is a time to work: there is a config, and the process is not on its way out."""
        ...

    def still(self, principal: Principal, *, by_key: bool) -> Principal | None:
        """Give who somebody is by now; None where their credential holds no more."""
        ...

    async def respond(
        self, body: bytes, principal: Principal, slot: Slot, share: Share, *, headers: Sequence[Header] = ()
    ) -> Answer:
        """Give the answer to one request of the Responses API; cut off when it is cancelled.

        What it holds of the process' memory budget is in the `share`, for whoever keeps the answer to release.
        """
        ...
