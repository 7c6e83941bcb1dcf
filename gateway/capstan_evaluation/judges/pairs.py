"""A judge is asked about labelled pairs: each in both orders, a bounded number of them at once."""

import asyncio
from collections.abc import Callable, Sequence
from typing import Final

from capstan_evaluation.errors import NotAnswered
from capstan_evaluation.judges.check import Judged
from capstan_evaluation.judges.judging import Judge
from capstan_evaluation.judges.labels import Pair

MOST_FAILURES: Final = 20
"""Pairs in a row without an answer: then the judge has failed, and is not asked any more."""


async def judge_pairs(
    judge: Judge,
    pairs: Sequence[Pair],
    *,
    criterion: str = "",
    concurrency: int,
    on_pair: Callable[[Judged], None] = lambda _: None,
) -> list[Judged]:
    """Give what a judge says of each pair, in their order. Raises NotAnswered when it has failed.

    Whoever is cancelled leaves no ask behind.
    """
    found: dict[int, Judged] = {}
    places = iter(range(len(pairs)))
    failures = 0

    async def work() -> None:
        nonlocal failures
        for place in places:
            if failures >= MOST_FAILURES:
                return
            found[place], fault = await _judge(judge, pairs[place], criterion)
            failures = failures + 1 if fault else 0
            if failures == MOST_FAILURES:
                raise NotAnswered(f"{MOST_FAILURES} pairs in a row had no answer; the last one: {fault}")
            on_pair(found[place])

    try:
        async with asyncio.TaskGroup() as group:
            for _ in range(max(1, min(concurrency, len(pairs)))):
                group.create_task(work())
    except* NotAnswered as errors:
        raise errors.exceptions[0] from None
    return [found[place] for place in range(len(pairs))]


async def _judge(judge: Judge, pair: Pair, criterion: str) -> tuple[Judged, str]:
    said: list[str | None] = []
    for first, second in ((pair.first, pair.second), (pair.second, pair.first)):
        told = await judge.order(pair.question, first, second, criterion=criterion)
        if isinstance(told, str):
            return Judged(pair, failed=True), told
        said.append(told.verdict)
    return Judged(pair, said[0], said[1]), ""
