"""From the engine's hashes to names: what is told of what vLLM says, and what is not."""

from typing import Any

import msgspec
import pytest

from capstan_contract.kv_events import block_names, root_name
from capstan_worker.kv_events.held import HeldBlocks
from capstan_worker.kv_events.table import BlockTable
from capstan_worker.kv_events.wire import AllCleared, MalformedEvents, read_batch
from support.vllm_events import CLEARED, batch, removed, stored

TOKENS = list(range(1000, 1064))
SIZE = 16
PLAIN = block_names(TOKENS, SIZE, before=root_name())
HASHES = [bytes([number]) * 32 for number in range(4)]


class World:
    """A table, and what it tells."""

    def __init__(self, **options: Any) -> None:
        self.held = HeldBlocks()
        self.table = BlockTable(self.held, **options)

    def says(self, *events: Any) -> None:
        """The engine publishes a batch."""
        self.table.apply(read_batch(batch(*events)))

    def tells(self, *names: int) -> bool:
        """Whether exactly these blocks are told."""
        return len(self.held) == len(names) and all(name in self.held for name in names)


def test_blocks_have_the_names_of_their_tokens() -> None:
    """In one event or in several, each behind its parent, the names are those of the contract."""
    world = World()
    world.says(stored(HASHES[:2], TOKENS[:32]))
    world.says(stored(HASHES[2:3], TOKENS[32:48], parent=HASHES[1]), stored(HASHES[3:], TOKENS[48:], parent=HASHES[2]))
    assert world.tells(*PLAIN)
    world.says(removed(HASHES[3:]))
    assert world.tells(*PLAIN[:3])
    world.says(CLEARED)
    assert world.tells()
    assert len(world.table) == 0


@pytest.mark.parametrize(
    "event",
    [
        ["BlockStored", [11, 12], None, TOKENS[:32], SIZE, None],
        ["BlockStored", [11, 12], None, TOKENS[:32], SIZE, None, "GPU"],
        ["BlockStored", [11, 12], None, TOKENS[:32], SIZE, None, "GPU", None, [None, None]],
    ],
    ids=["first release", "with a medium", "with extra keys"],
)
def test_earlier_releases_write_lists(event: list[Any]) -> None:
    """Of releases whose events are lists, with fewer fields, and hashes that are numbers, as much is understood."""
    world = World()
    world.says(event)
    assert world.tells(*PLAIN[:2])
    world.says(["BlockRemoved", [12]])
    assert world.tells(PLAIN[0])
    world.says(["AllBlocksCleared"])
    assert world.tells()


def test_what_another_release_adds_is_left_out() -> None:
    """Events and fields that are not known change nothing."""
    world = World()
    world.says(["BlocksRested", [1]], {"type": "BlockMoved", "x": 1}, stored(HASHES, TOKENS, locality="LOCAL", new=[1]))
    assert world.tells(*PLAIN)


def test_salt_and_adapter_are_in_the_root() -> None:
    """A `cache_salt`, which the first block tells, and the adapter's name part the names of the same tokens."""
    world = World()
    salted = block_names(TOKENS[:32], SIZE, before=root_name(salt="of a tenant"))
    world.says(stored(HASHES[:2], TOKENS[:32], extra_keys=[["of a tenant"], None]))
    assert world.tells(*salted)
    both = block_names(TOKENS[:32], SIZE, before=root_name(salt="s", adapter="tuned"))
    extra = [["tuned", "s"], ["tuned"]]
    world.says(CLEARED, stored(HASHES[:2], TOKENS[:32], lora_name="tuned", lora_id=3, extra_keys=extra))
    assert world.tells(*both)
    alone = block_names(TOKENS[:32], SIZE, before=root_name(adapter="tuned"))
    world.says(CLEARED, stored(HASHES[:2], TOKENS[:32], lora_name="tuned", lora_id=3, extra_keys=[["tuned"]] * 2))
    assert world.tells(*alone)


@pytest.mark.parametrize(
    ("extra", "count"),
    [
        ([None, [["picture", 3]], None, None], 1),
        ([[["picture", 0]], None, None, None], 0),
        ([["salt", ["picture", 0]], None, None, None], 0),
        ([None, None, ["embedding digest"], None], 2),
        ([None, None, None, [b"digest"]], 3),
        ([None] * 4, 4),
    ],
)
def test_what_is_behind_a_picture_is_not_told(extra: list[Any], count: int) -> None:
    """A block in whose hash is more than tokens, adapter and salt has no name, nor has one behind it, in this event or
    in a later one."""
    world = World()
    world.says(stored(HASHES, TOKENS, extra_keys=extra))
    world.says(stored([b"next"], range(16), parent=HASHES[3], extra_keys=[None]))
    last = block_names(range(16), SIZE, before=PLAIN[3]) if count == 4 else []
    assert world.tells(*PLAIN[:count], *last)
    assert world.table.untold == (0 if count == 4 else 5 - count)


def test_what_is_behind_an_unknown_block_is_not_told() -> None:
    """One whose parent was never told, or went for lack of room here, has no name; its own removal is nothing."""
    world = World(most=2)
    world.says(stored([b"b"], TOKENS[:16], parent=b"a"))
    assert world.tells()
    world.says(removed([b"b"]))
    world.says(stored(HASHES[:3], TOKENS[:48]))
    assert world.tells(*PLAIN[1:3])
    world.says(stored([b"c"], TOKENS[:16], parent=HASHES[0]))
    assert world.tells(*PLAIN[1:3])
    assert len(world.table) == 2


def test_an_adapter_without_a_name_is_not_told() -> None:
    """Of a release that tells only the number of an adapter nobody could make the name."""
    world = World()
    world.says(stored(HASHES, TOKENS, lora_id=1))
    assert world.tells()
    assert world.table.untold == 4


def test_a_block_is_held_as_long_as_any_medium_has_it() -> None:
    """It is gone when the last of GPU, CPU and other memories has let go of it; a removal that names none means all."""
    world = World()
    for medium in ("GPU", "CPU"):
        world.says(stored(HASHES[:1], TOKENS[:16], medium=medium))
    world.says(removed(HASHES[:1], medium="GPU"))
    assert world.tells(PLAIN[0])
    world.says(removed(HASHES[:1], medium="CPU"))
    assert world.tells()
    for medium in ("GPU", "CPU"):
        world.says(stored(HASHES[:1], TOKENS[:16], medium=medium))
    world.says(removed(HASHES[:1], medium=None))
    assert world.tells()


def test_groups_that_look_back_a_little_do_not_count() -> None:
    """Of a model with layers of several kinds those count that need the whole prompt: what a window has let go of, or
    only has kept, says nothing of how much was computed."""
    world = World()
    whole = {"group_idx": 0, "kv_cache_spec_kind": "full_attention"}
    window = {"group_idx": 1, "kv_cache_spec_kind": "sliding_window"}
    world.says(stored(HASHES[:2], TOKENS[:32], **whole), stored(HASHES, TOKENS, **window))
    assert world.tells(*PLAIN[:2])
    world.says(removed(HASHES[:2], group_idx=1))
    assert world.tells(*PLAIN[:2])
    world.says(removed(HASHES[:1], group_idx=0))
    assert world.tells(PLAIN[1])


def test_two_of_the_engines_blocks_may_have_one_name() -> None:
    """An engine that does not tell what else is in its hashes has two blocks of the same tokens: one that is left is
    enough."""
    world = World()
    world.says(stored([b"x"], TOKENS[:16]), stored([b"y"], TOKENS[:16]))
    world.says(removed([b"x"]))
    assert world.tells(PLAIN[0])
    world.says(removed([b"y"]))
    assert world.tells()


def test_the_first_event_says_how_large_blocks_are() -> None:
    """What is told has one size: that of the engine; blocks of another size beside it are not told."""
    world = World()
    with world.held.reader() as reader:
        world.says(stored(HASHES[:2], TOKENS))
        assert reader.ended
    assert world.held.block_tokens == 32
    assert world.tells(*block_names(TOKENS, 32, before=root_name()))
    world.says(stored([b"part"], TOKENS[:16]))
    assert world.held.block_tokens == 32
    assert len(world.held) == 2
    world.says(CLEARED, stored(HASHES[:1], TOKENS[:16]))
    assert world.held.block_tokens == 16


def test_a_list_of_tokens_that_does_not_fit_is_not_told() -> None:
    """Where blocks were left out of the list of hashes nobody can say which tokens are whose."""
    world = World()
    world.says(stored(HASHES[:1], TOKENS[:32], block_size=16))
    assert world.tells()


@pytest.mark.parametrize(
    "payload",
    [
        b"",
        b"\xc1",
        msgspec.msgpack.encode({}),
        msgspec.msgpack.encode([1.0]),
        msgspec.msgpack.encode([1.0, 5]),
        batch(7),
        batch([]),
        batch(stored([1.5], [1])),
        batch({**stored([b"a"], [1]), "parent_block_hash": []}),
        batch({**stored([b"a"], [1]), "token_ids": 3}),
        batch(stored([b"a"], [1], block_size=0)),
        batch(stored([b"a"], [1], block_size=1 << 40)),
        batch(stored([b"a"], [1], extra_keys=[3])),
        batch(stored([b"a"], [1], lora_name=3)),
        batch(stored([b"a"], [1], group_idx="0")),
        batch(stored([b"a"], [-1])),
        batch(stored([b"a"], [1 << 32])),
        batch(stored([b"a"], ["text"])),
        batch({"type": "BlockRemoved", "block_hashes": b"a"}),
    ],
)
def test_what_is_no_batch_is_refused(payload: bytes) -> None:
    """The message says what is wrong, and holds nothing of what was said."""
    with pytest.raises(MalformedEvents) as refused:
        World().table.apply(read_batch(payload))
    assert "text" not in str(refused.value).replace("must be text", "")


def test_a_batch_may_say_nothing() -> None:
    """A batch without events, and one that clears what is empty, are batches."""
    assert read_batch(batch()) == []
    assert read_batch(batch(CLEARED)) == [AllCleared()]
