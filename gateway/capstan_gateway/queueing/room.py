"""The queues of all models: their connections to Redis, and what is done for all of them every two seconds.

Nothing is connected before a config has a model with a queue. The calls of all models share one connection; the answers
of each model that has entries come by one of its own.
"""

import asyncio
import logging
import secrets
from collections.abc import Callable, Sequence
from random import Random
from typing import Final

from capstan_contract.config import Dispatch, ModelEntry, StartFailure
from capstan_contract.queue.names import RENEW_SECONDS, PriorityClass
from capstan_contract.redis_address import read_address
from capstan_gateway.life.threads import Threads
from capstan_gateway.queueing.entry import Entry, SentDirectly
from capstan_gateway.queueing.line import Line
from capstan_gateway.queueing.packings import Packings
from capstan_gateway.queueing.reader import AWAY_SECONDS, Reader
from capstan_gateway.routing.port import Call
from capstan_gateway.routing.unroutable import CannotStart, NoEndpoint
from capstan_gateway.settings import Settings
from capstan_gateway.stores.port import StoreDown
from capstan_gateway.stores.scripted import Links, make_links
from capstan_gateway.telemetry.metrics import Metrics

log = logging.getLogger(__name__)

RECENT_SECONDS: Final = 60.0
"""How long behind its last request a model's queue is looked at."""
STALE_SECONDS: Final = 3 * RENEW_SECONDS
"""What was said of a queue longer ago says nothing any more."""
MOST_LINES: Final = 4096
MOST_LARGE: Final = 2
"""Large bodies that are put in at a time."""
_TOGETHER: Final = 64


class Room:
    """Implements `lifecycle.Part`."""

    name = "queue"

    def __init__(
        self, settings: Settings, *, metrics: Metrics, rng: Random, secret_of: Callable[[str], bytes | None]
    ) -> None:
        self.gateway: Final = f"gw-{secrets.token_hex(8)}"
        """Another one for each process: nobody reads what another process was told."""
        self.threads: Final = Threads("queue-bodies", queued=64)
        self.lines: dict[str, Line] = {}
        self._readers: dict[str, Reader] = {}
        self._settings = settings
        self._metrics = metrics
        self._rng = rng
        self.packings: Final = Packings(secret_of)
        self._names: dict[str, str] = {}
        """Served names, by the ids of models with a queue, for metrics."""
        self._links = self._make_links(settings.redis_seconds)
        self._loop = asyncio.get_running_loop()
        self._look = asyncio.Event()
        # What was given up meanwhile is cancelled at once: what is put in now says that the gateway is there.
        self._links.on_up = self._look.set
        self._turns = asyncio.Semaphore(MOST_LARGE)

    # --- for the dispatcher -------------------------------------------------------------------------------------------

    @property
    def reachable(self) -> bool:
        """Whether a call would be sent at once, or Redis was not spoken to yet."""
        return self._links.connected or self._links.failure is None

    def line(self, model_id: str, name: str) -> Line:
        """Give the queue of a model, which has a request now."""
        line = self.lines.get(model_id)
        now = self._loop.time()
        if line is None:
            rejected = self._metrics.queue_rejected

            def count(reason: str) -> None:
                rejected.at(self._names.get(model_id, name), reason).value += 1

            line = self.lines[model_id] = Line(
                model_id,
                links=self._links,
                gateway=self.gateway,
                threads=self.threads,
                count=count,
                turns=self._turns,
                seconds=self._settings.redis_seconds,
            )
            self._bound()
        if now - line.used_at > RECENT_SECONDS:
            self._look.set()  # What is known of it is old: it is looked at now.
        line.used_at = now
        return line

    def reader(self, line: Line) -> Reader:
        """Give who reads the answers of a queue."""
        reader = self._readers.get(line.model_id)
        if reader is None:
            seconds = self._settings.redis_seconds
            reader = self._readers[line.model_id] = Reader(
                line, lambda block: self._make_links(block + seconds), rng=self._rng
            )
        return reader

    def gateways(self, line: Line) -> int:
        """Give how many gateways share a queue, as far as is known."""
        return self._settings.gateways if line.state is None else max(line.state.gateways, 1)

    # --- its life -----------------------------------------------------------------------------------------------------

    def retain(self, models: Sequence[ModelEntry]) -> None:
        """Take in a new config: what is kept of models that have no queue any more ends with their last entry."""
        queues = {entry.id: entry.queue for entry in models if entry.queue is not None}
        if any(queue.dispatch is not Dispatch.DIRECT for queue in queues.values()):
            self._links.start()
        for model_id in [one for one, line in self.lines.items() if one not in queues and not line.entries]:
            self._forget(model_id)
        self._names = {entry.id: entry.servedName for entry in models if entry.id in queues}
        self.packings.retain({queue.secretFile for queue in queues.values()})
        for model_id in [entry.id for entry in models if entry.startFailure is not None]:
            if (line := self.lines.get(model_id)) is not None:
                self._end_hopeless(line)

    async def run(self) -> None:
        """Look at all queues in use, again and again."""
        while True:
            self._look.clear()
            await self.look()
            try:
                async with asyncio.timeout(RENEW_SECONDS * self._rng.uniform(0.8, 1.0)):
                    await self._look.wait()
            except TimeoutError:
                continue

    def not_ready(self) -> str | None:
        """Keep no request away: without a queue they go directly."""
        return None

    async def aclose(self) -> None:
        """Say that the gateway ends, and let go of the connections."""
        try:
            async with asyncio.timeout(1.0):
                await asyncio.gather(*(line.leave() for line in self.lines.values()), return_exceptions=True)
        except TimeoutError:
            log.warning("Redis was not told that the gateway ends")
        await asyncio.gather(*(reader.aclose() for reader in self._readers.values()))
        await self._links.aclose()
        self.threads.close()

    async def look(self) -> None:
        """Say that the gateway is there, and see how the queues stand that are in use."""
        now = self._loop.time()
        used = [line for line in self.lines.values() if line.entries or now - line.used_at <= RECENT_SECONDS]
        if used and self._links.connected:
            for start in range(0, len(used), _TOGETHER):
                await asyncio.gather(*(self._beat(line) for line in used[start : start + _TOGETHER]))
        for line in used:
            if now - line.state_at > STALE_SECONDS:
                line.state = None
            await self._send_directly(line)
            self._end_hopeless(line)

    async def _beat(self, line: Line) -> None:
        # One gateway in a beat is enough, and each will do.
        sweep = self._rng.random() * self.gateways(line) < 1.0
        try:
            await line.beat(sweep=sweep)
        except StoreDown:
            self._metrics.redis_calls.at("queue", "failed").value += 1
        except Exception:
            # One queue that holds what nobody can read must not end the beats of all others.
            self._metrics.redis_calls.at("queue", "failed").value += 1
            log.exception("how a queue stands could not be read", extra={"model": line.model_id})
        else:
            self._metrics.redis_calls.at("queue", "answered").value += 1
            reader = self._readers.get(line.model_id)
            if reader is not None and line.state is not None and line.state.dropped:
                reader.look_again()

    async def _send_directly(self, line: Line) -> None:
        """Let entries go that wait in vain, since Redis is away, or no worker takes: to an endpoint of the model; where
        it has none, to who answers in its place."""
        now = self._loop.time()
        reader = self._readers.get(line.model_id)
        away_since = None if reader is None else reader.away_since
        away = away_since is not None and now - away_since > AWAY_SECONDS
        untaken = line.state is not None and line.state.workers == 0
        if not (away or untaken):
            return
        once: list[str] = []
        for entry in line.entries.values():
            if now - entry.began_at <= AWAY_SECONDS or not entry.waits:
                continue
            if is_ready(entry, now):
                if entry.call.repeatable:
                    entry.fail(SentDirectly())
                elif untaken and entry.accepted:
                    once.append(entry.id)
            elif entry.call.repeatable and not entry.wish.may_wait:
                entry.fail(NoEndpoint("nobody is there any more to take it", retry_after=AWAY_SECONDS))
        if not once:
            return
        # A worker may have one of these, for all that is known: it is away, or has come just now.
        try:
            withdrawn = await line.withdraw(once)
        except StoreDown:
            return
        for entry_id in withdrawn:
            if (found := line.entries.get(entry_id)) is not None:
                found.fail(SentDirectly())

    def _end_hopeless(self, line: Line) -> None:
        """End what waits for replicas of which none comes up."""
        now = self._loop.time()
        for entry in line.entries.values():
            if entry.waits and (failure := hopeless(entry.call, now)) is not None:
                entry.fail(CannotStart(failure))

    def read_gauges(self) -> None:
        """Tell how the queues stand that are known."""
        metrics, now = self._metrics, self._loop.time()
        for family in (
            metrics.queue_waiting, metrics.queue_oldest, metrics.queue_expected_wait, metrics.queue_running,
            metrics.queue_workers,
        ):  # fmt: skip
            family.retain("model", ())
        for model_id, line in self.lines.items():
            name, state = self._names.get(model_id), line.state
            if name is None or state is None or now - line.state_at > STALE_SECONDS:
                continue
            # NB: a revision that is tried has a queue of its own, under the name of its model.
            for priority, waiting in zip(PriorityClass, state.waiting, strict=False):
                metrics.queue_waiting.at(name, priority.name.lower()).value += waiting
            oldest, expected = metrics.queue_oldest.at(name), metrics.queue_expected_wait.at(name)
            oldest.value = max(oldest.value, state.oldest_ms / 1000)
            expected.value = max(expected.value, sum(state.waiting) * state.mean_us / 1e6)
            metrics.queue_running.at(name).value += state.running
            metrics.queue_workers.at(name).value += state.workers

    def _bound(self) -> None:
        if len(self.lines) > MOST_LINES:
            idle = min((line for line in self.lines.values() if not line.entries), key=_used_at, default=None)
            if idle is not None:
                self._forget(idle.model_id)

    def _forget(self, model_id: str) -> None:
        self.lines.pop(model_id, None)
        reader = self._readers.pop(model_id, None)
        if reader is not None:
            reader.stop()

    def _make_links(self, seconds: float) -> Links:
        settings = self._settings
        return make_links(
            read_address(settings.redis_url or ""), rng=self._rng, password=settings.redis_password,
            sentinel_password=settings.redis_sentinel_password, ca_file=settings.redis_ca_file, seconds=seconds,
        )  # fmt: skip


def _used_at(line: Line) -> float:
    return line.used_at


def is_ready(entry: Entry, now: float) -> bool:
    """Whether the model of an entry has an endpoint in good health."""
    return any(state.breaker.allows(now) for state in entry.call.endpoints.states)


def hopeless(call: Call, now: float) -> StartFailure | None:
    """Give why a call is not to wait in a queue; None where it may, or somebody is there to answer it."""
    endpoints = call.endpoints
    if endpoints.start_failure is None or call.patient:
        return None
    return None if any(state.breaker.allows(now) for state in endpoints.states) else endpoints.start_failure
