"""What readers are told of the blocks that an engine holds, whatever happens to these and whenever they read."""

from contextlib import ExitStack

from hypothesis import given
from hypothesis import strategies as st

from capstan_contract.kv_events import BEAT, read_change, read_head, write_change, write_head
from capstan_worker.kv_events.held import HeldBlocks, Reader
from capstan_worker.simulator.blocks import BLOCK_SIZE, BlockCache, Lease, block_hashes
from support.kv_events import apply

NAMES = st.lists(st.integers(0, 15), max_size=6)
STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("store"), NAMES),
        st.tuples(st.just("remove"), NAMES),
        st.tuples(st.just("clear"), st.just([])),
        st.tuples(st.just("begin"), st.just([])),
        st.tuples(st.just("read"), st.lists(st.integers(0, 3), max_size=2)),
    ),
    max_size=60,
)


def read(reader: Reader, known: set[int]) -> None:
    """Read what has changed as a gateway does, from lines."""
    for line in write_change(reader.take()):
        apply(read_change(line), known)


@given(steps=STEPS, most=st.integers(1, 12))
def test_whoever_reads_knows_what_is_there(steps: list[tuple[str, list[int]]], most: int) -> None:
    """Readers that begin and read at any time know, when they have read, exactly what is there; in between none of
    them holds more than was there when it began or is there now."""
    held = HeldBlocks(most=most)
    with ExitStack() as open_readers:
        readers: list[tuple[Reader, set[int]]] = []
        for what, names in steps:
            if what == "begin" and len(readers) < 4:
                reader = open_readers.enter_context(held.reader())
                head, *lines = write_head(reader.block_tokens, reader.snapshot)
                assert read_head(head).snapshot == len(reader.snapshot)
                known: set[int] = set()
                for line in lines:
                    apply(read_change(line), known)
                readers.append((reader, known))
            elif what == "store":
                held.store(names)
            elif what == "remove":
                held.remove(names)
            elif what == "clear":
                held.clear()
            elif what == "read":
                for number in names:
                    if number < len(readers):
                        read(*readers[number])
            assert len(held) <= most
            for reader, _ in readers:
                assert reader.pending <= 2 * len(held) + 1
        for reader, known in readers:
            read(reader, known)
            assert known == {name for name in range(16) if name in held}
            assert not reader.changed.is_set()
            assert reader.take() == reader.take()


@given(names=st.lists(st.integers(0, 2**64 - 1), min_size=1, max_size=20, unique=True), again=st.booleans())
def test_what_comes_and_goes_between_two_lines_is_nothing(names: list[int], *, again: bool) -> None:
    """A block that is stored and removed, or removed and stored, before it was told is not told."""
    held = HeldBlocks()
    held.store(range(2**64, 2**64 + 21))
    if again:
        held.store(names)
    with held.reader() as reader:
        for name in names:
            (held.remove if again else held.store)([name])
            (held.store if again else held.remove)([name])
        assert list(write_change(reader.take())) == []
        assert read_change(BEAT) == reader.take()


def test_a_reader_that_stands_still_holds_what_is_there() -> None:
    """However much goes while it does not read, it is kept no longer than what is left: that is told as a whole."""
    held = HeldBlocks()
    held.store(range(1000))
    with held.reader() as reader:
        known = set(reader.snapshot)
        held.remove(range(990))
        assert reader.pending <= 20
        held.store(range(2000, 2005))
        held.clear()
        held.store([7])
        assert reader.pending == 1
        read(reader, known)
        assert known == {7}


def test_the_newest_stay_where_there_is_no_room() -> None:
    """Of more blocks than may be told the oldest go, and one that is stored again is new again."""
    held = HeldBlocks(most=3)
    held.store([1, 2, 3])
    held.store([1])
    held.store([4])
    assert [name for name in range(6) if name in held] == [1, 3, 4]


@given(
    capacity=st.integers(1, 12),
    steps=st.lists(st.tuples(st.integers(0, 9), st.integers(0, 3), st.integers(1, 5), st.integers(0, 4)), max_size=60),
)
def test_the_simulators_cache_tells_what_can_be_hit(capacity: int, steps: list[tuple[int, int, int, int]]) -> None:
    """Whatever requests come, end or are cleared: the blocks that are told are those that are held or cached."""
    told = HeldBlocks(block_tokens=BLOCK_SIZE)
    cache = BlockCache(capacity, told=told)
    known: set[int] = set()
    leases: list[tuple[Lease, int, int]] = []
    with told.reader() as reader:
        for what, family, blocks, more in steps:
            if what == 0:
                cache.clear()
            elif what < 6 or not leases:
                tokens = [f"{family}.{min(number, 40)}" for number in range(blocks * BLOCK_SIZE)]
                hashes = block_hashes(tokens)
                lease = cache.take(hashes, prompt_tokens=len(tokens), total_blocks=len(hashes) + more)
                if lease is not None:
                    leases.append((lease, hashes[-1], more))
            else:
                lease, last, private = leases.pop(more % len(leases))
                answer = [f"{family}.{what}.{number}" for number in range(private * BLOCK_SIZE)]
                cache.give_back(lease, block_hashes(answer, before=last))
            read(reader, known)
            assert len(known) == len(told)
            shared = {item for lease, _, _ in leases for item in lease.hashes}
            assert shared <= known
            assert len(known) == len(shared) + cache.cached
