"""One batch from wherever it is to its end, by whoever has its lease."""

import asyncio
from collections.abc import Callable
from contextlib import aclosing
from dataclasses import replace
from functools import partial
from math import inf
from typing import Any, Final

import orjson

from capstan_gateway.batches.ends import ABANDONED, CANCELLED, NO_KEY, OVER, End
from capstan_gateway.batches.lines import Fault, LineRequest, Validator, errors_document
from capstan_gateway.batches.means import Means
from capstan_gateway.batches.names import is_of_messages, new_line_id
from capstan_gateway.batches.outputs import Outputs
from capstan_gateway.batches.records import BatchRecord
from capstan_gateway.batches.results import ERROR, OUTPUT, line_of_answer, line_of_error
from capstan_gateway.batches.source import WAIT_SECONDS, Source
from capstan_gateway.batches.state import Lease, LeaseLost
from capstan_gateway.batches.status import Status
from capstan_gateway.batches.turns import Owner
from capstan_gateway.memory import Share
from capstan_gateway.own_asks import WAITED, Answer, retry_of
from capstan_gateway.stores.port import StoreDown

BEAT_SECONDS: Final = 1.0
"""How often the lease is renewed, and it is looked whether the batch is to be cancelled or its time is over."""
GRACE_SECONDS: Final = 2.0
"""How long what is being asked may go on when the batch ends."""
DRAIN_SECONDS: Final = 30.0
"""The same, when it is the process that ends: another one goes on with the rest."""
MOST_TAKEN: Final = 20
"""How often a batch is taken of which nobody brings a line to an end."""
FREE_BYTES: Final = 64 * 1024
"""What a line may hold without taking it from the budget: what bounds those is how many are held at once."""


class Work:
    """On one batch."""

    def __init__(self, lease: Lease, means: Means, *, taken: int = 1) -> None:
        self.lease: Final = lease
        self._means = means
        self._taken = taken
        self._end: End | None = None
        self._stop = asyncio.Event()
        """Set when no further line is to be asked."""
        self._queue = asyncio.Lock()
        self._owner = Owner(lease.names.tag, lease.batch_id)
        self._asking: set[asyncio.Task[Any] | None] = set()
        """Those of its lines that are being asked, or whose answers are being kept."""
        self._idle_since: float | None = None
        """Since when none is although some are to be, in the loop's time."""
        self._resume_at = 0.0
        self._expires_at = 0

    @property
    def idle_seconds(self) -> float:
        """For how long it has had lines to ask and has asked none: its limits or its model leave it no room."""
        since = self._idle_since
        return 0.0 if since is None else asyncio.get_running_loop().time() - since

    @property
    def is_stopping(self) -> bool:
        """Whether it begins nothing more here."""
        return self._stop.is_set()

    def stop(self) -> None:
        """Bring to an end what is being asked, and leave the rest to whoever gets the batch next."""
        self._stop.set()

    async def run(self) -> None:
        """Work until the batch is over, or the lease lost, or the process is on its way out.

        Raises StoreDown and FilesDown; then whoever gets the batch next goes on.
        """
        going = asyncio.create_task(self._go())
        beating = asyncio.create_task(self._beat(going))
        try:
            await going
        except LeaseLost:
            return
        except asyncio.CancelledError:
            own = asyncio.current_task()
            if own is not None and own.cancelling():
                raise
        finally:
            for task in (beating, going):
                task.cancel()
            await asyncio.gather(beating, going, return_exceptions=True)

    async def _beat(self, going: asyncio.Task[None]) -> None:
        loop, means = asyncio.get_running_loop(), self._means
        renewed = loop.time()
        while True:
            await asyncio.sleep(BEAT_SECONDS)
            if not means.asks.is_ready:
                self._stop.set()
            try:
                if await means.batches.renew(self.lease):
                    self._finish_as(CANCELLED)
                renewed = loop.time()
            except LeaseLost:
                going.cancel()
                return
            except StoreDown:
                if loop.time() - renewed > means.batches.lease_seconds:
                    going.cancel()
                    return
            if self._expires_at and means.batches.wall() >= self._expires_at:
                self._finish_as(OVER)

    def _finish_as(self, end: End) -> None:
        """Let the batch end so; to be cancelled goes before anything else."""
        if self._end is None or end is CANCELLED:
            self._end = end
        self._stop.set()

    def _ends(self) -> bool:
        """Whether it ends before all of its lines are done."""
        return self._end is not None

    async def _go(self) -> None:
        means = self._means
        batch = await means.batches.read(self.lease)
        if self._taken > 2 * MOST_TAKEN:
            # Nor can it be ended with what there is of it.
            await self._fail(batch, ABANDONED)
            return
        if self._taken > MOST_TAKEN:
            self._finish_as(ABANDONED)
        if batch.spec.expires_at <= means.batches.wall():
            self._finish_as(OVER)
        if batch.status is Status.CANCELLING:
            self._finish_as(CANCELLED)
        self._expires_at = batch.spec.expires_at
        if batch.status is Status.VALIDATING and self._end is None:
            checked = await self._validate(batch)
            if checked is None:
                return
            batch = checked
        outputs = Outputs(self.lease, means.batches, means.files, batch)
        await outputs.load()
        if batch.status is Status.IN_PROGRESS and self._end is None:
            await self._ask_lines(batch, outputs)
            if not self._ends() and self._stop.is_set():
                await outputs.flush()
                return
        await self._close(batch, outputs)

    # --- validating -------------------------------------------------------------------------------------------------

    async def _validate(self, batch: BatchRecord) -> BatchRecord | None:
        """Check the input; give the batch as it goes on, None when it does not go on here."""
        means, spec = self._means, batch.spec
        who = means.asks.who(spec)
        if who is None:
            self._finish_as(NO_KEY)
            return batch
        one_model = not is_of_messages(spec.id)
        validator = Validator(spec.endpoint, most_lines=means.most_lines, one_model=one_model)
        await self._source(batch, stopped=self._stop.is_set).check(validator)
        if self._end is not None:
            return batch
        if self._stop.is_set():
            return None
        validator.check_model(lambda name: means.asks.has_model(who, name))
        if validator.faults:
            errors = orjson.dumps(errors_document(validator.faults))
            if await means.batches.move(self.lease, Status.FAILED, {"errors": errors}):
                means.count_batch(Status.FAILED)
                return None
        fields: dict[str, bytes | str | int] = {"total": validator.total, "model": validator.model}
        if not await means.batches.move(self.lease, Status.IN_PROGRESS, fields):
            self._finish_as(CANCELLED)
            return batch
        return await means.batches.read(self.lease)

    def _source(self, batch: BatchRecord, *, stopped: Callable[[], bool]) -> Source:
        return Source(self.lease.names, batch.spec, self._means, on_end=self._finish_as, stopped=stopped)

    # --- in progress ------------------------------------------------------------------------------------------------

    async def _ask_lines(self, batch: BatchRecord, outputs: Outputs) -> None:
        """Ask what is not done, until all of it is or nothing more is to be asked."""
        tasks: set[asyncio.Task[None]] = set()
        stopping = asyncio.create_task(self._stop.wait())
        self._rest()
        try:
            async with aclosing(self._source(batch, stopped=self._stop.is_set).requests()) as lines:
                async for number, request in lines:
                    if self._stop.is_set():
                        break
                    if number in outputs.done:
                        continue
                    share = self._means.budget.share()
                    while not self._has_room(share, len(request.body), alone=not tasks) and not self._stop.is_set():
                        tasks = await _some(tasks, stopping, seconds=WAIT_SECONDS)
                    task = asyncio.create_task(self._line(batch, outputs, number, request, share))
                    task.add_done_callback(partial(_release, share))
                    tasks.add(task)
                    while len(tasks) >= self._means.concurrency and not self._stop.is_set():
                        tasks = await _some(tasks, stopping)
            while tasks and not self._stop.is_set():
                tasks = await _some(tasks, stopping)
            asked = {task for task in tasks if task in self._asking}
            if asked:
                # What only waits for its turn, or to be asked again, is cut off at once.
                for task in tasks - asked:
                    task.cancel()
                await self._drain(asked)
        finally:
            stopping.cancel()
            for task in tasks:
                task.cancel()
            await asyncio.gather(stopping, *tasks, return_exceptions=True)
            self._idle_since = None

    async def _drain(self, asked: set[asyncio.Task[None]]) -> None:
        """Wait for what is being asked: to its end where the batch only leaves its place."""
        loop = asyncio.get_running_loop()
        began = loop.time()
        while asked and loop.time() - began < self._grace:
            done, asked = await asyncio.wait(asked, timeout=BEAT_SECONDS)
            for task in done:
                task.result()

    @property
    def _grace(self) -> float:
        if self._end is not None:
            return GRACE_SECONDS
        return inf if self._means.asks.is_ready else DRAIN_SECONDS

    def _has_room(self, share: Share, size: int, *, alone: bool) -> bool:
        """Whether a line of this size may be held until it is asked: of large ones one at least, if it ever fits."""
        if size <= FREE_BYTES or share.grow_easily(size):
            return True
        return alone and (share.grow(size) or not share.ever_fits(size))

    async def _line(
        self, batch: BatchRecord, outputs: Outputs, number: int, request: LineRequest, share: Share
    ) -> None:
        try:
            answer = await self._answer(batch, request, share)
            if answer is None:
                return
            kind, line = line_of_answer(new_line_id(), request.custom_id, answer)
            if await outputs.put(number, kind, line):
                self._means.count_line("completed" if kind == OUTPUT else "failed")
        finally:
            self._rest()

    async def _answer(self, batch: BatchRecord, request: LineRequest, share: Share) -> Answer | None:
        """Ask one line as often as it takes; None when the batch ends. Whoever has the answer is among `_asking`."""
        means, spec, loop = self._means, batch.spec, asyncio.get_running_loop()
        failures = waits = 0
        before = share.held
        while not self._stop.is_set():
            if (pause := self._resume_at - loop.time()) > 0:
                await asyncio.sleep(pause)
                continue
            who = means.asks.who(spec)
            if who is None:
                self._finish_as(NO_KEY)
                return None
            principal = replace(who, batch=True)
            has_room = partial(means.asks.has_room, principal, request.model)
            async with means.turns.turn(self._owner, request.model, has_room, self._queue):
                if self._resume_at > loop.time() or self._stop.is_set():
                    continue
                self._asking.add(asyncio.current_task())
                self._idle_since = None
                answer = await means.asks.ask(request.url, request.body, principal, share, headers=spec.headers)
            waited = answer.status in WAITED
            failures, waits = failures + (not waited), waits + waited
            left = spec.expires_at - means.batches.wall()
            retry = retry_of(answer, failures=failures, waits=waits, left_seconds=left)
            if retry is None:
                return answer
            share.shrink_to(before)
            self._rest()
            means.count_line("waited" if waited else "retried")
            if retry.all_wait:
                self._resume_at = max(self._resume_at, loop.time() + retry.seconds)
            await asyncio.sleep(retry.seconds)
        return None

    def _rest(self) -> None:
        """This line is not being asked any more; where none is the batch is idle from now on."""
        self._asking.discard(asyncio.current_task())
        if not self._asking and self._idle_since is None:
            self._idle_since = asyncio.get_running_loop().time()

    # --- at the end -------------------------------------------------------------------------------------------------

    async def _close(self, batch: BatchRecord, outputs: Outputs) -> None:
        """Give what there is, and let the batch be over."""
        means, end = self._means, self._end
        finalizes = end is None and batch.status is Status.IN_PROGRESS
        if finalizes and not await means.batches.move(self.lease, Status.FINALIZING):
            end = CANCELLED
        total = 0
        # Of Anthropic's batches the input says which requests have no answer.
        if end is not None and end.rest and not (end is OVER and is_of_messages(batch.spec.id)):
            await outputs.settle()
            async with aclosing(self._source(batch, stopped=lambda: False).requests()) as lines:
                async for number, request in lines:
                    total += 1
                    if number not in outputs.done:
                        line = line_of_error(new_line_id(), request.custom_id, end.code, end.message)
                        if await outputs.put(number, ERROR, line):
                            means.count_line("not_asked")
        fields: dict[str, bytes | str | int] = {**await outputs.close()}
        if batch.status is Status.VALIDATING:
            fields["total"] = total
        status = Status.COMPLETED if end is None else end.status
        if end is not None and status is Status.FAILED:
            fields["errors"] = orjson.dumps(errors_document([Fault(end.code, end.message)]))
        if not await means.batches.move(self.lease, status, fields):
            fields.pop("errors", None)
            status = Status.CANCELLED
            if not await means.batches.move(self.lease, status, fields):
                raise LeaseLost
        means.count_batch(status)

    async def _fail(self, batch: BatchRecord, end: End) -> None:
        """Let the batch be over with what it has given already."""
        errors = {"errors": orjson.dumps(errors_document([Fault(end.code, end.message)]))}
        status = Status.CANCELLED if batch.status is Status.CANCELLING else Status.FAILED
        if await self._means.batches.move(self.lease, status, errors):
            self._means.count_batch(status)


def _release(share: Share, _: "asyncio.Task[None]") -> None:
    # NB: not by the task itself: one that is cancelled before it has begun does nothing at all.
    share.release()


async def _some(
    tasks: set[asyncio.Task[None]], stopping: asyncio.Task[object], *, seconds: float | None = None
) -> set[asyncio.Task[None]]:
    """Wait until one of them has ended, or all are to, or so long; give those that have not. Raises what they raise."""
    done, _ = await asyncio.wait({*tasks, stopping}, return_when=asyncio.FIRST_COMPLETED, timeout=seconds)
    ended = tasks & done
    for task in ended:
        task.result()
    return tasks - ended
