"""Counts are found again by what prompts say, and by nothing else; of a prompt nothing is kept."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from capstan_gateway.tokens.prefixes import Known, PromptCounts, names_of

KEY = b"k" * 32
messages = st.lists(st.fixed_dictionaries({"role": st.sampled_from(("user", "assistant")), "content": st.text()}))


def names(document: dict[str, Any], *, key: bytes = KEY, counter: str = "m") -> list[bytes]:
    """Name the beginnings of a prompt."""
    return names_of(document, key=key, counter=counter)


@given(messages.filter(bool), messages)
def test_a_conversation_begins_with_the_names_of_what_it_was(first: Any, more: Any) -> None:
    """Whatever else stands in the request that is no part of the prompt."""
    before = names({"messages": first, "temperature": 1, "max_tokens": 7})
    after = names({"messages": [*first, *more], "stream": True})
    assert len(after) == len(set(after)) == len(first) + len(more)
    assert after[: len(first)] == before


@pytest.mark.parametrize(
    "other",
    [
        {"messages": [{"role": "user", "content": "b"}]},
        {"messages": [{"role": "system", "content": "a"}]},
        {"messages": [{"role": "user", "content": "a"}], "tools": []},
        {"messages": [{"role": "user", "content": "a"}], "reasoning_effort": "high"},
        {"prompt": "a"},
    ],
)
def test_what_may_change_a_prompt_changes_its_name(other: dict[str, Any]) -> None:
    """Also a field that nobody here knows, another counter, another process."""
    one: dict[str, Any] = {"messages": [{"role": "user", "content": "a"}]}
    assert names(one)[-1] not in names(other)
    assert names(one) != names(one, key=b"other")
    assert names(one) != names(one, counter="n")


def test_what_cannot_be_written_has_no_name() -> None:
    """Nothing is found for it, and nothing is kept."""
    deep: Any = []
    for _ in range(2000):
        deep = [deep]
    assert names({"messages": [{"role": "user", "content": deep}]}) == []
    assert PromptCounts(lambda: 0.0).find([]) is None


def test_the_longest_beginning_is_found() -> None:
    """Of several that were counted."""
    counts, said = PromptCounts(lambda: 0.0), [b"1", b"2", b"3"]
    assert counts.find(said) is None
    counts.put(b"1", 10)
    counts.put(b"2", 20)
    assert counts.find(said) == Known(2, 20)
    assert counts.find(said[:1]) == Known(1, 10)


def test_counts_are_bounded_in_number_and_time() -> None:
    """The one that was used longest ago goes first; none is believed for ever."""
    now = 0.0
    counts = PromptCounts(lambda: now, most=2, seconds=10)
    counts.put(b"1", 1)
    counts.put(b"2", 2)
    assert counts.find([b"1"]) == Known(1, 1)
    counts.put(b"3", 3)
    assert (len(counts), counts.find([b"2"])) == (2, None)
    now = 10.0
    assert counts.find([b"1"]) is None
