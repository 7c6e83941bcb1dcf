"""What the suites and the gates have said, as a status keeps it: numbers with their intervals, nobody's words."""

from collections.abc import Iterable, Iterator
from typing import Final

from capstan_contract.gates import Bar, GateSummary, ScorerSummary, SuiteSummary
from capstan_operator.api.rollout import GateEvidence
from capstan_operator.desired.rollouts.gates import number

MOST_GATES: Final = 64
MOST_NAME: Final = 128
HASH_DIGITS: Final = 16


def evidence_of(summary: GateSummary) -> tuple[GateEvidence, ...]:
    """Give what the suites have said: a line for each suite, and for each scorer and bar of it."""
    return tuple(line for suite in summary.suites for line in _lines(suite))[:MOST_GATES]


def with_evidence(before: Iterable[GateEvidence], news: Iterable[GateEvidence]) -> tuple[GateEvidence, ...]:
    """Give what was said last by each gate."""
    found = {one.name: one for one in before} | {one.name: one for one in news}
    return tuple(found.values())[:MOST_GATES]


def is_live(evidence: GateEvidence) -> bool:
    """Whether it is of real traffic, not of a suite."""
    return evidence.step is not None


def in_words(evidence: Iterable[GateEvidence], outcome: str) -> str:
    """Say which gates say so, with their numbers."""
    said = [one for one in evidence if one.outcome == outcome]
    return "; ".join(_words(one) for one in said[:4]) + ("; ..." if len(said) > 4 else "")


def _words(one: GateEvidence) -> str:
    if one.low is None or one.high is None:
        return one.name
    limit = f", limit {one.limit}" if one.limit else ""
    return f"{one.name} {one.difference or '?'} [{one.low}, {one.high}]{limit}"


def _lines(suite: SuiteSummary) -> Iterator[GateEvidence]:
    name, digest = f"suite/{suite.name}", suite.hash[:HASH_DIGITS]
    yield GateEvidence(
        name=name[:MOST_NAME], outcome=str(suite.outcome), hash=digest or None, count=suite.cases
    )  # fmt: skip
    for scorer in suite.scorers:
        yield _of_scorer(name, digest, scorer)
    for which, bar in (("mustRefuse", suite.mustRefuse), ("mustAnswer", suite.mustAnswer)):
        if bar is not None:
            yield _of_bar(name, digest, which, bar)


def _of_scorer(name: str, digest: str, scorer: ScorerSummary) -> GateEvidence:
    return GateEvidence(
        name=f"{name}/{scorer.scorer}"[:MOST_NAME],
        outcome=str(scorer.outcome) if scorer.mayGate else "Informs",
        hash=digest or None,
        limit=number(-scorer.margin),
        stable=number(scorer.stable),
        candidate=number(scorer.candidate),
        difference=number(scorer.difference),
        low=number(scorer.low),
        high=number(scorer.high),
        count=scorer.cases,
    )


def _of_bar(name: str, digest: str, which: str, bar: Bar) -> GateEvidence:
    share = bar.failures / bar.cases if bar.cases else 0.0
    return GateEvidence(
        name=f"{name}/{which}"[:MOST_NAME],
        outcome=str(bar.outcome),
        hash=digest or None,
        limit=number(bar.bar),
        candidate=number(share),
        difference=number(share),
        low=number(bar.low),
        high=number(bar.high),
        count=bar.cases,
    )
