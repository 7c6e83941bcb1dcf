"""Entries in memory: never more than the bounds, never one that has expired, always the newest of a key."""

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from capstan_gateway.caches.memory import MemoryEntries
from capstan_gateway.caches.port import OWN_BYTES, CacheKey, Entry, Form

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
            assert memory.put(step[1], made) == (made.size <= max_bytes)
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
    memory.drop_where(lambda _key, _entry: True)
    assert (len(memory), memory.bytes) == (0, 0)


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
