"""The answers of one batch on their way into objects: kept in Redis first, one by one, and flushed many at a time.

A line is done when Redis has its answer. Answers that are in an object are taken out of Redis by the same script that
notes the object and the lines: what a crash leaves between is an object that nobody refers to, whose lines are still in
Redis. So each line is in the files once, whoever has written it.
"""

import asyncio
from typing import Final

from capstan_gateway.batches.files import Files
from capstan_gateway.batches.objects import FilesDown
from capstan_gateway.batches.records import BatchRecord, FileRecord, Parts
from capstan_gateway.batches.results import ERROR, OUTPUT, Done, read_result_field, result_field
from capstan_gateway.batches.state import Batches, Lease, LeaseLost
from capstan_gateway.stores.port import StoreDown

FLUSH_BYTES: Final = 2 * 1024 * 1024
FLUSH_LINES: Final = 1000
"""What may be in Redis of one batch, beside what comes while that is written."""


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
        self._flushing: set[asyncio.Future[None]] = set()
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

    async def put(self, number: int, kind: str, line: bytes) -> bool:
        """Keep the answer to a line; False where it has one, which it keeps."""
        fresh = await self._batches.record(self._lease, number, kind, line)
        if fresh:
            self._take(result_field(number, kind).encode(), number, line)
        else:
            # Whoever was cut off has been heard all the same.
            await self.load()
        if self._size >= FLUSH_BYTES or len(self._fresh) >= FLUSH_LINES:
            await self.flush()
        return fresh

    async def flush(self) -> None:
        """Write what is in Redis into objects, to the end: whoever is cut off in it leaves it going on.

        What writes an object may go on behind a cancellation, and must not come after the next one of that name.
        """
        flushing = asyncio.ensure_future(self._flush())
        self._flushing.add(flushing)
        flushing.add_done_callback(self._flushed_by)
        await asyncio.shield(flushing)

    def _flushed_by(self, flushing: "asyncio.Future[None]") -> None:
        self._flushing.discard(flushing)
        if not flushing.cancelled():
            flushing.exception()  # Whoever flushes next hears of it.

    async def _flush(self) -> None:
        async with self._lock:
            if self._failure is not None:
                raise self._failure
            try:
                await self._write()
            except (StoreDown, FilesDown, LeaseLost) as error:
                # Nobody knows what has been noted of it: only whoever reads that anew may go on.
                self._failure = error
                raise

    async def _write(self) -> None:
        if not self._fresh:
            return
        taken = dict(self._fresh)
        flushed, parts = Done(self._flushed.written()), dict(self._parts)
        for kind in (OUTPUT, ERROR):
            lines = [line for field, line in taken.items() if read_result_field(field)[1] == kind]
            if lines:
                data = b"".join(lines)
                # NB: of this lease alone: another one that still believes in its own writes elsewhere.
                name = f"{len(parts[kind].names):06d}-{self._lease.token}"
                await self._files.objects.put(f"{self._lease.names.folder(self.file_id(kind))}/{name}", data)
                parts[kind] = parts[kind].plus(name, len(data))
        for field in taken:
            flushed.add(read_result_field(field)[0])
        await self._note(flushed, parts, list(taken))
        self._flushed, self._parts = flushed, parts
        for field, line in taken.items():
            del self._fresh[field]
            self._size -= len(line)

    async def close(self) -> dict[str, int]:
        """Flush what is left, and make files of it; give the fields that say which there are."""
        await self.load()
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
                await self._files.keep(self._lease.names, record)
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
