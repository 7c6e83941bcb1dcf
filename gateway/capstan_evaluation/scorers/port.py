"""What a scorer is."""

from typing import Protocol

from capstan_evaluation.records import Answer, Score
from capstan_evaluation.suites.suite import Case


class Scorer(Protocol):
    """Scores answers by itself: the same answer has the same score, whoever asks and when."""

    @property
    def name(self) -> str:
        """Its name within the suite."""

    def score(self, case: Case, answer: Answer) -> Score:
        """Score an answer that there is (`error` is empty). Never raises for what is in it."""


class WaitingScorer(Protocol):
    """Asks somebody: a model of embeddings, or code of the user."""

    @property
    def name(self) -> str:
        """Its name within the suite."""

    async def score(self, case: Case, answer: Answer) -> Score:
        """As `Scorer.score`. What fails is a score of the state Failed."""
