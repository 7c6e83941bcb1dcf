"""Purges as all replicas hear of them: marks in Redis, read every half second; and what they cover is deleted there.

    purge ─► the marks of this replica ─► a mark in Redis ─► each replica's marks, within POLL_SECONDS
                     └─► its memory           └─► the entries in Redis, in the background

Marks are one sorted set for entries and one for all else, each mark with the time of Redis; a mark that comes again is
the same one, later. Without Redis a purge is of this replica alone, and so it is while Redis is away: it is told then
as soon as Redis is back.
"""

import asyncio
import logging
from collections import OrderedDict
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from typing import Final

from capstan_gateway.caches.key import model_of, partition_of
from capstan_gateway.caches.purges import KEPT_MS, MOST_MARKS, OwnPurges, Purge, What, read_purge
from capstan_gateway.caches.shared import PREFIX
from capstan_gateway.stores.port import StoreDown
from capstan_gateway.stores.scripted import Links, Script, run_script
from capstan_gateway.stores.wire import pack

log = logging.getLogger(__name__)

POLL_SECONDS: Final = 0.5
OVERLAP_MS: Final = 10_000
"""How far back each reading goes: a Redis that took over may have another clock."""
MOST_PENDING: Final = 1000
SCAN_COUNT: Final = 500
PAUSE_SECONDS: Final = 0.005
"""Between two steps of a sweep: what hurries goes first."""
_TAG: Final = "capstan:purges:1:{purges}"
ENTRIES: Final = f"{_TAG}:entries"
WIDE: Final = f"{_TAG}:wide"
_MARK: Final = Script("""
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', now - ARGV[2])
if redis.call('ZCARD', KEYS[1]) >= tonumber(ARGV[3]) and not redis.call('ZSCORE', KEYS[1], ARGV[1]) then
  redis.call('ZREMRANGEBYRANK', KEYS[1], 0, 0)
end
redis.call('ZADD', KEYS[1], now, ARGV[1])
redis.call('PEXPIRE', KEYS[1], ARGV[2])
return now
""")
"""KEYS: marks. ARGV: one, how long it is kept, how many there may be: the oldest goes. Gives its time."""
_READ: Final = Script("""
local time = redis.call('TIME')
return {time[1] * 1000 + math.floor(time[2] / 1000),
        redis.call('ZRANGEBYSCORE', KEYS[1], ARGV[1], '+inf', 'WITHSCORES', 'LIMIT', ARGV[3], ARGV[5]),
        redis.call('ZRANGEBYSCORE', KEYS[2], ARGV[2], '+inf', 'WITHSCORES', 'LIMIT', ARGV[4], ARGV[5])}
""")
"""KEYS: marks of entries, all else. ARGV: since when, of each; behind how many of then, of each; how many at once.
Gives the time, and them with theirs."""
PAGE: Final = 500
"""Marks of a kind that are read at once: all there may be would take longer than a call may."""


class Purges(OwnPurges):
    """What is purged, as far as this replica knows; `lifecycle.Part`. Calls raise nothing."""

    def __init__(self, links: Links, *, now_ms: Callable[[], int]) -> None:
        super().__init__(now_ms=now_ms)
        self._links: Final = links
        self._since = 0
        self._known = False
        self._pending: dict[Purge, None] = {}
        self._sweeps: OrderedDict[Purge, None] = OrderedDict()
        self._wanted = asyncio.Event()
        self._work = asyncio.Event()
        self._sweep_soon = asyncio.Event()
        links.on_up, links.on_down = self._work.set, self._forgotten

    @property
    def pending(self) -> int:
        """How many purges Redis was not told of yet."""
        return len(self._pending)

    def want(self) -> None:
        """Read what others purge from now on: there are entries that are shared."""
        self._wanted.set()

    async def learn(self) -> bool:
        """Know what is purged before something is read that may be; False where nobody can tell."""
        if not self._known:
            await self._read()
        return self._known

    async def purge(self, purge: Purge) -> bool:
        """Have it be purged; True when every replica hears of it, False when it is this one's alone, for now."""
        await super().purge(purge)
        self.want()
        if await self._tell(self._links, purge):
            return True
        if len(self._pending) < MOST_PENDING:
            self._pending[purge] = None
        return False

    async def run(self) -> None:
        """Hear what others purge, and tell what could not be told; for ever."""
        await self._wanted.wait()
        sweeping = asyncio.get_running_loop().create_task(self._sweep_all(self._links))
        try:
            while True:
                self._work.clear()
                for purge in tuple(self._pending):
                    if not await self._tell(self._links, purge):
                        break
                    self._pending.pop(purge, None)
                await self._read()
                self.marks.forget(self._now_ms())
                with suppress(TimeoutError):
                    await asyncio.wait_for(self._work.wait(), POLL_SECONDS)
        finally:
            sweeping.cancel()
            await asyncio.gather(sweeping, return_exceptions=True)

    def not_ready(self) -> str | None:
        """Keep no request away."""
        return None

    async def aclose(self) -> None:
        """Nothing is left to do."""

    def _forgotten(self) -> None:
        self._known = False

    async def _tell(self, links: Links, purge: Purge) -> bool:
        """Put a mark into Redis, and have what it covers be deleted there."""
        is_entry = purge.what is What.ENTRY
        arguments = (purge.word, KEPT_MS, MOST_MARKS)
        try:
            at = await run_script(links, _MARK, (ENTRIES if is_entry else WIDE,), arguments)
        except StoreDown:
            return False
        self.marks.note(purge, int(at))
        if not is_entry:
            self._sweeps[purge] = None
            self._sweep_soon.set()
        return True

    async def _read(self) -> None:
        places, began, more = [(self._since, 0), (self._since, 0)], 0, True
        while more:
            (entries, skipped), (wide, passed) = places
            arguments = (entries, wide, skipped, passed, PAGE)
            try:
                now, *found = await run_script(self._links, _READ, (ENTRIES, WIDE), arguments)
            except StoreDown:
                return
            began = began or int(now)
            for words in found:
                for word, at in zip(words[::2], words[1::2], strict=True):
                    self._hear(word.decode(errors="replace"), int(float(at)))
            places = [_behind(place, words[1::2]) for place, words in zip(places, found, strict=True)]
            more = any(len(words) == 2 * PAGE for words in found)
        self._since = began - OVERLAP_MS
        self._known = True

    def _hear(self, word: str, at_ms: int) -> None:
        purge = read_purge(word)
        # NB: what is read again is known by its time. What is news covers what this replica has begun until now as
        # well, whatever its clock says; one from before it began does not.
        if purge is not None and self.marks.until(purge) < at_ms:
            self.note(purge, max(at_ms, min(self._now_ms(), at_ms + OVERLAP_MS)))

    # --- what lies in Redis -------------------------------------------------------------------------------------------

    async def _sweep_all(self, links: Links) -> None:
        """Delete what is purged, one purge after the other. What is left where Redis goes away is no entry either."""
        while True:
            await self._sweep_soon.wait()
            self._sweep_soon.clear()
            while self._sweeps:
                purge, _ = self._sweeps.popitem(last=False)
                try:
                    deleted = await self._sweep(links, purge)
                except StoreDown:
                    log.warning("purged entries were not all deleted", extra={"purged": purge.what})
                    continue
                log.info("purged entries were deleted", extra={"purged": purge.what, "count": deleted})

    async def _sweep(self, links: Links, purge: Purge) -> int:
        deleted = 0
        for node in await links.nodes():
            for pattern in patterns_of(purge, self.secrets()):
                cursor: bytes | int = 0
                while True:
                    words = ("SCAN", cursor, "MATCH", pattern, "COUNT", SCAN_COUNT)
                    cursor, keys = await node.send(pack(words))
                    # NB: a command each, in one write: in a Redis Cluster they are in different slots.
                    gone = await asyncio.gather(*(node.send(pack(("UNLINK", key))) for key in keys))
                    deleted += sum(gone)
                    if not int(cursor):
                        break
                    await asyncio.sleep(PAUSE_SECONDS)
        return deleted


def _behind(place: tuple[int, int], scores: Sequence[bytes]) -> tuple[int, int]:
    """Give where to read on: since when, and behind how many of that very time."""
    times = [int(float(score)) for score in scores]
    if not times:
        return place
    since, skipped = place
    return times[-1], times.count(times[-1]) + (skipped if times[-1] == since else 0)


def patterns_of(purge: Purge, secrets: Iterable[bytes]) -> Sequence[str]:
    """Give the patterns of the keys in Redis that a purge of many entries is about."""
    if purge.what is What.MODEL:
        return (f"{PREFIX}:{{*}}:*:{model_of(purge.value)}:*",)
    if purge.what is What.TENANT:
        whose = {partition_of(tenant=purge.value, user=None, secret=secret) for secret in secrets}
        return tuple(f"{PREFIX}:{{{one}*}}:*" for one in sorted(whose))
    # NB: partitions are hexadecimal; what replicas know of hits by meaning (`live:`) is no entry.
    return (f"{PREFIX}:{{[0-9a-f]*}}:*",)
