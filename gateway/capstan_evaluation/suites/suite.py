"""A suite as it is run: every default filled in, every row of data read. Pure data."""

import hashlib
from collections.abc import Sequence
from functools import cached_property
from typing import Final, Literal

from pydantic import Field

from capstan_contract.entries import Document, canonical, is_empty, is_none
from capstan_evaluation.suites.checks import Check, name_of

DEFAULT_MARGIN: Final = 0.05
DEFAULT_ALPHA: Final = 0.05
DEFAULT_KAPPA: Final = 0.6
"""What Landis and Koch (1977) call substantial agreement."""

Role = Literal["system", "developer", "user", "assistant"]


class Message(Document):
    """A message of a conversation, as the chat API has it."""

    role: Role
    content: str


class Turn(Document):
    """What is said before the model answers once more."""

    messages: tuple[Message, ...]
    """Behind the answer to the turn before."""
    expected: str | None = Field(default=None, exclude_if=is_none)
    """The right answer, or one that judges are shown as a reference."""


class Case(Document):
    """What is asked once, or `repeats` times, and what is looked at in the answers."""

    id: str
    turns: tuple[Turn, ...] = Field(min_length=1)
    checks: tuple[Check, ...] = Field(default=(), exclude_if=is_empty)
    """Their names differ."""
    tags: tuple[str, ...] = ()
    weight: float = 1.0
    repeats: int = 1
    cluster: str = Field(default="", exclude_if=is_empty)
    """The source that the case shares with others; empty: none."""
    temperature: float = 0.0
    maxTokens: int | None = Field(default=None, exclude_if=is_none)

    @property
    def expected(self) -> str | None:
        """The expected answer of the last turn."""
        return self.turns[-1].expected

    def conversation(self, answers: Sequence[str] = ()) -> list[dict[str, str]]:
        """Give the messages of the next request, when so many turns have been answered.

        Raises ValueError when all have been.
        """
        if len(answers) >= len(self.turns):
            raise ValueError(f"case {self.id} has {len(self.turns)} turns, and all are answered")
        said: list[dict[str, str]] = []
        for number, turn in enumerate(self.turns[: len(answers) + 1]):
            said += [{"role": message.role, "content": message.content} for message in turn.messages]
            if number < len(answers):
                said.append({"role": "assistant", "content": answers[number]})
        return said


class Rubric(Document):
    """How judges of a suite judge."""

    version: str = "1"
    """Stands in each score: scores of two rubrics are not the same thing."""
    scale: Literal["Binary", "Five"] = "Binary"
    """Five: grades from 1 to 5, which are 0 to 1 in the score."""
    instructions: str = Field(default="", exclude_if=is_empty)
    """What a judge is told about all criteria, such as who the readers are."""
    showExpected: bool = True
    """Whether judges see the expected answer where a case has one."""


class Suite(Document):
    """Cases, and what is to be concluded from them."""

    name: str
    version: str = ""
    description: str = ""
    margin: float = DEFAULT_MARGIN
    """The loss that is put up with (non-inferiority): a share of 1."""
    alpha: float = DEFAULT_ALPHA
    """How often an equally good model may be called worse."""
    minimumKappa: float = DEFAULT_KAPPA
    """How much a judge has to agree with people before it may gate."""
    rubric: Rubric = Rubric()
    cases: tuple[Case, ...]
    """At least one; their ids differ."""

    @cached_property
    def suiteHash(self) -> str:
        """SHA-256, in hexadecimal, of all that is asked and how it is scored: not of names, the order of the cases, or
        what is concluded from the scores."""
        cases = sorted((case.model_dump(mode="json") for case in self.cases), key=lambda case: str(case["id"]))
        return hashlib.sha256(canonical({"cases": cases, "rubric": self.rubric.model_dump(mode="json")})).hexdigest()

    @property
    def scorers(self) -> tuple[str, ...]:
        """Names of all scorers, in the order in which cases first name them."""
        return tuple(dict.fromkeys(name_of(check) for case in self.cases for check in case.checks))

    @property
    def repeats(self) -> int:
        """The most that a case is asked."""
        return max(case.repeats for case in self.cases)
