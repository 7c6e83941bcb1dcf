"""What batches ask of the gateway that they are part of."""

from collections.abc import Sequence
from typing import Protocol

from capstan_gateway.batches.records import BatchSpec
from capstan_gateway.identity.principal import Principal
from capstan_gateway.memory import Share
from capstan_gateway.own_asks import Answer


class Asks(Protocol):
    """Asks the gateway for answers, in its own process."""

    @property
    def is_ready(self) -> bool:
        """Whether it is a time to work: there is a config, and the process is not on its way out."""
        ...

    def who(self, spec: BatchSpec) -> Principal | None:
        """Give who has asked for a batch, as the config has it by now; None where the credential holds no more."""
        ...

    def has_model(self, principal: Principal, name: str) -> bool:
        """Whether there is a model of this name for them."""
        ...

    def has_room(self, principal: Principal, name: str, running: int) -> bool:
        """Whether a model has room to spare, of which batches have so many requests running here."""
        ...

    async def ask(
        self, url: str, body: bytes, principal: Principal, share: Share | None = None, *,
        headers: Sequence[tuple[str, str]] = (),
    ) -> Answer:  # fmt: skip
        """Give the answer to one request; cut off when it is cancelled.

        What it holds of the process' memory budget is in the `share` that is given, for whoever keeps the answer to
        release.
        """
        ...
