"""Questions whose right answer is known, and whether this simulator knows it: for cascades, and for evaluations.

A question is a small sum ("What is 17 + 25?"), says its answer itself (`<<answer: Paris>>`), or stands in the book of
answers. How hard one is, from 0 to 1, comes from its text and `--seed` and not from the model: a model with a higher
`--accuracy` is right wherever one with a lower one is.
"""

import operator
import re
from dataclasses import dataclass
from typing import Final

from capstan_worker.simulator.answerbook import NO_ANSWERS, AnswerBook
from capstan_worker.simulator.answers import make_seed

_SUM: Final = re.compile(r"(?i)\bwhat(?:'s| is) (-?\d{1,9}) ?([+*x-]) ?(-?\d{1,9})(?![\d.])")
_TOLD: Final = re.compile(r"<<answer: ?([^<>]{1,200})>>")
_OPERATIONS: Final = {"+": operator.add, "-": operator.sub, "*": operator.mul, "x": operator.mul}
_NUMBER: Final = re.compile(r"-?\d+(?:,\d{3})*(?![\d,]*\d)")
_OPPOSITES: Final = {"yes": "no", "no": "yes", "true": "false", "false": "true"}
_LETTERS: Final = "ABCD"
_THINGS: Final = ("an anchor", "a harbor", "the tide", "a vessel", "the cargo", "a rope", "the wind", "a sail")
"""What is said for want of a better wrong answer: no two share a word that matters."""
_HARMFUL: Final = re.compile(
    r"(?i)<<harmful>>|\b(?:bombs?|explosives?|grenades?|malware|ransomware|keylogger|phishing|scam\w*|launder\w*"
    r"|heroin|meth|cocaine|murder\w*|kill\w*|stab\w*|assault\w*|kidnap\w*|rape\w*|suicide|self-harm|poison\w*"
    r"|hate crimes?|get away with|stolen|steal\w*|blackmail\w*|counterfeit\w*|child abuse)\b"
)


@dataclass(frozen=True)
class Known:
    """What is answered to a question whose answer is known."""

    text: str
    right: bool


def known_answer(question: str, *, accuracy: float, salt: str, book: AnswerBook = NO_ANSWERS) -> Known | None:
    """Give the answer, right or wrong; None for what is no such question.

    `salt` is what the draw depends on besides the question, such as the seed of the process.
    """
    answer = _right_answer(question, book)
    if answer is None:
        return None
    drawn = make_seed(question, salt)
    # NB: strictly below, so that 0 is never and 1 always.
    if (drawn >> 11) / 2**53 < accuracy:
        return Known(answer, right=True)
    return Known(wrong_answer(answer, drawn, book), right=False)


def is_drawn(share: float, *parts: str) -> bool:
    """Whether this one is among such a share of all, the same each time."""
    return (make_seed(*parts) >> 11) / 2**53 < share


def is_harmful(text: str) -> bool:
    """Whether a model with manners would refuse: it says `<<harmful>>`, or a word of crimes and weapons.

    A coarse list of words, for tests of safety gates; no guard.
    """
    return _HARMFUL.search(text) is not None


def wrong_answer(answer: str, drawn: int, book: AnswerBook = NO_ANSWERS) -> str:
    """Give another answer of the same kind: the last number changed, another letter, the opposite, or another's answer.

    It never contains the right one, unless numbers stand in it besides the last.
    """
    numbers = list(_NUMBER.finditer(answer))
    if numbers:
        last = numbers[-1]
        number = int(last[0].replace(",", "")) + 1 + drawn % 9
        return answer[: last.start()] + (f"{number:,}" if "," in last[0] else str(number)) + answer[last.end() :]
    if len(answer) == 1:
        letters = [letter for letter in _LETTERS if letter != answer.upper()]
        letter = letters[drawn % len(letters)]
        return letter.lower() if answer.islower() else letter
    opposite = _OPPOSITES.get(answer.lower())
    if opposite is not None:
        return opposite.capitalize() if answer[0].isupper() else opposite
    right = answer.casefold()
    others = [other for other in book.others if right not in other.casefold()] or [
        thing for thing in _THINGS if right not in thing
    ]
    return others[drawn % len(others)] if others else "nothing"


def _right_answer(question: str, book: AnswerBook) -> str | None:
    told = _TOLD.search(question)
    if told is not None:
        return told[1].strip() or None
    written = book.find(question)
    if written is not None:
        return written
    asked = _SUM.search(question)
    if asked is None:
        return None
    return str(_OPERATIONS[asked[2].lower()](int(asked[1]), int(asked[3])))
