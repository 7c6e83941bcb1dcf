"""A whole run from what was ordered: connections, prices, who scores, the file, and the runner on top."""

import hashlib
import ssl
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Final

from capstan_evaluation.judges.judging import Judge
from capstan_evaluation.judges.scoring import Helpers, score_answer
from capstan_evaluation.records import Answer, Purpose, Result, Run, RunHeader, Score, Spent
from capstan_evaluation.runs.budget import Budget
from capstan_evaluation.runs.client import (
    DEFAULT_ANSWER_TOKENS,
    Connection,
    Model,
    Server,
    open_session,
    tells_cost,
)
from capstan_evaluation.runs.files import RunLog, RunWriter
from capstan_evaluation.runs.paid import Ledger, PaidChat, PaidEmbedder
from capstan_evaluation.runs.plan import count_results, repeats_of
from capstan_evaluation.runs.prices import ModelPrice
from capstan_evaluation.runs.runner import CaseScorer, Ending, Runner, Stop
from capstan_evaluation.scorers.build import load_functions
from capstan_evaluation.suites.checks import Pairwise
from capstan_evaluation.suites.suite import Case, Suite

DEFAULT_CONCURRENCY: Final = 8


@dataclass(frozen=True)
class Asked:
    """A model, and where it is."""

    server: Server
    model: str


@dataclass(frozen=True)
class Order:
    """What is to be run."""

    suite: Suite
    target: Asked
    judge: Asked | None = None
    embedder: Asked | None = None
    baseline: Run | None = None
    """With whose answers a judge compares."""
    revision: str = ""
    repeats: int | None = None
    """None: as often as the suite says."""
    concurrency: int = DEFAULT_CONCURRENCY
    most_dollars: float | None = None
    most_tokens: int | None = None
    answer_tokens: int = DEFAULT_ANSWER_TOKENS
    """Of an answer, where spend is bounded and the case says nothing."""
    prices: Mapping[str, ModelPrice] = field(default_factory=dict)
    context: ssl.SSLContext | None = None

    @property
    def bounded(self) -> bool:
        """Whether spend is."""
        return self.most_dollars is not None or self.most_tokens is not None

    def unpriced(self) -> list[str]:
        """Give the models of which nobody knows before an ask what it costs."""
        asked = [one.model for one in (self.target, self.judge, self.embedder) if one is not None]
        return sorted({name for name in asked if name not in self.prices})


def build_header(order: Order, *, now: datetime | None = None) -> RunHeader:
    """Say what the run is of."""
    began = (now or datetime.now(UTC)).strftime("%Y-%m-%dT%H:%M:%SZ")
    pairwise = any(isinstance(check, Pairwise) for case in order.suite.cases for check in case.checks)
    suite = order.suite
    return RunHeader(
        id=hashlib.sha256(f"{began} {suite.suiteHash} {order.target.model} {time.time_ns()}".encode()).hexdigest()[:16],
        suite=suite.name,
        suiteHash=suite.suiteHash,
        target=order.target.model,
        url=order.target.server.url,
        revision=order.revision,
        judge=order.judge.model if order.judge else "",
        embedder=order.embedder.model if order.embedder else "",
        baseline=order.baseline.header.id if order.baseline is not None and order.judge and pairwise else "",
        mostTokens=order.answer_tokens if order.bounded else None,
        cases=len(suite.cases),
        repeats=max(repeats_of(case, order.repeats) for case in suite.cases),
        results=count_results(suite, order.repeats),
        began=began,
    )


async def conduct(
    order: Order,
    writer: RunWriter,
    *,
    stop: Stop,
    on_result: Callable[[Result], None] = lambda _: None,
) -> Ending:
    """Run what the file has not yet, and say how it ended. Raises OSError where the file cannot be written."""
    budget = Budget(tokens=order.most_tokens, dollars=order.most_dollars, spent=_sum(writer.log))
    async with open_session(order.concurrency, order.context) as session:
        connection = Connection(session, concurrency=order.concurrency, budget=budget)
        ledger = Ledger(writer)
        target = PaidChat(ledger, await _model(order, connection, order.target), Purpose.TARGET)
        runner = Runner(
            suite=order.suite,
            target=target,
            scorer=await _scorer(order, connection, ledger),
            writer=writer,
            concurrency=order.concurrency,
            repeats=order.repeats,
            most_tokens=order.answer_tokens if order.bounded else None,
            on_result=on_result,
            stop=stop,
        )
        return await runner.run()


class SuiteScorer:
    """Scores answers by the checks of their cases."""

    def __init__(self, helpers: Helpers, baseline: Run | None) -> None:
        self._helpers = helpers
        results = () if baseline is None else baseline.results
        self._answers = {(one.case, one.repeat): one.answer for one in results}

    async def score(self, case: Case, answer: Answer, repeat: int) -> tuple[Score, ...]:
        """Give the scores. A baseline that was asked less often is compared with its first answer."""
        before = self._answers.get((case.id, repeat)) or self._answers.get((case.id, 0))
        return await score_answer(case, answer, self._helpers, baseline=before)


async def _scorer(order: Order, connection: Connection, ledger: Ledger) -> CaseScorer:
    judge = embedder = None
    if order.judge is not None:
        chat = PaidChat(ledger, await _model(order, connection, order.judge), Purpose.JUDGE)
        judge = Judge(chat, order.judge.model, order.suite.rubric)
    if order.embedder is not None:
        embedder = PaidEmbedder(ledger, await _model(order, connection, order.embedder))
    return SuiteScorer(Helpers(judge, embedder, load_functions(order.suite)), order.baseline)


async def _model(order: Order, connection: Connection, asked: Asked) -> Model:
    return Model(
        connection,
        asked.server,
        asked.model,
        price=order.prices.get(asked.model),
        tells_cost=await tells_cost(connection, asked.server),
        most_tokens=order.answer_tokens,
    )


def _sum(log: RunLog) -> Spent:
    target, judging = log.target(), log.judging()
    return Spent(
        asks=target.asks + judging.asks,
        inputTokens=target.inputTokens + judging.inputTokens,
        outputTokens=target.outputTokens + judging.outputTokens,
        cost=target.cost + judging.cost,
        doubtTokens=target.doubtTokens + judging.doubtTokens,
        doubtCost=target.doubtCost + judging.doubtCost,
    )
