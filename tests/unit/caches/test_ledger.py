"""What is known of one policy's hits by meaning."""

from capstan_contract.caches import SemanticTier
from capstan_gateway.caches.semantic.evidence import LEAST_SAMPLES
from capstan_gateway.caches.semantic.ledger import Event, Ledger, Totals, digest_of, read_events, written

KEYS = "a.b.c", "a.b.d"


class Down:
    """A store that is away; `ledger.SharedLedger`."""

    def __init__(self) -> None:
        self.up = False
        self.sampled = self.wrong = 0
        self.off = False

    async def add(self, *, sampled: int, wrong: int, event: Event | None, seen: int) -> Totals | None:
        """Add, where it is there."""
        if not self.up:
            return None
        self.sampled += sampled
        self.wrong += wrong
        return Totals(self.sampled, self.wrong, self.off, 0, 0)

    async def turn_off(self, *, seen: int) -> Totals | None:
        """Be off, where it is there."""
        if not self.up:
            return None
        self.off = True
        return Totals(self.sampled, self.wrong, self.off, 0, 0)

    async def reset(self, *, seen: int) -> Totals | None:
        """Do nothing."""
        return None


async def test_what_could_not_be_told_is_told_later() -> None:
    """While the store is away a replica counts for itself and turns itself off; when it is back, it hears it."""
    store = Down()
    ledger = Ledger(budget=0.01, now_ms=lambda: 0, shared=store)
    for _ in range(LEAST_SAMPLES):
        await ledger.compared(KEYS, 0.9, wrong=True)
    assert ledger.off
    assert not ledger.known
    store.up = True
    await ledger.refresh()
    assert (store.sampled, store.wrong, store.off) == (LEAST_SAMPLES, LEAST_SAMPLES, True)
    assert ledger.known
    assert (ledger.sampled, ledger.wrong, ledger.off) == (LEAST_SAMPLES, LEAST_SAMPLES, True)


async def test_a_report_is_about_its_entry_alone() -> None:
    """What clients report is chosen by nobody: the rate has nothing of it, the entry's threshold has."""
    ledger = Ledger(budget=0.01, now_ms=lambda: 0)
    await ledger.reported("a.b.c", 0.9)
    assert (ledger.sampled, ledger.wrong) == (0, 0)
    assert ledger.least("a.b.c") > 0.9
    assert ledger.least("a.b.d") == 0.0


async def test_a_person_has_it_begin_anew() -> None:
    """After a reset nothing is known."""
    ledger = Ledger(budget=0.01, now_ms=lambda: 0)
    for _ in range(LEAST_SAMPLES):
        await ledger.compared(KEYS, 0.9, wrong=True)
    await ledger.reset()
    assert (ledger.sampled, ledger.wrong, ledger.off, ledger.least(KEYS[0])) == (0, 0, False, 0.0)


def test_any_change_of_the_tier_is_another_ledger() -> None:
    """What was measured of one way of finding hits says nothing of another one."""
    ways = [SemanticTier(), SemanticTier(topK=6), SemanticTier(judge="a/b"), SemanticTier(errorBudget=0.02)]
    assert len({digest_of(policy, way) for way in ways for policy in ("p", "q")}) == 2 * len(ways)


def test_events_are_read_as_they_were_written_and_others_are_left_out() -> None:
    """What stands in the store may be of a newer release, or of nobody."""
    event = Event(KEYS, 0.97, reported=True)
    lines = [f"{written(event)} me 1".encode(), b"", b"\xff", b"a b nan", b"a b x 1", None, 3]
    assert read_events(lines) == (event,)
