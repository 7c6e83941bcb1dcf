"""What endpoints hold, in whatever order workers tell it: beside a model that keeps plain sets."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from capstan_contract.kv_events import MOST_BLOCKS, Change, Head, block_names, root_name
from capstan_gateway.routing.held_blocks import MOST_SOON, SOON_SECONDS, HeldBlocks, PromptBlocks, TooManyBlocks

NOW = 100.0
SIZE = 4
IDS = ("a", "b", "c")
NAMES = st.lists(st.integers(0, 30), max_size=8)


def prompt_of(tokens: list[int], *sizes: int) -> PromptBlocks:
    """Give a prompt with its names for these sizes of blocks."""
    names = {size: block_names(tokens, size, before=root_name()) for size in sizes or (SIZE,)}
    return PromptBlocks(len(tokens), names)


def snapshot(held: HeldBlocks, id_: str, blocks: list[int], *, size: int = SIZE) -> None:
    """A worker tells all that its engine holds."""
    held.begin(id_, Head(size, len(blocks)))
    held.apply(id_, Change(stored=blocks))


CHANGES = st.builds(Change, stored=NAMES, removed=NAMES, cleared=st.booleans())
STEPS = st.lists(st.tuples(st.sampled_from(IDS), st.one_of(st.just("begin"), st.just("forget"), CHANGES)), max_size=40)


@given(steps=STEPS)
def test_an_endpoint_holds_what_it_has_told_since_it_began(steps: list[tuple[str, object]]) -> None:
    """Cleared, removed, stored, in this order; of who is forgotten nothing is left."""
    held, model = HeldBlocks(), dict[str, set[int]]()
    for id_, step in steps:
        if step == "begin":
            held.begin(id_, Head(SIZE, 0))
            model[id_] = set()
        elif step == "forget":
            held.forget(id_)
            model.pop(id_, None)
        elif isinstance(step, Change) and id_ in model:
            before = len(model[id_])
            kept = set() if step.cleared else model[id_] - set(step.removed)
            model[id_] = kept | set(step.stored)
            assert held.apply(id_, step) == len(model[id_]) - before
        assert {id_: held.blocks(id_) for id_ in held.told_by()} == {id_: len(one) for id_, one in model.items()}
    for name in range(31):
        found = held.held(PromptBlocks(SIZE, {SIZE: [name]}), NOW)
        assert found == {id_: SIZE if name in one else 0 for id_, one in model.items()}


@given(length=st.integers(0, 200), known=st.lists(st.integers(0, 200), min_size=3, max_size=3))
def test_the_beginning_of_a_prompt_is_found_at_each_who_has_it(length: int, known: list[int]) -> None:
    """However long the prompt is, and however much of it each holds."""
    prompt, held = prompt_of(list(range(length * SIZE + 1))), HeldBlocks()
    names = list(prompt.names[SIZE])
    for id_, count in zip(IDS, known, strict=True):
        snapshot(held, id_, names[:count])
    assert held.held(prompt, NOW) == {id_: min(count, length) * SIZE for id_, count in zip(IDS, known, strict=True)}


@given(blocks=st.lists(st.booleans(), max_size=60))
def test_what_is_found_ends_where_something_is_missing(blocks: list[bool]) -> None:
    """Also of a prompt with holes: its last block is there, the next one is not."""
    prompt, held = prompt_of(list(range(len(blocks) * SIZE))), HeldBlocks()
    snapshot(held, "a", [name for name, there in zip(prompt.names[SIZE], blocks, strict=True) if there])
    count = held.held(prompt, NOW)["a"] // SIZE
    assert count == 0 or blocks[count - 1]
    assert count == len(blocks) or not blocks[count]
    assert count > 0 or not blocks or not blocks[0]


def test_an_endpoint_counts_once_its_snapshot_is_whole() -> None:
    """Half of what it holds is no reason to go elsewhere."""
    prompt, held = prompt_of([1] * SIZE * 2), HeldBlocks()
    first, second = prompt.names[SIZE]
    held.begin("a", Head(SIZE, 2))
    held.apply("a", Change(stored=[first]))
    assert (held.told_by(), held.block_sizes(), held.held(prompt, NOW)) == ([], set(), {})
    held.apply("a", Change(stored=[second]))
    assert (held.told_by(), held.block_sizes(), held.held(prompt, NOW)) == (["a"], {SIZE}, {"a": 2 * SIZE})


def test_blocks_of_two_sizes_are_compared_each_with_their_own() -> None:
    """While engines are replaced by others with larger blocks both are found; a size that is not there is left out."""
    tokens, held = list(range(32)), HeldBlocks()
    both = prompt_of(tokens, 4, 8)
    snapshot(held, "a", list(both.names[4][:3]), size=4)
    snapshot(held, "b", list(both.names[8][:2]), size=8)
    assert held.held(both, NOW) == {"a": 12, "b": 16}
    assert held.held(prompt_of(tokens, 8), NOW) == {"b": 16}


def test_what_was_sent_counts_for_a_moment() -> None:
    """Until the worker has told it, or should have; nothing of it is left at an endpoint that begins anew."""
    prompt, held = prompt_of(list(range(40))), HeldBlocks()
    for id_ in ("a", "b"):
        snapshot(held, id_, list(prompt.names[SIZE][:2]))
    held.chosen("a", prompt, NOW)
    assert held.held(prompt, NOW + SOON_SECONDS / 2) == {"a": 40, "b": 8}
    assert held.held(prompt, NOW + SOON_SECONDS) == {"a": 8, "b": 8}
    held.chosen("a", prompt, NOW)
    held.apply("a", Change(stored=prompt.names[SIZE][2:5]))
    assert held.held(prompt, NOW + SOON_SECONDS) == {"a": 20, "b": 8}
    held.apply("b", Change(cleared=True))
    held.chosen("b", prompt, NOW)
    assert held.held(prompt, NOW)["b"] == 40
    held.apply("b", Change(cleared=True))
    assert held.held(prompt, NOW)["b"] == 0
    held.chosen("gone", prompt, NOW)
    held.not_sent("gone", prompt)


def test_what_could_not_be_sent_does_not_count() -> None:
    """But what its worker has told does."""
    prompt, held = prompt_of(list(range(40))), HeldBlocks()
    snapshot(held, "a", list(prompt.names[SIZE][:2]))
    held.chosen("a", prompt, NOW)
    held.not_sent("a", prompt)
    assert held.held(prompt, NOW) == {"a": 8}


def test_what_counts_for_a_moment_is_bounded() -> None:
    """The blocks that were sent longest ago no longer count."""
    held, size = HeldBlocks(), 1
    snapshot(held, "a", [], size=size)
    first = prompt_of([1, 2, 3], size)
    held.chosen("a", first, NOW)
    assert held.held(first, NOW) == {"a": 3}
    held.chosen("a", prompt_of(list(range(7, 7 + MOST_SOON)), size), NOW)
    assert held.held(first, NOW) == {"a": 0}
    longer = prompt_of(list(range(MOST_SOON + 10, 2 * MOST_SOON + 15)), size)
    held.chosen("a", longer, NOW)
    assert held.held(longer, NOW) == {"a": MOST_SOON}


def test_no_endpoint_holds_more_than_a_worker_may_tell() -> None:
    """One that tells more is not believed."""
    held = HeldBlocks()
    held.begin("a", Head(SIZE, 0))
    held.apply("a", Change(stored=range(MOST_BLOCKS)))
    with pytest.raises(TooManyBlocks):
        held.apply("a", Change(stored=[MOST_BLOCKS]))
    assert held.apply("a", Change(stored=[MOST_BLOCKS], removed=[0])) == 0
    assert held.apply("a", Change(stored=[1], cleared=True)) == 1 - MOST_BLOCKS
