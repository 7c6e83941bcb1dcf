"""What replicas know together of hits by meaning, in a real Redis."""

from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from random import Random

import pytest

from capstan_contract.redis_address import read_address
from capstan_gateway.caches.semantic.evidence import LEAST_SAMPLES
from capstan_gateway.caches.semantic.ledger import Ledger
from capstan_gateway.caches.semantic.shared_ledger import RedisLedger
from capstan_gateway.stores.scripted import Links, make_links
from support.redis_server import RedisServer, redis_server
from support.wait import eventually

pytestmark = pytest.mark.redis
KEYS = "a.b.c", "a.b.d"
RNG = Random(1)  # noqa: S311 - jitter


@pytest.fixture
def server(tmp_path: Path) -> Iterator[RedisServer]:
    """A server of the test's own."""
    with redis_server(tmp_path) as running:
        yield running


@pytest.fixture
async def links(server: RedisServer) -> AsyncIterator[list[Links]]:
    """Connections of two replicas."""
    made = [make_links(read_address(server.url), seconds=10.0, rng=RNG) for _ in range(2)]
    for one in made:
        one.start()
    await eventually(lambda: all(one.connected for one in made))
    yield made
    for one in made:
        await one.aclose()


def replica(links: Links, digest: str = "d") -> Ledger:
    """Give the ledger of a replica."""
    return Ledger(budget=0.01, now_ms=lambda: 0, shared=RedisLedger(links, digest))


async def test_replicas_count_together_and_are_off_together(links: list[Links]) -> None:
    """Wrong hits of several replicas add up; whoever finds that they are too many turns the tier off for all, one that
    begins later is told so, and another way of finding hits has nothing of it."""
    one, other = replica(links[0]), replica(links[1])
    for number in range(LEAST_SAMPLES):
        await (one, other)[number % 2].compared(KEYS, 0.9, wrong=True)
    await one.refresh()
    await other.refresh()
    assert {(ledger.sampled, ledger.wrong, ledger.off) for ledger in (one, other)} == {(LEAST_SAMPLES,) * 2 + (True,)}
    late, apart = replica(links[0]), replica(links[0], "e")
    await late.refresh()
    await apart.refresh()
    assert (late.off, apart.off) == (True, False)
    assert late.least(KEYS[0]) > 0.9


async def test_what_was_wrong_for_one_is_known_to_all_once(links: list[Links]) -> None:
    """A wrong hit of one replica raises the threshold at the other one; nobody hears of it twice."""
    one, other = replica(links[0]), replica(links[1])
    await one.compared(KEYS, 0.95, wrong=True)
    for _ in range(3):
        await one.refresh()
        await other.refresh()
    assert one.least(KEYS[1]) == other.least(KEYS[1]) == pytest.approx(0.955)


async def test_a_reset_is_for_all(links: list[Links]) -> None:
    """A person resets at one replica: all begin anew, and what is counted later counts."""
    one, other = replica(links[0]), replica(links[1])
    for _ in range(LEAST_SAMPLES):
        await one.compared(KEYS, 0.9, wrong=True)
    await other.refresh()
    assert other.off
    await other.reset()
    await one.refresh()
    assert {(ledger.sampled, ledger.off, ledger.least(KEYS[0])) for ledger in (one, other)} == {(0, False, 0.0)}
    await one.compared(KEYS, 0.9, wrong=False)
    await other.refresh()
    assert (other.sampled, other.wrong) == (1, 0)


async def test_a_store_that_was_emptied_is_told_again(links: list[Links], server: RedisServer) -> None:
    """That a tier is off is forgotten by nobody but a person; and that one may still have it begin anew."""
    one, other = replica(links[0]), replica(links[1])
    for _ in range(LEAST_SAMPLES):
        await one.compared(KEYS, 0.9, wrong=True)
    with server.client() as client:
        client.flushall()
    await one.refresh()
    await other.refresh()
    assert (one.off, other.off) == (True, True)
    await other.reset()
    await one.refresh()
    assert (one.off, other.off) == (False, False)


async def test_the_log_of_wrong_hits_is_bounded(links: list[Links], monkeypatch: pytest.MonkeyPatch) -> None:
    """The oldest wrong hits go first."""
    monkeypatch.setattr("capstan_gateway.caches.semantic.shared_ledger.MOST_EVENTS", 3)
    one, other = replica(links[0]), replica(links[1])
    for number in range(5):
        await one.compared((f"k{number}", f"q{number}"), 0.9, wrong=True)
    await other.refresh()
    assert [other.least(f"k{number}") > 0 for number in range(5)] == [False, False, True, True, True]
