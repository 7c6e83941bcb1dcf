"""One sample, judged by every criterion of its plan: a call each, and what could not be told is no score."""

from collections.abc import Sequence
from typing import Final, Protocol

from capstan_contract.evaluation import Criterion
from capstan_contract.samples import Plan, Sample, ScoreRecord, Turn
from capstan_evaluation.records import Score, ScoreState

PROMPT_LENGTH: Final = 16


class Judging(Protocol):
    """Who judges by a criterion; `judges.judging.Judge` is one."""

    async def by_criterion(
        self, conversation: str, answer: str, *, name: str, criterion: str, expected: str | None = None
    ) -> Score:
        """Judge an answer; nothing that the judge does raises."""
        ...


def conversation_of(prompt: Sequence[Turn]) -> str:
    """Give a conversation as a judge is shown it: of one message the text, else each behind its role."""
    if len(prompt) == 1:
        return prompt[0].text
    return "\n\n".join(f"{turn.role}: {turn.text}" for turn in prompt)


async def judge_sample(
    sample: Sample, plan: Plan, criteria: Sequence[Criterion], judge: Judging
) -> tuple[list[ScoreRecord], list[Criterion]]:
    """Give the scores of a sample, and the criteria of which the judge did not answer."""
    scores: list[ScoreRecord] = []
    failed: list[Criterion] = []
    conversation = conversation_of(sample.prompt)
    for criterion in criteria:
        score = await judge.by_criterion(conversation, sample.answer, name=criterion.name, criterion=criterion.text)
        if score.state is ScoreState.FAILED:
            failed.append(criterion)
        else:
            prompt = "" if score.stamp is None else score.stamp.promptHash
            scores.append(record_of(sample, criterion, judge=plan.evaluation.judge, value=score.value, prompt=prompt))
    return scores, failed


def record_of(
    sample: Sample, criterion: Criterion, *, judge: str, value: float | None = None, prompt: str = "",
    failed: bool = False,
) -> ScoreRecord:  # fmt: skip
    """Give what is kept of a judgement: no text."""
    return ScoreRecord(
        criterion=criterion.name, rubric=criterion.rubric, judge=judge, prompt=prompt[:PROMPT_LENGTH],
        track=sample.track, revision=sample.revision, value=value, failed=failed, at=sample.at,
    )  # fmt: skip


def missing(plan: Plan, known: Sequence[ScoreRecord]) -> list[Criterion]:
    """Give the criteria that are not judged yet."""
    done = {(one.criterion, one.rubric) for one in known}
    return [criterion for criterion in plan.evaluation.criteria if (criterion.name, criterion.rubric) not in done]
