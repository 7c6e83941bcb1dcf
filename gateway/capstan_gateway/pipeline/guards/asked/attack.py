"""PromptInjection and Jailbreak with a model: it is asked about the texts of which the detector is in doubt."""

from collections.abc import Sequence
from functools import partial
from typing import Final

from capstan_contract.config import Task
from capstan_contract.guards import AttackGuard
from capstan_gateway.config.runtime import ServedModel
from capstan_gateway.guards.port import Finding, Scan
from capstan_gateway.guards.prompts.asked import Shown
from capstan_gateway.guards.prompts.attacks import (
    FOUND,
    JUDGED_TOKENS,
    WINDOW_TOKENS,
    classifier_questions,
    judge_questions,
    read_classes,
    read_verdict,
)
from capstan_gateway.guards.prompts.packs import Pack, packed
from capstan_gateway.pipeline.ask import Ask
from capstan_gateway.pipeline.deps import Deps
from capstan_gateway.pipeline.guards.asked.model import answers_of, model_of
from capstan_gateway.pipeline.guards.asked.texts import INLINE_CHARS
from capstan_gateway.pipeline.guards.port import Case

MOST_WINDOWS: Final = 256
MOST_JUDGED: Final = 16
"""What a chat model is asked about one by one."""


class AttackJudge:
    """Asks whether texts are attacks."""

    def __init__(self, guard: AttackGuard, model: str, deps: Deps) -> None:
        self._guard = guard
        self._model = model
        self._deps = deps
        self._name = "jailbreak" if guard.type == "Jailbreak" else "prompt-injection"

    async def judge(self, case: Case) -> Sequence[Scan]:
        """Give where the model finds an attack, in windows of the texts."""
        model = model_of(case.ask, self._model)
        texts = [piece.text for piece in case.pieces]
        classifies = model.task is Task.CLASSIFY
        most, windows = (WINDOW_TOKENS, MOST_WINDOWS) if classifies else (JUDGED_TOKENS, MOST_JUDGED)
        pack = partial(packed, texts, most, together=False, most_packs=windows)
        packs = pack() if sum(map(len, texts)) <= INLINE_CHARS else await self._deps.executor.run(pack)
        shown = [Shown(one.text, source=case.pieces[one.parts[0].number].source) for one in packs]
        scores = await (
            self._classified(case.ask, model, shown) if classifies else self._judged(case.ask, model, shown)
        )
        return _scans(packs, scores, len(texts), self._name)

    async def _classified(self, ask: Ask, model: ServedModel, shown: Sequence[Shown]) -> list[float]:
        questions = classifier_questions([one.text for one in shown])
        answers = await answers_of(ask, model, questions, self._deps.executor)
        return [
            score
            for question, answer in zip(questions, answers, strict=True)
            for score in read_classes(answer, [shown[number].source for number in question.numbers])
        ]

    async def _judged(self, ask: Ask, model: ServedModel, shown: Sequence[Shown]) -> list[float]:
        questions = judge_questions(shown, self._guard.type)
        return [read_verdict(answer) for answer in await answers_of(ask, model, questions, self._deps.executor)]


def _scans(packs: Sequence[Pack], scores: Sequence[float], count: int, name: str) -> list[Scan]:
    found: list[list[Finding]] = [[] for _ in range(count)]
    for pack, score in zip(packs, scores, strict=True):
        part = pack.parts[0]
        if score >= FOUND:
            found[part.number].append(Finding(name, part.start, part.end, score))
    return [Scan(findings=one) for one in found]


def ask_about_attacks(guard: AttackGuard, deps: Deps) -> AttackJudge | None:
    """Give who asks; None when the policy names no model for that."""
    return None if guard.classifier is None else AttackJudge(guard, guard.classifier.model, deps)
