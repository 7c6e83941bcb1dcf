"""Counts of usage in a real Redis: each counted once, whatever happens on the way, and not for ever."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from random import Random

import pytest
import redis as client_library

from capstan_contract.redis_address import read_address
from capstan_gateway.stores.linked import LinkedStore
from capstan_gateway.stores.port import PAGE_FIELDS, StoreDown
from capstan_gateway.stores.redis import RedisStore
from capstan_gateway.stores.scripted import make_links
from capstan_gateway.stores.usage import SCRIPT_ROWS, RedisUsage, read_rows
from capstan_gateway.telemetry.usage_counts import OTHER, Row, UsageCounts
from capstan_gateway.tokens.bill import TOLD, Bill
from capstan_gateway.tokens.usage import Usage
from support.redis_server import RedisServer, redis_server

pytestmark = pytest.mark.redis
DAY = "2026-11-29"


class Forgetful(RedisStore):
    """A Redis whose answers are lost while it is told so: what was asked has been done."""

    loses = False

    async def run_script(self, script: str, keys: Sequence[str], arguments: Sequence[bytes | str | int]) -> int:
        """Do it, and lose the answer."""
        number = await super().run_script(script, keys, arguments)
        if self.loses:
            raise StoreDown("lost")
        return number


class Gateway:
    """One gateway that counts."""

    def __init__(self, url: str, *, rows: int = 100, days: int = 3) -> None:
        self.counts = UsageCounts(most=1000, today=lambda: DAY)
        self.store = Forgetful(url, seconds=5.0, rng=Random(1))  # noqa: S311 - jitter
        self.lost = 0
        self.usage = RedisUsage(self.counts, self.store, days=days, rows=rows, on_dropped=self._drop)

    def _drop(self, rows: int) -> None:
        self.lost += rows

    def note(self, tenant: str, tokens: int = 1, nano: int | None = 2**55) -> None:
        """Count a request."""
        bill = Bill()
        bill.add(Usage(tokens, 2, cached_tokens=1), TOLD, nano, model="m")
        self.counts.note(tenant, "team:a", 'u"ser', "m", bill)


@pytest.fixture
def server(tmp_path: Path) -> Iterator[RedisServer]:
    """A Redis."""
    with redis_server(tmp_path) as running:
        yield running


def row(tenant: str) -> Row:
    """Give the row of this tenant."""
    return Row(DAY, tenant, "team:a", 'u"ser', "m")


@pytest.mark.parametrize("linked", [False, True])
async def test_a_large_key_is_read_a_page_at_a_time(server: RedisServer, linked: bool) -> None:
    """All of it, and Redis is at no time kept from the limits of requests by all of it."""
    fields = {f"field-{number}": str(number) for number in range(3 * PAGE_FIELDS)}
    with client_library.Redis.from_url(server.url) as client:
        client.hset("large", mapping=fields)
        client.config_resetstat()
        store: RedisStore | LinkedStore = RedisStore(server.url, seconds=5.0, rng=Random(1))  # noqa: S311 - jitter
        if linked:
            store = LinkedStore(make_links(read_address(server.url), seconds=5.0, rng=Random(1)))  # noqa: S311 - jitter
        try:
            found = await store.read_all("large")
            assert await store.read_all("none") == {}
        finally:
            await store.aclose()
        assert found == {name.encode(): value.encode() for name, value in fields.items()}
        stats = client.info("commandstats")
    assert "cmdstat_hgetall" not in stats
    assert 3 <= stats["cmdstat_hscan"]["calls"] - 1 <= 6


async def test_the_counts_of_all_gateways_are_one_sum(server: RedisServer) -> None:
    """Exact beyond what a float can hold, whatever characters names have; a day without any is empty."""
    one, other = Gateway(server.url), Gateway(server.url)
    for gateway in (one, other):
        gateway.note("a")
        await gateway.usage.write()
        await gateway.usage.write()
    other.note("b", nano=None)
    await other.usage.write()
    assert await one.usage.day(DAY) == {row("a"): [2, 2, 2, 4, 2**56, 0], row("b"): [1, 1, 1, 2, 0, 1]}
    assert await one.usage.day("2026-11-28") == {}
    for gateway in (one, other):
        await gateway.store.aclose()


async def test_a_batch_whose_answer_is_lost_is_counted_once(server: RedisServer) -> None:
    """It is told again under the same ids, as it was; what came meanwhile is counted behind it."""
    gateway = Gateway(server.url)
    for number in range(SCRIPT_ROWS + 5):
        gateway.note(f"t{number}")
    gateway.store.loses = True
    for _ in range(3):
        with pytest.raises(StoreDown):
            await gateway.usage.write()
        gateway.note("late")
    gateway.store.loses = False
    await gateway.usage.write()
    rows = await gateway.usage.day(DAY)
    # The bound of rows is 100: the others are one row.
    assert sum(numbers[0] for numbers in rows.values()) == SCRIPT_ROWS + 5 + 3
    assert len(rows) == 101
    await gateway.store.aclose()


async def test_a_day_has_so_many_rows(server: RedisServer) -> None:
    """What is new beyond them is counted as that of others; what is known goes on being counted by itself."""
    gateway = Gateway(server.url, rows=2)
    for tenant in ("a", "b", "c", "a", "d"):
        gateway.note(tenant)
        await gateway.usage.write()
    found = {names.tenant: numbers[0] for names, numbers in (await gateway.usage.day(DAY)).items()}
    assert found == {"a": 2, "b": 1, OTHER: 2}
    await gateway.store.aclose()


async def test_nothing_is_kept_for_ever(server: RedisServer) -> None:
    """A day goes a day after it may no longer be asked for, and what says that a batch was written after a day."""
    gateway = Gateway(server.url, days=3)
    gateway.note("a")
    await gateway.usage.write()
    client = client_library.Redis(port=server.port)
    times = {key: client.ttl(key) for key in client.keys("*")}
    assert len(times) == 2
    assert all(key.startswith(b"capstan:usage:{usage}:") for key in times)
    assert sorted(times.values()) == pytest.approx([86400, 4 * 86400], abs=60)
    client.close()
    await gateway.store.aclose()


async def test_what_cannot_be_written_at_the_end_is_told(server: RedisServer) -> None:
    """The end of a process waits for no Redis, and counts the rows that are lost with it."""
    gateway = Gateway(server.url)
    gateway.note("a")
    gateway.store.loses = True
    await gateway.usage.aclose()
    assert gateway.lost == 1
    await gateway.store.aclose()


def test_what_is_no_count_is_passed_over() -> None:
    """Somebody else's fields in the hash fail nobody's page."""
    good = b'["a","b","c","d"]'
    fields = {
        good + b"r": b"7",
        b"": b"1",
        b"x": b"1",
        b"7r": b"1",
        b'["a"]r': b"1",
        good + b"?": b"1",
        good + b"i": b"x",
    }
    assert read_rows(DAY, fields) == {Row(DAY, "a", "b", "c", "d"): [7, 0, 0, 0, 0, 0]}
