"""All scores of one answer: those that need nobody first, then those of code and vectors, judges in the end."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Final

from capstan_evaluation.asking import Embedder
from capstan_evaluation.judges.judging import Judge
from capstan_evaluation.judges.prompts import conversation_text
from capstan_evaluation.records import Answer, Score
from capstan_evaluation.scorers.build import build_scorer, build_waiting_scorer
from capstan_evaluation.scorers.functions import Scoring
from capstan_evaluation.scorers.port import Scorer
from capstan_evaluation.scorers.texts import expected_of, text_of
from capstan_evaluation.suites import checks
from capstan_evaluation.suites.checks import JUDGED, Check, name_of
from capstan_evaluation.suites.suite import Case

MOST_BUILT: Final = 4_096


@dataclass(frozen=True)
class Helpers:
    """Whom scorers may ask. Where somebody is missing, the checks that need them give no score."""

    judge: Judge | None = None
    embedder: Embedder | None = None
    functions: Mapping[str, Scoring] = field(default_factory=dict)
    """See `scorers.build.load_functions`."""


async def score_answer(
    case: Case, answer: Answer, helpers: Helpers, *, baseline: Answer | None = None
) -> tuple[Score, ...]:
    """Give the scores of an answer, in the order of the case's checks; none when there is no answer (`error`).

    Args:
        case: What was asked.
        answer: What came back.
        helpers: Whom scorers may ask.
        baseline: What another model answered to it: for the checks Pairwise, which give no score without one.
    """
    if answer.error:
        return ()
    scores: dict[str, Score] = {}
    for check in case.checks:
        if (scorer := _built(check)) is not None:
            scores[scorer.name] = scorer.score(case, answer)
    for check in case.checks:
        waiting = build_waiting_scorer(check, embedder=helpers.embedder, functions=helpers.functions)
        if waiting is not None:
            scores[waiting.name] = await waiting.score(case, answer)
    for check in case.checks:
        if isinstance(check, JUDGED) and helpers.judge is not None:
            judged = await _judge(helpers.judge, check, case, answer, baseline)
            if judged is not None:
                scores[judged.scorer] = judged
    names = [name_of(check) for check in case.checks]
    return tuple(scores[name] for name in names if name in scores)


def _built(check: Check) -> Scorer | None:
    """Build a scorer; checks that many cases share are built once."""
    if isinstance(check, checks.JsonSchema):
        return _schema_scorer(check.model_dump_json())
    return build_scorer(check)


@lru_cache(MOST_BUILT)
def _schema_scorer(check: str) -> Scorer | None:
    return build_scorer(checks.JsonSchema.model_validate_json(check))


async def _judge(judge: Judge, check: Check, case: Case, answer: Answer, baseline: Answer | None) -> Score | None:
    text, expected = text_of(answer, check.turn), expected_of(case, check.turn)
    conversation = conversation_before(case, answer, check.turn)
    if isinstance(check, checks.Judge):
        return await judge.by_criterion(
            conversation, text, name=name_of(check), criterion=check.criterion, expected=expected
        )
    if not isinstance(check, checks.Pairwise) or baseline is None or baseline.error:
        return None
    other = text_of(baseline, check.turn)
    return await judge.pairwise(
        conversation, text, other, name=name_of(check), criterion=check.criterion, expected=expected
    )


def conversation_before(case: Case, answer: Answer, turn: int | None) -> str:
    """Give what was said before the answer to a turn, as a judge is shown it."""
    answered = min(turn or len(case.turns), len(answer.earlier) + 1) - 1
    return conversation_text(case.conversation(answer.earlier[:answered]))
