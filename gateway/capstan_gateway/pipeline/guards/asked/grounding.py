"""Grounding: every sentence of an answer against the texts of its request, by a model."""

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any, Final

from capstan_contract.config import Task
from capstan_contract.guards import GroundingGuard
from capstan_gateway.config.runtime import ServedModel
from capstan_gateway.guards.port import NOTHING, Finding, Scan
from capstan_gateway.guards.prompts.asked import Way
from capstan_gateway.guards.prompts.grounding import (
    MOST_PAIRS,
    PREMISE_TOKENS,
    judge_question,
    read_judged,
    read_scores,
    score_questions,
    supported,
)
from capstan_gateway.guards.prompts.packs import packed
from capstan_gateway.guards.prompts.sentences import sentences_of
from capstan_gateway.pipeline.ask import Ask
from capstan_gateway.pipeline.beside import beside
from capstan_gateway.pipeline.deps import Deps
from capstan_gateway.pipeline.guards.asked.model import answers_of, ask_model, model_of
from capstan_gateway.pipeline.guards.asked.texts import context_of, last_question
from capstan_gateway.pipeline.guards.port import Case
from capstan_gateway.pipeline.guards.reading import INLINE_BYTES

UNSUPPORTED: Final = "unsupported"


def _read(document: Mapping[str, Any]) -> tuple[list[str], str]:
    return context_of(document), last_question(document)


class Grounding:
    """Asks which sentences the context supports."""

    def __init__(self, guard: GroundingGuard, deps: Deps) -> None:
        self._guard = guard
        self._deps = deps

    async def judge(self, case: Case) -> Sequence[Scan]:
        """Give the sentences that are not supported, of texts of which too few are. Without a context: nothing."""
        document = case.ask.request.document
        large = case.ask.request.came > INLINE_BYTES
        read = partial(_read, document)
        context, question = await beside(self._deps.executor, read) if large else read()
        if not context:
            return [NOTHING] * len(case.pieces)
        model = model_of(case.ask, self._guard.model)
        return [await self._of(case.ask, model, context, question, piece.text) for piece in case.pieces]

    async def _of(self, ask: Ask, model: ServedModel, context: Sequence[str], question: str, text: str) -> Scan:
        places = list(sentences_of(text))
        if not places:
            return NOTHING
        said = [text[start:end] for start, end in places]
        if model.task is Task.CHAT:
            asked = judge_question(context, question, said)
            holds = read_judged(await ask_model(ask, model, asked, self._deps.executor), len(said))
        else:
            holds = await self._scored(ask, model, context, said)
        if sum(holds) >= self._guard.threshold * len(holds):
            return NOTHING
        unsupported = (place for place, held in zip(places, holds, strict=True) if not held)
        return Scan(findings=[Finding(UNSUPPORTED, start, end) for start, end in unsupported])

    async def _scored(self, ask: Ask, model: ServedModel, context: Sequence[str], said: Sequence[str]) -> list[bool]:
        pack = partial(packed, context, PREMISE_TOKENS, together=True, most_packs=MOST_PAIRS // len(said) or 1)
        premises = [one.text for one in await self._deps.executor.run(pack)]
        way = Way.CLASSIFY if model.task is Task.CLASSIFY else Way.SCORE
        questions = score_questions(premises, said, way=way)
        answers = await answers_of(ask, model, questions, self._deps.executor)
        scores = [
            score
            for asked, answer in zip(questions, answers, strict=True)
            for score in read_scores(answer, len(asked.numbers), way=way)
        ]
        return supported(scores, len(premises))
