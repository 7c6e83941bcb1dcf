"""Tokens of prompts that are found again."""

import pytest

from capstan_gateway.tokens.kept import FORGOTTEN_AT_ONCE, KeptTokens, packed

NAMES = [b"one", b"two", b"three"]


def test_the_longest_beginning_that_is_known_is_given() -> None:
    """All of a prompt, else what an earlier turn had; nothing of a prompt that begins otherwise."""
    kept = KeptTokens(lambda: 0.0)
    kept.put(b"one", packed([1]))
    kept.put(b"two", packed([1, 2]))
    whole, earlier = kept.find(NAMES[:2]), kept.find(NAMES)
    assert whole is not None
    assert (whole.whole, list(whole.tokens)) == (True, [1, 2])
    assert earlier is not None
    assert (earlier.whole, list(earlier.tokens)) == (False, [1, 2])
    assert kept.find([b"other"]) is None
    assert kept.find([]) is None


def test_what_is_kept_is_bounded_by_its_bytes() -> None:
    """The prompt that was used longest ago goes first; putting one again takes no more room."""
    kept = KeptTokens(lambda: 0.0, most_bytes=4000)
    for name in (b"one", b"two", b"one"):
        kept.put(name, packed(range(200)))
    before = kept.bytes
    assert kept.find([b"two"]) is not None
    kept.put(b"one", packed(range(200)))
    assert (len(kept), kept.bytes) == (2, before)
    assert kept.find([b"two"]) is not None
    kept.put(b"three", packed(range(300)))
    assert [kept.find([name]) is not None for name in NAMES] == [False, True, True]
    kept.put(b"huge", packed(range(5000)))
    assert (len(kept), kept.bytes) == (0, 0)


def test_tokens_are_believed_for_a_time() -> None:
    """An engine may be another one by then."""
    now = [0.0]
    kept = KeptTokens(lambda: now[0], seconds=10.0)
    kept.put(b"one", packed([1]))
    now[0] = 9.9
    assert kept.find([b"one"]) is not None
    now[0] = 10.0
    assert kept.find([b"one"]) is None


def test_tokens_that_are_over_are_given_up() -> None:
    """They are what somebody has said, and do not wait for others to need the room; used ones go with the rest."""
    now = [0.0]
    kept = KeptTokens(lambda: now[0], seconds=10.0)
    for number in range(2 * FORGOTTEN_AT_ONCE):
        now[0] = number / FORGOTTEN_AT_ONCE
        kept.put(b"%d" % number, packed([number]))
    kept.forget()
    assert len(kept) == 2 * FORGOTTEN_AT_ONCE
    now[0] = 9.5
    assert kept.find([b"0"]) is not None
    now[0] = 11.5
    kept.forget()
    assert len(kept) == FORGOTTEN_AT_ONCE
    kept.forget()
    assert [number for number in range(2 * FORGOTTEN_AT_ONCE) if b"%d" % number in kept._kept] == [
        0,
        *range(FORGOTTEN_AT_ONCE + 501, 2 * FORGOTTEN_AT_ONCE),
    ]
    now[0] = 19.9
    for _ in range(2):
        kept.forget()
    assert (len(kept), kept.bytes) == (0, 0)


@pytest.mark.parametrize("wrong", [[-1], [2**32], ["a"], [None], [[1]]])
def test_what_is_no_token_is_not_taken(wrong: list[int]) -> None:
    """Engines and clients may say anything."""
    with pytest.raises((OverflowError, TypeError)):
        packed(wrong)
