"""A cascade: its members answer one after the other until an answer is good enough.

    member 1 ─► held ─► score >= threshold? ─yes─► given (as a stream if the client wants one)
                          │ no, or it failed
    member 2 ─► ...       │ unless it would cost more than maxCost: then the best answer so far is given
                          │ or the request has side effects: then the first answer is given
    last     ─► goes to the client as it comes, unscored; if it fails, the best answer so far is given

Every call is on the bill of the request: tokens and price count for the member that it was.
"""

from dataclasses import dataclass
from typing import Any, Final

from capstan_contract.config import EstimatorType
from capstan_gateway.config.runtime import ServedModel
from capstan_gateway.documents import to_json
from capstan_gateway.errors import GatewayError, LimitExceeded, UpstreamFailed, UpstreamRejected
from capstan_gateway.pipeline.answers import keep, read_object
from capstan_gateway.pipeline.ask import Ask
from capstan_gateway.pipeline.deps import Deps
from capstan_gateway.pipeline.held import HeldSource
from capstan_gateway.pipeline.reply import Reply, StreamReply, WholeReply
from capstan_gateway.pipeline.route import needs_of, usable_members
from capstan_gateway.pipeline.scoring import Scorer
from capstan_gateway.quality.logprobs import ask_for_logprobs, without_logprobs
from capstan_gateway.routing.unroutable import RoutingError
from capstan_gateway.routing.verdicts import Elsewhere, another_model, is_out_of_time
from capstan_gateway.selection.plan import CascadePlan
from capstan_gateway.streaming.relay import StreamRelay
from capstan_gateway.streaming.replay import to_frames
from capstan_gateway.tokens.price import to_nano
from capstan_gateway.tokens.usage import Usage
from capstan_gateway.upstream.errors import UpstreamError

_FAILURES: Final = (RoutingError, UpstreamError, GatewayError)


async def cascade_answer(deps: Deps, model: ServedModel, plan: CascadePlan, ask: Ask) -> Reply:
    """Give the answer of a cascade; what its last member raised when there is none at all."""
    return await Cascade(ask, deps, model, plan).run()


@dataclass(frozen=True, slots=True)
class Held:
    """An answer that waits for its acceptance."""

    number: int
    """Which member's, from 1."""
    model: ServedModel
    answer: dict[str, Any]
    reply: WholeReply
    score: float | None
    size: int
    """Bytes of the process' budget that it takes."""
    by: ServedModel
    """What has answered: of the member the revision."""


class Cascade:
    """One request on its way through the members."""

    def __init__(self, ask: Ask, deps: Deps, model: ServedModel, plan: CascadePlan) -> None:
        self._ask = ask
        self._deps = deps
        self._model = model
        self._plan = plan
        self._needs = needs_of(ask)
        self._scorer = Scorer(ask, model, plan.estimator)
        self._best: Held | None = None
        self._usage: Usage | None = None
        self._by: ServedModel | None = None
        self._limit = _limit(ask, plan)
        """What the request may cost in nano-dollars; None: whatever it does."""

    async def run(self) -> Reply:
        """Give the answer; what the last member raised when there is none at all."""
        usable = usable_members(self._ask, self._model, self._needs)[0]
        members = [member.model for member in usable]
        if self._ask.request.route.counts:
            return await self._last(members[0], 1)  # A count is no answer that could be good enough.
        failure: Exception = UpstreamFailed("no member of the cascade could answer")
        for number, member in enumerate(members, 1):
            if self._best is not None and self._costs_too_much(member):
                return self._give(self._best, "stopped=max-cost")
            try:
                if number == len(members):
                    return await self._last(member, number)
                held = await self._hold(member, number)
            except _FAILURES as error:
                if self._ends(error):
                    if self._best is None or not is_out_of_time(error):
                        raise
                    break
                failure = error
                self._count_escalation(member, "failed")
                continue
            if held.reply.withheld:
                return self._give(held, "stopped=guard")
            if held.score is not None and held.score >= self._plan.threshold:
                return self._give(held, "")
            if self._ask.stats.spent:
                return self._give(held, "stopped=sent-once")
            self._count_escalation(member, "score")
            self._best = self._better(held)
        if self._best is not None:
            return self._give(self._best, "stopped=failed")
        raise failure

    def _ends(self, error: Exception) -> bool:
        """Whether no further member is asked after this error."""
        spent = self._ask.stats.spent
        if isinstance(error, LimitExceeded) and not spent:
            # A draft is a whole answer: where a limit never has so much, the last one may stream all the same.
            return False
        return another_model(error, spent=spent) is Elsewhere.NOWHERE

    def _better(self, held: Held) -> Held:
        """Give the better one of this answer and the best so far; the other one is kept no longer."""
        best = self._best
        if best is None:
            return held
        best, worse = (held, best) if (held.score or 0.0) > (best.score or 0.0) else (best, held)
        if worse.size:
            share = self._ask.memory()
            share.shrink_to(share.held - worse.size)
        return best

    async def _last(self, member: ServedModel, number: int) -> Reply:
        """Give the answer of the last member as it comes."""
        child = self._ask.fork()
        child.may_wait = self._best is None
        child.hold()
        # Its answer is the whole ask's: it ends when that does.
        self._ask.on_end(child.leave)
        try:
            if not child.request.route.counts:
                await _cover(child, member)
            reply: Reply = await member.answer_alone(child)
        except BaseException:
            self._ask.join(child, answers=False)
            raise
        self._ask.join(child, answers=True)
        self._note(f"accepted={number}", member)
        return reply

    async def _hold(self, member: ServedModel, number: int) -> Held:
        """Ask for a whole answer, settle it, and score it."""
        plain = {
            key: value for key, value in self._ask.request.document.items() if key not in ("stream", "stream_options")
        }
        asked = plain
        if self._scorer.uses(EstimatorType.LOG_PROBABILITY) and not member.speaks_anthropic:
            asked = ask_for_logprobs(plain, chat="messages" in plain)
        try:
            reply = await self._ask_whole(member, asked)
        except UpstreamRejected as error:
            if asked is plain or error.status != 400 or "logprob" not in f"{error.param} {error.message}":
                raise
            reply = await self._ask_whole(member, plain)
        size = await keep(reply.body, self._ask.memory, self._deps.executor, whose=member.id)
        answer = read_object(reply)
        score = None if reply.withheld else await self._scorer.score(answer)
        if asked is not plain:
            answer = without_logprobs(answer)
            reply.body = to_json(answer)
        return Held(number, member, answer, reply, score, size, self._by or member)

    async def _ask_whole(self, member: ServedModel, document: dict[str, Any]) -> WholeReply:
        child = self._ask.fork(self._ask.request.rewritten(document))
        child.may_wait = False
        child.hold()
        try:
            await _cover(child, member)
            reply: Reply = await member.answer_alone(child)
        finally:
            self._ask.join(child, answers=False)
            child.leave()
        if not isinstance(reply, WholeReply):
            raise UpstreamFailed("the model's engine answered in another form than was asked for")
        self._usage = child.bill.answer
        self._by = child.answered_by
        return reply

    def _give(self, held: Held, why: str) -> Reply:
        """Give a held answer, in the form that the client asked for."""
        ask = self._ask
        ask.answered_by = held.by
        how = "best" if why else "accepted"
        score = "" if held.score is None else f"score={held.score:.2f}"
        self._note(f"{how}={held.number}", held.model, score, why)
        if not ask.request.stream:
            return held.reply
        relay = StreamRelay(strip_usage=not ask.request.usage_asked)
        first = relay.feed(to_frames(held.answer, usage=ask.request.usage_asked))
        return StreamReply(first, HeldSource(held.model.id), relay)

    def _note(self, outcome: str, member: ServedModel, *more: str) -> None:
        parts = ["cascade", outcome, *more, *self._scorer.notes]
        self._ask.route_note = "; ".join(part for part in parts if part).encode()
        self._deps.metrics.route_decisions.at(self._model.name, member.name, "cascade").value += 1

    def _count_escalation(self, member: ServedModel, reason: str) -> None:
        self._deps.metrics.escalations.at(self._model.name, member.name, reason).value += 1

    def _costs_too_much(self, member: ServedModel) -> bool:
        """Whether asking this member as well would probably cost more than the request may.

        The length of the prompt is known from the call before; the answer is taken to be as long as allowed, or as
        long as the one before. What has no price costs nothing here.
        """
        limit, rates = self._limit, member.rates
        if limit is None or rates is None:
            return False
        prompt = self._usage.prompt_tokens if self._usage is not None else self._needs.prompt_tokens
        output = self._needs.output_tokens
        if self._needs.max_tokens is None and self._usage is not None:
            output = self._usage.completion_tokens
        return self._ask.bill.nano_dollars + rates.cost(Usage(prompt, output)) > limit


async def _cover(ask: Ask, member: ServedModel) -> None:
    """Take what a member may use beyond what was taken, and what those before it have used; raises what refuses it.

    NB: of a stream less was taken than the whole answers that it asks its first members for.
    """
    if ask.governed is not None:
        await ask.governed.cover(ask, member)


def _limit(ask: Ask, plan: CascadePlan) -> int | None:
    """Give the lower one of what the cascade and the caller allow."""
    own = None if plan.max_cost is None else to_nano(plan.max_cost)
    bound = ask.governed.bound if ask.governed is not None else None
    callers = None if bound is None else bound.nano_dollars
    if own is None or callers is None:
        return callers if own is None else own
    return min(own, callers)
