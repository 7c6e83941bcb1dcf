"""A worker of the queue in a test's own process, with an engine that does what a script says."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from random import Random
from typing import Any

from capstan_contract.queue.wire import Packing
from capstan_worker.engine.port import EngineAnswer, EngineRequest, Head
from capstan_worker.queue.consumer import Consumer
from capstan_worker.queue.link import RedisLink
from capstan_worker.queue.load import EngineMeter

Say = Callable[[EngineRequest], AsyncIterator[bytes]]


@dataclass
class ScriptedEngine:
    """An engine whose every request is at a test's mercy."""

    places: int = 4
    status: int = 200
    up: bool = True
    head_error: Exception | None = None
    asked: list[EngineRequest] = field(default_factory=list)
    aborted: list[str] = field(default_factory=list)
    running: dict[str, "asyncio.Queue[bytes | Exception | None]"] = field(default_factory=dict)
    most: int = 0
    """Most requests that it ever had at once."""
    others: int = 0
    """Requests that somebody else has sent it."""
    at_once: bytes | None = None
    """What every request is answered with at once; None: it waits for `give`."""
    computed: float | None = None
    on_asked: Callable[[EngineRequest], None] = lambda _: None

    async def ready(self) -> bool:
        return self.up

    async def generate(self, request: EngineRequest) -> EngineAnswer:
        self.asked.append(request)
        self.on_asked(request)
        if self.head_error is not None:
            raise self.head_error
        pieces: asyncio.Queue[bytes | Exception | None] = asyncio.Queue()
        self.running[request.id] = pieces
        self.most = max(self.most, len(self.running))
        if self.at_once is not None:
            pieces.put_nowait(self.at_once)
            pieces.put_nowait(None)
        return EngineAnswer(Head(self.status, "text/event-stream"), self._body(request.id, pieces), request.id)

    async def abort(self, request_id: str) -> None:
        if self.running.pop(request_id, None) is not None:
            self.aborted.append(request_id)

    async def in_flight(self) -> int:
        return len(self.running) + self.others

    async def room(self) -> int | None:
        return max(self.places - len(self.running) - self.others, 0)

    async def metrics(self) -> bytes:
        return b"" if self.computed is None else f"vllm:generation_tokens_total {self.computed}\n".encode()

    def give(self, entry_id: str, *pieces: bytes | Exception | None) -> None:
        """Let the engine answer; None ends the answer."""
        (request_id,) = [one for one in self.running if one.rpartition(".")[0] == entry_id]
        for piece in pieces:
            self.running[request_id].put_nowait(piece)

    def has(self, entry_id: str) -> bool:
        """Whether it works on an entry."""
        return any(one.rpartition(".")[0] == entry_id for one in self.running)

    async def _body(self, request_id: str, pieces: "asyncio.Queue[Any]") -> AsyncIterator[bytes]:
        while True:
            piece = await pieces.get()
            if piece is None:
                self.running.pop(request_id, None)
                return
            if isinstance(piece, Exception):
                self.running.pop(request_id, None)
                raise piece
            yield piece


@asynccontextmanager
async def consumer(
    url: str, engine: ScriptedEngine, *, name: str = "w1", model: str = "default/chat", places: int | None = None,
    link: Any = None, give_back: bool = True, **options: Any,
) -> AsyncIterator[Consumer]:  # fmt: skip
    """Run a worker until the block ends, in order unless told otherwise."""
    link = link or RedisLink(url, seconds=10.0)
    meter = EngineMeter(engine, places=places or engine.places)
    packing = options.pop("packing", None) or Packing()
    made = Consumer(engine, link, meter, model=model, name=name, packing=packing, rng=Random(7), **options)  # noqa: S311
    running = asyncio.create_task(made.run())
    try:
        yield made
    finally:
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
        if give_back:
            await made.close()
        else:
            await kill(made)


async def kill(made: Consumer) -> None:
    """End a worker as a machine does that loses its power: nothing is said to anybody."""
    await made._stop(list(made._works.values()))
    await made._link.aclose()
