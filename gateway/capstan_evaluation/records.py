"""What a run is made of: answers, scores, and what two runs say of each other. Plain data, as it is written to disk.

A run is a file of JSON lines: a `RunHeader` first, then one `Result` for each repeat of each case, in the order in
which they ended, and `Asked` lines between them (`runs/files.py`).
"""

from enum import StrEnum
from typing import Final

from pydantic import Field

from capstan_contract.entries import Document, is_empty, is_none
from capstan_contract.gates import Outcome as Outcome

RUN_VERSION: Final = 1


class ScoreState(StrEnum):
    """Whether there is a score at all."""

    SCORED = "Scored"
    COULD_NOT_TELL = "CouldNotTell"
    """A judge was asked and did not say, or contradicted itself."""
    FAILED = "Failed"
    """The scorer itself failed."""


class Stamp(Document):
    """Who judged, and by which words."""

    model: str
    promptHash: str
    """SHA-256 of the prompt's template, in hexadecimal."""
    rubric: str
    """Version of the rubric."""


class Score(Document):
    """What one scorer says of one answer."""

    scorer: str
    """Its name within the suite: for judges with the criterion, such as `judge:polite`."""
    state: ScoreState = ScoreState.SCORED
    value: float | None = Field(default=None, ge=0, le=1)
    """None unless `state` is Scored."""
    binary: bool = True
    """Whether the scorer knows nothing between 0 and 1."""
    pairwise: bool = Field(default=False, exclude_if=is_empty)
    """The value says how the answer is beside the baseline's: 1 better, 0.5 as good, 0 worse."""
    reason: str = ""
    stamp: Stamp | None = Field(default=None, exclude_if=is_none)


class Usage(Document):
    """What one answer took."""

    inputTokens: int = Field(default=0, ge=0)
    cachedInputTokens: int = Field(default=0, ge=0)
    outputTokens: int = Field(default=0, ge=0)
    cost: float | None = Field(default=None, ge=0, exclude_if=is_none)
    """US dollars; None: nobody knows a price."""
    doubtTokens: int = Field(default=0, ge=0, exclude_if=is_empty)
    """What tries that broke off may have taken beside that, at most: nobody told."""
    doubtCost: float = Field(default=0.0, ge=0, exclude_if=is_empty)


class Answer(Document):
    """What a target answered to one case: of several turns to the last one; usage and seconds are of all."""

    text: str = ""
    """To the last turn of the case."""
    earlier: tuple[str, ...] = Field(default=(), exclude_if=is_empty)
    """To the turns before it."""
    finishReason: str = ""
    refusal: str = Field(default="", exclude_if=is_empty)
    """What it says in the API's own field for refusals."""
    usage: Usage = Usage()
    firstTokenSeconds: float | None = Field(default=None, ge=0, exclude_if=is_none)
    seconds: float = Field(default=0.0, ge=0)
    error: str = Field(default="", exclude_if=is_empty)
    """Why there is no answer: a code of the API, or of the connection. Empty: there is one."""
    transient: bool = Field(default=False, exclude_if=is_empty)
    """Whether the error says nothing of what was asked: whoever goes on with the run asks again."""


class Result(Document):
    """One repeat of one case."""

    case: str
    repeat: int = Field(default=0, ge=0)
    request: str
    """SHA-256 of what the case asks, whichever model: two runs asked the same where it is the same."""
    place: int = Field(default=0, ge=0)
    """Of the case in its suite."""
    cluster: str = ""
    """The source that the case shares with others; empty: none."""
    tags: tuple[str, ...] = ()
    weight: float = Field(default=1.0, gt=0)
    prompt: str = ""
    """The conversation as a person reads it."""
    expected: str = ""
    answer: Answer
    scores: tuple[Score, ...] = ()


class Purpose(StrEnum):
    """What a model was asked for."""

    TARGET = "Target"
    JUDGE = "Judge"
    EMBED = "Embed"


class Asked(Document):
    """One ask and its answer: written before it is used, so that it is never paid for again.

    What a run took is the sum of these: results may share an ask.
    """

    purpose: Purpose
    model: str
    request: str
    """SHA-256 of the request, without the name of the model."""
    repeat: int = Field(default=0, ge=0)
    tries: int = Field(default=1, ge=1)
    answer: Answer
    vectors: tuple[str, ...] = Field(default=(), exclude_if=is_empty)
    """Of texts that were embedded: 32-bit floats, the low byte first, in Base64."""


class Asking(Document):
    """An ask that begins: where spend is bounded, so that one whose answer never came counts with what it may take."""

    purpose: Purpose
    model: str
    request: str
    repeat: int = Field(default=0, ge=0)
    tokens: int = Field(ge=0)
    cost: float = Field(ge=0)


class Spent(Document):
    """What asks took, those in vain included as far as anybody told."""

    asks: int = Field(default=0, ge=0)
    inputTokens: int = Field(default=0, ge=0)
    outputTokens: int = Field(default=0, ge=0)
    cost: float = Field(default=0.0, ge=0)
    """US dollars, of the asks with a known price."""
    doubtTokens: int = Field(default=0, ge=0, exclude_if=is_empty)
    """What tries that broke off may have taken beside that, at most."""
    doubtCost: float = Field(default=0.0, ge=0, exclude_if=is_empty)
    unpriced: int = Field(default=0, ge=0)
    """Asks of which nobody knows what they cost."""


class RunHeader(Document):
    """What a run is of. Two runs of one suite have the same `suiteHash`."""

    version: int = RUN_VERSION
    id: str
    suite: str
    suiteHash: str
    target: str
    """The name of the model that was asked."""
    url: str = ""
    revision: str = Field(default="", exclude_if=is_empty)
    judge: str = Field(default="", exclude_if=is_empty)
    embedder: str = Field(default="", exclude_if=is_empty)
    baseline: str = Field(default="", exclude_if=is_empty)
    """Id of the run with whose answers a judge compares."""
    mostTokens: int | None = Field(default=None, exclude_if=is_none)
    """Of an answer to a case that says nothing of it."""
    cases: int = Field(ge=0)
    repeats: int = Field(ge=1)
    """The most that a case is asked."""
    results: int = Field(default=0, ge=0, exclude_if=is_empty)
    """How many there are when the run is over. 0: cases times repeats."""
    began: str = ""
    """RFC 3339, UTC."""


class Run(Document):
    """A run that was read, its results sorted by case in the suite's order, then by repeat."""

    header: RunHeader
    results: tuple[Result, ...]
    target: Spent = Spent()
    """What the answers took."""
    judging: Spent = Spent()
    """What judges and embedders took."""


class Comparison(Document):
    """What one scorer says of a candidate beside its baseline. Differences are candidate minus baseline."""

    scorer: str
    outcome: Outcome
    binary: bool
    cases: int
    """Which both runs scored."""
    missing: int = 0
    """Cases that are not among them, because one of the runs has no score."""
    lost: float = 0.0
    """Share of the cases that the candidate may have lost unseen: the baseline has a score, and it has none."""
    baseline: float
    candidate: float
    difference: float
    low: float
    high: float
    """Confidence interval of the difference, at the level 1 - alpha."""
    pValue: float
    """Of a worse candidate, adjusted for the number of scorers (Holm)."""
    margin: float
    """The loss that the suite puts up with (non-inferiority)."""
    regressions: tuple[str, ...] = ()
    """Ids of the cases that the baseline passed and the candidate does not, without flaky ones. Binary scorers only."""
    improvements: tuple[str, ...] = ()
    flaky: tuple[str, ...] = ()
    """Cases that flip against themselves on the baseline."""
    detectable: float
    """The smallest drop that this run could have seen, with a power of 80 %."""
    neededCases: int
    """The number of cases that it would take to see the margin, with a power of 80 %."""
    mayGate: bool = True
    """False: a judge that agrees with people too little informs, and decides nothing."""
    note: str = ""


class Verdict(Document):
    """What a whole comparison says: Fail when one scorer that may gate does, Pass when all of those do."""

    outcome: Outcome
    alpha: float
    comparisons: tuple[Comparison, ...]
