"""One RateLimitPolicy around one model: it reserves before the model is asked, and settles when that has ended.

    estimate ─► take, else ask the store ─► admitted ─► the model ─► settled by the bill, by a closer
                      │ no
                      ├─ a budget that says so ─► a cheaper model answers
                      └─ refused: wait, spent, or more than is ever there

A policy that only looks on decides and counts alike, and changes nothing: nobody waits for its decision.
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Final, NamedTuple

from capstan_contract.limits import OnStoreFailure, UnknownPrice
from capstan_gateway.config.runtime import ServedModel
from capstan_gateway.errors import NO_RETRY, GatewayError, InvalidRequest, LimiterUnavailable, Overloaded
from capstan_gateway.life.threads import Threads
from capstan_gateway.limits.port import Charge, Limiter, Outcome, Reservation, StoreDown, Verdict
from capstan_gateway.pipeline.ask import Ask
from capstan_gateway.pipeline.background import Background
from capstan_gateway.pipeline.beside import LARGE_BYTES, beside
from capstan_gateway.pipeline.estimates import CostBound, MeanOutputs, asked_output, asked_tokens, cost
from capstan_gateway.pipeline.governed import Governed
from capstan_gateway.pipeline.layers import AnswerFunction, Order, Reads
from capstan_gateway.pipeline.limits.counting import DOWNGRADED, PolicyCells
from capstan_gateway.pipeline.limits.grant import Grant
from capstan_gateway.pipeline.limits.heads import refused
from capstan_gateway.pipeline.limits.plans import Plans
from capstan_gateway.pipeline.limits.rules import Plan, Policy, fitted
from capstan_gateway.pipeline.limits.streams import first_of, is_metered, metered_stream, output_in, reserved_output
from capstan_gateway.pipeline.limits.told import soft_limited
from capstan_gateway.pipeline.reply import Reply, StreamReply
from capstan_gateway.pipeline.request import Request
from capstan_gateway.tokens.ratios import PromptRatios

SLICE_TOKENS: Final = 256


class Need(NamedTuple):
    """What a request takes before a model is asked."""

    charges: tuple[Charge, ...]
    output: int
    """How many tokens of output are in them."""
    waived: frozenset[int] = frozenset()
    """Places of those that are not taken, because a cheaper model answers."""
    estimate: int = 0
    """Of the input, before it was corrected by what is known of the model's prompts."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Shared:
    """What all layers share."""

    limiter: Limiter
    plans: Plans
    means: MeanOutputs
    executor: Threads
    background: Background
    ratios: PromptRatios = field(default_factory=PromptRatios)
    """How prompts compare with their estimates."""
    slice_tokens: int = SLICE_TOKENS
    """How much of a stream's output is taken at a time."""
    counts_together: bool = False
    """Whether the counts are those of all gateways together."""
    now: Callable[[], float] = time.time
    """Unix seconds: periods of budgets begin by it."""


NOTHING: Final = Governed()
_NOBODY: Final[frozenset[int]] = frozenset()
_new: Final = tuple.__new__
"""NB: the constructor of a named tuple of Python's takes several times as long."""


class RateLimitLayer:
    """What a policy does with the requests to one model; `layers.Layer`."""

    order = Order.LIMITS
    reads = Reads.NOTHING

    def __init__(self, policy: Policy, cells: PolicyCells, shared: Shared, *, model_id: str, model_name: str) -> None:
        self.policy: Final = policy
        self._cells: Final = cells
        self._shared: Final = shared
        self._model_id: Final = model_id
        self._model_name: Final = model_name
        self._local: Final = policy.body.onStoreFailure is OnStoreFailure.ALLOW_LOCAL
        self._prices_known: Final = policy.body.unknownPrice is UnknownPrice.DENY

    async def answer(self, ask: Ask, inner: AnswerFunction) -> Reply:
        """Give the reply of `inner`, or of a cheaper model; raises what refuses the request."""
        plan = None if ask.request.route.counts else self._plan(ask)
        if plan is None:
            return await inner(ask)
        if not self.policy.enforces:
            return await self._watched(ask, plan, inner)
        cheaper: ServedModel | None = None
        if plan.same is not None:
            need: Need = _new(Need, (plan.same, 0, _NOBODY, 0))
        else:
            need = self._need_at_once(ask, plan) or await self._need(ask, plan)
        held = self._shared.limiter.take(need.charges, local=self._local)
        if held is None:
            held, need, cheaper = await self._ask_store(ask, plan, need)
        grant = self._granted(ask, plan, held, need)
        try:
            reply = await (inner(ask) if cheaper is None else self._downgraded(ask, cheaper))
        except GatewayError as error:
            grant.note(error)
            raise
        grant.answered = True
        if type(reply) is StreamReply and plan.has_output and is_metered(ask.request, need.output):
            return metered_stream(
                reply, ask, grant, reserved=grant.covers or need.output, slice=self._shared.slice_tokens,
                cells=self._cells, now=self._shared.now,
            )  # fmt: skip
        return reply

    def _plan(self, ask: Ask) -> Plan | None:
        model, name = ask.model, self._model_name
        if model.id == self._model_id:
            name = model.name  # An adapter's, when that was asked for.
        inner = len(ask.inside) > 1 and any(
            type(outer) is RateLimitLayer and outer is not self and outer.policy is self.policy for outer in ask.inside
        )
        return self._shared.plans.find(
            self.policy, ask.principal, model_id=self._model_id, model_name=name, inner=inner,
            now_ms=int(self._shared.now() * 1000),
        )  # fmt: skip

    def _model_of(self, ask: Ask) -> ServedModel:
        """Give the model around which it stands."""
        if ask.model.id == self._model_id:
            return ask.model
        # NB: a judge answers also who may not use it.
        return ask.runtime.whole.by_id.get(self._model_id, ask.model)

    async def _prompt(self, ask: Ask, model: ServedModel) -> int:
        """Estimate the input of this model, beside the loop where that takes long."""
        request = ask.request
        if request.came <= LARGE_BYTES:
            return asked_tokens(request, model)
        return await beside(self._shared.executor, partial(asked_tokens, request, model))

    async def _need(self, ask: Ask, plan: Plan) -> Need:
        """Give what the request takes if the model answers around which this stands."""
        model = self._model_of(ask)
        return self._need_of(ask, plan, model, await self._prompt(ask, model))

    def _need_at_once(self, ask: Ask, plan: Plan) -> Need | None:
        """Give the same, where that takes no long."""
        request, model = ask.request, ask.model
        if request.came > LARGE_BYTES:
            return None
        if model.id != self._model_id:
            model = self._model_of(ask)
        return self._need_of(ask, plan, model, asked_tokens(request, model))

    def _need_of(self, ask: Ask, plan: Plan, model: ServedModel, estimate: int, *, corrects: bool = True) -> Need:
        """Give what the request takes if this model answers; raises where the price must be known, and is not.

        Its input is the estimate, corrected by what the model's prompts had before.

        A client that sets no limit to its answer does not ask for all that the model could give: by that alone no
        request is more than there ever is.
        """
        request, shared = ask.request, self._shared
        prompt = shared.ratios.corrected(model.id, estimate) if corrects else estimate
        output = reserved_output(request, model, shared.means, shared.slice_tokens) if plan.has_output else 0
        charges = plan.charges(prompt, output, self._cost(ask, plan, model, prompt, output))
        if output and plan.is_exceeded(charges) and asked_output(request) is None:
            least = plan.charges(prompt, 0, 0 if model.rates is None else model.rates.of_tokens(prompt, 0))
            fit = fitted(charges, least, plan.counters)
            return Need(fit, output_in(fit, charges, least, output), _NOBODY, estimate)
        return _new(Need, (charges, output, _NOBODY, estimate))

    def _cost(self, ask: Ask, plan: Plan, model: ServedModel, prompt: int, output: int) -> int:
        if not plan.has_money:
            return 0
        if model.rates is not None and not self._prices_known:
            return model.rates.of_tokens(prompt, output)
        means = self._shared.means
        if self._prices_known:
            governed = ask.governed or NOTHING
            if governed.bound is None:
                ask.governed = governed._replace(bound=CostBound(None, prompt, means))
        money = cost(
            ask.request, ask.runtime, model, prompt, means, known_only=True,
            first=partial(_first, self._shared.slice_tokens),
        )  # fmt: skip
        if money is None and self._prices_known:
            self._cells.unpriced()
            raise InvalidRequest(
                "nobody has said what the model costs, and a budget needs to know",
                code="model_price_unknown", param="model", headers=(NO_RETRY,),
            )  # fmt: skip
        return money or 0

    async def _ask_store(self, ask: Ask, plan: Plan, need: Need) -> tuple[Reservation, Need, ServedModel | None]:
        """Ask for what is not at hand, until it is had, by a cheaper model if need be, or refused."""
        cheaper: ServedModel | None = None
        waived: frozenset[int] = frozenset()
        while True:
            held = await self._reserve(need.charges)
            if isinstance(held, Verdict) and held.outcome is Outcome.NEVER and cheaper is None and need.estimate:
                # What other prompts had is no reason to refuse one for good.
                plain = self._need_of(ask, plan, self._model_of(ask), need.estimate, corrects=False)
                if plain.charges != need.charges:
                    need = plain
                    held = await self._reserve(need.charges)
            if not isinstance(held, Verdict):
                return held, need, cheaper
            found = None if held.denied in waived else self._cheaper(ask, plan, held)
            if found is None:
                self._cells.denied(plan.counters[held.denied].rule, held.outcome)
                raise refused(ask, plan, held, [charge.amount for charge in need.charges], self._shared.now())
            self._cells.denied(plan.counters[held.denied].rule, DOWNGRADED)
            cheaper = found
            waived |= {held.denied}
            need = self._need_of(ask, plan, cheaper, await self._prompt(ask, cheaper))
            charges = tuple(
                charge._replace(amount=0) if position in waived else charge
                for position, charge in enumerate(need.charges)
            )
            need = need._replace(charges=charges, waived=waived)

    async def _reserve(self, charges: tuple[Charge, ...]) -> Reservation | Verdict:
        try:
            return await self._shared.limiter.reserve(charges, local=self._local)
        except StoreDown:
            self._cells.unavailable()
            raise LimiterUnavailable from None

    async def _cover(self, ask: Ask, grant: Grant, model: ServedModel) -> None:
        """Take what another model may use beyond what was taken, all or nothing; raises what refuses that."""
        plan, most = grant.plan, asked_output(ask.request)
        need = self._need_of(ask, plan, model, await self._prompt(ask, model))
        try:
            verdict = await grant.raise_to(need.charges, bounded=most is not None)
        except StoreDown:
            self._cells.unavailable()
            raise LimiterUnavailable from None
        if verdict is None or verdict.admitted:
            output = need.output
            if ask.request.stream and most is not None and most > output:
                output = max(output, self._output_left(ask, grant, model, need.estimate, most))
            grant.covers = grant.spent.output_tokens + output
            return
        if verdict.outcome is Outcome.LOST:
            self._cells.unavailable()
            raise LimiterUnavailable
        self._cells.denied(plan.counters[verdict.denied].rule, verdict.outcome)
        raise refused(ask, plan, verdict, [charge.amount for charge in need.charges], self._shared.now())

    def _output_left(self, ask: Ask, grant: Grant, model: ServedModel, prompt: int, most: int) -> int:
        """Give how much of an answer of `most` tokens is in what is still held: a draft before may have used little."""
        plan = grant.plan
        least = plan.charges(prompt, 0, self._cost(ask, plan, model, prompt, 0))
        whole = plan.charges(prompt, most, self._cost(ask, plan, model, prompt, most))
        held = [charge._replace(amount=left) for charge, left in zip(whole, grant.left(), strict=True)]
        waived = [
            low if place in grant.waived else one for place, (one, low) in enumerate(zip(whole, least, strict=True))
        ]
        return min(output_in(held, waived, least, most), most)

    def _cheaper(self, ask: Ask, plan: Plan, verdict: Verdict) -> ServedModel | None:
        """Give the model that answers instead; None when there is none, or one does already."""
        budget = plan.counters[verdict.denied].rule.budget
        if budget is None or budget.downgradeTo is None or verdict.outcome is Outcome.WAIT:
            return None
        if ask.governed is not None and ask.governed.downgraded:
            return None
        model = ask.runtime.by_id.get(budget.downgradeTo)
        # NB: the runtime of an ask holds what its principal may use, and nothing else.
        fits = model is not None and model.id != self._model_id and model.task in ask.request.route.tasks
        return model if fits else None

    async def _downgraded(self, ask: Ask, cheaper: ServedModel) -> Reply:
        ask.governed = (ask.governed or NOTHING)._replace(downgraded=True)
        reply: Reply = await cheaper.answer(ask)
        note = b"downgraded"
        ask.route_note = note + b"; " + ask.route_note if ask.route_note else note
        return reply

    def _granted(self, ask: Ask, plan: Plan, held: Reservation, need: Need) -> Grant:
        """Register what was taken: from here on it is settled whatever happens."""
        shared = self._shared
        grant = Grant(
            self.policy, plan, held, ask.bill, self._model_id, self._cells, shared.means if plan.has_output else None
        )
        if need.waived:
            grant.waived = need.waived
        if need.estimate and shared.ratios.wants(self._model_id, need.estimate):
            grant.estimate, grant.ratios = need.estimate, shared.ratios
        if plan.same is None:
            grant.held, grant.covering = need.charges, self._cover
        before = ask.governed
        if before is None:
            governed: Governed = _new(Governed, ((grant,), None, False, False))
        else:
            governed = before._replace(grants=(*before.grants, grant))
        if ask.request.stream and plan.has_output and is_metered(ask.request, need.output):
            governed = governed._replace(metered=True)
        ask.governed = governed
        ask.on_end(partial(grant.close, ask))
        self._count(plan, held, need.charges)
        return grant

    def _grant(self, ask: Ask, plan: Plan, held: Reservation | None) -> Grant:
        return Grant(
            self.policy, plan, held, ask.bill, self._model_id, self._cells,
            self._shared.means if plan.has_output else None,
        )  # fmt: skip

    # --- Shadow -------------------------------------------------------------------------------------------------------

    async def _watched(self, ask: Ask, plan: Plan, inner: AnswerFunction) -> Reply:
        """Give the reply of `inner`, and count what would have become of the request."""
        grant = await self._look_on(ask, plan)
        try:
            reply = await inner(ask)
        except GatewayError as error:
            grant.note(error)
            raise
        grant.answered = True
        return reply

    async def _look_on(self, ask: Ask, plan: Plan) -> Grant:
        """Decide and count. What has to be asked for is asked beside the request."""
        grant, governed = self._grant(ask, plan, None), ask.governed
        try:
            charges = plan.same or (await self._need(ask, plan)).charges
        except GatewayError:
            return grant
        finally:
            ask.governed = governed
        ask.on_end(partial(grant.close, ask))
        held = self._shared.limiter.take(charges, local=self._local)
        if held is not None:
            self._seen(grant, held, charges)
            return grant
        try:
            self._shared.background.start(self._decide(grant, charges))
        except Overloaded:
            self._cells.unavailable()
        return grant

    async def _decide(self, grant: Grant, charges: tuple[Charge, ...]) -> None:
        try:
            held = await self._shared.limiter.reserve(charges, local=self._local)
        except StoreDown:
            self._cells.unavailable()
            return
        if isinstance(held, Verdict):
            rule = grant.plan.counters[held.denied].rule
            steps_down = rule.budget is not None and rule.budget.downgradeTo is not None
            self._cells.denied(rule, DOWNGRADED if steps_down and held.outcome is not Outcome.WAIT else held.outcome)
        else:
            self._seen(grant, held, charges)

    def _seen(self, grant: Grant, held: Reservation, charges: Sequence[Charge]) -> None:
        self._count(grant.plan, held, charges)
        grant.give(held)

    def _count(self, plan: Plan, held: Reservation, charges: Sequence[Charge]) -> None:
        """Count a request that was let through."""
        self._cells.admitted.value += 1
        if plan.spending:
            self._cells.reserved(plan, charges)
        if plan.has_soft_limit:
            for counter, _ in soft_limited(zip(plan.counters, held.verdict.standings, strict=True)):
                self._cells.soft_limited(counter.rule)
        plan.seen = held, self._shared.now()


def _first(slice: int, request: Request, output: int) -> int:
    return first_of(request, output, slice)
