"""Whatever is published, lost, told again or garbled: what is told is what the engine has, or less."""

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from capstan_contract.kv_events import block_names, root_name
from capstan_worker.kv_events.follower import Follower, read_sequence, write_sequence
from capstan_worker.kv_events.held import HeldBlocks
from capstan_worker.kv_events.table import BlockTable
from support.vllm_events import CLEARED, batch, removed, stored

SIZE = 4


class Engine:
    """Blocks in chains, as an engine has them: of each prompt the beginning is there, or was."""

    def __init__(self) -> None:
        self.names: dict[bytes, int] = {}
        self.batches: list[bytes] = []

    def step(self, what: int, prompt: int, length: int) -> bytes:
        """Store a prompt, remove a block, or clear; give the batch."""
        events: list[Any] = []
        if what == 0:
            self.names.clear()
            events.append(CLEARED)
        elif what < 3 and self.names:
            gone = sorted(self.names)[prompt % len(self.names)]
            del self.names[gone]
            events.append(removed([gone]))
        else:
            tokens = [prompt] * (SIZE * length)
            hashes = [f"{prompt}.{number}".encode() for number in range(length)]
            names = block_names(tokens, SIZE, before=root_name())
            # An engine tells what it did not have: the part of the prompt behind what is there.
            known = next((number for number, one in enumerate(hashes) if one not in self.names), length)
            if known < length:
                parent = hashes[known - 1] if known else None
                events.append(stored(hashes[known:], tokens[known * SIZE :], parent=parent))
            self.names |= dict(zip(hashes, names, strict=True))
        self.batches.append(batch(*events))
        return self.batches[-1]


STEPS = st.lists(st.tuples(st.integers(0, 9), st.integers(0, 5), st.integers(1, 4), st.integers(0, 3)), max_size=50)


def follow(steps: list[tuple[int, int, int, int]], *, kept: int) -> tuple[Engine, HeldBlocks, Follower]:
    """Publish step by step; a batch whose fate is 0 is lost on its way, and the last `kept` can be told again."""
    engine, held = Engine(), HeldBlocks(block_tokens=SIZE)
    follower = Follower(BlockTable(held))
    for number, (what, prompt, length, fate) in enumerate(steps):
        payload = engine.step(what, prompt, length)
        if fate == 0 and number + 1 < len(steps):
            continue
        if follower.hears(number):
            for again in range(max(follower.next, number + 1 - kept), number + 1):
                follower.take(again, engine.batches[again])
        follower.take(number, payload)
        assert all(name in set(engine.names.values()) for name in held_names(held))
    return engine, held, follower


def held_names(held: HeldBlocks) -> list[int]:
    """Give what is told."""
    with held.reader() as reader:
        return list(reader.snapshot)


@given(steps=STEPS)
def test_what_was_missed_is_made_good(steps: list[tuple[int, int, int, int]]) -> None:
    """As long as the engine can tell again what was lost, exactly what it has is told, and nothing was begun anew."""
    engine, held, follower = follow(steps, kept=1000)
    assert sorted(held_names(held)) == sorted(set(engine.names.values()))
    assert follower.lost == 0


@given(steps=STEPS, kept=st.integers(0, 3))
def test_what_cannot_be_had_again_is_not_made_up(steps: list[tuple[int, int, int, int]], kept: int) -> None:
    """Where it cannot, no block is ever told that the engine does not have."""
    engine, held, _ = follow(steps, kept=kept)
    assert set(held_names(held)) <= set(engine.names.values())


@given(before=STEPS, after=STEPS.filter(bool))
def test_another_engine_begins_with_nothing(
    before: list[tuple[int, int, int, int]], after: list[tuple[int, int, int, int]]
) -> None:
    """When the numbers of batches begin again, what the one before had is gone."""
    _, held, follower = follow(before, kept=1000)
    engine = Engine()
    for number, (what, prompt, length, _) in enumerate(after):
        payload = engine.step(what, prompt, length)
        if number == 0 and not before:
            follower.begin_anew()
        if follower.hears(number):
            for again in range(follower.next, number + 1):
                follower.take(again, engine.batches[again])
        follower.take(number, payload)
    assert sorted(held_names(held)) == sorted(set(engine.names.values()))


JSONISH = st.recursive(
    st.one_of(
        st.none(), st.booleans(), st.integers(-(2**63), 2**64 - 1), st.floats(), st.binary(max_size=8),
        st.sampled_from(["BlockStored", "BlockRemoved", "AllBlocksCleared", "type", "block_hashes", ""]),
    ),
    lambda inner: st.one_of(
        st.lists(inner, max_size=9),
        st.dictionaries(
            st.sampled_from(
                ["type", "block_hashes", "parent_block_hash", "token_ids", "block_size", "extra_keys", "lora_name"]
            ),
            inner,
            max_size=7,
        ),
    ),
    max_leaves=25,
)  # fmt: skip


@given(payloads=st.lists(st.one_of(st.binary(max_size=40), JSONISH.map(batch)), max_size=6))
def test_nothing_that_is_published_breaks_what_follows(payloads: list[bytes]) -> None:
    """What is no batch of events is counted, all is begun anew, and the next batch is taken as ever."""
    held = HeldBlocks(block_tokens=SIZE)
    follower = Follower(BlockTable(held))
    for number, payload in enumerate(payloads):
        follower.take(number, payload)
    tokens = list(range(SIZE))
    follower.take(len(payloads), batch(CLEARED, stored([b"last"], tokens)))
    assert held_names(held) == block_names(tokens, SIZE, before=root_name())
    assert f"capstan_worker_kv_events_malformed_total {follower.malformed}\n" in follower.render()


def test_a_batch_that_is_told_again_is_not_taken_again() -> None:
    """What a later batch has removed does not come back with an earlier one."""
    held = HeldBlocks(block_tokens=SIZE)
    follower = Follower(BlockTable(held))
    first = batch(stored([b"a"], list(range(SIZE))))
    for number, payload in enumerate((first, batch(removed([b"a"])), batch())):
        follower.take(number, payload)
    follower.take(0, first)
    assert not held_names(held)
    assert follower.next == 3


def test_what_was_not_understood_leaves_nothing() -> None:
    """A batch that cannot be read may have removed blocks: nothing is told until it is stored again."""
    held = HeldBlocks(block_tokens=SIZE)
    follower = Follower(BlockTable(held))
    follower.take(0, batch(stored([b"a"], list(range(SIZE)))))
    assert len(held) == 1
    follower.take(1, b"no batch")
    assert len(held) == 0
    assert follower.malformed == 1


@given(st.integers(0, 2**63 - 1))
def test_numbers_of_batches_are_read_as_they_are_written(number: int) -> None:
    """In eight bytes; of other lengths there are none."""
    assert read_sequence(write_sequence(number)) == number
    assert read_sequence(b"1234567") is None
