"""A worker of a test's own: it takes entries from a queue and posts what a test says, by the calls of the contract."""

import asyncio
import json
import os
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from itertools import count
from typing import Any

import redis.asyncio
from redis.exceptions import RedisError

from capstan_contract.queue.calls import (
    Call,
    Failure,
    Kind,
    Post,
    Posted,
    Queue,
    Taken,
    read_ids,
    read_posted,
    read_taken,
)
from capstan_contract.queue.names import bell_key, queue_prefix, told_key
from capstan_contract.queue.wire import AnswerHead, Ask, Packing, read_ask

_NUMBERS = count(1)
EVENTS = "text/event-stream"


class Job:
    """An entry that the worker has."""

    def __init__(self, worker: "QueueWorker", taken: Taken) -> None:
        self.worker = worker
        self.taken = taken
        self.ask: Ask = read_ask(taken.ask)
        self.body: dict[str, Any] = json.loads(worker.packing.unpack(taken.id, "b", taken.body))
        self.unwanted = asyncio.Event()
        """Whether nobody wants it any more, as far as the worker has heard."""
        self.go_on = asyncio.Event()
        self._number = 0

    async def post(self, kind: Kind, data: bytes) -> Posted:
        """Post a piece, already packed."""
        piece = Post(self.taken.id, self.taken.attempt, self._number, kind, data)
        (word,) = read_posted(await self.worker.run(self.worker.calls.post(self.worker.name, [piece])))
        if word is Posted.OK:
            self._number += 1
        elif word is Posted.GONE:
            self.unwanted.set()
        return word

    async def head(self, status: int = 200, content_type: str = "application/json") -> Posted:
        """Post the head."""
        said = AnswerHead(status, content_type, self.worker.name, self.worker.address).write()
        return await self.post(Kind.HEAD, self.worker.packing.pack(self.taken.id, "h", said))

    async def data(self, text: bytes) -> Posted:
        """Post a piece of the body."""
        return await self.post(Kind.DATA, self.worker.packing.pack(self.taken.id, "d", text))

    async def end(self) -> Posted:
        """Post the end."""
        return await self.post(Kind.END, b"")

    async def fail(self, failure: Failure) -> Posted:
        """Say that there is no answer, or no more of it."""
        return await self.post(Kind.FAILURE, failure.value.encode())

    async def answer(self, document: dict[str, Any], status: int = 200) -> None:
        """Post an answer in one piece."""
        await self.head(status)
        await self.data(json.dumps(document).encode())
        await self.end()

    async def chunk(self, text: str, finish: str | None = None) -> Posted:
        """Post a frame of a stream."""
        return await self.data(frame(text, finish))

    async def stream(self, *texts: str) -> None:
        """Post a stream of these texts."""
        await self.head(content_type=EVENTS)
        for text in texts:
            await self.chunk(text)
        await self.finish()

    async def finish(self) -> None:
        """Post the end of a stream."""
        await self.chunk("", "stop")
        await self.data(b"data: [DONE]\n\n")
        await self.end()


Answering = Callable[[Job], Awaitable[None]]


class QueueWorker:
    """Takes as long as it runs; each entry is answered in a task of its own."""

    def __init__(
        self, port: int, answering: Answering, *, model: str = "test/chat", places: int = 4, secret: bytes = b"",
        address: str = "", password: str | None = None,
    ) -> None:  # fmt: skip
        """`address` is where gateways send to its engine, `password` that of Redis."""
        self.address = address
        self.name = f"worker-{next(_NUMBERS)}"
        self.calls = Queue(queue_prefix(model))
        self.packing = Packing(secret)
        self.jobs: dict[str, Job] = {}
        """Those that it has."""
        self.seen: list[Job] = []
        """All that it has ever taken."""
        self.failures: list[Exception] = []
        """What went wrong in a test's own answers."""
        self.places = places
        self.stopping = False
        self._answering = answering
        self._client = redis.asyncio.Redis(host="127.0.0.1", port=port, password=password, protocol=2)
        self._told = redis.asyncio.Redis(host="127.0.0.1", port=port, password=password, protocol=2)
        self._tasks: set[asyncio.Task[None]] = set()

    async def run(self, call: Call) -> Any:
        """Run a call of the contract."""
        return await self._client.eval(call.script, len(call.keys), *call.keys, *call.arguments)

    async def take(self) -> None:
        """Take as many as there is room for."""
        room = self.places - len(self.jobs)
        if room <= 0:
            return
        for taken in read_taken(await self.run(self.calls.take(self.name, most=room, spare=room))):
            job = Job(self, taken)
            self.jobs[taken.id] = job
            self.seen.append(job)
            task = asyncio.create_task(self._answer(job))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _answer(self, job: Job) -> None:
        try:
            with suppress(RedisError, OSError):
                await self._answering(job)
        except Exception as error:
            self.failures.append(error)
            raise
        finally:
            if self.jobs.get(job.taken.id) is job:
                del self.jobs[job.taken.id]

    async def work(self) -> None:
        """Take and hear, until it is told to stop; a Redis that is away is waited for."""
        keys = [told_key(self.calls.prefix, self.name), bell_key(self.calls.prefix)]
        while not self.stopping:
            try:
                gone = read_ids(
                    await self.run(
                        self.calls.renew(self.name, list(self.jobs), room=max(self.places - len(self.jobs), 0))
                    )
                )
                for one in gone:
                    self._unwanted(one)
                await self.take()
                heard = await self._told.blpop(keys, timeout=0.1)
                if heard is not None and heard[0] == keys[0].encode():
                    self._hear(heard[1].decode())
            except (RedisError, OSError):
                await asyncio.sleep(0.02)

    def _hear(self, word: str) -> None:
        if word.startswith("x"):
            self._unwanted(word[1:])
        elif word[1:] in self.jobs:
            self.jobs[word[1:]].go_on.set()

    def _unwanted(self, entry_id: str) -> None:
        job = self.jobs.pop(entry_id, None)
        if job is not None:
            job.unwanted.set()

    async def die(self) -> None:
        """Let others find out that it is gone: what it has was not renewed for longer than a lease."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def aclose(self) -> None:
        """End all that it does."""
        await self.die()
        await self._client.aclose()
        await self._told.aclose()


@asynccontextmanager
async def queue_worker(port: int, answering: Answering, **options: Any) -> AsyncIterator[QueueWorker]:
    """Let a worker take until the block ends."""
    worker = QueueWorker(port, answering, **options)
    task = asyncio.create_task(worker.work())
    try:
        yield worker
        assert not worker.failures, worker.failures
    finally:
        # NB: not by cancelling it: the client of Redis may keep that to itself.
        worker.stopping = True
        await task
        await worker.aclose()


def completion(text: str) -> dict[str, Any]:
    """Give an answer in one piece."""
    return {
        "id": "chatcmpl-1", "object": "chat.completion", "created": 1, "model": "chat",
        "choices": [{"index": 0, "message": {"role": "assistant", "content": text}, "finish_reason": "stop"}],
        "usage": {"prompt_tokens": 3, "completion_tokens": 2, "total_tokens": 5},
    }  # fmt: skip


def frame(text: str, finish: str | None = None) -> bytes:
    """Give a frame of a stream."""
    chunk = {
        "id": "chatcmpl-1", "object": "chat.completion.chunk", "created": 1, "model": "chat",
        "choices": [{"index": 0, "delta": {"content": text} if text else {}, "finish_reason": finish}],
    }  # fmt: skip
    return b"data: " + json.dumps(chunk).encode() + b"\n\n"


async def reply(job: Job) -> None:
    """Answer as an engine does, in the form that is asked for."""
    if job.body.get("stream"):
        await job.stream("one ", "two ", "three")
    else:
        await job.answer(completion("one two three"))


def random_text(size: int) -> str:
    """Give a text that cannot be compressed much."""
    return os.urandom(size // 2).hex()
