"""What a model is asked: a document for one of its routes, and which texts it is about."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Any, Final, Protocol

from capstan_contract.guards import Source
from capstan_gateway.guards.prompts.harms import Harms

MOST_TEXTS: Final = 32
"""Of one call that is about many."""


class Way(Enum):
    """By which route."""

    CHAT = "chat"
    COMPLETION = "completion"
    CLASSIFY = "classify"
    SCORE = "score"
    EMBED = "embed"
    MODERATE = "moderate"


@dataclass(frozen=True, slots=True)
class Question:
    """One call."""

    way: Way
    document: dict[str, Any]
    """Without `model`."""
    numbers: tuple[int, ...]
    """Which of the texts it is about, in the order of what its answer says."""
    about: str = ""
    """Of what the answer tells, where one call tells of one category."""


def many_at_once(way: Way, texts: Sequence[str], **more: str) -> list[Question]:
    """Ask about many texts, in calls of `MOST_TEXTS` that each say them as `input`; `more` are further fields."""
    numbers = range(len(texts))
    groups = [tuple(numbers[at : at + MOST_TEXTS]) for at in range(0, len(texts), MOST_TEXTS)]
    return [Question(way, {"input": [texts[n] for n in group], **more}, group) for group in groups]


@dataclass(frozen=True, slots=True)
class Shown:
    """A text that a model is to judge."""

    text: str
    answer: bool = False
    """Whether it is an answer, or something that was asked."""
    question: str = ""
    """Of an answer: what was asked last, as far as it is shown."""
    source: Source = Source.USER


class Format(Protocol):
    """How a family of moderating models is asked, and how it answers."""

    @property
    def most_tokens(self) -> int:
        """How long a text may be that it is shown at once."""
        ...

    @property
    def together(self) -> bool:
        """Whether each text is a call, so that short ones are better asked about together."""
        ...

    @property
    def names(self) -> Mapping[str, str]:
        """What categories may be called in policies, in lower case, beside what they are told as."""
        ...

    @property
    def kinds(self) -> frozenset[str] | None:
        """All categories that it can tell; None where others may have more."""
        ...

    def questions(self, texts: Sequence[Shown], *, scores: bool) -> list[Question]:
        """Give what to ask about these texts; with `scores` how sure the model is must be told too."""
        ...

    def read(self, question: Question, answer: Mapping[str, Any]) -> list[Harms]:
        """Give what the answer says of each of the question's texts. Unreadable when it says nothing."""
        ...
