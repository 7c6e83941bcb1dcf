"""Entries that replicas share, in Redis: one call for a look, which takes the lease of what is not there as well.

    capstan:cache:1:{<partition>}:<policy>:<model>:<digest>          an entry as the codec writes it, with its time
    capstan:cache:1:{<partition>}:<policy>:<model>:<digest>:lease    who makes it just now
    capstan:cache:1:{<partition>}:<policy>:<model>:<digest>:asked    the question of it, where questions are compared

The partition is the hash tag: all keys of one partition are in one slot of a Redis Cluster. No call raises, and none
waits longer than the links' deadline; while Redis is known to be away none waits at all. What is large has connections
of its own, with a longer deadline: a reply of megabytes would hold up all the small ones behind it, and they would be
late for no fault of Redis'. Measured with four readers of 2 MiB beside it, small looks took 28 to 77 ms on one
connection and 5 to 12 ms apart, most of that the reading of the large ones.
"""

import asyncio
import logging
import secrets
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from hashlib import blake2b
from typing import Any, Final, Protocol, TypeVar

from capstan_gateway.caches.codec import Codec, Unreadable
from capstan_gateway.caches.port import CacheKey, Entry, Looked
from capstan_gateway.caches.purges import SLACK_MS
from capstan_gateway.life.threads import Busy, Threads
from capstan_gateway.stores.port import StoreDown
from capstan_gateway.stores.scripted import Links, Script, run_script
from capstan_gateway.stores.wire import Refused, Reply, Word, pack

log = logging.getLogger(__name__)
T = TypeVar("T")

PREFIX: Final = "capstan:cache:1"
LEASE_MS: Final = 3000
RENEW_SECONDS: Final = 1.0
LARGE_BYTES: Final = 64 * 1024
"""Of an entry as it is written; what is larger goes by the other connections."""
_BUSY: Final = 2
_TAKEN: Final = 1
_LARGE: Final = 3
_LOOK: Final = Script("""
local size = redis.call('STRLEN', KEYS[1])
if size > tonumber(ARGV[3]) then return 3 end
if size > 0 then return redis.call('GET', KEYS[1]) end
if ARGV[2] == '0' then return 0 end
if redis.call('SET', KEYS[2], ARGV[1], 'NX', 'PX', ARGV[2]) then return 1 end
return 2
""")
"""KEYS: an entry, its lease. ARGV: who asks, milliseconds (0: no lease), what is large. Gives the entry; 0: there is
none; 1: nor was there a lease, and it is taken; 2: another one has the lease; 3: there is an entry, and it is large."""
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


def policy_of(policy: str) -> str:
    """Give how a policy is written in keys, by the id of its entry in the config."""
    return blake2b(policy.encode(), digest_size=8).hexdigest()


def place_of(policy: str, key: CacheKey) -> str:
    """Give where an entry lies; `policy` as it is written in keys."""
    return f"{prefix_of(key.partition)}{policy}:{key.model}:{key.digest.hex()}"


def question_place_of(policy: str, key: CacheKey) -> str:
    """Give where the question of an entry lies: who deletes entries by their names deletes it as well."""
    return f"{place_of(policy, key)}:asked"


_DOWN: Final = object()
"""In place of a reply that did not come."""


class Purged(Protocol):
    """What is known of purges."""

    def __call__(self, key: CacheKey, created_ms: int) -> bool:
        """Whether an entry that was made then is purged."""
        ...


async def _known() -> bool:
    return True


class RedisEntries:
    """Implements `port.SharedEntries`: those of one policy."""

    def __init__(
        self,
        links: Links,
        *,
        policy: str,
        codec: Callable[[], Codec | None],
        max_entry_bytes: int,
        ttl_ms: int,
        now_ms: Callable[[], int],
        large: Links | None = None,
        purged: Purged = lambda key, created_ms: False,  # noqa: ARG005 - of the protocol
        learn: Callable[[], Awaitable[bool]] = _known,
        threads: Threads | None = None,
        count: Callable[[str], None] = lambda _: None,
    ) -> None:
        """Make it. `policy` is the id of its entry in the config: two policies share nothing.

        `codec` gives how entries are written now; None: nothing leaves, and nothing is looked for. `large` are other
        connections to the same Redis. `learn` knows what is purged before anything is read; False: nobody can tell.
        Nothing is read that is older than `ttl_ms`, however long it was to be kept when it was written.
        `threads` is where large entries are packed. `count` hears of each call: answered, refused, failed, and of what
        is unreadable.
        """
        self._links: Final = links
        self._large: Final = large or links
        self._policy: Final = policy_of(policy)
        self._codec: Final = codec
        self._most: Final = max_entry_bytes
        self._ttl_ms: Final = ttl_ms
        self._now_ms: Final = now_ms
        self._purged: Final = purged
        self._learn: Final = learn
        self._threads: Final = threads
        self._count: Final = count
        self._tasks: set[asyncio.Task[None]] = set()

    @property
    def is_down(self) -> bool:
        """Whether Redis does not answer, as far as is known."""
        return self._links.failure is not None

    async def look(self, key: CacheKey, *, lease: bool) -> Looked:
        """Look for an entry; where it is not there, take the lease of it, if that is wanted and nobody has it."""
        codec = self._codec()
        if codec is None or not await self._learn():
            return Looked()
        at = self._at(key)
        token = secrets.token_hex(8) if lease else ""
        try:
            return await self._look(codec, key, at, token)
        except asyncio.CancelledError:
            if lease:  # It may have been taken, and nobody would give it back.
                self.later(self.end_lease(f"{at}:lease", token))
            raise

    async def _look(self, codec: Codec, key: CacheKey, at: str, token: str) -> Looked:
        found = await self._script(_LOOK, (at, f"{at}:lease"), (token, LEASE_MS if token else 0, LARGE_BYTES))
        if found == _LARGE:
            found = await self._call(self._large, at, ("GET", at))
        if isinstance(found, bytes):
            entry = await self._read(codec, key, found)
            # NB: what did not read is deleted by now, and is made anew by whoever has the lease.
            return Looked(entry) if entry is not None or not token else await self._leased(at, token)
        if found == _TAKEN:
            return Looked(lease=_RedisLease(self, f"{at}:lease", token))
        return Looked(waits=found == _BUSY)

    async def _leased(self, at: str, token: str) -> Looked:
        taken = await self._call(self._links, at, ("SET", f"{at}:lease", token, "NX", "PX", LEASE_MS))
        if taken is not None and taken is not _DOWN:
            return Looked(lease=_RedisLease(self, f"{at}:lease", token))
        return Looked(waits=taken is None)

    async def find(self, keys: Sequence[CacheKey]) -> Sequence[Entry | None]:
        """Look for many at once, of one partition, and take no lease; in their order."""
        codec = self._codec()
        if codec is None or not keys or not await self._learn():
            return [None] * len(keys)
        names = [self._at(key) for key in keys]
        found = await self._call(self._large, names[0], ("MGET", *names))
        if not isinstance(found, list) or len(found) != len(keys):
            return [None] * len(keys)
        there = [(key, data) for key, data in zip(keys, found, strict=True) if isinstance(data, bytes)]
        size = sum(len(data) for _, data in there)
        # NB: all of them in one turn of the thread: none of them is large, and together they are.
        read = await self._beside(size, _read_all, codec, there) or ()
        entries = {key: await self._valid(key, entry) for (key, _), entry in zip(there, read, strict=False)}
        return [entries.get(key) for key in keys]

    async def put(self, key: CacheKey, entry: Entry) -> None:
        """Write an entry."""
        await self.put_all(((key, entry),))

    async def put_all(self, entries: Sequence[tuple[CacheKey, Entry]]) -> None:
        """Write many at once, of one partition."""
        now, codec = self._now_ms(), self._codec()
        wanted = [
            (key, entry) for key, entry in entries if entry.expires_ms > now and not self._purged(key, entry.created_ms)
        ]
        if codec is None or not wanted:
            return
        size = sum(len(entry.body) for _, entry in wanted)
        written = await self._beside(size, _write_all, codec, wanted)
        if written is None:
            return
        links = self._large if sum(map(len, written)) > LARGE_BYTES else self._links
        await asyncio.gather(
            *(
                self._call(links, at, ("SET", at, data, "PX", entry.expires_ms - now))
                for at, (_, entry), data in zip([self._at(key) for key, _ in wanted], wanted, written, strict=True)
                if len(data) <= self._most
            )
        )

    async def drop(self, keys: Sequence[CacheKey]) -> None:
        """Delete entries that turned out to be of no use."""
        for key in keys:
            at = self._at(key)
            await self._call(self._links, at, ("UNLINK", at, question_place_of(self._policy, key)))

    async def _read(self, codec: Codec, key: CacheKey, data: bytes) -> Entry | None:
        read = await self._beside(len(data), _read_all, codec, ((key, data),))
        return await self._valid(key, read[0]) if read else None

    async def _valid(self, key: CacheKey, entry: Entry | Unreadable) -> Entry | None:
        """Give what is to be given of what was read."""
        if isinstance(entry, Unreadable):
            # NB: damaged, of another release, or somebody has put it there: it is made anew.
            self._count("unreadable")
            log.warning("an entry of the cache does not read, and is deleted", extra={"reason": str(entry)})
            await self.drop((key,))
            return None
        # NB: its time is of another gateway's clock.
        if self._purged(key, entry.created_ms - SLACK_MS):
            await self.drop((key,))
            return None
        # NB: it was written when the policy may have let answers live longer than it does now.
        expires = min(entry.expires_ms, entry.created_ms + self._ttl_ms)
        return entry._replace(expires_ms=expires) if expires > self._now_ms() else None

    async def _beside(self, size: int, work: Callable[..., T], *arguments: Any) -> T | None:
        """Do what takes long beside the loop; None where there is no room for that."""
        if size <= LARGE_BYTES or self._threads is None:
            return work(*arguments)
        try:
            return await self._threads.run(work, *arguments)
        except Busy:
            return None

    def _at(self, key: CacheKey) -> str:
        return place_of(self._policy, key)

    # --- calls --------------------------------------------------------------------------------------------------------

    async def _call(self, links: Links, at: str, words: tuple[Word, ...]) -> Reply:
        return await self._counted(links.call(at, pack(words)))

    async def _script(self, script: Script, keys: Sequence[str], arguments: Sequence[Word]) -> Reply:
        return await self._counted(run_script(self._links, script, keys, arguments))

    async def _counted(self, call: Coroutine[Any, Any, Reply]) -> Reply:
        try:
            reply = await call
        except Refused:
            self._count("refused")
            return _DOWN
        except StoreDown:
            self._count("failed")
            return _DOWN
        self._count("answered")
        return reply

    # --- leases -------------------------------------------------------------------------------------------------------

    def later(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        """Do something that nobody waits for."""
        task: asyncio.Task[None] = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    async def end_lease(self, at: str, token: str) -> None:
        """Give a lease back, if it is still ours."""
        await self._script(_END, (at,), (token,))  # Where that fails it lapses by itself.

    async def renew_lease(self, at: str, token: str) -> bool:
        """Have a lease last longer; False when it is somebody else's by now."""
        renewed = await self._script(_RENEW, (at,), (token, LEASE_MS))
        return renewed is _DOWN or bool(renewed)


def _read_all(codec: Codec, found: Sequence[tuple[CacheKey, bytes]]) -> list[Entry | Unreadable]:
    entries: list[Entry | Unreadable] = []
    for key, data in found:
        try:
            entries.append(codec.read(key, data))
        except Unreadable as error:
            entries.append(error.with_traceback(None))
    return entries


def _write_all(codec: Codec, entries: Sequence[tuple[CacheKey, Entry]]) -> list[bytes]:
    return [codec.write(key, entry) for key, entry in entries]


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
