"""Background responses of one gateway, made of its settings."""

import asyncio
from random import Random
from typing import Final

from capstan_gateway.background.means import Means
from capstan_gateway.background.names import Names
from capstan_gateway.background.outcomes import cancelled
from capstan_gateway.background.port import Asks
from capstan_gateway.background.records import Record, Spec, Told
from capstan_gateway.background.runner import Runner
from capstan_gateway.background.state import Lease, OpenResponses
from capstan_gateway.background.status import Status
from capstan_gateway.identity.principal import Principal
from capstan_gateway.life.threads import Threads
from capstan_gateway.memory import MemoryBudget
from capstan_gateway.settings import Settings
from capstan_gateway.stores.keys import new_number, new_token
from capstan_gateway.stores.port import KeyStore
from capstan_gateway.stores.responses import Bounds
from capstan_gateway.telemetry.metrics import Metrics

ERROR_BYTES: Final = 8 * 1024
"""What a response that fails may take beside its head."""


class BackgroundRoom:
    """What there is where a gateway stores responses."""

    def __init__(
        self,
        settings: Settings,
        store: KeyStore,
        bounds: Bounds,
        *,
        metrics: Metrics,
        budget: MemoryBudget,
        threads: Threads,
        rng: Random,
    ) -> None:
        self.responses: Final = OpenResponses(
            store, bounds, most=settings.background_responses, seconds=settings.background_seconds
        )
        self._settings = settings
        self._metrics = metrics
        self._budget = budget
        self._threads = threads
        self._rng = rng
        self._runner: Runner | None = None
        self._begun = asyncio.Event()

    def begin(self, asks: Asks) -> None:
        """Work from now on: there is somebody to ask."""
        if self._runner is not None:
            return
        family = self._metrics.background_responses

        def count(status: str) -> None:
            family.at(status).value += 1

        means = Means(
            responses=self.responses, asks=asks, threads=self._threads, budget=self._budget,
            concurrency=self._settings.background_concurrency, count=count,
        )  # fmt: skip
        self._runner = Runner(means, rng=self._rng, running=self._metrics.background_running.at())
        self._begun.set()

    async def run(self) -> None:
        """Work for ever."""
        await self._begun.wait()
        if self._runner is not None:
            await self._runner.run()

    async def finish(self) -> None:
        """Return when nothing is worked on here; nothing new is once the process is on its way out."""
        if self._runner is not None:
            await self._runner.finish()

    @property
    def most_bytes(self) -> int:
        """How many bytes a request may have, with what is told of it: whatever comes of it can be told then."""
        return self.responses.most_bytes - ERROR_BYTES

    def fits(self, told: Told, body: bytes) -> bool:
        """Whether a request is one that may be kept."""
        return len(told.head) + len(told.instructions) + len(body) <= self.most_bytes

    def new_response(self) -> tuple[str, int]:
        """Give the id of a new response, and the Unix second that it is now."""
        return f"resp_{new_number()}", int(self.responses.wall())

    async def take(
        self, principal: Principal, response_id: str, now: int, told: Told, body: bytes, *,
        once: bool, headers: tuple[tuple[str, str], ...],
    ) -> bytes:  # fmt: skip
        """Take a request, and begin at once where there is a place; give the response as it is now.

        When this returns the response is kept, and will be over in time whatever becomes of this gateway. Raises
        TooManyOpen and StoreDown.
        """
        spec = Spec(
            id=response_id, created_at=now, expires_at=now + self.responses.seconds, principal=principal,
            by_key=not principal.issuer, once=once, headers=headers,
        )  # fmt: skip
        # Whoever is cut off leaves what is being written to its end: half of it would be found by nobody.
        await asyncio.shield(self._take(spec, told, body))
        return told.open(Status.QUEUED)

    async def _take(self, spec: Spec, told: Told, body: bytes) -> None:
        names, runner = Names.of(spec.principal.tenant), self._runner
        if runner is None or not runner.reserve():
            await self.responses.create(names, spec, told, body)
            if runner is not None:
                runner.look_soon()
            return
        token = new_token()
        try:
            await self.responses.create(names, spec, told, body, token=token)
        except BaseException:
            runner.give_up()
            raise
        runner.begin_reserved(Lease(names, spec.id, token))

    async def find(self, tenant: str, response_id: str) -> Record | None:
        """Give a tenant's response that is not over; None where there is none. Raises StoreDown."""
        return await self.responses.find(Names.of(tenant), response_id)

    async def cancel(self, tenant: str, record: Record) -> None:
        """Let a response be over, and stop what is asked for it, wherever that is. Raises StoreDown."""
        names = Names.of(tenant)
        if await self.responses.cancel(names, record.spec.id, cancelled(record)):
            self._count_cancelled()
        self._cut(names, record.spec.id)

    async def drop(self, tenant: str, response_id: str) -> bool:
        """Forget a response that is not over; False where there is none. Raises StoreDown."""
        names = Names.of(tenant)
        gone = await self.responses.drop(names, response_id)
        self._cut(names, response_id)
        return gone

    def _count_cancelled(self) -> None:
        self._metrics.background_responses.at(Status.CANCELLED).value += 1

    def _cut(self, names: Names, response_id: str) -> None:
        if self._runner is not None:
            self._runner.cut(names.tag, response_id)
