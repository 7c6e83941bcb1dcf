"""Takes entries from a model's queue, has the engine answer them, and says what became of them."""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterable
from random import Random
from typing import Final

from capstan_contract.queue.calls import LEAVING, SWEEP_AGAIN, Failure, Queue, Taken, read_ids
from capstan_contract.queue.names import RENEW_SECONDS, queue_prefix, told_key
from capstan_contract.queue.wire import Packing
from capstan_worker.engine.port import Engine
from capstan_worker.errors import QueueAway
from capstan_worker.queue.hanging import Watch
from capstan_worker.queue.intake import SAFETY_SECONDS, Intake, Working
from capstan_worker.queue.link import Link
from capstan_worker.queue.load import Meter
from capstan_worker.queue.metrics import QueueMetrics
from capstan_worker.queue.outbox import Outbox, Settled
from capstan_worker.queue.pauses import Pause
from capstan_worker.queue.poster import Poster
from capstan_worker.queue.work import Desk, End, Work, do

log = logging.getLogger(__name__)
SLOW_SECONDS: Final = 60.0
"""A reader that takes nothing for so long gets an error."""
MOST_BODIES: Final = 128 << 20
"""Bytes of the bodies that a worker has; with more it takes nothing."""
MOST_HELD: Final = 32 << 20
"""Bytes of answers that Redis has not taken; with more it takes nothing."""
END_SECONDS: Final = 5.0
"""How long an engine may take to let go of a request, and Redis to hear what is given back at the end."""


class Consumer:
    """One worker of one model's queue."""

    def __init__(
        self,
        engine: Engine,
        link: Link,
        meter: Meter,
        *,
        model: str,
        name: str,
        packing: Packing,
        spare_percent: int = 25,
        hung_seconds: float = 120.0,
        headers: tuple[tuple[str, str], ...] = (),
        host: str = "",
        address: str = "",
        rng: Random | None = None,
    ) -> None:
        """`model` is the LLMModel's `namespace/name`; `name` the worker's, which no other one has; `host` says in the
        answers who gives them, and `address` where gateways send to the same engine; `headers` are for the engine."""
        self.metrics = QueueMetrics()
        self.metrics.up.set_function(lambda: float(link.answers))
        self._engine = engine
        self._link = link
        self._calls = Queue(queue_prefix(model))
        self._name = name
        self._told = told_key(self._calls.prefix, name)
        self._rng = rng or Random()  # noqa: S311  # no secret
        self._outbox = Outbox(packing)
        self._poster = Poster(link, self._calls, name, self._outbox, settled=self._on_settled)
        self._watch = Watch(meter.pulse, seconds=hung_seconds, every=RENEW_SECONDS)
        self._desk = Desk(
            engine, self._outbox, self._poster, packing, host or name, address, headers, self._on_sign
        )  # fmt: skip
        self._works: dict[str, Work] = {}
        self._renew_now = asyncio.Event()
        self._unwanted: set[str] = set()
        """Entries of which a renewal has said that they are not this worker's any more."""
        self._watch_now = asyncio.Event()
        self._bodies = 0
        working = Working(
            start=self._start, running=lambda: len(self._works), laden=self._is_laden, hung=lambda: self.hung,
            has=lambda: set(self._outbox.ids), is_ready=self._renew_now.set,
        )  # fmt: skip
        self._intake = Intake(
            engine, link, meter, self._calls, name, working, spare_percent=spare_percent, rng=self._rng
        )
        self._leaving = False

    @property
    def running(self) -> int:
        """Entries that the engine works on."""
        return len(self._works)

    @property
    def unfinished(self) -> int:
        """Entries that the engine works on, or whose answers Redis has not taken completely."""
        return len(self._outbox)

    @property
    def hung(self) -> bool:
        """Whether the engine hangs."""
        return self._watch.hung

    async def run(self) -> None:
        """Work until cancelled; then `close` gives back what is left."""
        intake, poster = self._intake, self._poster
        steps = {
            "take": intake.take_step, "bell": intake.bell_step, "told": self._told_step, "renew": self._renew_step,
            "watch": self._watch_step, "sweep": self._sweep_step, "post": poster.step,
        }  # fmt: skip
        async with asyncio.TaskGroup() as tasks:
            for name, step in steps.items():
                tasks.create_task(self._forever(name, step), name=f"queue-{name}")

    def leave(self) -> None:
        """Take nothing more; what is there goes on."""
        self._leaving = True
        self._intake.leave()
        self._renew_now.set()

    async def close(self, *, crashed: bool = False) -> None:
        """Stop all work, give back what nothing was posted of, and say of the rest that it is lost.

        `crashed`: the engine has died with it.
        """
        self.leave()
        # Before they are stopped, so that what an engine has given completely is not lost.
        ids = [entry_id for entry_id in self._outbox.ids if entry_id in self._works]
        await self._stop(list(self._works.values()))
        try:
            async with asyncio.timeout(END_SECONDS):
                while self._outbox.pending:
                    await self._poster.flush()
                rest = self._outbox.ids
                attempts = self._outbox.attempts(rest)
                given = self._calls.give_back(self._name, rest, crashed=crashed, had=True, attempts=attempts)
                await self._link.run(given)
                await self._link.run(self._calls.leave(worker=self._name))
                self.metrics.given_back["crashed" if crashed else "drained"].inc(len(ids))
        except (QueueAway, TimeoutError):
            log.warning("entries could not be given back: others take them when their leases are over")
        await self._link.aclose()

    async def _forever(self, name: str, step: Callable[[], Awaitable[None]]) -> None:
        pause = Pause(0.1, 2.0, self._rng)
        while True:
            try:
                await step()
            except QueueAway:
                pass  # It is logged where it is noticed.
            except Exception:
                # A fault of the queue must not take direct requests along.
                log.exception("a part of the queue failed, and is tried again", extra={"part": name})
            else:
                pause.reset()
                continue
            await asyncio.sleep(pause.next())

    # Work.

    def _is_laden(self) -> bool:
        return self._bodies > MOST_BODIES or self._outbox.held > MOST_HELD

    def _on_sign(self) -> None:
        self._watch.lives()
        self._intake.is_well()

    async def _start(self, taken: Taken) -> None:
        if taken.id in self._works:
            # Its lease was over, and it has come back to the same worker.
            await self._stop([self._works[taken.id]])
        now = asyncio.get_running_loop().time()
        work = Work(taken, now, now + taken.left_ms / 1000)
        self._outbox.open(taken.id, taken.attempt)
        if not self._works:
            self._watch.begin()
        self._works[taken.id] = work
        self._bodies += len(taken.body)
        self.metrics.taken[taken.priority].inc()
        self.metrics.wait.observe(taken.waited_ms / 1000)
        self.metrics.in_flight.set(len(self._works))
        work.task = asyncio.create_task(self._work(work), name="queued work")

    async def _work(self, work: Work) -> None:
        entry_id = work.taken.id
        try:
            end = await do(work, self._desk)
        except asyncio.CancelledError:
            return  # Whoever stopped it sees to the rest.
        except Exception:
            log.exception("an entry could not be answered")
            self._outbox.fail(entry_id, Failure.ENGINE)
            return
        finally:
            self._on_end(work)
        if end is End.ANSWERED:
            return
        if end is End.UNREADABLE:
            log.error("an entry cannot be read, and is left to others: gateways may have another secret of the queue")
            self._intake.mistrust()
        elif end is End.FULL:
            self._intake.rest()
        else:
            self._intake.doubt()
        await self._give_back([entry_id], end.value, crashed=end is End.CRASHED)

    def _on_end(self, work: Work) -> None:
        if self._works.get(work.taken.id) is work:
            del self._works[work.taken.id]
        self._bodies -= len(work.taken.body)
        self.metrics.service.observe(asyncio.get_running_loop().time() - work.started)
        self.metrics.in_flight.set(len(self._works))
        self._poster.wake()
        self._intake.wake()

    async def _stop(self, works: Iterable[Work]) -> None:
        """End these at the engine."""
        tasks = [work.task for work in works if work.task is not None]
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks, timeout=END_SECONDS)

    async def _drop(self, ids: Iterable[str]) -> None:
        """Nobody wants these from this worker any more."""
        gone = [entry_id for entry_id in ids if entry_id in self._outbox]
        if not gone:
            return
        attempts = self._outbox.attempts(gone)
        for entry_id in gone:
            self._outbox.close(entry_id)
        self._poster.dropped()
        await self._stop([self._works[entry_id] for entry_id in gone if entry_id in self._works])
        # Those that were cancelled are forgotten at once, not when the lease is over.
        await self._link.run(self._calls.give_back(self._name, gone, crashed=False, attempts=attempts))

    async def _give_back(self, ids: list[str], reason: str, *, crashed: bool) -> None:
        if not ids:
            return
        attempts = self._outbox.attempts(ids)
        for entry_id in ids:
            self._outbox.close(entry_id)
        self.metrics.given_back[reason].inc(len(ids))
        pause = Pause(0.1, 2.0, self._rng)
        # As long as the lease may hold: after it they are somebody else's.
        for _ in range(8):
            try:
                await self._link.run(self._calls.give_back(self._name, ids, crashed=crashed, attempts=attempts))
            except QueueAway:
                await asyncio.sleep(pause.next())
            else:
                return

    def _on_settled(self, settled: Settled) -> None:
        self.metrics.held.set(self._outbox.held)
        self.metrics.lost_pieces.inc(settled.refused)
        for failure in settled.failed:
            self.metrics.failures[failure].inc()
        for entry_id in settled.gone:
            work = self._works.get(entry_id)
            if work is not None and work.task is not None:
                work.task.cancel()

    # Listening, and saying that it is there.

    async def _told_step(self) -> None:
        word = await self._link.hear(self._told, SAFETY_SECONDS)
        if word is None:
            return
        kind, entry_id = word[:1], word[1:].decode(errors="replace")
        if kind == b"x":
            await self._drop([entry_id])
        elif kind == b"g":
            self._poster.release([entry_id])

    async def _renew_step(self) -> None:
        # NB: nothing that may take long is in here: an engine that hangs must not cost all entries their leases.
        self._renew_now.clear()
        ids = self._outbox.ids
        # NB: a worker whose engine has never answered is none that anybody should count on.
        if self._intake.ready or ids or self._leaving:
            room = LEAVING if self._leaving else self._intake.room
            unwanted = read_ids(await self._link.run(self._calls.renew(self._name, ids, room=room)))
            if unwanted:
                self._unwanted.update(unwanted)
                self._watch_now.set()
            # Also where what told it was lost: a reader that goes on must not wait for ever.
            self._poster.release(self._outbox.ids)
        try:
            async with asyncio.timeout(RENEW_SECONDS):
                await self._renew_now.wait()
        except TimeoutError:
            pass

    async def _watch_step(self) -> None:
        self._watch_now.clear()
        unwanted, self._unwanted = self._unwanted, set()
        await self._drop(unwanted)
        await self._give_up_slow()
        if await self._watch.look(list(self._works.values())):
            await self._on_hung()
        self.metrics.hung.set(self._watch.hung)
        try:
            async with asyncio.timeout(RENEW_SECONDS):
                await self._watch_now.wait()
        except TimeoutError:
            pass

    async def _give_up_slow(self) -> None:
        for entry_id in self._outbox.slow(asyncio.get_running_loop().time(), SLOW_SECONDS):
            self._outbox.fail(entry_id, Failure.SLOW)
            self._poster.wake()
            if entry_id in self._works:
                await self._stop([self._works[entry_id]])

    async def _on_hung(self) -> None:
        works = list(self._works.values())
        log.error("the engine hangs: it works on entries and gives nothing", extra={"entries": len(works)})
        await self._stop(works)
        for work in works:
            if work.begun:
                self._outbox.fail(work.taken.id, Failure.ENGINE)
        self._poster.wake()
        self._intake.doubt()
        self._intake.rest(SAFETY_SECONDS)
        await self._give_back([work.taken.id for work in works if not work.begun], "hung", crashed=True)

    async def _sweep_step(self) -> None:
        await asyncio.sleep(SAFETY_SECONDS * self._rng.uniform(0.5, 1.5))
        while int(await self._link.run(self._calls.sweep())) >= SWEEP_AGAIN:
            pass
