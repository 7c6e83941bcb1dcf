"""What a pattern is, and the pieces that patterns are made of.

Expressions are those of RE2, and are matched with the bytes of a folded text (`guards/text/fold.py`): all small, no
accents. Letters beyond ASCII may be written in them as they are: they are folded as texts are, and then stand for
their bytes in UTF-8; so they cannot be in brackets, and `\\w` is ASCII.
"""

from dataclasses import dataclass
from typing import Final

WORD: Final = r"[\w'-]+"
BETWEEN: Final = r"\W+"


def upto(count: int) -> str:
    """Match up to so many words, and what follows each."""
    return rf"(?:{WORD}\W+){{0,{count}}}"


def words(*choices: str) -> str:
    """Match one of some phrases; a blank in one of them is anything between words."""
    return "(?:" + "|".join(choice.replace(" ", BETWEEN) for choice in choices) + ")"


@dataclass(frozen=True, slots=True)
class Pattern:
    """Something that attacks say."""

    kind: str
    """What it is called: in findings, and so to clients. Several patterns of one kind count once, the heaviest."""
    expression: str
    injection: float = 0.0
    """How likely a text of a user's with this, and nothing else that is known, is an injection."""
    jailbreak: float = 0.0
    """The same of a jailbreak."""
    planted: float | None = None
    """`injection` in what no person has just said: tool results, documents. None: somewhat more than of a user."""
    needs: tuple[str, ...] = ()
    """What a text has at least, one of these, in which it matches; empty: words that are found out by themselves."""
