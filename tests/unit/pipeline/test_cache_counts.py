"""What a gateway says of a cache is all that it has counted."""

from capstan_contract.limits import Mode
from capstan_gateway.caches.port import Entry, Form, Found, Tier
from capstan_gateway.pipeline.caches.counting import PolicyCells
from capstan_gateway.telemetry.metrics import Metrics
from capstan_gateway.tokens.usage import Usage


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


def test_what_would_have_been_saved_is_not_what_was() -> None:
    """A policy that was tried in mode Shadow and then enforces has saved nothing yet; what it counts in one mode is
    none of the other one's."""
    metrics = Metrics()
    tried, enforced = (PolicyCells(metrics, "team/faq", mode) for mode in ("shadow", "enforce"))
    tried.saved(Usage(5, 3), 700)
    found = enforced.counts(mode=Mode.ENFORCE, entries=0, size=0, redis_down=False)
    assert (found.savedTokens, found.savedNanoDollars) == (0, 0)
    found = tried.counts(mode=Mode.SHADOW, entries=0, size=0, redis_down=False)
    assert (found.savedTokens, found.savedNanoDollars) == (8, 700)
