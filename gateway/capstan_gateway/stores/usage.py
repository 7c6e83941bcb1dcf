"""Counts of usage that outlive the process: added to Redis once a second, and read from there.

    UsageCounts ──take──► one batch, with an id ──► a script for some of its rows at a time ──► a hash for each day
                               ▲                                │ no answer
                               └── tried again as it is ◄───────┘   (counts that come meanwhile wait for the next batch)

Every script is told under an id, and does nothing where it was done before: a batch whose answer was lost is not
counted twice. Only when Redis is away for longer than ids are remembered may one be. Without a Redis the same counts
are kept in the process, since it began.

A day has a bound of rows; what is new beyond it is counted in one row, so that nobody's names fill the store.
"""

import asyncio
import logging
import secrets
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Final, Protocol

import orjson

from capstan_gateway.stores.port import KeyStore, StoreDown
from capstan_gateway.telemetry.usage_counts import COUNTERS, OTHER, Row, Rows, UsageCounts, add_up

log = logging.getLogger(__name__)

EVERY_SECONDS: Final = 1.0
SCRIPT_ROWS: Final = 256
"""Rows that one script adds: with all of their counters it takes about a millisecond."""
REMEMBERED_SECONDS: Final = 86400
"""How long it is known that a script has run."""
DAY_SECONDS: Final = 86400
_PREFIX: Final = "capstan:usage:{usage}:"
_MARKS: Final = "ricond"
"""Behind the name of a row: which of the COUNTERS, in their order."""

ADD: Final = """
-- KEYS: a day, the id of this script. ARGV: seconds for both, most rows, the row of the others, then rows with numbers.
local marks, added = 'ricond', 0
if not redis.call('SET', KEYS[2], '1', 'NX', 'EX', ARGV[2]) then return 0 end
local most = tonumber(ARGV[3]) * #marks
for at = 5, #ARGV, #marks + 1 do
  local name = ARGV[at]
  local known = redis.call('HEXISTS', KEYS[1], name .. 'r') == 1
  if not known and redis.call('HLEN', KEYS[1]) >= most then name = ARGV[4] end
  for place = 1, #marks do
    redis.call('HINCRBY', KEYS[1], name .. marks:sub(place, place), ARGV[at + place])
  end
  added = added + 1
end
redis.call('EXPIRE', KEYS[1], ARGV[1])
return added
"""


class UsageStore(Protocol):
    """Where the counts of a gateway, or of all of them, can be read."""

    @property
    def source(self) -> str:
        """Where they are: `redis`, with those of all gateways, or `memory`, with those of this one since it began."""
        ...

    async def day(self, day: str) -> Rows:
        """Give the rows of a day. Raises StoreDown."""
        ...


class MemoryUsage:
    """Keeps the counts of this process; implements `lifecycle.Part` and UsageStore."""

    name = "usage"
    source = "memory"

    def __init__(self, counts: UsageCounts, *, days: int, rows: int) -> None:
        self._counts = counts
        self._days = days
        self._most = rows
        self._kept: dict[str, Rows] = {}

    async def day(self, day: str) -> Rows:
        """Give the rows of a day."""
        self._collect()
        return self._kept.get(day, {})

    def _collect(self) -> None:
        for row, numbers in self._counts.take().items():
            add_up(self._kept.setdefault(row.day, {}), {row: numbers}, most=self._most)
        for old in sorted(self._kept)[: -self._days]:
            del self._kept[old]

    async def run(self) -> None:
        """Take what was counted, now and then."""
        while True:
            await asyncio.sleep(EVERY_SECONDS)
            self._collect()

    def not_ready(self) -> str | None:
        """Keep no request away."""
        return None

    async def aclose(self) -> None:
        """Nothing outlives the process."""


class RedisUsage:
    """Adds the counts of this process to those of all; implements `lifecycle.Part` and UsageStore."""

    name = "usage"
    source = "redis"

    def __init__(
        self,
        counts: UsageCounts,
        store: KeyStore,
        *,
        days: int,
        rows: int,
        on_dropped: Callable[[int], None] = lambda _: None,
        new_id: Callable[[], str] = lambda: secrets.token_hex(12),
    ) -> None:
        self._counts = counts
        self._store = store
        self._seconds = (days + 1) * DAY_SECONDS
        self._most = rows
        self._on_dropped = on_dropped
        self._new_id = new_id
        self._writes: list[_Write] = []
        """What is left of the batch that is being written."""
        self._turn = asyncio.Lock()

    async def day(self, day: str) -> Rows:
        """Give the rows of a day, of all gateways. Raises StoreDown."""
        return read_rows(day, await self._store.read_all(_PREFIX + day))

    async def run(self) -> None:
        """Write once a second; what fails is tried again with the next second, as it is."""
        while True:
            await asyncio.sleep(EVERY_SECONDS)
            try:
                await self.write()
            except StoreDown as error:
                log.debug("could not write usage", extra={"reason": str(error)})  # The store itself says it once.

    async def write(self) -> None:
        """Write what is left of the last batch, then what was counted since. Raises StoreDown."""
        self._counts.look()  # NB: also while nothing can be written: days change all the same.
        async with self._turn:
            await self._write_left()
            self._writes = list(_writes(self._counts.take(), self._new_id))
            await self._write_left()

    async def _write_left(self) -> None:
        while self._writes:
            write = self._writes[0]
            await self._store.run_script(
                ADD,
                [_PREFIX + write.day, f"{_PREFIX}done:{write.id}"],
                [self._seconds, REMEMBERED_SECONDS, self._most, _name(Row(write.day, OTHER, "", "", OTHER)),
                 *write.words],
            )  # fmt: skip
            self._writes.pop(0)

    def not_ready(self) -> str | None:
        """Keep no request away: nobody waits for it."""
        return None

    async def aclose(self) -> None:
        """Write what is left, once; rows that fail now are dropped, and counted."""
        try:
            await self.write()
        except StoreDown:
            lost = sum(write.rows for write in self._writes) + len(self._counts.take())
            log.warning("usage could not be written before the end", extra={"count": lost})
            self._on_dropped(lost)


class _Write:
    """Some rows of a day, and the id under which they are added."""

    __slots__ = ("day", "id", "rows", "words")

    def __init__(self, day: str, id: str, rows: Sequence[tuple[Row, Sequence[int]]]) -> None:
        self.day = day
        self.id = id
        self.rows = len(rows)
        self.words: list[bytes | str | int] = []
        for row, numbers in rows:
            self.words += [_name(row), *numbers]


def _writes(rows: Rows, new_id: Callable[[], str]) -> Iterator[_Write]:
    days: dict[str, list[tuple[Row, Sequence[int]]]] = {}
    for row, numbers in rows.items():
        days.setdefault(row.day, []).append((row, numbers))
    for day, found in sorted(days.items()):
        for at in range(0, len(found), SCRIPT_ROWS):
            yield _Write(day, new_id(), found[at : at + SCRIPT_ROWS])


def _name(row: Row) -> bytes:
    return orjson.dumps(row[1:])


def read_rows(day: str, fields: Mapping[bytes, bytes]) -> Rows:
    """Read the hash of a day; what is none of ours is passed over."""
    rows: Rows = {}
    for field, value in fields.items():
        place = _MARKS.find(chr(field[-1])) if field else -1
        try:
            names, number = orjson.loads(field[:-1]), int(value)
        except ValueError:
            continue
        if place < 0 or not isinstance(names, list) or [type(name) for name in names] != [str] * 4:
            continue
        rows.setdefault(Row(day, *names), [0] * len(COUNTERS))[place] = number
    return rows
