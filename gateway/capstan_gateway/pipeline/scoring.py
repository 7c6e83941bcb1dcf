"""The score of a held answer: checks and log-probabilities at once, the judge by asking it."""

import asyncio
from collections.abc import Iterator, Mapping
from typing import Any, Final

from capstan_contract.config import CascadeEstimator, EstimatorType, Provider, Task
from capstan_gateway.config.runtime import ServedModel
from capstan_gateway.documents import INLINE_BYTES
from capstan_gateway.errors import GatewayError
from capstan_gateway.pipeline.answers import read_object
from capstan_gateway.pipeline.ask import Ask
from capstan_gateway.pipeline.guards.redacting import redact_request, redacting
from capstan_gateway.pipeline.layers import of_its_own
from capstan_gateway.pipeline.reply import Reply, WholeReply
from capstan_gateway.pipeline.request import CHAT_PATH, Route
from capstan_gateway.quality.checks import check_answer
from capstan_gateway.quality.combined import USES, combine
from capstan_gateway.quality.judging import judge_request, read_grade
from capstan_gateway.quality.logprobs import mean_probability
from capstan_gateway.routing.unroutable import RoutingError
from capstan_gateway.upstream.errors import UpstreamError

_ROUTE: Final = Route("/v1/chat/completions", CHAT_PATH, frozenset((Task.CHAT,)))


class Scorer:
    """Scores the answers of one request."""

    def __init__(self, ask: Ask, model: ServedModel, estimator: CascadeEstimator) -> None:
        """Make it, for a request to this cascade."""
        self._ask = ask
        self._uses = USES[estimator.type]
        # NB: of the whole config: who may use the cascade may have it judged, and is not told by whom.
        self._judge = ask.runtime.whole.by_id.get(estimator.judge or "")
        self._judge_seconds = estimator.judgeTimeoutSeconds
        self._models = () if self._judge is None else tuple(_all_models(model, ask.runtime.whole.by_id))
        self.notes: list[str] = []
        """What went wrong with the judge, in words for a header."""

    def uses(self, estimator: EstimatorType) -> bool:
        """Whether this estimator has a say."""
        return estimator in self._uses

    async def score(self, answer: dict[str, Any]) -> float | None:
        """Give the mean of the estimators that could tell; None when none could, which no threshold accepts."""
        request, scores = self._ask.request.document, list[float | None]()
        if self.uses(EstimatorType.CHECKS):
            scores.append(check_answer(answer, request))
        if self.uses(EstimatorType.LOG_PROBABILITY):
            scores.append(mean_probability(answer))
        if self.uses(EstimatorType.JUDGE) and self._judge is not None:
            scores.append(await self._ask_judge(self._judge, answer))
        return combine(scores)

    async def _ask_judge(self, judge: ServedModel, answer: dict[str, Any]) -> float | None:
        self.notes.clear()
        try:
            async with asyncio.timeout(self._judge_seconds):
                grade = await self._grade(judge, answer)
        except TimeoutError:
            self.notes.append("judge=timeout")
            return None
        except (RoutingError, UpstreamError, GatewayError):
            grade = None
        if grade is None:
            self.notes.append("judge=failed")
        return grade

    async def _grade(self, judge: ServedModel, answer: dict[str, Any]) -> float | None:
        document = {"model": judge.upstream_name, **judge_request(self._ask.request.document, answer)}
        if judge.provider == Provider.OPENAI:
            # Their newer models refuse the older name.
            document["max_completion_tokens"] = document.pop("max_tokens")
        child = self._ask.fork(self._ask.request.rewritten(document, route=_ROUTE))
        child.inside = of_its_own(child.inside)
        child.own = True
        child.may_wait = False
        child.hold()
        try:
            # NB: whoever of them would not be shown something, the judge is not either, which may be anybody's.
            await redact_request(redacting(self._models, but=judge.layers), child)
            if child.governed is not None:
                await child.governed.cover(child, judge)  # It is on the bill, so it is taken before.
            reply: Reply = await judge.answer_alone(child)
        finally:
            self._ask.join(child, answers=False)
            child.leave()
        if not isinstance(reply, WholeReply) or len(reply.body) > INLINE_BYTES:
            return None
        return read_grade(read_object(reply))


def _all_models(model: ServedModel, by_id: Mapping[str, ServedModel]) -> Iterator[ServedModel]:
    """Give a virtual model and all that may answer for it, the nearest first."""
    known, waiting = {model.id}, [model]
    for one in waiting:
        yield one
        for member in (one.plan.members if one.plan is not None else None) or ():
            found = by_id.get(member if isinstance(member, str) else member.model)
            if found is not None and found.id not in known:
                known.add(found.id)
                waiting.append(found)
