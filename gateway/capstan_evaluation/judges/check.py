"""How good a judge is, beside people: agreement, kappa, and whether it likes a place or length. Pure.

Each pair is judged in both orders, as runs do it, and only verdicts that hold in both are the judge's. All intervals
are of 95 %. Kappa is of the pairs that it decided; how many it did not is told beside it, and a judge that decides less
than half of them may not gate, since those may be the easy ones.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from math import log, sqrt
from typing import Final

from pydantic import Field, ValidationError

from capstan_contract.entries import Document, is_none
from capstan_evaluation.errors import CheckInvalid
from capstan_evaluation.judges.judging import BETTER, WORSE, consistent
from capstan_evaluation.judges.labels import (
    FIRST_BETTER,
    LABELS,
    NO_DIFFERENCE,
    SECOND_BETTER,
    Pair,
    longer_wins,
)
from capstan_evaluation.judges.prompts import FIRST, SECOND
from capstan_evaluation.statistics.closed.agreement import agreement
from capstan_evaluation.statistics.closed.intervals import ALPHA
from capstan_evaluation.statistics.closed.proportions import wilson
from capstan_evaluation.statistics.mcnemar import mcnemar, tango
from capstan_evaluation.suites.checks import JUDGED, name_of
from capstan_evaluation.suites.suite import Suite

CHECK_VERSION: Final = 1
LEAST_PAIRS: Final = 100
"""Which a judge has to have decided before it may gate: kappa of fewer is hardly known."""
LEAST_DECIDED: Final = 0.5
"""Of the pairs that it was asked about."""


@dataclass(frozen=True)
class Judged:
    """A pair, and what the judge said of it: a verdict of each order, None where it could not tell."""

    pair: Pair
    first: str | None = None
    swapped: str | None = None
    failed: bool = False
    """Whether the judge gave no answer: then it is in no number but that."""

    @property
    def says(self) -> int | None:
        """The label that both orders give; None: it could not tell."""
        value = consistent(self.first, self.swapped)
        if value is None:
            return None
        return {BETTER: FIRST_BETTER, WORSE: SECOND_BETTER}.get(value, NO_DIFFERENCE)


class Rate(Document):
    """A share with its interval."""

    hits: int
    of: int
    share: float | None
    """None: of nothing."""
    low: float
    high: float


class Difference(Document):
    """A difference with its interval. Found: it is more than chance."""

    value: float
    low: float
    high: float
    found: bool


class PositionBias(Document):
    """Whether the judge likes what is shown first, or second."""

    first: int
    """Pairs of which it preferred the first answer in both orders."""
    second: int
    share: float
    """How often the first one was preferred, of all preferences in both orders: 0.5 is without bias."""
    bias: Difference
    """That share, minus a half."""


class LengthBias(Document):
    """Whether the judge likes what is longer, more than people do. Of pairs with a preference of both."""

    judge: Rate
    """How often the judge preferred the longer one."""
    people: Rate
    bias: Difference
    """The judge's share minus that of people."""
    agreementWherePeopleLikeLonger: Rate
    agreementWherePeopleLikeShorter: Rate
    correlation: float | None = Field(default=None, exclude_if=is_none)
    """Of the judge's preferences with the logarithm of the lengths' ratio; None: there is none."""
    peopleCorrelation: float | None = Field(default=None, exclude_if=is_none)


class Trivial(Document):
    """The judge that prefers the longer answer, beside people."""

    agreement: Rate
    kappa: float


class Report(Document):
    """What there is to say of one file, or of all of them."""

    file: str
    pairs: int
    failed: int
    """Of which the judge gave no answer."""
    couldNotTell: Rate
    contradicted: int
    """Of those that it could not tell: verdicts that changed with the order."""
    agreement: Rate
    """With people, of the pairs that it decided."""
    kappa: float
    kappaLow: float
    kappaHigh: float
    position: PositionBias
    length: LengthBias
    longerWins: Trivial


class JudgeCheck(Document):
    """What `capstan eval judge-check` found, as it is written to a file."""

    version: int = CHECK_VERSION
    model: str
    promptHash: str
    """Of the judge's prompt, see `Stamp`."""
    rubric: str
    criterion: str = ""
    minimumKappa: float
    mayGate: bool
    reason: str
    """Why it may, or may not."""
    files: tuple[Report, ...]
    all: Report


def read_check(text: str, file: str) -> JudgeCheck:
    """Read the file of a check. Raises CheckInvalid for another one, or one of another release."""
    try:
        check = JudgeCheck.model_validate_json(text)
    except ValidationError:
        raise CheckInvalid(f"{file}: is no file of `capstan eval judge-check --output`") from None
    if check.version != CHECK_VERSION:
        raise CheckInvalid(f"{file}: is of version {check.version}; this release reads {CHECK_VERSION}")
    return check


def check_judge(
    files: Sequence[tuple[str, Sequence[Judged]]],
    *,
    model: str,
    prompt_hash: str,
    rubric: str,
    criterion: str,
    minimum_kappa: float,
) -> JudgeCheck:
    """Put together what a judge said of the pairs of each file."""
    whole = report("all", [judged for _, rows in files for judged in rows])
    fault = gate_fault(whole, minimum_kappa)
    return JudgeCheck(
        model=model,
        promptHash=prompt_hash,
        rubric=rubric,
        criterion=criterion,
        minimumKappa=minimum_kappa,
        mayGate=fault is None,
        reason=fault or f"kappa is {whole.kappa:.2f}, at least {minimum_kappa:g}",
        files=tuple(report(name, rows) for name, rows in files),
        all=whole,
    )


def gate_fault(found: Report, minimum_kappa: float) -> str | None:
    """Say why a judge may inform and not gate; None when it may."""
    if found.agreement.of < LEAST_PAIRS:
        return f"it decided {found.agreement.of} pairs; at least {LEAST_PAIRS} are needed"
    share = found.couldNotTell.share
    if share is not None and 1 - share < LEAST_DECIDED:
        return f"it could not tell of {share:.0%} of the pairs"
    if found.kappa < minimum_kappa:
        return f"kappa is {found.kappa:.2f}, less than {minimum_kappa:g}"
    return None


def informing_scorers(suite: Suite, *, judge: str, check: JudgeCheck | None) -> dict[str, str]:
    """Give the scorers of a suite that a judge scores and that may not gate, each with the reason; none when it may.

    Args:
        suite: Whose `minimumKappa` and rubric count.
        judge: The model that judged the run.
        check: Of that judge; None: nobody has looked.
    """
    fault = _check_fault(suite, judge, check)
    if fault is None:
        return {}
    names = {name_of(check) for case in suite.cases for check in case.checks if isinstance(check, JUDGED)}
    return dict.fromkeys(sorted(names), f"the judge may inform, and not gate: {fault}")


def _check_fault(suite: Suite, judge: str, check: JudgeCheck | None) -> str | None:
    if check is None:
        return "nobody has compared it with people (`capstan eval judge-check`)"
    if check.model != judge:
        return f"the check is of another one, {check.model}"
    if check.rubric != suite.rubric.version:
        return f"the check is of the rubric {check.rubric}, the suite has {suite.rubric.version}"
    return gate_fault(check.all, suite.minimumKappa)


def report(file: str, rows: Sequence[Judged]) -> Report:
    """Say how a judge did on some pairs."""
    asked = [row for row in rows if not row.failed]
    decided = [(row.pair.label, says) for row in asked if (says := row.says) is not None]
    undecided = [row for row in asked if row.says is None]
    agreed = agreement(_table(decided))
    return Report(
        file=file,
        pairs=len(rows),
        failed=len(rows) - len(asked),
        couldNotTell=rate(len(undecided), len(asked)),
        contradicted=sum(row.first is not None and row.swapped is not None for row in undecided),
        agreement=rate(sum(label == says for label, says in decided), len(decided)),
        kappa=agreed.kappa,
        kappaLow=agreed.interval.low,
        kappaHigh=agreed.interval.high,
        position=_position(asked),
        length=_length(asked),
        longerWins=trivial(row.pair for row in rows),
    )


def trivial(pairs: Iterable[Pair]) -> Trivial:
    """Say how the judge that prefers the longer answer does."""
    told = [(pair.label, longer_wins(pair)) for pair in pairs]
    right = sum(label == says for label, says in told)
    return Trivial(agreement=rate(right, len(told)), kappa=agreement(_table(told)).kappa)


def rate(hits: int, of: int) -> Rate:
    """Give a share with its interval (Wilson)."""
    interval = wilson(hits, of)
    return Rate(hits=hits, of=of, share=hits / of if of else None, low=interval.low, high=interval.high)


def paired(more: int, less: int, of: int) -> Difference:
    """Give the difference of two shares of the same things: `more` have only the first, `less` only the second.

    Found is what the exact test of McNemar finds; the interval is Tango's.
    """
    interval = tango(less, more, of)
    value = (more - less) / of if of else 0.0
    return Difference(value=value, low=interval.low, high=interval.high, found=mcnemar(less, more) <= ALPHA)


def _position(asked: Sequence[Judged]) -> PositionBias:
    verdicts = [said for row in asked for said in (row.first, row.swapped) if said in (FIRST, SECOND)]
    first = sum(row.first == FIRST and row.swapped == FIRST for row in asked)
    second = sum(row.first == SECOND and row.swapped == SECOND for row in asked)
    both = [row for row in asked if row.first in (FIRST, SECOND) and row.swapped in (FIRST, SECOND)]
    # NB: a pair gives 2, 1 or 0 preferences for the first place, so the share is off by half the difference.
    difference = paired(first, second, len(both))
    return PositionBias(
        first=first,
        second=second,
        share=verdicts.count(FIRST) / len(verdicts) if verdicts else 0.5,
        bias=Difference(
            value=difference.value / 2, low=difference.low / 2, high=difference.high / 2, found=difference.found
        ),
    )


def _length(asked: Sequence[Judged]) -> LengthBias:
    told = [
        (row.pair, says)
        for row in asked
        if (says := row.says) in (FIRST_BETTER, SECOND_BETTER)
        and row.pair.label != NO_DIFFERENCE
        and len(row.pair.first) != len(row.pair.second)
    ]
    judge = [says == longer_wins(pair) for pair, says in told]
    people = [pair.label == longer_wins(pair) for pair, _ in told]
    more = sum(one and not other for one, other in zip(judge, people, strict=True))
    less = sum(other and not one for one, other in zip(judge, people, strict=True))

    def agreed(longer: bool) -> Rate:
        kept = [one == other for one, other in zip(judge, people, strict=True) if other is longer]
        return rate(sum(kept), len(kept))

    ratios = [log((len(pair.first) + 1) / (len(pair.second) + 1)) for pair, _ in told]
    return LengthBias(
        judge=rate(sum(judge), len(told)),
        people=rate(sum(people), len(told)),
        bias=paired(more, less, len(told)),
        agreementWherePeopleLikeLonger=agreed(True),
        agreementWherePeopleLikeShorter=agreed(False),
        correlation=correlation(ratios, [_sign(says) for _, says in told]),
        peopleCorrelation=correlation(ratios, [_sign(pair.label) for pair, _ in told]),
    )


def _sign(label: int | None) -> float:
    return 1.0 if label == FIRST_BETTER else -1.0


def correlation(xs: Sequence[float], ys: Sequence[float]) -> float | None:
    """Give Pearson's correlation; None where one of both never changes."""
    if not xs:
        return None

    def centred(values: Sequence[float]) -> list[float]:
        mean = sum(values) / len(values)
        return [value - mean for value in values]

    first, second = centred(xs), centred(ys)
    squares = sum(x * x for x in first) * sum(y * y for y in second)
    if squares <= 0:
        return None
    return max(-1.0, min(1.0, sum(x * y for x, y in zip(first, second, strict=True)) / sqrt(squares)))


def _table(told: Sequence[tuple[int, int]]) -> list[list[int]]:
    """Count what people (rows) and a judge (columns) say; of labels that nobody gives there is no row."""
    given = {label for pair in told for label in pair}
    labels = [label for label in LABELS if label in given]
    counts = {pair: told.count(pair) for pair in set(told)}
    return [[counts.get((people, judge), 0) for judge in labels] for people in labels]
