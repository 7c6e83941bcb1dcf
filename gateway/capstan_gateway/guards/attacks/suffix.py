"""Texts whose form says that no person has written them to be read.

- Suffixes that an optimiser has found (GCG and its like): words, brackets and signs in an order that is neither prose
  nor code. Told by how many of the last words have a sign stuck to them that neither writes there, and by brackets that
  do not match. Only the end of a text is looked at.
- Conversations that never were: many turns of a user and an assistant inside one message ("many-shot").
"""

import re
from typing import Final

TAIL: Final = 260
"""Characters at the end that are looked at: suffixes have 20 tokens."""
_WORDS: Final = 24
_ODD: Final = re.compile(
    r"[A-Za-z]{2,}[\]\[(){}<>\\|=@#$^*+~\"`_]+[A-Za-z\\({\[]|[\]\[(){}<>\\|=@#$^*~\"`]{2,}|[a-z]{2,}[A-Z][a-z]"
    r"|[A-Za-z]+[\\{}\[\](<>@$^~]+$|^[\\{}\[\])<>@$^~|]+[A-Za-z]*"
)
_CODE: Final = re.compile(
    r"[;{}]\s*\n|\n\s{2,}|\b(?:def|import|function|class|#include|const|SELECT|return|echo|export)\b|[`]|</\w+>|==|=>|https?://"
    r"|\":|\{\{|\*\*\S+\*\*"
)
"""Signs of code, JSON and Markdown, in which all of that is usual."""
_BRACKETS: Final = (("(", ")"), ("[", "]"), ("{", "}"), ("<", ">"))
_PROSE: Final = re.compile("[A-Za-z]{4,}")
_LEAST_PROSE: Final = 8
"""Words that are left of language: formulas have none."""
_LEAST: Final = 4
_MANY_ODD: Final = 7
MANY: Final = 8
"""Turns of an assistant in one text that no example needs."""


def odd_suffix(text: str) -> float:
    """Give how likely the end of a text is a suffix that was searched for, 0 for code."""
    tail = text[-TAIL:]
    unmatched = sum(abs(tail.count(opens) - tail.count(closes)) for opens, closes in _BRACKETS) + tail.count('"') % 2
    if unmatched < 2 or len(_PROSE.findall(tail)) < _LEAST_PROSE or _CODE.search(tail):
        return 0.0
    odd = sum(_ODD.search(word.strip("\"'.,;:!?")) is not None for word in tail.split()[1:][-_WORDS:])
    if odd < _LEAST:
        return 0.0
    return 0.5 if odd < _MANY_ODD else 0.66


def many_turns(folded: str) -> float:
    """Give how likely a text holds a conversation that is to be taken for the model's own past."""
    turns = max(folded.count(f"\n{name}:") for name in ("assistant", "ai", "chatgpt", "model"))
    return 0.0 if turns < MANY else min(0.7, 0.04 * turns)
