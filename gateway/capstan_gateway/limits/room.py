"""Who counts for limits, made of the settings: Redis, which all gateways share, or the memory of this one."""

import secrets
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from random import Random

from capstan_contract.redis_address import read_address
from capstan_gateway.life.lifecycle import Closing, Lifecycle, Phase
from capstan_gateway.limits.limiter import StoreLimiter, id_maker
from capstan_gateway.limits.memory import MemoryLimitStore
from capstan_gateway.limits.port import Charge, Limiter, Verdict
from capstan_gateway.limits.reservations import MOST_LEASE_MS
from capstan_gateway.settings import Settings
from capstan_gateway.telemetry.metrics import Metrics


def unix_ms() -> int:
    """Give the time of this machine."""
    return time.time_ns() // 1_000_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Counting:
    """The limiter of one process, and what keeps it going."""

    limiter: Limiter
    live_in: Callable[[Lifecycle], None] = lambda _: None
    notes: Callable[[], tuple[str, ...]] = tuple

    @classmethod
    def of(cls, limiter: Limiter) -> "Counting":
        """Somebody else keeps it going."""
        return cls(limiter=limiter)


class _OwnStore(MemoryLimitStore):
    """Counts that die with whoever holds leases on them: those only bound what was forgotten. They are long, so that a
    machine that slept, or a clock that steps, frees nothing that runs."""

    async def reserve(
        self, id: str, charges: Sequence[Charge], *, lease_ms: int = MOST_LEASE_MS, keeps: bool = False,
        force: bool = False,
    ) -> Verdict:  # fmt: skip
        """See `port.LimitStore`."""
        return await super().reserve(id, charges, lease_ms=lease_ms, keeps=keeps, force=force)

    async def renew(
        self, group: str, used: Sequence[tuple[str, Sequence[int]]], *, lease_ms: int = MOST_LEASE_MS
    ) -> None:
        """See `port.LimitStore`."""
        await super().renew(group, used, lease_ms=lease_ms)


def make_counting(settings: Settings, *, metrics: Metrics, rng: Random) -> Counting:
    """Make the limiter that these settings ask for; nothing is connected yet."""
    if settings.redis_url is None:
        return _in_memory(settings, metrics=metrics, rng=rng)
    return _in_redis(settings, settings.redis_url, metrics=metrics, rng=rng)


def _in_memory(settings: Settings, *, metrics: Metrics, rng: Random) -> Counting:
    """Count in this process, with shares too: to take from one takes a small part of what the counts themselves do."""

    async def alone() -> int:
        return 1

    limiter = StoreLimiter(
        _OwnStore(unix_ms), pulse=alone, clock=time.monotonic, now_ms=unix_ms, rng=rng,
        new_id=id_maker(secrets.token_hex), shares=not settings.limits_one_by_one, ends_at_once=True,
    )  # fmt: skip
    metrics.before_collect.append(lambda: _read(limiter, metrics, store="memory"))
    return Counting(limiter=limiter, live_in=lambda lifecycle: lifecycle.add(limiter, Phase.OUTBOX))


def _in_redis(settings: Settings, url: str, *, metrics: Metrics, rng: Random) -> Counting:
    # The parser is loaded only where there is a Redis.
    from capstan_gateway.limits.redis_store import Pulse, limit_store
    from capstan_gateway.stores.scripted import make_links

    calls = {(call, outcome): metrics.redis_calls.at(call, outcome)
             for call in ("limit", "pulse") for outcome in ("answered", "refused", "failed")}  # fmt: skip

    def on_call(call: str, outcome: str) -> None:
        calls[call, outcome].value += 1

    links = make_links(
        read_address(url), seconds=settings.redis_limit_seconds, rng=rng, password=settings.redis_password,
        sentinel_password=settings.redis_sentinel_password, ca_file=settings.redis_ca_file,
        on_reply=metrics.redis_seconds.at().observe,
    )  # fmt: skip
    pulse = Pulse(links, secrets.token_hex(8), on_call)
    dropped = metrics.outbox_dropped.at(StoreLimiter.name)

    def on_dropped(count: int) -> None:
        dropped.value += count

    limiter = StoreLimiter(
        limit_store(links, on_call), pulse=pulse.beat, leave=pulse.leave, clock=time.monotonic, now_ms=unix_ms, rng=rng,
        new_id=id_maker(secrets.token_hex), gateways=settings.gateways, shares=not settings.limits_one_by_one,
        on_dropped=on_dropped,
    )  # fmt: skip
    links.on_up = links.on_down = limiter.hurry

    def live_in(lifecycle: Lifecycle) -> None:
        lifecycle.add(limiter, Phase.OUTBOX)
        lifecycle.add(Closing("limits-redis", links.aclose), Phase.STORE)

    def notes() -> tuple[str, ...]:
        if limiter.up:
            return ()
        return (f"limits are decided without Redis: {links.failure or 'it refuses'}",)

    metrics.before_collect.append(lambda: _read(limiter, metrics, store="redis"))
    return Counting(limiter=limiter, live_in=live_in, notes=notes)


def _read(limiter: StoreLimiter, metrics: Metrics, *, store: str) -> None:
    """Read what the limiter keeps, when Prometheus asks."""
    tally = limiter.tally
    found = {"shares": tally.from_shares, "memory": tally.in_memory, "nowhere": tally.refused_down}
    found[store] = found.get(store, 0) + tally.from_store
    for where, count in found.items():
        metrics.limit_admissions.at(where).value = count
    metrics.limit_reservations.at().value = limiter.open
    metrics.limit_shares.at().value = limiter.book.count
    metrics.limit_untold.at().value = limiter.waiting
    metrics.limit_lost_answers.at().value = tally.lost_answers
    metrics.limits_without_store.at().value = float(not limiter.up)
    metrics.limit_gateways.at().value = limiter.gateways
