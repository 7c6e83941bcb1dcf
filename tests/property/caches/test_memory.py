"""Entries in memory: never more than the bounds, never one that has expired, always the newest of a key."""

import gc
import tracemalloc
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from capstan_gateway.caches.lending import CacheBytes
from capstan_gateway.caches.memory import MOST_PUSHED_OUT, SLICE, TENANT_BYTES, MemoryEntries
from capstan_gateway.caches.port import OWN_BYTES, CacheKey, Entry, Form
from capstan_gateway.memory import MemoryBudget
from capstan_gateway.tokens.usage import Usage

KEYS = st.integers(0, 7).map(lambda number: CacheKey("p", "m", bytes([number])))
STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("put"), KEYS, st.integers(0, 3000), st.integers(1, 50)),
        st.tuples(st.just("get"), KEYS),
        st.tuples(st.just("drop"), KEYS),
        st.tuples(st.just("wait"), st.integers(0, 60)),
    ),
    max_size=60,
)


def entry(size: int, expires: int) -> Entry:
    """Give an entry."""
    return Entry(Form.ANSWER, b"x" * size, b"application/json", 0, expires)


@given(STEPS, st.integers(OWN_BYTES, 8000), st.integers(1, 6))
def test_the_bounds_hold_and_what_is_given_is_what_was_put_last(
    steps: list[tuple[Any, ...]], max_bytes: int, max_entries: int
) -> None:
    """Whatever is put, asked for and forgotten: the bytes are those of what is there, and nothing old is given."""
    now = [0]
    kept: dict[CacheKey, Entry] = {}
    memory = MemoryEntries(max_bytes=max_bytes, max_entries=max_entries, now_ms=lambda: now[0])
    for step in steps:
        if step[0] == "put":
            made = entry(step[2], now[0] + step[3])
            assert memory.put(step[1], made) == (made.size + TENANT_BYTES <= max_bytes)
            kept[step[1]] = made
        elif step[0] == "get":
            found = memory.get(step[1])
            assert found is None or (found is kept[step[1]] and found.expires_ms > now[0])
        elif step[0] == "drop":
            memory.drop(step[1])
            kept.pop(step[1], None)
        else:
            now[0] += step[1]
        assert memory.bytes <= max_bytes
        assert len(memory) <= max_entries
    steps = memory.close()
    assert (len(memory), memory.bytes) == (0, 0)
    assert len(list(steps)) == 0


def test_a_closed_cache_lets_go_a_slice_at_a_time() -> None:
    """To forget many entries takes no more of the loop in one go than a slice, and its bytes are free at once."""
    memory = MemoryEntries(max_bytes=10_000_000, max_entries=10_000, now_ms=lambda: 0)
    for number in range(3 * SLICE):
        assert memory.put(CacheKey(f"t{number % 7}", "m", b"%d" % number), entry(10, 100))
    steps = memory.close()
    assert (len(memory), memory.bytes) == (0, 0)
    assert len(list(steps)) == 3


WHO = st.sampled_from((0, 0, 0, 0, 0, 1, 1, 2, 3, 4))
PUTS = st.lists(st.tuples(WHO, st.integers(0, 99), st.integers(0, 4000)), min_size=20, max_size=150)


@given(PUTS, st.integers(30_000, 90_000), st.integers(10, 40))
def test_who_has_half_of_an_equal_share_loses_nothing_to_others(
    puts: list[tuple[int, int, int]], max_bytes: int, max_entries: int
) -> None:
    """Whatever other tenants put, with whatever users: as long as a tenant has half of an equal part of bytes and of
    numbers or less, all that it has put stays; and there is room for an entry within that part."""
    memory = MemoryEntries(max_bytes=max_bytes, max_entries=max_entries, now_ms=lambda: 0)
    there: dict[int, dict[CacheKey, int]] = {number: {} for number in range(5)}
    for who, which, size in puts:
        before = {
            number: {key: size for key, size in mine.items() if memory.peek(key) is not None}
            for number, mine in there.items()
        }
        key = CacheKey(f"{who:032x}" + ("" if which % 2 else f"-{which:032x}"), "m", bytes([which]))
        made = entry(size, 100)
        tenants = len({number for number, mine in before.items() if mine} | {who})
        share = (max_bytes - 5 * TENANT_BYTES) / tenants, max_entries / tenants
        kept = memory.put(key, made)
        assert kept or made.size > share[0] or share[1] < 1
        assert memory.bytes <= max_bytes
        assert len(memory) <= max_entries
        for number, mine in before.items():
            small = sum(mine.values()) + max_bytes // max_entries * len(mine) <= share[0] / 2
            if number != who and small:
                assert all(memory.peek(one) is not None for one in mine)
        there = {**before, who: {**before[who], key: made.size}}


def test_one_tenant_that_floods_pushes_out_its_own() -> None:
    """Two that have little keep it while a third asks for a thousand different things; what is of the flood is what
    came last."""
    memory = MemoryEntries(max_bytes=100_000, max_entries=10**6, now_ms=lambda: 0)
    quiet = [CacheKey(f"{who:032x}", "m", bytes([number])) for who in (1, 2) for number in range(5)]
    for key in quiet:
        memory.put(key, entry(100, 100))
    flood = [CacheKey(f"{3:032x}", "m", number.to_bytes(2, "big")) for number in range(1000)]
    assert all(memory.put(key, entry(100, 100)) for key in flood)
    assert all(memory.get(key) is not None for key in quiet)
    left = [key for key in flood if memory.get(key) is not None]
    assert len(left) > 50
    assert left == flood[-len(left) :]


def key_of(who: int, number: int = 0) -> CacheKey:
    """Give a key of a tenant."""
    return CacheKey(f"{who:032x}", "m", number.to_bytes(3, "big"))


def test_who_would_have_the_most_takes_nothing_from_those_with_less() -> None:
    """Where only tenants could make room that have less than who comes would have then, its entry is not kept."""
    size = entry(3000, 100).size + TENANT_BYTES
    memory = MemoryEntries(max_bytes=4 * size, max_entries=100, now_ms=lambda: 0)
    for who in (1, 2):
        assert memory.put(key_of(who), entry(3000, 100))
    assert not memory.put(key_of(3), entry(9000, 100))
    assert (len(memory), memory.evicted) == (2, 0)


@pytest.mark.parametrize("by", ["policy", "budget"])
def test_an_entry_is_not_worth_hundreds_of_others(by: str) -> None:
    """One for which more than `MOST_PUSHED_OUT` would have to go is not kept, and none goes for it, whether the
    policy's bytes or those of all caches are full; one that as many as that make room for is."""
    room = 2000 * entry(100, 100).size + TENANT_BYTES
    bytes_of_all = CacheBytes(MemoryBudget(4 * room), lambda: [memory]) if by == "budget" else None
    memory = MemoryEntries(
        max_bytes=room if by == "policy" else 10 * room, max_entries=10**6, now_ms=lambda: 0, account=bytes_of_all
    )
    for number in range(2000):
        assert memory.put(key_of(1, number), entry(100, 100))
    assert not memory.put(key_of(1, 5000), entry(MOST_PUSHED_OUT * entry(100, 100).size, 100))
    assert (len(memory), memory.evicted) == (2000, 0)
    assert memory.put(key_of(1, 5000), entry((MOST_PUSHED_OUT - 2) * entry(100, 100).size, 100))
    assert 0 < memory.evicted <= MOST_PUSHED_OUT


@pytest.mark.parametrize("by", ["policy", "budget"])
def test_no_more_go_in_one_go_than_the_loop_has_time_for(by: str) -> None:
    """Also where each of many tenants alone has fewer entries not more than `MOST_PUSHED_OUT` go for one."""
    size, each = 1900, MOST_PUSHED_OUT - 1  # A tenant has little less than 2**20 bytes, and so has who comes then.
    small = entry(size - entry(0, 100).size, 100)
    room = 4 * (each * size + TENANT_BYTES)
    bytes_of_all = CacheBytes(MemoryBudget(4 * room), lambda: [memory]) if by == "budget" else None
    memory = MemoryEntries(
        max_bytes=room if by == "policy" else 10 * room, max_entries=10**6, now_ms=lambda: 0, account=bytes_of_all
    )
    for number in range(each):
        assert all(memory.put(key_of(who, number), small) for who in range(4))
    assert not memory.put(key_of(9), entry(int(1.1 * each * size), 100))
    assert memory.evicted == MOST_PUSHED_OUT


def test_what_has_expired_of_tenants_that_are_gone_goes() -> None:
    """A thousand tenants that asked once, long ago, take no room from one that asks now."""
    now = [0]
    memory = MemoryEntries(max_bytes=10**7, max_entries=10**6, now_ms=lambda: now[0])
    for who in range(1000):
        memory.put(CacheKey(f"{who:032x}", "m", b"1"), entry(100, 100))
    now[0] = 200
    for number in range(1001):
        memory.put(CacheKey(f"{5000:032x}", "m", number.to_bytes(2, "big")), entry(100, 300))
    assert len(memory) <= 1002
    assert memory.evicted == 0


def test_what_was_used_last_stays() -> None:
    """A hit keeps an entry from being the next that goes, and prolongs nothing."""
    memory = MemoryEntries(max_bytes=10_000, max_entries=2, now_ms=lambda: 0)
    one, two, three = (CacheKey("p", "m", bytes([number])) for number in range(3))
    for key in (one, two):
        memory.put(key, entry(10, 100))
    before = memory.get(one)
    memory.put(three, entry(10, 100))
    assert memory.get(one) is before
    assert memory.get(two) is None


def test_a_purged_entry_is_not_kept_and_a_closed_cache_keeps_nothing() -> None:
    """What comes late, from a request of before, finds no place."""
    memory = MemoryEntries(max_bytes=10_000, max_entries=9, now_ms=lambda: 0, purged=lambda _, created: created <= 0)
    assert not memory.put(CacheKey("p", "m", b"1"), entry(10, 100))
    assert memory.put(CacheKey("p", "m", b"1"), entry(10, 100)._replace(created_ms=1))
    memory.close()
    assert not memory.put(CacheKey("p", "m", b"1"), entry(10, 100)._replace(created_ms=1))
    assert (len(memory), memory.bytes) == (0, 0)


@given(st.lists(st.tuples(st.integers(0, 2), st.integers(0, 3000)), max_size=60), st.integers(0, 90_000))
def test_requests_have_the_memory_that_they_need_of_what_caches_hold(puts: list[tuple[int, int]], needed: int) -> None:
    """All caches together have a part of the budget, and give it back: no request is refused because of them."""
    budget = MemoryBudget(100_000)
    caches: list[MemoryEntries] = []
    account = CacheBytes(budget, lambda: caches)
    caches.extend(MemoryEntries(max_bytes=50_000, max_entries=99, now_ms=lambda: 0, account=account) for _ in range(3))
    for number, (which, size) in enumerate(puts):
        assert caches[which].put(CacheKey("p", "m", bytes([number])), entry(size, 100))
        assert account.held == sum(one.bytes for one in caches) == budget.held <= 25_000
    share = budget.share()
    assert share.grow(needed) is MemoryBudget(100_000).share().grow(needed)
    assert budget.held <= budget.limit
    assert account.held == sum(one.bytes for one in caches)


def test_the_bytes_that_are_counted_are_at_least_those_that_are_taken() -> None:
    """Under a load of new entries that push out old ones the memory that they take stays within the bound."""
    bound = 2 * 1024**2
    memory = MemoryEntries(max_bytes=bound, max_entries=10**6, now_ms=lambda: 0)
    gc.collect()
    tracemalloc.start()
    try:
        before, _ = tracemalloc.get_traced_memory()
        for number in range(6000):
            key = CacheKey(f"{number:032x}-{number:032x}", f"{number:016x}", number.to_bytes(32, "big"))
            body = bytes(number % 3000)
            usage = Usage(1000 + number, 2000 + number)
            memory.put(
                key, Entry(Form.ANSWER, body, bytes(16), 10**12 + number, 10**13 + number, usage, 10**6 + number)
            )
        del key, body, usage
        gc.collect()
        taken = tracemalloc.get_traced_memory()[0] - before
    finally:
        tracemalloc.stop()
    assert memory.evicted > 0
    assert memory.bytes <= bound
    assert 0.6 * memory.bytes < taken <= memory.bytes
