"""Texts that are compared: which one is meant, and when two are the same. Pure."""

import re
import unicodedata
from typing import Final

from capstan_evaluation.records import Answer, Score, ScoreState
from capstan_evaluation.suites.suite import Case

MOST_CHARACTERS: Final = 1_000_000
"""Of an answer: what is behind them is not looked at."""
MOST_REASON: Final = 500
_ARTICLES: Final = re.compile(r"\b(?:a|an|the)\b")


def text_of(answer: Answer, turn: int | None) -> str:
    """Give what was answered to a turn, counted from 1; None: to the last one."""
    text = answer.text if turn is None or turn > len(answer.earlier) else answer.earlier[turn - 1]
    return text[:MOST_CHARACTERS]


def expected_of(case: Case, turn: int | None) -> str | None:
    """Give what is expected of a turn."""
    return case.turns[-1 if turn is None else turn - 1].expected


def normalise(text: str) -> str:
    """Give a text in small letters without punctuation, English articles and superfluous space.

    As SQuAD compares answers (Rajpurkar et al. 2016, `evaluate-v1.1.py`), over Unicode: compatibility forms are made
    one, and punctuation is what Unicode says it is. A text that is normalised stays as it is.
    """
    while True:
        once = _once(text)
        if once == text:
            return once
        text = once


def _once(text: str) -> str:
    plain = unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", text).casefold())
    letters = "".join(char for char in plain if not unicodedata.category(char).startswith("P"))
    return " ".join(_ARTICLES.sub(" ", letters).split())


def passed(name: str, right: bool, reason: str = "") -> Score:
    """Give the score of what knows right and wrong only. The reason is that of a failure."""
    return Score(scorer=name, value=1.0 if right else 0.0, reason="" if right else reason[:MOST_REASON])


def failed(name: str, reason: str, *, binary: bool = True) -> Score:
    """Give the score of a scorer that failed itself."""
    return Score(scorer=name, state=ScoreState.FAILED, value=None, binary=binary, reason=reason[:MOST_REASON])
