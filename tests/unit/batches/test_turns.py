"""Whose turn it is, among requests of batches and among batches."""

import asyncio
from collections import Counter
from contextlib import AsyncExitStack

import pytest

from capstan_gateway.batches.order import PATIENCE_SECONDS, Place, leaves_for
from capstan_gateway.batches.turns import Owner, Turns
from capstan_gateway.own_asks import by_turns
from support.wait import eventually

SLOW, QUICK, OTHER = Owner("t-a", "slow"), Owner("t-a", "quick"), Owner("t-b", "other")


async def held(turns: Turns, owner: Owner, queue: asyncio.Lock, gate: asyncio.Event, into: Counter[Owner]) -> None:
    """Have a place until the gate opens."""
    async with turns.turn(owner, "m", lambda _: True, queue):
        into[owner] += 1
        try:
            await gate.wait()
        finally:
            into[owner] -= 1


async def test_a_batch_whose_requests_hang_does_not_gather_all_places() -> None:
    """A place that is given back goes to the tenant with the fewest, and of its batches to the one with the fewest."""
    turns, have = Turns(4), Counter[Owner]()
    slow, free, rest = [asyncio.Event() for _ in range(8)], asyncio.Event(), asyncio.Event()
    locks = {owner: asyncio.Lock() for owner in (SLOW, QUICK, OTHER)}
    tasks = [asyncio.create_task(held(turns, SLOW, locks[SLOW], gate, have)) for gate in slow]
    await eventually(lambda: have[SLOW] == 4, what="all places")
    tasks += [asyncio.create_task(held(turns, QUICK, locks[QUICK], free, have)) for _ in range(4)]
    await asyncio.sleep(0)
    tasks += [asyncio.create_task(held(turns, OTHER, locks[OTHER], rest, have)) for _ in range(4)]
    for gate, wanted in zip(slow, ((3, 0, 1), (2, 0, 2), (1, 1, 2)), strict=False):
        gate.set()
        await eventually(
            lambda wanted=wanted: (have[SLOW], have[QUICK], have[OTHER]) == wanted, what="the next one's turn"
        )
    for gate in (*slow, free, rest):
        gate.set()
    await asyncio.gather(*tasks)
    async with AsyncExitStack() as stack:
        for _ in range(4):
            await stack.enter_async_context(turns.turn(OTHER, "m", lambda running: running < 4, locks[OTHER]))


@pytest.mark.parametrize("granted", [False, True])
async def test_who_is_cut_off_leaves_no_place_taken(granted: bool) -> None:
    """A place that was waited for by somebody who is cancelled, also just when it was handed over, goes to the next."""
    turns, queue, gate, have = Turns(1), asyncio.Lock(), asyncio.Event(), Counter[Owner]()
    first = asyncio.create_task(held(turns, SLOW, asyncio.Lock(), gate, have))
    await eventually(lambda: have[SLOW] == 1, what="the place")
    second = asyncio.create_task(held(turns, QUICK, queue, asyncio.Event(), have))
    await asyncio.sleep(0)
    if granted:
        gate.set()
        await first
    second.cancel()
    gate.set()
    await asyncio.gather(first, second, return_exceptions=True)
    async with turns.turn(OTHER, "m", lambda running: running == 0, queue):
        assert have == {SLOW: 0} | ({QUICK: 0} if QUICK in have else {})


def test_batches_are_taken_by_turns() -> None:
    """Tenants of whom least is worked on come first, and of each the oldest, also within one look."""
    held = Counter({"a": 1})
    taken = []
    for one in by_turns([("a", "a1"), ("a", "a2"), ("b", "b1"), ("c", "c1"), ("b", "b2"), ("b", "b3")], held):
        taken.append(one)
        held[one[0]] += 1
    assert taken == ["b1", "c1", "a1", "b2", "a2", "b3"]


def test_what_others_have_is_not_looked_at_before_all_else() -> None:
    """A tenant whose batches somebody else has holds nobody up: they are looked at by turns as well."""
    waiting = [("a", f"a{number}") for number in range(9)] + [("b", "b0")]
    assert list(by_turns(waiting, {}))[:3] == ["a0", "b0", "a1"]


def place(tenant: str, name: str, idle: float = 0.0) -> Place:
    """Give a batch that is worked on."""
    return Place(name, tenant, idle)


def test_who_has_more_makes_room() -> None:
    """The latest batch of the tenant with the most leaves its place where that has two more than whoever waits."""
    places = [place("a", "a1"), place("b", "b1"), place("a", "a2"), place("a", "a3")]
    assert leaves_for("c", places) == places[3]
    assert leaves_for("b", places) == places[3]
    assert leaves_for("a", places) is None
    assert leaves_for("c", places[:2]) is None
    assert leaves_for("c", []) is None


def test_what_stands_still_makes_room() -> None:
    """A batch that has asked nothing for a while leaves its place to whoever waits, of its own tenant too."""
    places = [place("a", "a1"), place("a", "a2", PATIENCE_SECONDS), place("b", "b1", PATIENCE_SECONDS / 2)]
    assert leaves_for("a", places) == places[1]
    assert leaves_for("b", places[2:]) is None
