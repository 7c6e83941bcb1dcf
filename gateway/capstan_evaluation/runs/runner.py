"""A run: every repeat of every case is asked, scored and written down, a bounded number of them at once.

A run that ends before it is over, by a signal, a crash, a bound on spend or a target that fails, is gone on with by the
same run again: what the file has is not asked again.
"""

import asyncio
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Final, Protocol

from capstan_evaluation.asking import Chat
from capstan_evaluation.records import Answer, Result, Score
from capstan_evaluation.runs.budget import BudgetSpent
from capstan_evaluation.runs.files import RunWriter
from capstan_evaluation.runs.plan import (
    Step,
    build_result,
    ends,
    is_unsettled,
    join_answers,
    question_of,
    request_of,
    steps_of,
)
from capstan_evaluation.suites.suite import Case, Suite

MOST_FAILURES: Final = 20
"""Results in a row without an answer: then the target has failed, and is not asked any more."""


class Ending(StrEnum):
    """Why a run ended."""

    OVER = "Over"
    STOPPED = "Stopped"
    """It was told to."""
    SPENT = "Spent"
    """What is left of the bound on spend is too little for the next ask."""
    FAILED = "Failed"
    """The target gave no answer MOST_FAILURES times in a row."""


class CaseScorer(Protocol):
    """Gives the scores of an answer."""

    async def score(self, case: Case, answer: Answer, repeat: int) -> tuple[Score, ...]:
        """Score an answer that there is. Raises BudgetSpent, and nothing else."""


@dataclass
class Stop:
    """Ends a run: what is under way is waited for, nothing new begins."""

    ending: Ending | None = None

    def set(self, ending: Ending = Ending.STOPPED) -> None:
        """The first one who says so says why."""
        self.ending = self.ending or ending


@dataclass
class Runner:
    """One run of one suite."""

    suite: Suite
    target: Chat
    scorer: CaseScorer
    writer: RunWriter
    concurrency: int
    repeats: int | None = None
    """None: as often as the suite says."""
    most_tokens: int | None = None
    """Of an answer to a case that says nothing of it."""
    on_result: Callable[[Result], None] = lambda _: None
    stop: Stop = field(default_factory=Stop)
    _failures: int = 0

    async def run(self) -> Ending:
        """Ask what has not been asked yet, and say how it ended. Raises OSError where the file cannot be written."""
        steps = self._pending()
        try:
            async with asyncio.TaskGroup() as group:
                for _ in range(self.concurrency):
                    group.create_task(self._work(steps))
        except* OSError as errors:
            raise _first(errors) from None
        return self.stop.ending or Ending.OVER

    def _pending(self) -> Iterator[Step]:
        results = self.writer.log.results
        for step in steps_of(self.suite, self.repeats):
            known = results.get((step.case.id, step.repeat))
            if known is None or is_unsettled(known):
                yield step

    async def _work(self, steps: Iterator[Step]) -> None:
        for step in steps:
            if self.stop.ending is not None:
                return
            try:
                result = await self._do(step)
            except BudgetSpent:
                self.stop.set(Ending.SPENT)
                return
            self.writer.result(result)
            self._count(result)
            self.on_result(result)

    async def _do(self, step: Step) -> Result:
        answers: list[Answer] = []
        for _ in step.case.turns:
            request = request_of(step.case, [one.text for one in answers], self.most_tokens)
            answers.append(await self.target.chat(request, repeat=step.repeat))
            if ends(answers[-1]):
                break
        answer = join_answers(answers)
        scores = () if answer.error else await self.scorer.score(step.case, answer, step.repeat)
        return build_result(step, question_of(step.case, self.most_tokens), answer, scores)

    def _count(self, result: Result) -> None:
        self._failures = self._failures + 1 if result.answer.error else 0
        if self._failures >= MOST_FAILURES:
            self.stop.set(Ending.FAILED)


def _first(errors: ExceptionGroup[OSError]) -> OSError:
    """Give one of the errors of a group: workers that share a disk all have the same."""
    error = errors.exceptions[0]
    return _first(error) if isinstance(error, ExceptionGroup) else error
