"""What workers tell of an engine's blocks: names that depend on all in front, and lines of a size that is bounded."""

import json

import pytest

from capstan_contract.kv_events import (
    BEAT,
    MOST_BLOCKS,
    MOST_LINE_BYTES,
    MOST_NAMES_OF_LINE,
    Change,
    Head,
    KVEventError,
    block_names,
    read_change,
    read_head,
    root_name,
    write_change,
    write_head,
)

ROOT = root_name()


def test_names_are_fixed() -> None:
    """A gateway and a worker of different releases give a block the same name: these never change."""
    assert ROOT == 0x338AE12D15B44F51
    assert block_names(range(5), 2, before=ROOT) == [0xAB0653FDA9EFBAD0, 0x9DB6B1E515D578A6]


def test_whoever_a_prompt_is_computed_for_has_other_names() -> None:
    """Salt and adapter part blocks, and neither can be written as the other."""
    roots = {root_name(salt=salt, adapter=adapter) for salt in ("", "a", '","') for adapter in ("", "a", '","')}
    assert len(roots) == 9


@pytest.mark.parametrize("token", [-1, 1 << 32])
def test_tokens_out_of_range(token: int) -> None:
    """What is no token of 32 bits raises OverflowError instead of taking another one's name."""
    with pytest.raises(OverflowError):
        block_names([token], 1, before=ROOT)


def test_a_large_snapshot_comes_in_lines_of_bounded_size() -> None:
    """No line is longer than a reader takes, however many blocks there are."""
    held = range(3 * MOST_NAMES_OF_LINE + 1)
    head, *lines = write_head(16, held)
    assert read_head(head) == Head(16, len(held))
    assert len(lines) == 4
    assert max(map(len, lines)) <= MOST_LINE_BYTES
    assert [name for line in lines for name in read_change(line).stored] == list(held)


def test_cleared_is_said_once_and_first() -> None:
    """Of a change in several lines only the first one clears: the others would throw away what it has stored."""
    lines = list(write_change(Change(stored=range(MOST_NAMES_OF_LINE + 1), cleared=True)))
    assert [read_change(line).cleared for line in lines] == [True, False]
    assert [read_change(line) for line in write_change(Change(cleared=True))] == [Change(cleared=True)]


def test_nothing_is_no_line_and_a_beat_is_no_change() -> None:
    """A change of nothing writes nothing, and a beat reads as a change of nothing."""
    assert list(write_change(Change())) == []
    assert read_change(BEAT) == Change()


@pytest.mark.parametrize(
    "said",
    [
        {"version": 2, "blockTokens": 16, "snapshot": 0},
        {"version": 1, "blockTokens": 0, "snapshot": 0},
        {"version": 1, "blockTokens": True, "snapshot": 0},
        {"version": 1, "blockTokens": 16, "snapshot": MOST_BLOCKS + 1},
        {"version": 1, "blockTokens": 16},
        [],
    ],
)
def test_heads_that_are_none(said: object) -> None:
    """A head of another version, or with numbers out of range, is refused with what is allowed."""
    with pytest.raises(KVEventError):
        read_head(json.dumps(said).encode())


@pytest.mark.parametrize(
    "line",
    [
        b"{",
        b"[]",
        b"\xff",
        b"[" * 100_000,
        b" " * (MOST_LINE_BYTES + 1),
        b'{"cleared":1}',
        b'{"stored":1}',
        b'{"stored":"AAAA"}',
        b'{"removed":"!!!!!!!!!!!!"}',
        b'{"removed":"' + b"A" * (MOST_NAMES_OF_LINE * 8 * 4 // 3 + 32) + b'"}',
    ],
)
def test_lines_that_are_none(line: bytes) -> None:
    """What is no line of this format is a KVEventError, whatever it is, and the error says nothing of what it holds."""
    with pytest.raises(KVEventError) as refused:
        read_change(line)
    assert "!!!!" not in str(refused.value)
