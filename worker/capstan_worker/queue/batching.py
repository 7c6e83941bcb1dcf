"""An engine without continuous batching, to which requests for embeddings and scores go several in a call."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field, replace

from capstan_worker.engine.port import Engine, EngineAnswer, EngineRequest, Head
from capstan_worker.errors import EngineError, EngineUnreachable
from capstan_worker.queue.batches import BatchCollector
from capstan_worker.queue.joining import NotSplit, Part, join, read_part, split

_OK = 200


@dataclass(eq=False)
class _Waiting:
    request: EngineRequest
    part: Part
    answer: "asyncio.Future[EngineAnswer]" = field(default_factory=lambda: asyncio.get_running_loop().create_future())


class BatchingEngine:
    """An Engine before another one. One request that the engine does not want spoils no other one's answer."""

    def __init__(self, engine: Engine, *, size: int, seconds: float) -> None:
        """Up to `size` inputs go together; a request waits for others for so many seconds at most."""
        self._engine = engine
        self._collector: BatchCollector[_Waiting] = BatchCollector(size, seconds)
        self._waiting: dict[str, _Waiting] = {}
        self._timer: asyncio.TimerHandle | None = None
        self._calls: set[asyncio.Task[None]] = set()

    async def ready(self) -> bool:
        """Ask the engine."""
        return await self._engine.ready()

    async def generate(self, request: EngineRequest) -> EngineAnswer:
        """Send it together with others; what cannot be joined goes by itself."""
        part = read_part(request.path, request.body)
        if part is None:
            return await self._engine.generate(request)
        waiting = self._waiting[request.id] = _Waiting(request, part)
        self._send(self._collector.add(part.kind, waiting, part.size, asyncio.get_running_loop().time()))
        self._set_timer()
        try:
            return await waiting.answer
        except BaseException:
            await self.abort(request.id)
            raise

    async def abort(self, request_id: str) -> None:
        """Let go of it; a call that it has a part of goes on for the others."""
        waiting = self._waiting.pop(request_id, None)
        if waiting is not None:
            self._collector.drop(waiting)
            waiting.answer.cancel()
        await self._engine.abort(request_id)

    async def in_flight(self) -> int:
        """Count what the engine has."""
        return await self._engine.in_flight()

    async def room(self) -> int | None:
        """Ask the engine."""
        return await self._engine.room()

    async def metrics(self) -> bytes:
        """Ask the engine."""
        return await self._engine.metrics()

    def _set_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if (due := self._collector.next_due()) is not None:
            self._timer = asyncio.get_running_loop().call_at(due, self._on_time)

    def _on_time(self) -> None:
        self._send(self._collector.due(asyncio.get_running_loop().time()))
        self._set_timer()

    def _send(self, batches: Sequence[Sequence[_Waiting]]) -> None:
        for batch in batches:
            task = asyncio.create_task(self._call(batch), name="batch")
            self._calls.add(task)
            task.add_done_callback(self._calls.discard)

    async def _call(self, batch: Sequence[_Waiting]) -> None:
        if len(batch) > 1:
            bodies = await self._together(batch)
            if bodies is None:
                return
            if bodies:
                for waiting, body in zip(batch, bodies, strict=True):
                    self._answer(waiting, body)
                return
        await asyncio.gather(*(self._alone(waiting) for waiting in batch))

    async def _together(self, batch: Sequence[_Waiting]) -> list[bytes] | None:
        """Give the answers to all; none where they have to be asked one by one; None where nobody can be asked."""
        parts = [waiting.part for waiting in batch]
        first = batch[0].request
        request = replace(first, id=f"{first.id}+{len(batch) - 1}", body=join(parts))
        try:
            answer = await self._engine.generate(request)
            if answer.head.status != _OK:
                await self._engine.abort(request.id)
                return []
            return split(b"".join([piece async for piece in answer.body]), parts)
        except NotSplit:
            return []
        except EngineUnreachable as error:
            for waiting in batch:
                self._refuse(waiting, error)
            return None
        except EngineError:
            return []

    async def _alone(self, waiting: _Waiting) -> None:
        if waiting.answer.done():
            return
        try:
            answer = await self._engine.generate(waiting.request)
        except EngineError as error:
            self._refuse(waiting, error)
            return
        if waiting.answer.done():
            await self._engine.abort(waiting.request.id)
        else:
            self._waiting.pop(waiting.request.id, None)
            waiting.answer.set_result(answer)

    def _answer(self, waiting: _Waiting, body: bytes) -> None:
        self._waiting.pop(waiting.request.id, None)
        if not waiting.answer.done():
            answer = EngineAnswer(Head(_OK, "application/json"), _one(body), waiting.request.id)
            waiting.answer.set_result(answer)

    def _refuse(self, waiting: _Waiting, error: EngineError) -> None:
        self._waiting.pop(waiting.request.id, None)
        if not waiting.answer.done():
            waiting.answer.set_exception(error)


async def _one(body: bytes) -> AsyncIterator[bytes]:
    yield body
