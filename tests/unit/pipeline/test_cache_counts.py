"""What a gateway says of a cache is all that it has counted."""

from capstan_contract.limits import Mode
from capstan_gateway.caches.port import Entry, Form, Found, Tier
from capstan_gateway.pipeline.caches.counting import PolicyCells
from capstan_gateway.telemetry.metrics import Metrics


def test_who_was_asked_for_is_a_miss_whatever_was_there() -> None:
    """An answer that was too old for its client, and one of which only a part was there, are misses as those are of
    which nothing was: hits and misses are all requests that were looked for."""
    cells = PolicyCells(Metrics(), "team/faq", "enforce")
    entry = Entry(Form.ANSWER, b"{}", b"application/json", 0, 1)
    for tier in Tier:
        cells.hit(Found(entry, tier, None))  # type: ignore[arg-type]
    for cell in (cells.joined, cells.misses, cells.stale, cells.partial, cells.bypassed):
        cell.value += 1
    found = cells.counts(mode=Mode.SHADOW, entries=2, size=3, redis_down=True)
    assert (found.memoryHits, found.redisHits, found.semanticHits, found.misses, found.bypassed) == (2, 1, 1, 3, 1)
    assert (found.mode, found.entries, found.bytes, found.redisDown) == (Mode.SHADOW, 2, 3, True)
