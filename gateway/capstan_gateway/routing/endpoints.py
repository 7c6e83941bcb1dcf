"""Which endpoints a model has now, and a way to wait until that changes."""

import asyncio
from collections.abc import Iterable
from typing import NamedTuple

from capstan_contract.config import StartFailure
from capstan_gateway.routing.affinity import SharedHeads
from capstan_gateway.routing.firstbytes import FirstBytes
from capstan_gateway.routing.held_blocks import HeldBlocks
from capstan_gateway.routing.registry import EndpointRegistry, EndpointState
from capstan_gateway.routing.sessions import Sessions
from capstan_gateway.upstream.port import Endpoint


class _Waiter(NamedTuple):
    """How somebody waits."""

    since: float
    """In the loop's time."""
    patient: bool
    """Whether also while no replica comes up."""


class EndpointSet:
    """The endpoints of one model: an immutable tuple with a version, replaced as a whole.

    It outlives configs: keep one per model id, so that a request that waits for an endpoint sees those of the next
    config. Only the loop's thread touches it.
    """

    __slots__ = (
        "_absent",
        "_registry",
        "_waiters",
        "arrived",
        "contents",
        "first_bytes",
        "first_tokens",
        "heads",
        "held",
        "max_waiting",
        "rejected",
        "sessions",
        "start_failure",
        "states",
        "tiered",
        "version",
    )

    def __init__(
        self, registry: EndpointRegistry, endpoints: Iterable[Endpoint] = (), *, max_waiting: int = 1000
    ) -> None:
        self._registry = registry
        self._waiters: dict[asyncio.Future[None], _Waiter] = {}
        """Whoever waits for a change: the first one the longest."""
        self.start_failure: StartFailure | None = None
        """Why no replica comes up, as the operator says; None: one may."""
        self._absent: dict[bytes, float] = {}
        """Paths that they do not serve, and until when that is taken for granted."""
        self.max_waiting = max_waiting
        self.first_bytes = FirstBytes()
        """How long the model's streams take to begin."""
        self.first_tokens = FirstBytes()
        """The same with what was waited for before, as their clients see it."""
        self.arrived = 0
        """Calls of the model, whatever became of them."""
        self.rejected = 0
        """Those of them that found nobody: too much waited, or nobody came in time."""
        self.heads = SharedHeads()
        """Which beginnings of prompts many requests to the model share."""
        self.sessions = Sessions()
        """Which of them has which conversation in its cache, as far as it can be told from what was sent."""
        self.held: HeldBlocks | None = None
        """Which of them holds which blocks of prompts, as they tell themselves; None where they do not."""
        self.version = 0
        self.states: tuple[EndpointState, ...] = ()
        self.contents: str | None = None
        """What all of them run, as far as their names tell; None while they run different things, or there are none."""
        self.tiered = False
        """Whether endpoints have tiers and shares; see `routing.tiers`."""
        self.replace(endpoints)

    def tell_start(self, failure: StartFailure | None) -> None:
        """Take what the operator says of replicas that do not come up; whoever would not wait for that is woken."""
        self.start_failure = failure
        if failure is None:
            return
        for waiter, how in list(self._waiters.items()):
            if not how.patient:
                _wake(waiter)

    def lacks(self, path: bytes, now: float) -> bool:
        """Whether they are known not to serve a path."""
        return now < self._absent.get(path, 0.0)

    def note_absent(self, path: bytes, *, until: float) -> None:
        """Remember that they do not serve a path: until then, in the loop's time, or until there are others."""
        self._absent[path] = until

    def replace(self, endpoints: Iterable[Endpoint]) -> bool:
        """Make these the endpoints, and wake whoever waits; False when nothing changed."""
        wanted = tuple(endpoints)
        if self.version and wanted == tuple(state.endpoint for state in self.states):
            return False
        states = tuple(self._registry.acquire(endpoint) for endpoint in wanted)
        for state in self.states:
            self._registry.release(state)
        self.states = states
        self._absent.clear()
        self.sessions.retain(frozenset(endpoint.id for endpoint in wanted))
        templates = {endpoint.template for endpoint in wanted}
        self.contents = templates.pop() if len(templates) == 1 else None
        self.tiered = len(wanted) > 1 and any(endpoint.weight is not None for endpoint in wanted)
        self.version += 1
        for waiter in self._waiters:
            if not waiter.done():
                waiter.set_result(None)
        self._waiters.clear()
        return True

    @property
    def endpoints(self) -> tuple[Endpoint, ...]:
        """The endpoints as they are now."""
        return tuple(state.endpoint for state in self.states)

    @property
    def waiting(self) -> int:
        """How many callers wait for a change."""
        return len(self._waiters)

    @property
    def waiting_since(self) -> float | None:
        """Since when the first of them waits, in the loop's time; None: nobody does."""
        first = next(iter(self._waiters.values()), None)
        return None if first is None else first.since

    async def changed(self, version: int, *, timeout: float, patient: bool = True) -> bool:
        """Wait until the version is no longer `version`; False when `timeout` seconds passed first, or for who is not
        `patient` when it is known that no replica comes up."""
        if self.version != version:
            return True
        loop = asyncio.get_running_loop()
        waiter: asyncio.Future[None] = loop.create_future()
        timer = loop.call_later(timeout, _wake, waiter)
        self._waiters[waiter] = _Waiter(loop.time(), patient)
        try:
            await waiter
        finally:
            timer.cancel()
            self._waiters.pop(waiter, None)
        return self.version != version


def _wake(waiter: asyncio.Future[None]) -> None:
    if not waiter.done():
        waiter.set_result(None)
