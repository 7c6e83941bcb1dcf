"""What the process keeps in Redis, made of its settings: one client, shared by every store."""

from collections.abc import Callable
from dataclasses import dataclass
from random import Random
from typing import TYPE_CHECKING, Final

from capstan_contract.redis_address import Kind, read_address
from capstan_gateway.life.lifecycle import Lifecycle, Phase
from capstan_gateway.memory import MemoryBudget
from capstan_gateway.settings import Settings
from capstan_gateway.stores.responses import Bounds, ResponseStore
from capstan_gateway.stores.usage import MemoryUsage, RedisUsage
from capstan_gateway.telemetry.cells import Number
from capstan_gateway.telemetry.metrics import Metrics
from capstan_gateway.telemetry.usage_counts import UsageCounts

if TYPE_CHECKING:
    from capstan_gateway.stores.linked import LinkedStore
    from capstan_gateway.stores.redis import RedisStore


MOST_COUNTED: Final = 4096
"""Rows that may wait to be written: twice as many, when Redis does not answer."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Stores:
    """The stores of one process; all None without a Redis."""

    redis: "RedisStore | LinkedStore | None" = None
    responses: ResponseStore | None = None
    counts: UsageCounts | None = None
    """What requests count their usage in."""
    usage: MemoryUsage | RedisUsage | None = None
    """Where that is read; it is there without a Redis, too."""

    def live_in(self, lifecycle: Lifecycle) -> None:
        """Let them live with the process: what waits is written while there still is a connection."""
        if self.responses is not None:
            lifecycle.add(self.responses, Phase.OUTBOX)
        if self.usage is not None:
            lifecycle.add(self.usage, Phase.OUTBOX)
        if self.redis is not None:
            lifecycle.add(self.redis, Phase.STORE)

    @property
    def notes(self) -> tuple[str, ...]:
        """What is wrong and keeps no request away."""
        failure = None if self.redis is None else self.redis.failure
        return () if failure is None else (f"Redis does not do what is asked of it: {failure}",)


def make_stores(settings: Settings, *, metrics: Metrics, budget: MemoryBudget, rng: Random) -> Stores:
    """Make the stores that these settings ask for; nothing is connected yet."""
    counts = UsageCounts(most=MOST_COUNTED) if settings.usage_days else None
    days, rows = settings.usage_days, settings.usage_rows
    if settings.redis_url is None:
        return Stores(counts=counts, usage=None if counts is None else MemoryUsage(counts, days=days, rows=rows))

    def on_call(call: str, outcome: str) -> None:
        metrics.redis_calls.at(call, outcome).value += 1

    redis = _key_store(settings, rng=rng, on_call=on_call)
    usage = None
    if counts is not None:
        lost = _counting(metrics.outbox_dropped.at(RedisUsage.name))
        usage = RedisUsage(counts, redis, days=days, rows=rows, on_dropped=lost)
    if not settings.stored_response_seconds:
        return Stores(redis=redis, counts=counts, usage=usage)
    bounds = Bounds(
        seconds=settings.stored_response_seconds, response_bytes=settings.stored_response_bytes,
        responses=settings.stored_responses, tenant_bytes=settings.stored_responses_bytes,
    )  # fmt: skip
    on_dropped = _counting(metrics.outbox_dropped.at(ResponseStore.name))

    def count(outcome: str) -> None:
        metrics.stored_responses.at(outcome).value += 1

    responses = ResponseStore(redis, bounds, budget=budget, rng=rng, count=count, on_dropped=on_dropped)
    return Stores(redis=redis, responses=responses, counts=counts, usage=usage)


def _counting(cell: Number) -> Callable[[int], None]:
    def count(items: int) -> None:
        cell.value += items

    return count


def _key_store(settings: Settings, *, rng: Random, on_call: Callable[[str, str], None]) -> "RedisStore | LinkedStore":
    """Make the client of what is stored. The libraries take some megabytes, which a gateway without Redis does without.

    One server gets a pool, so that large values hold up nobody; several are spoken to as the limits are.
    """
    address = read_address(settings.redis_url or "")
    if address.kind is Kind.ONE:
        from capstan_gateway.stores.redis import RedisStore

        return RedisStore(
            settings.redis_url or "", password=settings.redis_password, ca_file=settings.redis_ca_file,
            seconds=settings.redis_seconds, rng=rng, on_call=on_call,
        )  # fmt: skip
    from capstan_gateway.stores.linked import LinkedStore
    from capstan_gateway.stores.scripted import make_links

    links = make_links(
        address, seconds=settings.redis_seconds, rng=rng, password=settings.redis_password,
        sentinel_password=settings.redis_sentinel_password, ca_file=settings.redis_ca_file,
    )  # fmt: skip
    return LinkedStore(links, on_call=on_call)
