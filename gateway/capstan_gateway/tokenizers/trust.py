"""Whether the counts of a tokenizer agree with what the model's engine tells of the same prompts. Pure.

A count is right when it is off by no more than 4 tokens, or one in a hundred: an engine may begin a text with a token
of its own, and a hosted API adds some that it does not speak of. When 4 of the last 8 prompts were wrong, the tokenizer
is of another model, or its template is: nobody counts by it until 16 in a row were right.
"""

from typing import Final

SLACK_TOKENS: Final = 4
SLACK_SHARE: Final = 100
WINDOW: Final = 8
MOST_WRONG: Final = 4
RIGHT_AGAIN: Final = 16
FIRST: Final = 16
"""So many prompts are compared of a tokenizer that is new."""
EVERY: Final = 32
"""One prompt of so many is, from then on."""


def is_right(counted: int, told: int) -> bool:
    """Whether a count is that of what the engine tells."""
    return abs(counted - told) <= max(SLACK_TOKENS, told // SLACK_SHARE)


class Trust:
    """What is known of one tokenizer with one model."""

    __slots__ = ("_asked", "_right", "_seen", "trusted")

    def __init__(self) -> None:
        self.trusted = True
        self._seen: tuple[bool, ...] = ()
        self._right = 0
        """How many in a row."""
        self._asked = 0

    def wants(self) -> bool:
        """Whether to compare the next prompt."""
        self._asked += 1
        return self._asked <= FIRST or self._asked % EVERY == 0

    def observe(self, counted: int, told: int) -> bool:
        """Take a count, and what the engine told; gives whether it is trusted otherwise than before."""
        right, before = is_right(counted, told), self.trusted
        self._seen = (*self._seen, right)[-WINDOW:]
        self._right = self._right + 1 if right else 0
        if self._seen.count(False) >= MOST_WRONG:
            self.trusted = False
        elif self._right >= RIGHT_AGAIN:
            self.trusted = True
        return self.trusted is not before
