"""What suites said of a candidate before it got any traffic: written by the Job of a rollout, read by the operator.

The Job leaves it as its container's termination message, of which a kubelet keeps 4096 bytes. So it has numbers and
ids of cases, and neither prompts nor answers; what does not fit is left out, least important first, and counted.
"""

from collections.abc import Callable, Iterator
from enum import StrEnum
from typing import Annotated, Final, Literal

from pydantic import ConfigDict, Field, ValidationError

from capstan_contract.entries import Document, canonical, is_empty, is_none

MOST_BYTES: Final = 4096
"""Of a termination message: what the kubelet keeps of one container's
(kubernetes.io/docs/tasks/debug/debug-application/determine-reason-pod-failure)."""
MOST_IDS: Final = 5
"""Cases that a scorer names as regressions."""
MOST_TEXT: Final = 300
"""Characters of a reason."""
GATE_VERSION: Final = 1


class Outcome(StrEnum):
    """What a comparison says."""

    PASS = "Pass"  # noqa: S105
    FAIL = "Fail"
    INCONCLUSIVE = "Inconclusive"


class GateTarget(Document):
    """A model that a Job asks: by the Service of its track, so that no gateway is between."""

    url: str
    """With or without `/v1`."""
    model: str


class GateOrder(Document):
    """What the Job of a rollout is told to do."""

    candidate: GateTarget
    stable: GateTarget | None = None
    """None: there is none to compare with, so that suites say what their own bars say."""
    judge: GateTarget | None = None
    embedder: GateTarget | None = None
    suites: dict[str, str] = Field(default_factory=dict)
    """Path of a suite's file, by the suite's name in the summary. Its data lies beside it."""
    safety: dict[str, str] = Field(default_factory=dict)
    """Suites of prompts that must be refused or blocked, and of benign ones that must not: only the candidate is asked,
    and the bar of both kinds is the suite's `margin`."""
    concurrency: int = Field(default=8, ge=1, le=256)
    seconds: int = Field(default=3600, ge=1)
    """After this it ends, and says so."""
    summary: str = "/dev/termination-log"
    """Where the summary is written."""

    def arguments(self) -> list[str]:
        """Give the command behind `capstan`: `eval gate --candidate ...`."""
        words = ["eval", "gate", "--candidate", self.candidate.model, "--candidate-url", self.candidate.url]
        for name, asked in (("stable", self.stable), ("judge", self.judge), ("embedder", self.embedder)):
            if asked is not None:
                words += [f"--{name}", asked.model, f"--{name}-url", asked.url]
        for flag, suites in (("--suite", self.suites), ("--safety", self.safety)):
            words += [word for name, path in sorted(suites.items()) for word in (flag, f"{name}={path}")]
        return [
            *words,
            "--concurrency",
            str(self.concurrency),
            "--seconds",
            str(self.seconds),
            "--summary",
            self.summary,
        ]


class _Part(Document):
    """Fields that a reader does not know are left aside: the Job may be of the next release."""

    model_config = ConfigDict(frozen=True, extra="ignore")


class ScorerSummary(_Part):
    """One scorer's comparison of the candidate with the stable revision. Differences are candidate minus stable."""

    scorer: str
    outcome: Outcome
    cases: int = Field(ge=0)
    """Which both have scores of."""
    stable: float
    candidate: float
    difference: float
    low: float
    high: float
    """The interval of the difference."""
    margin: float
    """The loss that the suite puts up with."""
    pValue: float
    detectable: float
    """The smallest drop that could have been seen, with a power of 80 %."""
    neededCases: int
    """How many cases it would take to see the margin."""
    mayGate: bool = True
    """False: it informs, and decides nothing."""
    regressions: int = Field(default=0, ge=0)
    regressed: tuple[str, ...] = Field(default=(), exclude_if=is_empty)
    """Ids of the first few of them."""
    flaky: int = Field(default=0, ge=0)


class Bar(_Part):
    """An absolute bar: how many prompts of one kind went wrong, and how often that may happen at most."""

    outcome: Outcome
    """Fail: the interval lies above the bar. Pass: it lies below, or on it. Inconclusive: the bar is in it."""
    cases: int = Field(ge=0)
    failures: int = Field(ge=0)
    low: float
    high: float
    """One-sided exact 95 % bounds of the share (Clopper and Pearson, 1934): with no failure `high` is 3/cases."""
    bar: float = Field(ge=0, le=1)
    neededCases: int = Field(default=0, ge=0)
    """How many cases without a failure it takes to pass."""
    failed: tuple[str, ...] = Field(default=(), exclude_if=is_empty)
    """Ids of the first few of them."""


class SuiteSummary(_Part):
    """What one suite says."""

    name: str
    hash: str
    """SHA-256 of the suite, in hexadecimal."""
    outcome: Outcome
    cases: int = Field(ge=0)
    repeats: int = Field(default=1, ge=1)
    errors: int = Field(default=0, ge=0)
    """Asks of the candidate without an answer."""
    stableErrors: int = Field(default=0, ge=0)
    reason: str = ""
    scorers: tuple[ScorerSummary, ...] = Field(default=(), exclude_if=is_empty)
    mustRefuse: Bar | None = Field(default=None, exclude_if=is_none)
    """Of a suite of safety: prompts that were answered, and must be refused or blocked."""
    mustAnswer: Bar | None = Field(default=None, exclude_if=is_none)
    """Of a suite of safety: benign prompts that were refused or blocked."""


class GateSummary(_Part):
    """All suites of one rollout. Without an outcome nothing can be said, and `error` says why."""

    version: Literal[1] = GATE_VERSION
    outcome: Outcome | None = None
    """Fail when one suite fails, Pass when all pass."""
    error: str = Field(default="", exclude_if=is_empty)
    reason: str = Field(default="", exclude_if=is_empty)
    """A CamelCase word beside `error`: why, for conditions."""
    suites: tuple[SuiteSummary, ...] = ()
    left: int = Field(default=0, ge=0, exclude_if=is_empty)
    """Suites, scorers and ids that there was no room for."""
    requests: int = Field(default=0, ge=0)
    inputTokens: int = Field(default=0, ge=0)
    outputTokens: int = Field(default=0, ge=0)
    cost: Annotated[float, Field(ge=0)] | None = Field(default=None, exclude_if=is_none)
    """US dollars; None: nobody knows a price."""
    seconds: float = Field(default=0.0, ge=0)


def write_gate_summary(summary: GateSummary, most: int = MOST_BYTES) -> bytes:
    """Give the summary as JSON of at most `most` bytes (600 or more): whole if it has room, else with ever less detail.

    What decided stays longest: ids of cases go first, then scorers that pass or only inform, then suites that pass.
    """
    text = canonical(summary.model_dump(mode="json"))
    for shorter in _shorter(summary):
        if len(text) <= most:
            break
        text = canonical(shorter.model_dump(mode="json"))
    return text


def read_gate_summary(text: str | bytes) -> GateSummary | None:
    """Give the summary in a termination message; None where there is none, as of a container that was killed."""
    try:
        return GateSummary.model_validate_json(text)
    except ValidationError:
        return None


def _shorter(summary: GateSummary) -> Iterator[GateSummary]:
    """The summary in ever shorter forms; the last is one whose size does not depend on the suites."""
    changes: tuple[Callable[[GateSummary], GateSummary], ...] = (
        _bounded_texts,
        lambda one: _map_suites(one, _without_ids),
        lambda one: _map_suites(one, lambda suite: _keep_scorers(suite, lambda scorer: _rank(scorer) < 2)),
        lambda one: _map_suites(one, lambda suite: _keep_scorers(suite, lambda scorer: _rank(scorer) < 1)),
    )
    for change in changes:
        summary = change(summary)
        yield summary
    suites = sorted(summary.suites, key=lambda suite: list(_ORDER).index(suite.outcome))
    for keep in range(len(suites) - 1, -1, -1):
        yield summary.model_copy(update={"suites": tuple(suites[:keep]), "left": summary.left + len(suites) - keep})


_ORDER: Final = (Outcome.FAIL, Outcome.INCONCLUSIVE, Outcome.PASS)


def _rank(scorer: ScorerSummary) -> int:
    """How early a scorer is left out: 0 never before its suite."""
    if scorer.mayGate and scorer.outcome is Outcome.FAIL:
        return 0
    return 1 if scorer.mayGate and scorer.outcome is Outcome.INCONCLUSIVE else 2


def _map_suites(summary: GateSummary, change: Callable[[SuiteSummary], tuple[SuiteSummary, int]]) -> GateSummary:
    changed = [change(suite) for suite in summary.suites]
    left = summary.left + sum(count for _, count in changed)
    return summary.model_copy(update={"suites": tuple(suite for suite, _ in changed), "left": left})


def _without_ids(suite: SuiteSummary) -> tuple[SuiteSummary, int]:
    scorers = tuple(scorer.model_copy(update={"regressed": ()}) for scorer in suite.scorers)
    left = sum(len(scorer.regressed) for scorer in suite.scorers)
    update: dict[str, object] = {"scorers": scorers}
    for name in ("mustRefuse", "mustAnswer"):
        bar: Bar | None = getattr(suite, name)
        if bar is not None:
            update[name], left = bar.model_copy(update={"failed": ()}), left + len(bar.failed)
    return suite.model_copy(update=update), left


def _keep_scorers(suite: SuiteSummary, keep: Callable[[ScorerSummary], bool]) -> tuple[SuiteSummary, int]:
    kept = tuple(scorer for scorer in suite.scorers if keep(scorer))
    return suite.model_copy(update={"scorers": kept}), len(suite.scorers) - len(kept)


def _bounded_texts(summary: GateSummary) -> GateSummary:
    suites = tuple(
        suite.model_copy(update={"name": suite.name[:63], "reason": suite.reason[:MOST_TEXT]})
        for suite in summary.suites
    )
    return summary.model_copy(
        update={"suites": suites, "error": summary.error[:MOST_TEXT], "reason": summary.reason[:63]}
    )
