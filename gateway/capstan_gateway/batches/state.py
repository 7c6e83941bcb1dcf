"""Batches in Redis: created, found, cancelled by clients; leased, moved on and recorded by whoever works on them."""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final

from capstan_gateway.batches.names import OPEN, Names, is_batch_id, read_open_name
from capstan_gateway.batches.records import WINDOW_SECONDS, BatchRecord, BatchSpec, Parts
from capstan_gateway.batches.results import ERROR, OUTPUT, result_field
from capstan_gateway.batches.scripts import (
    ACQUIRE,
    CANCEL,
    CHANGE_FIELD,
    CREATE,
    DROP_BATCH,
    DROP_FIELD,
    FLUSH,
    KEEP,
    MOVE,
    RECORD,
    RELEASE,
    RENEW,
    SET_FIELD,
)
from capstan_gateway.batches.status import BEFORE, ENDS, Status, listed
from capstan_gateway.stores.keys import tagged_name
from capstan_gateway.stores.port import KeyStore

LEASE_SECONDS: Final = 15.0
MOST_OPEN: Final = 10_000
"""Batches of all tenants that are not over."""
_SLACK_SECONDS: Final = 7 * 86400
"""How much longer than its window a batch is remembered that nobody brings to an end."""
ORPHAN_SECONDS: Final = 300
"""How long after it came into the list of all there may be no batch yet: whoever makes one may stand still between."""
_CLEAR: Final = 500
"""Fields that one call names."""


_COUNTS: Final = {OUTPUT: "completed", ERROR: "failed"}


class TooManyBatches(Exception):
    """The tenant, or all together, have as many batches that are not over as they may."""


class LeaseLost(Exception):
    """Somebody else has the batch by now, or it is not there any more."""


@dataclass(frozen=True, slots=True)
class Open:
    """A batch that is not over, as the list of all has it."""

    names: Names
    batch_id: str
    until: int
    """When its time is over, as Unix seconds; 0: it is to be cancelled."""

    @property
    def name(self) -> str:
        """Its name there."""
        return tagged_name(self.names.tag, self.batch_id)


@dataclass(frozen=True, slots=True)
class Lease:
    """Whose a batch is."""

    names: Names
    batch_id: str
    token: str

    @property
    def keys(self) -> tuple[str, str]:
        """The keys of the batch."""
        return self.names.batch(self.batch_id), self.names.results(self.batch_id)


class Batches:
    """All batches. Calls raise StoreDown; those with a lease LeaseLost."""

    def __init__(
        self, store: KeyStore, *, most: int, seconds: int, wall: Callable[[], float] = time.time,
        lease_seconds: float = LEASE_SECONDS,
    ) -> None:  # fmt: skip
        """Keep so many of a tenant, each for so many seconds behind its end. `wall` gives Unix seconds."""
        self.wall = wall
        self.lease_seconds = lease_seconds
        self._store = store
        self._most = most
        self._seconds = seconds

    # --- for clients ------------------------------------------------------------------------------------------------

    async def create(self, names: Names, spec: BatchSpec) -> None:
        """Take a batch. Raises TooManyBatches."""
        # Into the list of all first: a batch that is not in it nobody would ever work on.
        name = tagged_name(names.tag, spec.id)
        if not await self._store.run_script(SET_FIELD, (OPEN,), (name, spec.expires_at, MOST_OPEN)):
            raise TooManyBatches("too many batches wait already; try again later")
        made = await self._store.run_script(
            CREATE, (names.batch(spec.id), names.index),
            (
                spec.id, spec.written(), spec.created_at, self._most,
                (WINDOW_SECONDS + _SLACK_SECONDS + self._seconds) * 1000, names.prefix,
            ),
        )  # fmt: skip
        if not made:
            await self._store.run_script(DROP_FIELD, (OPEN,), (name, ""))
            raise TooManyBatches(
                f"there are {self._most} batches already that are not over, the most that there may be"
            )

    async def find(self, names: Names, batch_id: str) -> BatchRecord | None:
        """Give a tenant's batch; None where there is none."""
        if not is_batch_id(batch_id):
            return None
        return BatchRecord.read(await self._store.read_all(names.batch(batch_id)))

    async def ids(self, names: Names) -> list[str]:
        """Give the ids of a tenant's batches, the newest first."""
        found = await self._store.read_all(names.index)
        return [one.decode() for one, _ in sorted(found.items(), key=lambda item: (-int(item[1]), item[0]))]

    async def cancel(self, names: Names, batch_id: str) -> bool:
        """Have it stop; False where it is over."""
        done = await self._store.run_script(
            CANCEL, (names.batch(batch_id),), (int(self.wall()), listed(BEFORE[Status.CANCELLING]))
        )
        if done > 0:
            # So that whoever looks for work sees that this one is to be ended, and takes it soon.
            await self._store.run_script(CHANGE_FIELD, (OPEN,), (tagged_name(names.tag, batch_id), 0))
        return done > 0

    async def delete(self, names: Names, batch_id: str) -> bool:
        """Forget a batch that is over; False where it is not."""
        keys = names.batch(batch_id), names.results(batch_id), names.index
        return await self._store.run_script(DROP_BATCH, keys, (batch_id,)) != 0

    # --- for whoever works ------------------------------------------------------------------------------------------

    async def open(self) -> list[Open]:
        """Give the batches that are not over: those to be cancelled, then the oldest."""
        found = await self._store.read_all(OPEN)
        batches = []
        for written, until in sorted(found.items(), key=lambda item: (int(item[1]), item[0])):
            name = read_open_name(written)
            if name is not None:
                batches.append(Open(Names(name[0]), name[1], int(until)))
        return batches

    async def acquire(self, lease: Lease) -> int:
        """Try to get it: 0 while somebody has it, -1 where it is over, -2 where there is none, else how often it was
        taken since one of its lines was done."""
        taken = await self._store.run_script(ACQUIRE, lease.keys[:1], (lease.token, self._lease_ms))
        if taken == -1:
            await self.close(lease)
        return taken

    async def forget(self, one: Open) -> bool:
        """Take what is no batch out of the list of all, unless it may just be about to become one."""
        if self.wall() < one.until - WINDOW_SECONDS + ORPHAN_SECONDS:
            return False
        return await self._store.run_script(DROP_FIELD, (OPEN,), (one.name, str(one.until))) > 0

    async def renew(self, lease: Lease) -> bool:
        """Keep the lease; True when the batch is to be cancelled."""
        return self._mine(await self._store.run_script(RENEW, lease.keys[:1], (lease.token, self._lease_ms))) == 2

    async def release(self, lease: Lease) -> None:
        """Let another one have it at once."""
        await self._store.run_script(RELEASE, lease.keys[:1], (lease.token,))

    async def read(self, lease: Lease) -> BatchRecord:
        """Give the batch."""
        record = await self.find(lease.names, lease.batch_id)
        if record is None:
            raise LeaseLost
        return record

    async def move(self, lease: Lease, to: Status, fields: Mapping[str, bytes | str | int] | None = None) -> bool:
        """Bring it to this status; False where that may not follow the one that it has by now."""
        pairs: list[bytes | str | int] = [part for pair in (fields or {"moved": 1}).items() for part in pair]
        kept = self._seconds * 1000 if to in ENDS else ""
        arguments: tuple[bytes | str | int, ...] = (
            lease.token,
            to.value,
            int(self.wall()),
            listed(BEFORE[to]),
            kept,
            *pairs,
        )
        if not self._mine(await self._store.run_script(MOVE, lease.keys[:1], arguments)):
            return False
        if to in ENDS:
            await self.close(lease)
        return True

    async def close(self, lease: Lease) -> None:
        """It is over: nobody looks for it any more."""
        await self._store.run_script(DROP_FIELD, (OPEN,), (tagged_name(lease.names.tag, lease.batch_id), ""))

    async def record(self, lease: Lease, number: int, kind: str, line: bytes) -> bool:
        """Keep the answer to a line; False where there is one."""
        kept = (WINDOW_SECONDS + _SLACK_SECONDS) * 1000
        field, other = _fields(number, kind)
        arguments = (lease.token, field, line, _COUNTS[kind], kept, other)
        return self._mine(await self._store.run_script(RECORD, lease.keys, arguments)) > 0

    async def keep(self, lease: Lease, number: int, kind: str, *, done: bytes, output: Parts, error: Parts) -> bool:
        """Take note that the answer to a line is in the objects; False where it has one."""
        arguments = (lease.token, done, output.written(), error.written(), _COUNTS[kind], *_fields(number, kind))
        return self._mine(await self._store.run_script(KEEP, lease.keys, arguments)) > 0

    async def results(self, lease: Lease) -> dict[bytes, bytes]:
        """Give the answers that are in no object yet."""
        return await self._store.read_all(lease.keys[1])

    async def flush(self, lease: Lease, *, done: bytes, output: Parts, error: Parts, fields: list[bytes]) -> None:
        """Take note that these answers are in the objects now."""
        for begin in range(0, max(len(fields), 1), _CLEAR):
            some = fields[begin : begin + _CLEAR]
            arguments: tuple[bytes | str, ...] = (lease.token, done, output.written(), error.written(), *some)
            self._mine(await self._store.run_script(FLUSH, lease.keys, arguments))

    @property
    def _lease_ms(self) -> int:
        return int(self.lease_seconds * 1000)

    @staticmethod
    def _mine(reply: int) -> int:
        if reply < 0:
            raise LeaseLost
        return reply


def _fields(number: int, kind: str) -> tuple[str, str]:
    """Give the field that a line's answer has, and the one that it would have in the other file."""
    return result_field(number, kind), result_field(number, ERROR if kind == OUTPUT else OUTPUT)
