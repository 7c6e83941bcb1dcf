"""Entries that replicas share, in Redis: one call for a look, which takes the lease of what is not there as well.

    capstan:cache:1:{<partition>}:<policy>:<model>:<digest>          an entry as the codec writes it, with its time
    capstan:cache:1:{<partition>}:<policy>:<model>:<digest>:lease    who makes it just now

The partition is the hash tag: all keys of one tenant are in one slot of a Redis Cluster. No call raises, and none waits
longer than the links' deadline; while Redis is known to be away none waits at all.
"""

import asyncio
import logging
import secrets
from collections.abc import Callable, Coroutine, Sequence
from hashlib import blake2b
from typing import Any, Final

from capstan_gateway.caches.codec import Codec, Unreadable
from capstan_gateway.caches.port import CacheKey, Entry, Looked
from capstan_gateway.stores.port import StoreDown
from capstan_gateway.stores.scripted import Links, Script, run_script
from capstan_gateway.stores.wire import pack

log = logging.getLogger(__name__)

PREFIX: Final = "capstan:cache:1"
LEASE_MS: Final = 3000
RENEW_SECONDS: Final = 1.0
_BUSY: Final = 2
_TAKEN: Final = 1
_LOOK: Final = Script("""
local entry = redis.call('GET', KEYS[1])
if entry then return entry end
if redis.call('SET', KEYS[2], ARGV[1], 'NX', 'PX', ARGV[2]) then return 1 end
return 2
""")
"""KEYS: an entry, its lease. ARGV: who asks, milliseconds. Gives the entry; 1: the lease was taken; 2: it is had."""
_END: Final = Script("""
if redis.call('GET', KEYS[1]) == ARGV[1] then return redis.call('UNLINK', KEYS[1]) end
return 0
""")
_RENEW: Final = Script("""
if redis.call('GET', KEYS[1]) == ARGV[1] then return redis.call('PEXPIRE', KEYS[1], ARGV[2]) end
return 0
""")


def prefix_of(partition: str) -> str:
    """Give what all keys of a partition begin with."""
    return f"{PREFIX}:{{{partition}}}:"


class RedisEntries:
    """Implements `port.SharedEntries`: those of one policy."""

    def __init__(
        self,
        links: Links,
        *,
        policy: str,
        codec: Codec,
        max_entry_bytes: int,
        now_ms: Callable[[], int],
        count: Callable[[str], None] = lambda _: None,
    ) -> None:
        """Make it. `policy` is the id of its entry in the config: two policies share nothing."""
        self._links = links
        self._policy: Final = blake2b(policy.encode(), digest_size=8).hexdigest()
        self._codec = codec
        self._most = max_entry_bytes
        self._now_ms = now_ms
        self._count = count
        self._tasks: set[asyncio.Task[None]] = set()

    @property
    def is_down(self) -> bool:
        """Whether Redis does not answer, as far as is known."""
        return self._links.failure is not None

    async def look(self, key: CacheKey, *, lease: bool) -> Looked:
        """Look for an entry; where it is not there, take the lease of it, if that is wanted and nobody has it."""
        at = self._at(key)
        token = secrets.token_hex(8)
        try:
            if lease:
                found = await run_script(self._links, _LOOK, (at, f"{at}:lease"), (token, LEASE_MS))
            else:
                found = await self._links.call(at, pack(("GET", at)))
        except StoreDown:
            self._count("failed")
            return Looked()
        except asyncio.CancelledError:
            if lease:  # It may have been taken, and nobody would give it back.
                self.later(self.end_lease(f"{at}:lease", token))
            raise
        if isinstance(found, bytes):
            entry = await self._read(key, found)
            return Looked(entry) if entry is not None or not lease else await self.look(key, lease=False)
        if found == _TAKEN:
            return Looked(lease=_RedisLease(self, f"{at}:lease", token))
        return Looked(waits=found == _BUSY)

    async def put(self, key: CacheKey, entry: Entry) -> None:
        """Write an entry."""
        left = entry.expires_ms - self._now_ms()
        data = self._codec.write(key, entry)
        if left <= 0 or len(data) > self._most:
            return
        at = self._at(key)
        try:
            await self._links.call(at, pack(("SET", at, data, "PX", left)))
        except StoreDown:
            self._count("failed")

    async def drop(self, keys: Sequence[CacheKey]) -> None:
        """Delete entries that turned out to be of no use."""
        for key in keys:
            at = self._at(key)
            try:
                await self._links.call(at, pack(("UNLINK", at)))
            except StoreDown:
                self._count("failed")

    async def _read(self, key: CacheKey, data: bytes) -> Entry | None:
        try:
            entry = self._codec.read(key, data)
        except Unreadable as error:
            # NB: damaged, of another release, or somebody has put it there: it is made anew.
            self._count("unreadable")
            log.warning("an entry of the cache does not read, and is deleted", extra={"reason": str(error)})
            await self.drop((key,))
            return None
        return entry if entry.expires_ms > self._now_ms() else None

    def _at(self, key: CacheKey) -> str:
        return f"{prefix_of(key.partition)}{self._policy}:{key.model}:{key.digest.hex()}"

    # --- leases -------------------------------------------------------------------------------------------------------

    def later(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        """Do something that nobody waits for."""
        task: asyncio.Task[None] = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    async def end_lease(self, at: str, token: str) -> None:
        """Give a lease back, if it is still ours."""
        try:
            await run_script(self._links, _END, (at,), (token,))
        except StoreDown:
            self._count("failed")  # It lapses by itself.

    async def renew_lease(self, at: str, token: str) -> bool:
        """Have a lease last longer; False when it is somebody else's by now."""
        try:
            return bool(await run_script(self._links, _RENEW, (at,), (token, LEASE_MS)))
        except StoreDown:
            return True


class _RedisLease:
    """Implements `port.Lease`; it is renewed until it is released."""

    def __init__(self, entries: RedisEntries, at: str, token: str) -> None:
        self._entries = entries
        self._at = at
        self._token = token
        self._renewing = entries.later(self._renew())
        self._released = False

    def release(self) -> None:
        """Give it back, soon."""
        if not self._released:
            self._released = True
            self._renewing.cancel()
            self._entries.later(self._entries.end_lease(self._at, self._token))

    async def _renew(self) -> None:
        while True:
            await asyncio.sleep(RENEW_SECONDS)
            if not await self._entries.renew_lease(self._at, self._token):
                return
