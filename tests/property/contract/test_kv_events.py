"""Blocks of prompts: names follow prefixes, and changes survive their lines."""

from hypothesis import given
from hypothesis import strategies as st

from capstan_contract.kv_events import MOST_NAMES_OF_LINE, Change, block_names, read_change, root_name, write_change

tokens = st.lists(st.integers(0, (1 << 32) - 1), max_size=64)
names = st.lists(st.integers(0, (1 << 64) - 1), max_size=40)


@given(tokens, tokens, st.integers(1, 8))
def test_equal_names_are_equal_prefixes(one: list[int], other: list[int], size: int) -> None:
    """Two prompts share as many names from the first as they share whole blocks, and none behind."""
    root = root_name()
    first, second = block_names(one, size, before=root), block_names(other, size, before=root)
    alike = 0
    while one[alike * size : (alike + 1) * size] == other[alike * size : (alike + 1) * size]:
        if len(one) < (alike + 1) * size:
            break
        alike += 1
    assert first[:alike] == second[:alike]
    assert not set(first[alike:]) & set(second[alike:])


@given(tokens, st.integers(1, 8), st.data())
def test_names_go_on_from_any_block(prompt: list[int], size: int, data: st.DataObject) -> None:
    """Names of a part, made behind those of the part in front, are those of the whole."""
    root = root_name()
    whole = block_names(prompt, size, before=root)
    cut = data.draw(st.integers(0, len(whole)))
    front = block_names(prompt[: cut * size], size, before=root)
    assert front + block_names(prompt[cut * size :], size, before=front[-1] if front else root) == whole


@given(names, names, st.booleans(), st.sets(st.integers(0, (1 << 64) - 1), max_size=40))
def test_lines_do_what_the_change_does(stored: list[int], removed: list[int], cleared: bool, held: set[int]) -> None:
    """Whoever applies the lines of a change in their order holds what the change leaves, however it is cut."""
    change = Change(stored * (MOST_NAMES_OF_LINE // 20), removed, cleared)
    after = set(held)
    for line in write_change(change):
        read = read_change(line)
        after = (set() if read.cleared else after) - set(read.removed) | set(read.stored)
    assert after == (set() if cleared else held) - set(removed) | set(stored)
