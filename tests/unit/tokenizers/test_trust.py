"""When a tokenizer is believed."""

from hypothesis import given
from hypothesis import strategies as st

from capstan_gateway.tokenizers.trust import EVERY, FIRST, MOST_WRONG, RIGHT_AGAIN, Trust, is_right


def test_what_is_right() -> None:
    """A few tokens that an API adds by itself, or one in a hundred, are no other tokenizer."""
    assert [is_right(*pair) for pair in ((100, 100), (100, 104), (100, 105), (1000, 1010), (1000, 1011))] == [
        True, True, False, True, False,
    ]  # fmt: skip


def test_a_few_wrong_counts_end_it() -> None:
    """One or two may have a reason; four of eight are another tokenizer. It is told once."""
    trust = Trust()
    assert [trust.observe(100, 200) for _ in range(MOST_WRONG + 1)] == [False] * (MOST_WRONG - 1) + [True, False]
    assert not trust.trusted


def test_what_is_right_again_is_believed_again() -> None:
    """After an engine was replaced by one that has this tokenizer."""
    trust = Trust()
    for _ in range(MOST_WRONG):
        trust.observe(100, 200)
    assert [trust.observe(100, 100) for _ in range(RIGHT_AGAIN)] == [False] * (RIGHT_AGAIN - 1) + [True]
    assert trust.trusted


def test_few_prompts_are_compared() -> None:
    """The first ones, and then one of so many."""
    trust = Trust()
    assert sum(trust.wants() for _ in range(FIRST + 10 * EVERY)) in range(FIRST + 9, FIRST + 11)


@given(st.lists(st.booleans()))
def test_nobody_believes_what_was_wrong_half_of_the_time(rights: list[bool]) -> None:
    """Whatever the order: after four wrong ones of the last eight it is not trusted."""
    trust = Trust()
    for place, right in enumerate(rights):
        trust.observe(100, 100 if right else 200)
        if rights[max(0, place - 7) : place + 1].count(False) >= MOST_WRONG:
            assert not trust.trusted
