"""Days of usage while Redis is away."""

from collections.abc import Sequence
from contextlib import suppress

from capstan_gateway.stores.port import StoreDown
from capstan_gateway.stores.usage import RedisUsage
from capstan_gateway.telemetry.usage_counts import UsageCounts
from capstan_gateway.tokens.bill import TOLD, Bill
from capstan_gateway.tokens.usage import Usage


class Store:
    """A Redis that may be away, and remembers which keys were added to."""

    def __init__(self) -> None:
        self.away = True
        self.keys: list[str] = []

    async def read(self, key: str, fields: Sequence[str]) -> list[bytes | None]:
        """See `port.KeyStore`."""
        raise NotImplementedError

    async def read_all(self, key: str) -> dict[bytes, bytes]:
        """See `port.KeyStore`."""
        raise NotImplementedError

    async def run_script(self, script: str, keys: Sequence[str], arguments: Sequence[bytes | str | int]) -> int:
        """See `port.KeyStore`."""
        if self.away:
            raise StoreDown("away")
        self.keys.append(keys[0])
        return 1


async def test_a_day_begins_while_the_store_is_away() -> None:
    """What is used after midnight is of the new day, though nothing could be written since the old one."""
    days = ["2026-11-29"]
    counts, store = UsageCounts(most=10, today=lambda: days[-1]), Store()
    usage = RedisUsage(counts, store, days=3, rows=10)
    bill = Bill()
    bill.add(Usage(3, 2), TOLD, 7, model="m")
    for day in ("2026-11-29", "2026-11-30"):
        days.append(day)
        for _ in range(2):
            with suppress(StoreDown):
                await usage.write()
            counts.note("t", "", "", "m", bill)
    store.away = False
    await usage.write()
    await usage.write()
    assert [key.rpartition(":")[2] for key in store.keys] == ["2026-11-29", "2026-11-29", "2026-11-30"]
