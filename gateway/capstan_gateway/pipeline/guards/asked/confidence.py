"""Confidence: how sure a model was of its answer, by what its engine told of its tokens."""

from collections.abc import Sequence
from typing import Final

from capstan_contract.guards import ConfidenceGuard
from capstan_gateway.guards.port import NOTHING, Finding, Scan
from capstan_gateway.guards.prompts.unreadable import Unreadable
from capstan_gateway.pipeline.deps import Deps
from capstan_gateway.pipeline.guards.port import Case
from capstan_gateway.quality.logprobs import confidence

UNSURE: Final = "low-confidence"


class Confidence:
    """Asks nobody: it is about an answer as a whole."""

    def __init__(self, guard: ConfidenceGuard, deps: Deps) -> None:  # noqa: ARG002
        self._guard = guard

    async def judge(self, case: Case) -> Sequence[Scan]:
        """Give every text of an answer of which the model was not sure enough. Unreadable where nothing was told."""
        told = None if case.answer is None else confidence(case.answer, self._guard.aggregate)
        if told is None:
            raise Unreadable("the engine told nothing of the probabilities of its tokens")
        if told >= self._guard.threshold:
            return [NOTHING] * len(case.pieces)
        return [Scan(findings=[Finding(UNSURE, 0, len(piece.text), 1.0 - told)]) for piece in case.pieces]
