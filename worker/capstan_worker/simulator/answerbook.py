"""The book of answers: prompts, and what is right to answer to them. Read once, at the start."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Final

import orjson

MOST_ANSWERS: Final = 100_000
_LARGEST_FILE: Final = 64 * 2**20
_MOST_OTHERS: Final = 64
_ARROW: Final = "=>"
_QUESTIONS: Final = ("prompt", "question")
_ANSWERS: Final = ("expected", "answer")


@dataclass(frozen=True)
class AnswerBook:
    """Right answers by prompt, whatever the white space between the words."""

    answers: Mapping[str, str] = field(default_factory=dict, repr=False)
    others: tuple[str, ...] = field(default=(), repr=False)
    """Some of the answers, to take a wrong one from."""

    def __str__(self) -> str:
        """Say how much is in it, and not what."""
        return f"{len(self.answers)} answers"

    def find(self, text: str) -> str | None:
        """Give the answer to a text, or to the first line of it that stands in the book."""
        if not self.answers:
            return None
        whole = self.answers.get(_plain(text))
        if whole is not None:
            return whole
        found = (self.answers.get(_plain(line)) for line in text.splitlines())
        return next((answer for answer in found if answer is not None), None)

    def with_more(self, pairs: Iterable[tuple[str, str]]) -> "AnswerBook":
        """Give one that has these too; where a prompt is in both, these count. Raises ValueError for too many."""
        answers = {**self.answers, **{_plain(prompt): answer for prompt, answer in pairs}}
        if len(answers) > MOST_ANSWERS:
            raise ValueError(f"must be at most {MOST_ANSWERS} answers")
        return replace(self, answers=answers, others=tuple(dict.fromkeys(answers.values()))[:_MOST_OTHERS])


NO_ANSWERS: Final = AnswerBook()


def read_answer(text: str) -> tuple[str, str]:
    """Read `PROMPT => ANSWER`. Raises ValueError."""
    prompt, arrow, answer = text.rpartition(_ARROW)
    if not (arrow and prompt.strip() and answer.strip()):
        raise ValueError("must be PROMPT => ANSWER")
    return prompt.strip(), answer.strip()


def read_answers(path: str) -> AnswerBook:
    """Read a file of JSON lines with `prompt` (or `question`) and `expected` (or `answer`). Raises ValueError."""
    try:
        with Path(path).open("rb") as file:
            content = file.read(_LARGEST_FILE + 1)
    except OSError as error:
        raise ValueError(f"must be a file that can be read ({error.strerror})") from None
    if len(content) > _LARGEST_FILE:
        raise ValueError(f"must be a file of at most {_LARGEST_FILE} bytes")
    lines = enumerate(content.splitlines(), start=1)
    return NO_ANSWERS.with_more(_read_line(line, number) for number, line in lines if line.strip())


def _read_line(line: bytes, number: int) -> tuple[str, str]:
    try:
        row = orjson.loads(line)
    except orjson.JSONDecodeError:
        row = None
    if not isinstance(row, dict):
        raise ValueError(f"must be a file of JSON objects, one a line; line {number} is none")
    prompt, answer = (next((row[name] for name in names if name in row), None) for names in (_QUESTIONS, _ANSWERS))
    if not (isinstance(prompt, str) and prompt.strip() and isinstance(answer, str | int | float)) or not str(answer):
        raise ValueError(f"must have a `prompt` and an `expected` in each line; line {number} has not")
    return prompt, str(answer)


def _plain(text: str) -> str:
    return " ".join(text.split())
