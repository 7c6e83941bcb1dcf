"""The files of tenants: what is known of them in Redis, and their bytes as objects."""

import logging
import time
from collections.abc import AsyncGenerator, Callable
from dataclasses import dataclass, replace
from typing import Final

from capstan_gateway.batches.names import TENANTS, Names, is_file_id, new_file_id
from capstan_gateway.batches.objects import PART_BYTES, FilesDown, Objects
from capstan_gateway.batches.records import FileRecord
from capstan_gateway.batches.scripts import DROP_FIELD, DROP_FILE, HAS_ROOM, PUT_FILE, SET_FIELD
from capstan_gateway.batches.state import Lease, LeaseLost
from capstan_gateway.stores.port import KeyStore

log = logging.getLogger(__name__)
UPLOAD_SECONDS: Final = 3600
"""How long an upload may take; what one that broke off has left is then deleted."""
LEAST_SECONDS: Final = 3600
MOST_SECONDS: Final = 2_592_000
"""Between these a client may say how long a file is kept, as OpenAI has it."""
_TENANT_SECONDS: Final = 86400
"""A tenant without a file is forgotten when none has come for so long."""


class TooManyFiles(Exception):
    """The tenant has as many files, or bytes of them, as it may."""


class UploadOver(Exception):
    """An upload took longer than UPLOAD_SECONDS: what there was of it is deleted."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FileBounds:
    """How much is kept."""

    file_bytes: int
    files: int
    files_bytes: int
    seconds: int


class Files:
    """All files. Calls raise StoreDown and FilesDown."""

    def __init__(
        self, store: KeyStore, objects: Objects, bounds: FileBounds, *, wall: Callable[[], float] = time.time
    ) -> None:
        """`wall` gives the time as Unix seconds."""
        self.bounds: Final = bounds
        self.objects: Final = objects
        self._store = store
        self._wall = wall

    async def begin(self, names: Names, *, filename: str, purpose: str, size: int | None) -> "Upload":
        """Begin to upload a file. `size` is how large it is at most, as far as that is known. Raises TooManyFiles."""
        now = int(self._wall())
        record = FileRecord(
            id=new_file_id(), filename=filename, purpose=purpose, created_at=now,
            expires_at=now + self.bounds.seconds, ready=False,
        )  # fmt: skip
        bound = self.bounds.file_bytes if size is None else min(size, self.bounds.file_bytes)
        await self._put(names, record, size=bound, bounded=True)
        return Upload(self, names, record)

    async def keep(self, lease: Lease, record: FileRecord) -> None:
        """Take a file of a batch, whose objects are there, whatever the tenant has. Raises LeaseLost."""
        await self._put(lease.names, record, size=record.size, bounded=False, lease=lease)

    async def check_room(self, names: Names) -> None:
        """Raise TooManyFiles where a tenant has as many as it may: what comes now would come on top of that."""
        bounds = self.bounds
        self._check(
            await self._store.run_script(HAS_ROOM, (names.files, names.sizes), (bounds.files, bounds.files_bytes))
        )

    async def find(self, names: Names, file_id: str) -> FileRecord | None:
        """Give a tenant's file; None where there is none."""
        if not is_file_id(file_id):
            return None
        [written] = await self._store.read(names.files, (file_id,))
        record = None if written is None else FileRecord.read(written)
        return record if record is not None and self._is_there(record) else None

    async def all(self, names: Names) -> list[FileRecord]:
        """Give a tenant's files, the newest first."""
        found = [FileRecord.read(written) for written in (await self._store.read_all(names.files)).values()]
        return sorted(filter(self._is_there, found), key=lambda one: (-one.created_at, one.id))

    async def delete(self, names: Names, file_id: str) -> bool:
        """Delete a file; False where there is none. Where its objects cannot be had now, `sweep` deletes them."""
        record = await self.find(names, file_id)
        if record is None:
            return False
        # From here on nobody finds it but `sweep`, to which it is an upload that broke off long ago.
        await self._put(names, replace(record, ready=False, created_at=0), size=0, bounded=False)
        try:
            await self._clear(names, file_id)
        except FilesDown:
            log.warning("the bytes of a deleted file are still there, and are deleted later")
        return True

    async def _clear(self, names: Names, file_id: str) -> None:
        # The objects first: what is not deleted now is found again.
        await self.objects.delete(names.folder(file_id))
        await self._store.run_script(DROP_FILE, (names.files, names.sizes), (file_id,))

    async def read(self, names: Names, record: FileRecord) -> AsyncGenerator[bytes, None]:
        """Give the bytes of a file, one object after the other."""
        for part in record.parts:
            yield await self.objects.get(f"{names.folder(record.id)}/{part}")

    async def sweep(self) -> None:
        """Delete the files whose time is over, and what uploads that broke off have left.

        Raises FilesDown behind all others where the objects of some could not be deleted.
        """
        now, failure = self._wall(), None
        for field, touched in (await self._store.read_all(TENANTS)).items():
            names = Names(field.decode())
            found = await self._store.read_all(names.files)
            for written in found.values():
                record = FileRecord.read(written)
                if record.expires_at <= now if record.ready else self.is_over(record):
                    try:
                        await self._clear(names, record.id)
                    except FilesDown as error:
                        failure = error
            if not found and int(touched) + _TENANT_SECONDS < now:
                await self._store.run_script(DROP_FIELD, (TENANTS,), (field, touched))
        if failure is not None:
            raise failure

    async def _put(
        self, names: Names, record: FileRecord, *, size: int, bounded: bool, again: bool = False,
        lease: Lease | None = None,
    ) -> None:  # fmt: skip
        # First of all the tenant is known: whatever breaks off from here on is found by `sweep`.
        await self._store.run_script(SET_FIELD, (TENANTS,), (names.tag, int(self._wall()), 0))
        done = await self._store.run_script(
            PUT_FILE, (names.files, names.sizes, *(() if lease is None else lease.keys[:1])),
            (
                record.id, record.written(), size, self.bounds.files if bounded else -1, self.bounds.files_bytes,
                int(again), "" if lease is None else lease.token,
            ),
        )  # fmt: skip
        self._check(done)
        if done == -3:
            raise UploadOver
        if done == -4:
            raise LeaseLost

    def _check(self, done: int) -> None:
        if done == -1:
            raise TooManyFiles(f"there are {self.bounds.files} files already, the most that are kept")
        if done == -2:
            raise TooManyFiles(f"all files together may be {self.bounds.files_bytes} bytes")

    def is_over(self, record: FileRecord) -> bool:
        """Whether an upload has had all its time."""
        return record.created_at + UPLOAD_SECONDS <= self._wall()

    def _is_there(self, record: FileRecord) -> bool:
        return record.ready and record.expires_at > self._wall()


class Upload:
    """A file on its way. It holds one part at most; whoever writes has taken that from the budget."""

    def __init__(self, files: Files, names: Names, record: FileRecord) -> None:
        self._files = files
        self._names = names
        self._record = record
        self._piece = bytearray()
        self._parts: list[str] = []
        self.size = 0
        """How many bytes there are so far."""

    async def write(self, piece: bytes) -> None:
        """Take the next bytes."""
        self.size += len(piece)
        self._piece += piece
        while len(self._piece) >= PART_BYTES:
            await self._put(bytes(self._piece[:PART_BYTES]))
            del self._piece[:PART_BYTES]

    async def finish(self, *, seconds: int | None = None) -> FileRecord:
        """It is complete: from now on there is a file, for so many seconds if that is said.

        Raises TooManyFiles and UploadOver.
        """
        if self._piece:
            await self._put(bytes(self._piece))
            self._piece.clear()
        record = self._record
        if self._files.is_over(record):
            raise UploadOver
        record = replace(
            record, size=self.size, parts=tuple(self._parts), ready=True,
            expires_at=record.expires_at if seconds is None else min(record.created_at + seconds, record.expires_at),
        )  # fmt: skip
        await self._files._put(self._names, record, size=self.size, bounded=True, again=True)
        return record

    async def abort(self) -> None:
        """It will not be complete: leave nothing of it."""
        files, names, record = self._files, self._names, self._record
        await files.objects.delete(names.folder(record.id))
        await files._store.run_script(DROP_FILE, (names.files, names.sizes), (record.id,))

    async def _put(self, data: bytes) -> None:
        part = f"{len(self._parts):06d}"
        await self._files.objects.put(f"{self._names.folder(self._record.id)}/{part}", data)
        self._parts.append(part)
