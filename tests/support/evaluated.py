"""Runs and verdicts of evaluations that never were, for those who show them."""

import hashlib
import random
from collections.abc import Sequence

from capstan_evaluation.records import (
    Answer,
    Comparison,
    Outcome,
    Result,
    Run,
    RunHeader,
    Score,
    ScoreState,
    Usage,
    Verdict,
)

TAGS = ("refund", "shipping", "invoice", "tone")
_WORDS = ("refund", "order", "customer", "policy", "please", "within", "days", "shipping", "cancel", "invoice")


def result(
    case: str,
    *,
    passed: bool = True,
    text: str = "It is done.",
    prompt: str = "user: Please do it.",
    tags: Sequence[str] = (),
    error: str = "",
    repeat: int = 0,
    seconds: float = 0.5,
    scores: tuple[Score, ...] | None = None,
) -> Result:
    """Give one result, scored by `exact`."""
    given = () if error else (Score(scorer="exact", value=float(passed), reason="" if passed else "wanted: done"),)
    return Result(
        case=case,
        request=hashlib.sha256(ascii((case, prompt)).encode()).hexdigest(),
        repeat=repeat,
        tags=tuple(tags),
        prompt=prompt,
        expected="done",
        answer=Answer(
            text="" if error else text,
            error=error,
            finishReason="stop",
            usage=Usage(inputTokens=20, outputTokens=len(text.split()), cost=0.0002),
            firstTokenSeconds=seconds / 3,
            seconds=seconds,
        ),
        scores=given if scores is None else scores,
    )


def run(results: Sequence[Result], *, revision: str = "v2", repeats: int = 1, suite: str = "support") -> Run:
    """Give a run of these results."""
    cases = len({one.case for one in results})
    header = RunHeader(
        id=f"run-{revision}", suite=suite, suiteHash="9f2c" * 16, target="helpdesk", revision=revision, cases=cases,
        repeats=repeats, began="2026-11-29T14:03:11Z",
    )  # fmt: skip
    return Run(header=header, results=tuple(results))


def many(count: int, *, revision: str, failing: float, slow: float = 1.0, words: int = 30) -> Run:
    """Give a run of so many cases of which about such a share fails; two runs of them differ in few cases."""
    results = []
    for place in range(count):
        same, own = random.Random(place), random.Random(f"{revision} {place}")  # noqa: S311
        passed = (same.random() >= failing) ^ (own.random() < 0.03)
        text = [same.choice(_WORDS) for _ in range(words)]
        if not passed:
            text[words // 2] = "perhaps"
        polite = round(min(max(own.gauss(0.8, 0.15), 0), 1), 2)
        scores = (
            Score(scorer="exact", value=float(passed)),
            Score(scorer="judge:polite", value=polite, binary=False, reason="It is courteous."),
        )
        results.append(
            result(
                f"{TAGS[place % 4]}-{place:04d}",
                text=" ".join(text),
                scores=scores,
                seconds=slow * (0.2 + own.random()),
                tags=(TAGS[place % 4], *(("hard",) if place % 5 == 0 else ())),
                prompt=f"user: Question {place}?",
            )
        )
    return run(results, revision=revision)


def verdict(candidate: Run, baseline: Run, outcome: Outcome, *, flaky: Sequence[str] = ()) -> Verdict:
    """Give a verdict that names the cases that changed, by `exact`."""
    before = {one.case: one.scores[0].value for one in baseline.results if one.scores}
    worse, better = [], []
    for one in candidate.results:
        old, new = before.get(one.case), one.scores[0].value if one.scores else None
        if old is not None and new is not None and old != new and one.case not in flaky:
            (worse if new < old else better).append(one.case)
    difference = (len(better) - len(worse)) / len(before)
    comparison = Comparison(
        scorer="exact", outcome=outcome, binary=True, cases=len(before), baseline=0.8, candidate=0.8 + difference,
        difference=difference, low=difference - 0.03, high=difference + 0.03, pValue=0.0004, margin=0.02,
        regressions=tuple(worse), improvements=tuple(better), flaky=tuple(flaky), detectable=0.034, neededCases=1240,
    )  # fmt: skip
    return Verdict(outcome=outcome, alpha=0.05, comparisons=(comparison,))


def untold(case: str) -> Result:
    """Give a result of which a judge could not tell."""
    return result(case, scores=(Score(scorer="judge:polite", state=ScoreState.COULD_NOT_TELL, binary=False),))
