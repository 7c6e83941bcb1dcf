"""What stands behind the hash of a config."""

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from capstan_contract.config import GatewayConfig, ModelEntry, StaticBackend
from capstan_operator.gateway_config.ledger import UNKNOWN, Ledger, Recorded, holds, records_of_written


def test_the_newest_generations_of_a_hash_count() -> None:
    """A config that comes back (A, B, A) stands for the generations that it was compiled from last."""
    ledger = Ledger()
    for number, config in enumerate(("A", "B", "A"), start=1):
        ledger.record(config, {"ns/m": Recorded("u", number)})
    found = {config: (ledger.records(config) or {})["ns/m"].generation for config in ("A", "B")}
    assert found == {"A": 3, "B": 2}
    assert ledger.is_older("B", "A")
    assert not ledger.is_older("A", "B")


def test_nothing_new_changes_no_version() -> None:
    """Whoever compares versions need not look again when the same was recorded again."""
    ledger = Ledger()
    ledger.record("A", {"ns/m": Recorded("u", 1)})
    version = ledger.version
    ledger.record("A", {"ns/m": Recorded("u", 1)})
    assert ledger.version == version
    ledger.record("A", {"ns/m": Recorded("u", 2)})
    assert ledger.version != version


@given(st.lists(st.sampled_from("ABCDEFGH"), max_size=40), st.integers(1, 5))
def test_it_is_bounded_and_forgets_the_oldest(hashes: list[str], most: int) -> None:
    """It knows the hashes that were recorded last, in that order, and no others."""
    ledger = Ledger(most=most)
    for number, config in enumerate(hashes):
        ledger.record(config, {"ns/m": Recorded("u", number)})
    newest = list(dict.fromkeys(reversed(hashes)))[:most]
    assert {config for config in "ABCDEFGH" if ledger.records(config) is not None} == set(newest)
    for newer, older in pairwise(newest):
        assert ledger.is_older(older, newer)
        assert not ledger.is_older(newer, older)
    assert not ledger.is_older("never", "A")
    assert ledger.records(None) is None


def test_another_object_of_the_name_is_not_held() -> None:
    """A generation is held when it or a newer one of the very same object is."""
    records = {"ns/m": Recorded("u", 3)}
    assert holds(records, "ns/m", uid="u", generation=3)
    assert holds(records, "ns/m", uid="u", generation=2)
    assert not holds(records, "ns/m", uid="u", generation=4)
    assert not holds(records, "ns/m", uid="other", generation=1)
    assert not holds(records, "ns/other", uid="u", generation=1)


def test_what_could_not_be_written_counts_where_it_is_the_same() -> None:
    """While a newer config cannot be written, the one that is stands for a new generation of an entry that it has just
    so, for the old one of an entry that changed, and for nothing of an entry that nobody knows."""

    def entry(name: str, **fields: int) -> ModelEntry:
        backend = StaticBackend(urls=())
        return ModelEntry(id=name, servedName=name, upstreamName=name, backend=backend, **fields)

    written = GatewayConfig.build((entry("same"), entry("changed"), entry("unknown"), entry("gone")))
    others = (entry(name, weight=1) for name in ("changed", "unknown", "new"))
    compiled = GatewayConfig.build((entry("same"), *others))
    known = {name: Recorded("u", 1) for name in ("same", "changed", "gone")}
    newest = {entry.id: Recorded("u", 2) for entry in compiled.models}
    assert records_of_written(written, known, compiled, newest) == {
        "same": Recorded("u", 2),
        "changed": Recorded("u", 1),
        "unknown": UNKNOWN,
        "gone": Recorded("u", 1),
    }
