"""One RateLimitPolicy around one model: it reserves before the model is asked, and settles when that has ended.

    estimate ─► take, else ask the store ─► admitted ─► the model ─► settled by the bill, by a closer
                      │ no   (where that depends on how long the prompt really is: who knows that is asked, once)
                      ├─ a budget that says so ─► a cheaper model answers
                      └─ refused: wait, spent, or more than is ever there

A policy that only looks on decides and counts alike, and changes nothing: nobody waits for its decision.
"""

from collections.abc import Sequence
from functools import partial
from typing import Final

from capstan_contract.limits import OnStoreFailure
from capstan_gateway.config.runtime import ServedModel
from capstan_gateway.errors import GatewayError, LimiterUnavailable, Overloaded
from capstan_gateway.limits.port import Charge, Outcome, Reservation, StoreDown, Verdict
from capstan_gateway.pipeline.ask import Ask
from capstan_gateway.pipeline.estimates import asked_output
from capstan_gateway.pipeline.governed import Governed
from capstan_gateway.pipeline.layers import AnswerFunction, Order, Reads, compose, guards_of
from capstan_gateway.pipeline.limits.counting import DOWNGRADED, PolicyCells
from capstan_gateway.pipeline.limits.deciding import Deciding
from capstan_gateway.pipeline.limits.grant import Grant
from capstan_gateway.pipeline.limits.heads import refused
from capstan_gateway.pipeline.limits.needs import NOBODY, NOTHING, Need, Needs, Shared
from capstan_gateway.pipeline.limits.rules import Plan, Policy
from capstan_gateway.pipeline.limits.streams import is_metered, metered_stream, output_in
from capstan_gateway.pipeline.limits.told import soft_limited
from capstan_gateway.pipeline.reply import Reply, StreamReply
from capstan_gateway.tokens.prompt import is_read_whole

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
        self._needs: Final = Needs(policy, cells, shared, model_id)
        self._deciding: Final = Deciding(self._needs, shared, cells, local=self._local)

    async def answer(self, ask: Ask, inner: AnswerFunction) -> Reply:
        """Give the reply of `inner`, or of a cheaper model; raises what refuses the request."""
        plan = None if ask.request.route.counts else self._plan(ask)
        if plan is None:
            return await inner(ask)
        if not self.policy.enforces:
            return await self._watched(ask, plan, inner)
        cheaper: ServedModel | None = None
        if plan.same is not None:
            need: Need = _new(Need, (plan.same, 0, NOBODY, 0))
        else:
            need = self._needs.at_once(ask, plan) or await self._needs.of_ask(ask, plan)
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

    async def _ask_store(self, ask: Ask, plan: Plan, need: Need) -> tuple[Reservation, Need, ServedModel | None]:
        """Ask for what is not at hand, until it is had, by a cheaper model if need be, or refused."""
        cheaper: ServedModel | None = None
        while True:
            held, need = await self._deciding.decided(ask, plan, cheaper or self._needs.model_of(ask), need)
            if not isinstance(held, Verdict):
                return held, need, cheaper
            found = None if held.denied in need.waived else self._cheaper(ask, plan, held)
            if found is None:
                self._cells.denied(plan.counters[held.denied].rule, held.outcome)
                raise refused(ask, plan, held, [charge.amount for charge in need.charges], self._shared.now())
            self._cells.denied(plan.counters[held.denied].rule, DOWNGRADED)
            cheaper = found
            prompt = await self._needs.prompt(ask, cheaper)
            need = self._needs.of(ask, plan, cheaper, prompt, waived=need.waived | {held.denied})

    async def _cover(self, ask: Ask, grant: Grant, model: ServedModel) -> None:
        """Take what another model may use beyond what was taken, all or nothing; raises what refuses that."""
        plan, most = grant.plan, asked_output(ask.request)
        need = self._needs.of(ask, plan, model, await self._needs.prompt(ask, model))
        try:
            verdict, need = await self._deciding.raised(ask, grant, model, need)
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
        least = plan.charges(prompt, 0, self._needs.cost(ask, plan, model, prompt, 0))
        whole = plan.charges(prompt, most, self._needs.cost(ask, plan, model, prompt, most))
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
        # NB: what guards the model that was asked for stands between this and the model: no way leads around it.
        around = ask.runtime.whole.by_id.get(self._model_id)
        reply = await compose(guards_of(around.layers if around is not None else ()), cheaper.answer)(ask)
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
        if (
            need.estimate
            and ask.request.form is None  # NB: how long a sound is follows from its coding, which is its client's.
            and shared.ratios.wants(self._model_id, need.estimate)
            and is_read_whole(ask.request.document)  # NB: or anybody could teach what others' prompts cost.
        ):
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
            charges = plan.same or (await self._needs.of_ask(ask, plan)).charges
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
