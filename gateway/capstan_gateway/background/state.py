"""Background responses in Redis: created, found and cancelled for clients; leased, begun and ended by who works."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, NamedTuple

from capstan_gateway.background.names import OPEN, Names, read_open_name
from capstan_gateway.background.outcomes import Outcome
from capstan_gateway.background.records import Record, Spec, Told
from capstan_gateway.background.scripts import ACQUIRE, BEGIN, CREATE, DROP, END, LIST, RELEASE, RENEW, UNLIST
from capstan_gateway.background.status import BEFORE, listed
from capstan_gateway.stores.keys import is_kept_id, tagged_name
from capstan_gateway.stores.port import KeyStore, StoreDown
from capstan_gateway.stores.responses import OWN_BYTES, Bounds, stored_keys

LEASE_SECONDS: Final = 15.0
MOST_OPEN: Final = 10_000
"""Responses of all tenants that are not over."""
ORPHAN_SECONDS: Final = 300
"""How long after it came into the list of all there may be no response yet: whoever makes one may stand still between,
and clocks differ."""


class TooManyOpen(Exception):
    """The tenant, or all together, have as many responses that are not over as they may."""


class LeaseLost(Exception):
    """Somebody else has the response by now, or it is over."""


@dataclass(frozen=True, slots=True)
class Lease:
    """Whose a response is."""

    names: Names
    response_id: str
    token: str

    @property
    def key(self) -> str:
        """The key of the response."""
        return self.names.response(self.response_id)

    @property
    def open_name(self) -> str:
        """Its name in the list of all."""
        return tagged_name(self.names.tag, self.response_id)


class Listed(NamedTuple):
    """A response that is not over, as the list of all has it."""

    names: Names
    response_id: str
    at_ms: int
    """The millisecond in which it came, by the clock of the gateway that took it."""

    @property
    def name(self) -> str:
        """Its name there."""
        return tagged_name(self.names.tag, self.response_id)


class OpenResponses:
    """All background responses that are not over. Calls raise StoreDown; those with a lease LeaseLost."""

    def __init__(
        self, store: KeyStore, bounds: Bounds, *, most: int, seconds: int, wall: Callable[[], float] = time.time,
        lease_seconds: float = LEASE_SECONDS,
    ) -> None:  # fmt: skip
        """`bounds` are those of stored responses, `most` how many of a tenant may be open, `seconds` for how long.
        `wall` gives Unix seconds."""
        self.bounds: Final = bounds
        self.seconds: Final = seconds
        self.wall = wall
        self.lease_seconds = lease_seconds
        self._store = store
        self._most = most

    # --- for clients ------------------------------------------------------------------------------------------------

    async def create(self, names: Names, spec: Spec, told: Told, body: bytes, *, token: str = "") -> None:
        """Take a response; with a token that one has its lease. Raises TooManyOpen."""
        # Into the list of all first: one that is not in it nobody would ever ask for, and it would keep others away.
        listing = tagged_name(names.tag, spec.id), int(self.wall() * 1000), MOST_OPEN
        if not await self._store.run_script(LIST, (OPEN,), listing):
            raise TooManyOpen("too many background responses wait already; try again later")
        size = len(told.head) + len(told.instructions) + len(body) + OWN_BYTES
        try:
            made = await self._store.run_script(
                CREATE, (names.response(spec.id), names.open),
                (
                    spec.id, size, self._most, self.bounds.tenant_bytes, (self.seconds + self.bounds.seconds) * 1000,
                    names.prefix, token, self._lease_ms, "spec", spec.written(), "head", told.head, "instructions",
                    told.instructions, "body", body,
                ),
            )  # fmt: skip
        except StoreDown:
            await self._undo(names, spec.id)
            raise
        if made < 0:
            await self._unlist(names, spec.id)
        if made == -1:
            raise TooManyOpen(f"there are {self._most} background responses already that are not over, the most")
        if made == -2:
            raise TooManyOpen(f"all background responses together may be {self.bounds.tenant_bytes} bytes")

    async def _undo(self, names: Names, response_id: str) -> None:
        """Leave nothing of a response of which nobody knows whether it was made: its client is told that it was not."""
        try:
            await self.drop(names, response_id)
        except StoreDown:
            return  # It is answered, and nobody asks for it.

    async def find(self, names: Names, response_id: str) -> Record | None:
        """Give a tenant's response that is not over; None where there is none."""
        if not is_kept_id(response_id):
            return None
        return Record.read(await self._store.read_all(names.response(response_id)))

    async def drop(self, names: Names, response_id: str) -> bool:
        """Forget a response, whoever works on it; False where there is none."""
        gone = await self._store.run_script(DROP, (names.response(response_id), names.open), (response_id,))
        await self._unlist(names, response_id)
        return gone > 0

    async def cancel(self, names: Names, response_id: str, outcome: Outcome) -> bool:
        """Let a response be over, whoever works on it; False where it is already, or there is none."""
        return await self._end(names, response_id, outcome, "") > 0

    # --- for whoever works ------------------------------------------------------------------------------------------

    async def open(self) -> list[Listed]:
        """Give the responses that are not over, the oldest first."""
        found = await self._store.read_all(OPEN)
        listed = []
        for written, at_ms in sorted(found.items(), key=lambda item: (int(item[1]), item[0])):
            name = read_open_name(written)
            if name is not None:
                listed.append(Listed(Names(name[0]), name[1], int(at_ms)))
        return listed

    async def acquire(self, lease: Lease, *, lapsed: bool = True) -> int:
        """Try to get it: 0 while somebody has it, or it is to wait, -1 where it is over, else how often it was taken.

        Without `lapsed` one whose lease has ended is still somebody's.
        """
        return await self._store.run_script(
            ACQUIRE, (lease.key,), (lease.token, self._lease_ms, "1" if lapsed else "")
        )  # fmt: skip

    async def forget(self, one: Listed) -> None:
        """Take what is no response out of the list of all, unless it may just be about to become one."""
        if self.wall() * 1000 >= one.at_ms + ORPHAN_SECONDS * 1000:
            await self._unlist(one.names, one.response_id)

    async def renew(self, lease: Lease) -> None:
        """Keep the lease."""
        self._mine(await self._store.run_script(RENEW, (lease.key,), (lease.token, self._lease_ms)))

    async def release(self, lease: Lease, *, seconds: float = 0.0, waits: int = 0, unsent: bool = False) -> None:
        """Let another one have it, after so long; `waits` is how often it was to wait, and `unsent` says that nobody
        has the request."""
        arguments = lease.token, int(seconds * 1000), waits, "1" if unsent else ""
        await self._store.run_script(RELEASE, (lease.key,), arguments)

    async def read(self, lease: Lease) -> Record:
        """Give the response."""
        record = await self.find(lease.names, lease.response_id)
        if record is None:
            raise LeaseLost
        return record

    async def begin(self, lease: Lease) -> None:
        """Take note that it is about to be sent."""
        self._mine(await self._store.run_script(BEGIN, (lease.key,), (lease.token,)))

    async def end(self, lease: Lease, outcome: Outcome) -> None:
        """Let it be over, and store what came of it, in one step."""
        self._mine(await self._end(lease.names, lease.response_id, outcome, lease.token))

    async def _end(self, names: Names, response_id: str, outcome: Outcome, token: str) -> int:
        stored, bounds = outcome.stored, self.bounds
        done = await self._store.run_script(
            END, (*stored_keys(names.stored, response_id), names.response(response_id), names.open),
            (
                response_id, stored.size, stored.response, stored.items, bounds.seconds * 1000, bounds.responses,
                bounds.tenant_bytes, names.stored, token, listed(BEFORE[outcome.status]),
            ),
        )  # fmt: skip
        if done > 0:
            await self._unlist(names, response_id)
        return done

    async def _unlist(self, names: Names, response_id: str) -> None:
        await self._store.run_script(UNLIST, (OPEN,), (tagged_name(names.tag, response_id),))

    @property
    def most_bytes(self) -> int:
        """How large a response may be that is kept."""
        return min(self.bounds.response_bytes, self.bounds.tenant_bytes)

    @property
    def _lease_ms(self) -> int:
        return int(self.lease_seconds * 1000)

    @staticmethod
    def _mine(reply: int) -> None:
        if reply < 0:
            raise LeaseLost
