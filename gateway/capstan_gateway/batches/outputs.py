"""The answers of one batch on their way into objects: kept in Redis first, one by one, and flushed many at a time.

A line is done when Redis has its answer. Answers that are in an object are taken out of Redis by the same script that
notes the object and the lines: what a crash leaves between is an object that nobody refers to, whose lines are still in
Redis. So each line is in the files once, whoever has written it.
"""

import asyncio
from collections.abc import AsyncIterator, Coroutine
from contextlib import asynccontextmanager
from typing import Any, Final, TypeVar

from capstan_gateway.batches.files import Files
from capstan_gateway.batches.objects import PART_BYTES, FilesDown
from capstan_gateway.batches.records import BatchRecord, FileRecord, Parts
from capstan_gateway.batches.results import ERROR, OUTPUT, Done, read_result_field, result_field
from capstan_gateway.batches.state import Batches, Lease, LeaseLost
from capstan_gateway.stores.port import StoreDown

FLUSH_BYTES: Final = 2 * 1024 * 1024
FLUSH_LINES: Final = 1000
"""What may be in Redis of one batch, beside what comes while that is written."""
LARGE_BYTES: Final = 1024 * 1024
"""An answer above this, such as one with thousands of vectors, goes into an object at once: Redis has it never."""
T = TypeVar("T")


class Outputs:
    """Those of one batch, as whoever has its lease sees them."""

    def __init__(self, lease: Lease, batches: Batches, files: Files, batch: BatchRecord) -> None:
        self._lease = lease
        self._batches = batches
        self._files = files
        self._spec = batch.spec
        self._parts = {OUTPUT: batch.output, ERROR: batch.error}
        self._flushed = Done(batch.done)
        self.done: Final = Done(batch.done)
        """Lines that have their answers."""
        self._fresh: dict[bytes, bytes] = {}
        self._size = 0
        self._lock = asyncio.Lock()
        self._writing: set[asyncio.Future[Any]] = set()
        self._failure: Exception | None = None

    async def load(self) -> None:
        """Find what is in Redis: left there by whoever had the batch before, or by one who was cut off here."""
        async with self._lock:
            stale = []
            for field, line in (await self._batches.results(self._lease)).items():
                number, _ = read_result_field(field)
                if number in self._flushed:
                    stale.append(field)
                elif field not in self._fresh:
                    self._take(field, number, line)
            if stale:
                await self._note(self._flushed, self._parts, stale)

    async def settle(self) -> None:
        """Find what became of those who were cut off here."""
        await asyncio.gather(*self._writing, return_exceptions=True)
        await self.load()

    async def put(self, number: int, kind: str, line: bytes) -> bool:
        """Keep the answer to a line; False where it has one, which it keeps."""
        if number in self.done:
            return False
        if len(line) > LARGE_BYTES:
            fresh = await self._to_its_end(self._keep(number, kind, line))
        else:
            fresh = await self._batches.record(self._lease, number, kind, line)
            if fresh:
                self._take(result_field(number, kind).encode(), number, line)
        if not fresh:
            # Whoever was cut off has been heard all the same.
            await self.load()
        if self._size >= FLUSH_BYTES or len(self._fresh) >= FLUSH_LINES:
            await self.flush()
        return fresh

    async def flush(self) -> None:
        """Write what is in Redis into objects, to the end: whoever is cut off in it leaves it going on."""
        await self._to_its_end(self._flush())

    async def _to_its_end(self, work: Coroutine[Any, Any, T]) -> T:
        """Do what writes objects, also where whoever waits for it is cut off.

        It may go on behind a cancellation, and must not come after the next one of that name.
        """
        writing = asyncio.ensure_future(work)
        self._writing.add(writing)
        writing.add_done_callback(self._written_by)
        return await asyncio.shield(writing)

    def _written_by(self, writing: "asyncio.Future[Any]") -> None:
        self._writing.discard(writing)
        if not writing.cancelled():
            writing.exception()  # Whoever writes next hears of it.

    async def _flush(self) -> None:
        async with self._alone():
            if not self._fresh:
                return
            taken = dict(self._fresh)
            flushed, parts = Done(self._flushed.written()), dict(self._parts)
            for kind in (OUTPUT, ERROR):
                lines = [line for field, line in taken.items() if read_result_field(field)[1] == kind]
                parts[kind] = await self._write(kind, parts[kind], b"".join(lines))
            for field in taken:
                flushed.add(read_result_field(field)[0])
            await self._note(flushed, parts, list(taken))
            self._flushed, self._parts = flushed, parts
            for field, line in taken.items():
                del self._fresh[field]
                self._size -= len(line)

    async def _keep(self, number: int, kind: str, line: bytes) -> bool:
        """Write an answer that is too large for Redis into objects of its own; False where the line has one."""
        async with self._alone():
            if number in self.done:
                return False
            flushed, parts = Done(self._flushed.written()), dict(self._parts)
            flushed.add(number)
            parts[kind] = await self._write(kind, parts[kind], line)
            if not await self._batches.keep(
                self._lease, number, kind, done=flushed.written(), output=parts[OUTPUT], error=parts[ERROR]
            ):
                return False
            self._flushed, self._parts = flushed, parts
            self.done.add(number)
            return True

    @asynccontextmanager
    async def _alone(self) -> AsyncIterator[None]:
        """Let nobody else write objects meanwhile, nor after one who does not know what became of theirs."""
        async with self._lock:
            if self._failure is not None:
                raise self._failure
            try:
                yield
            except (StoreDown, FilesDown, LeaseLost) as error:
                # Nobody knows what has been noted of it: only whoever reads that anew may go on.
                self._failure = error
                raise

    async def _write(self, kind: str, parts: Parts, data: bytes) -> Parts:
        """Write objects of these lines; give all that there are then of this file."""
        for begin in range(0, len(data), PART_BYTES):
            part = data[begin : begin + PART_BYTES]
            # NB: of this lease alone: another one that still believes in its own writes elsewhere.
            name = f"{len(parts.names):06d}-{self._lease.token}"
            await self._files.objects.put(f"{self._lease.names.folder(self.file_id(kind))}/{name}", part)
            parts = parts.plus(name, len(part))
        return parts

    async def close(self) -> dict[str, int]:
        """Flush what is left, and make files of it; give the fields that say which there are."""
        await self.settle()
        await self.flush()
        now = int(self._batches.wall())
        found = {}
        for kind, field, name in ((OUTPUT, "gives_output", "output"), (ERROR, "gives_errors", "error")):
            parts: Parts = self._parts[kind]
            if parts.names:
                record = FileRecord(
                    id=self.file_id(kind), filename=f"{self._spec.id}_{name}.jsonl", purpose="batch_output",
                    created_at=now, expires_at=now + self._spec.output_seconds, size=parts.size, parts=parts.names,
                )  # fmt: skip
                await self._files.keep(self._lease, record)
                found[field] = 1
        return found

    def file_id(self, kind: str) -> str:
        """Give the id of the file of this kind."""
        return self._spec.output_file_id if kind == OUTPUT else self._spec.error_file_id

    def _take(self, field: bytes, number: int, line: bytes) -> None:
        self._fresh[field] = line
        self._size += len(line)
        self.done.add(number)

    async def _note(self, done: Done, parts: dict[str, Parts], fields: list[bytes]) -> None:
        await self._batches.flush(
            self._lease, done=done.written(), output=parts[OUTPUT], error=parts[ERROR], fields=fields
        )
