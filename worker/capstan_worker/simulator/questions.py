"""Questions whose right answer is known, and whether this simulator knows it: for cascades, and for evaluations.

A question is a small sum ("What is 17 + 25?"), or says its answer itself (`<<answer: Paris>>`). How hard one is, from 0
to 1, comes from its text and `--seed` and not from the model: a model with a higher `--accuracy` is right wherever one
with a lower one is.
"""

import operator
import re
from dataclasses import dataclass
from typing import Final

from capstan_worker.simulator.answers import make_seed

_SUM: Final = re.compile(r"(?i)\bwhat(?:'s| is) (-?\d{1,9}) ?([+*x-]) ?(-?\d{1,9})(?![\d.])")
_TOLD: Final = re.compile(r"<<answer: ?([^<>]{1,200})>>")
_OPERATIONS: Final = {"+": operator.add, "-": operator.sub, "*": operator.mul, "x": operator.mul}


@dataclass(frozen=True)
class Known:
    """What is answered to a question whose answer is known."""

    text: str
    right: bool


def known_answer(question: str, *, accuracy: float, salt: str) -> Known | None:
    """Give the answer, right or wrong; None for what is no such question.

    `salt` is what the draw depends on besides the question, such as the seed of the process.
    """
    answer = _right_answer(question)
    if answer is None:
        return None
    drawn = make_seed(question, salt)
    # NB: strictly below, so that 0 is never and 1 always.
    if (drawn >> 11) / 2**53 < accuracy:
        return Known(answer, right=True)
    return Known(_wrong_answer(answer, drawn), right=False)


def is_drawn(share: float, *parts: str) -> bool:
    """Whether this one is among such a share of all, the same each time."""
    return (make_seed(*parts) >> 11) / 2**53 < share


def _right_answer(question: str) -> str | None:
    told = _TOLD.search(question)
    if told is not None:
        return told[1].strip() or None
    asked = _SUM.search(question)
    if asked is None:
        return None
    return str(_OPERATIONS[asked[2].lower()](int(asked[1]), int(asked[3])))


def _wrong_answer(answer: str, drawn: int) -> str:
    if re.fullmatch(r"-?\d+", answer):
        return str(int(answer) + 1 + drawn % 9)
    return f"not {answer}" if len(answer) > 1 else ("B" if answer == "A" else "A")
