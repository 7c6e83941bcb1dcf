"""How near an answer is to the expected one: the cosine of their vectors, by a model of task `embed`."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from capstan_evaluation.asking import Embedder
from capstan_evaluation.records import Answer, Score
from capstan_evaluation.scorers.plain import right_answers
from capstan_evaluation.scorers.texts import failed, passed, text_of
from capstan_evaluation.suites import checks
from capstan_evaluation.suites.checks import name_of
from capstan_evaluation.suites.patterns import well_formed
from capstan_evaluation.suites.suite import Case

MOST_EMBEDDED: Final = 30_000
"""Characters of a text that are embedded: what is behind them is not looked at."""


@dataclass(frozen=True)
class Similarity:
    """Asks an embedder."""

    check: checks.Similarity
    embedder: Embedder

    @property
    def name(self) -> str:
        """See `WaitingScorer`."""
        return name_of(self.check)

    async def score(self, case: Case, answer: Answer) -> Score:
        """See `WaitingScorer`."""
        binary = self.check.atLeast is not None
        right = right_answers(self.check.values, case, self.check.turn)
        text = text_of(answer, self.check.turn)
        if not right:
            return failed(self.name, "the case has no `expected`", binary=binary)
        if not text.strip():
            return Score(scorer=self.name, value=0.0, binary=binary, reason="is empty")
        told = await self.embedder.embed([well_formed(one)[:MOST_EMBEDDED] or " " for one in (text, *right)])
        if told.error or len(told.vectors) != len(right) + 1:
            return failed(self.name, f"the embeddings: {told.error or 'another number of vectors'}", binary=binary)
        nearest = max(filter(None, (cosine(told.vectors[0], one) for one in told.vectors[1:])), default=0.0)
        if self.check.atLeast is not None:
            reason = f"the cosine is {nearest:.3f}, less than {self.check.atLeast:g}"
            return passed(self.name, nearest >= self.check.atLeast, reason)
        return Score(scorer=self.name, value=max(0.0, min(1.0, nearest)), binary=False)


def cosine(one: Sequence[float], other: Sequence[float]) -> float | None:
    """Give the cosine of two vectors; None where there is none: of other lengths, of zeros, of no numbers."""
    if len(one) != len(other):
        return None
    product = math.fsum(a * b for a, b in zip(one, other, strict=True))
    lengths = math.sqrt(math.fsum(a * a for a in one)) * math.sqrt(math.fsum(b * b for b in other))
    return product / lengths if lengths > 0 and math.isfinite(product / lengths) else None
