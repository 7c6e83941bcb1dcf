"""What a run has to ask, and in which order. Pure."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final

from capstan_evaluation.asking import request_hash
from capstan_evaluation.records import Answer, Result, Score, ScoreState, Usage
from capstan_evaluation.runs.stream import CONTENT_FILTER
from capstan_evaluation.suites.suite import Case, Suite

MOST_REPEATS: Final = 100


@dataclass(frozen=True)
class Step:
    """One repeat of one case."""

    place: int
    case: Case
    repeat: int


def repeats_of(case: Case, repeats: int | None) -> int:
    """Give how often a case is asked: as the suite says, or as often as is asked for."""
    return case.repeats if repeats is None else repeats


def count_results(suite: Suite, repeats: int | None) -> int:
    """Give how many results a run of the suite has."""
    return sum(repeats_of(case, repeats) for case in suite.cases)


def steps_of(suite: Suite, repeats: int | None) -> Iterator[Step]:
    """Give all repeats of all cases: each case once before any is asked again, in the order of the suite."""
    for repeat in range(max(repeats_of(case, repeats) for case in suite.cases)):
        for place, case in enumerate(suite.cases):
            if repeat < repeats_of(case, repeats):
                yield Step(place, case, repeat)


def request_of(case: Case, answers: Sequence[str], most_tokens: int | None) -> dict[str, Any]:
    """Give the request of the next turn, without the model. `most_tokens` is for cases that say nothing of it."""
    document: dict[str, Any] = {"messages": case.conversation(answers), "temperature": case.temperature}
    most = case.maxTokens if case.maxTokens is not None else most_tokens
    return document if most is None else {**document, "max_tokens": most}


def ends(answer: Answer) -> bool:
    """Whether no further turn is asked: there is no answer, or a filter has taken it."""
    return bool(answer.error) or answer.finishReason == CONTENT_FILTER


def join_answers(answers: Sequence[Answer]) -> Answer:
    """Make one answer of those to the turns of a case: the last one, with what all of them took."""
    *earlier, last = answers
    usages = [answer.usage for answer in answers]
    costs = [usage.cost for usage in usages if usage.cost is not None]
    usage = Usage(
        inputTokens=sum(one.inputTokens for one in usages),
        cachedInputTokens=sum(one.cachedInputTokens for one in usages),
        outputTokens=sum(one.outputTokens for one in usages),
        cost=sum(costs) if len(costs) == len(usages) else None,
        doubtTokens=sum(one.doubtTokens for one in usages),
        doubtCost=sum(one.doubtCost for one in usages),
    )
    update = {"usage": usage, "seconds": sum(one.seconds for one in answers)}
    return last.model_copy(update={**update, "earlier": tuple(one.text for one in earlier)})


def question_of(case: Case, most_tokens: int | None) -> str:
    """Name what a case asks, whoever answers: the hash of its request, and of all turns where there are several."""
    request = request_of(case, (), most_tokens)
    if len(case.turns) > 1:
        request["messages"] = [turn.model_dump(mode="json", exclude={"expected"}) for turn in case.turns]
    return request_hash(request)


def build_result(step: Step, question: str, answer: Answer, scores: tuple[Score, ...]) -> Result:
    """Make the result of one repeat of one case."""
    return Result(
        case=step.case.id,
        repeat=step.repeat,
        place=step.place,
        request=question,
        cluster=step.case.cluster,
        tags=step.case.tags,
        weight=step.case.weight,
        prompt=prompt_of(step.case, answer.earlier),
        expected=step.case.expected or "",
        answer=answer,
        scores=scores,
    )


def prompt_of(case: Case, earlier: Sequence[str]) -> str:
    """Give a conversation as a person reads it: a single message as it is, else each behind its role."""
    said = case.conversation(earlier)
    if len(said) == 1:
        return said[0]["content"]
    return "\n\n".join(f"{one['role']}: {one['content']}" for one in said)


def is_unsettled(result: Result) -> bool:
    """Whether a result says nothing of the case, so that whoever goes on with a run makes it anew."""
    return result.answer.transient or any(score.state is ScoreState.FAILED for score in result.scores)
