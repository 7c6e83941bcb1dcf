"""What one request has taken under one policy, from its admission to its end.

It ends once, by a closer of the ask: when the ask ends, or at once where what it was taken for has failed. Then each
counter keeps what the calls inside have used, by the bill, and gets the rest back:

    tokens, money   what the calls have used that were settled since it was made, told or estimated
    requests        1 when it was answered, or used anything, or was refused for what it says (4xx); 0 when the model,
                    or the gateway, failed before that, so that the client may ask again
    slots           nothing
"""

from collections.abc import Awaitable, Callable, Sequence
from typing import Final, Protocol

from capstan_contract.limits import CountCached
from capstan_gateway.config.runtime import ServedModel
from capstan_gateway.errors import GatewayError
from capstan_gateway.limits.port import Charge, Reservation, Standing, Verdict
from capstan_gateway.pipeline.ask import Ask
from capstan_gateway.pipeline.estimates import MeanOutputs
from capstan_gateway.pipeline.limits.rules import Counts, Plan, Policy, amounts_of
from capstan_gateway.tokens.bill import TOLD, Bill, Spent
from capstan_gateway.tokens.price import Rates
from capstan_gateway.tokens.ratios import PromptRatios
from capstan_gateway.tokens.usage import Usage

CLIENT_ERROR: Final = 400
SERVER_ERROR: Final = 500
_WAITS: Final = frozenset((408, 429))
"""Statuses of refusals that are not about what the request says."""


_NOTHING: Final[tuple[list[int], int]] = [], 0


class Listener(Protocol):
    """Who counts what was taken and what was used; `counting.PolicyCells` is one."""

    def settled(self, plan: Plan, used: Sequence[int], unpriced: int) -> None:
        """Take what each counter of the plan has kept."""
        ...


Covering = Callable[[Ask, "Grant", ServedModel], Awaitable[None]]
_NO_USAGE: Final = Usage(0, 0)


class Grant:
    """The reservation of a request under one policy. It is found in `Ask.governed`."""

    __slots__ = (
        "_bill", "_closed", "_final", "_keeps", "_listener", "_mark", "_means", "_model_id", "answered", "covering",
        "covers", "estimate", "held", "plan", "policy", "ratios", "reservation", "waived",
    )  # fmt: skip

    def __init__(
        self, policy: Policy, plan: Plan, reservation: Reservation | None, bill: Bill, model_id: str,
        listener: Listener, means: MeanOutputs | None,
    ) -> None:  # fmt: skip
        # NB: positional: names in a call of a class are a dictionary that is made and taken apart again.
        self.policy: Final = policy
        self.plan: Final = plan
        self.reservation = reservation
        """None as long as nothing was taken: only of a policy that looks on."""
        self.waived: frozenset[int] = frozenset()
        """Places of counters that stop nobody any more: budgets because of which a cheaper model answers."""
        self.ratios: PromptRatios | None = None
        """Who learns from the answer how many tokens the prompt had that has this estimate; None: nobody."""
        self.estimate = 0
        self.held: Sequence[Charge] = ()
        """What was taken before the model was asked."""
        self.covers = 0
        """What was taken is enough for so many tokens of output; 0: for as many as were taken at first."""
        self.covering: Covering | None = None
        """Takes more for another model that may answer; None: no model takes more than another."""
        self.answered = False
        """Whether the model has begun to answer."""
        self._bill = bill
        self._mark = bill.calls
        self._model_id = model_id
        self._listener = listener
        self._means = means
        self._keeps = False
        self._closed = False
        self._final = _NOTHING

    @property
    def standings(self) -> Sequence[Standing]:
        """How the counters of the plan stand, in their order, by what was said last."""
        return () if self.reservation is None else self.reservation.verdict.standings

    @property
    def spent(self) -> Spent:
        """What has been settled for it so far; of a stream that is under way nothing."""
        return self._bill.since(self._mark)

    async def extend(
        self, *, input_tokens: int = 0, output_tokens: int = 0, so_far: Usage, rates: Rates | None
    ) -> Verdict:
        """Take so many tokens more, and their price, all or nothing. Raises StoreDown as `Limiter.reserve` does.

        `so_far` is what was used by what is under way; of requests and slots nothing more is taken.
        """
        money = 0 if rates is None else rates.cost(Usage(input_tokens, output_tokens))
        more = amounts_of(0, input_tokens, output_tokens, money)
        if self.reservation is None:
            raise RuntimeError("nothing was taken")
        amounts = [
            0 if counter.rule.counts is Counts.SLOTS or place in self.waived else more[counter.rule.counts]
            for place, counter in enumerate(self.plan.counters)
        ]
        return await self.reservation.extend(amounts, used=self.used(so_far, rates))

    async def cover(self, ask: Ask, model: ServedModel) -> None:
        """See `Granted.cover`."""
        if self.covering is not None:
            await self.covering(ask, self, model)

    async def raise_to(self, charges: Sequence[Charge], *, bounded: bool) -> Verdict | None:
        """Have so much of tokens and money beyond what was used so far; None: that is there already.

        All or nothing. Raises StoreDown as `Limiter.reserve` does. Of a request that is not `bounded` by its client no
        more is ever held than there ever is: it would be refused for good because of what nobody asked for.
        """
        if self.reservation is None:
            raise RuntimeError("nothing was taken")
        more = self.missing(charges, bounded=bounded)
        if not any(more):
            return None
        verdict = await self.reservation.extend(more, used=self.used(_NO_USAGE, None))
        if verdict.admitted:
            self.held = [Charge(had.bucket, had.amount + extra) for had, extra in zip(self.held, more, strict=True)]
        return verdict

    def missing(self, charges: Sequence[Charge], *, bounded: bool) -> list[int]:
        """Give what each counter lacks of so much beyond what was used so far; see `raise_to`."""
        used, more = self.used(_NO_USAGE, None), [0] * len(charges)
        for place in self.plan.spending:
            if place not in self.waived:
                had, wanted = self.held[place].amount, used[place] + charges[place].amount
                if not bounded:
                    wanted = min(wanted, max(self.plan.counters[place].rule.limit, had))
                more[place] = max(wanted - had, 0)
        return more

    def left(self) -> list[int]:
        """Give what each counter holds for it and was not used yet."""
        used = self.used(_NO_USAGE, None)
        return [max(had.amount - gone, 0) for had, gone in zip(self.held, used, strict=True)]

    def used(self, so_far: Usage, rates: Rates | None) -> list[int]:
        """Give what each counter has used, with what is under way at these rates."""
        spent = self.spent
        money = spent.nano_dollars + (0 if rates is None else rates.cost(so_far))
        amounts = amounts_of(
            1, spent.input_tokens + so_far.prompt_tokens, spent.output_tokens + so_far.completion_tokens, money
        )
        return [amounts[counter.rule.counts] for counter in self.plan.counters]

    def note(self, error: GatewayError) -> None:
        """Take note of why there was no answer."""
        status = error.status
        self._keeps = CLIENT_ERROR <= status < SERVER_ERROR and status not in _WAITS

    def give(self, reservation: Reservation) -> None:
        """Take over what has been taken meanwhile; what it was for may have ended before."""
        self.reservation = reservation
        if self._closed:
            self._settle(reservation)

    def close(self, ask: Ask) -> None:
        """Settle it, once."""
        if self._closed:
            return
        self._closed = True
        bill, plan = self._bill, self.plan
        settled, mark = bill.settled, self._mark
        if bill.cached is None and len(settled) == mark + 1:
            # As nearly all: one call was made for it.
            usage, _, _, price, _ = settled[mark]
            prompt, output = usage[0], usage[1]
            amounts: tuple[int, ...] = (1, prompt + output, prompt, output, 1, price or 0)
            self._final = [amounts[kind] for kind in plan.kinds], price is None
        elif plan.same is not None and bill.cached is None:
            request = int(self.answered or self._keeps or bill.calls > self._mark)
            self._final = [request] * len(plan.same), 0
        else:
            requests, spent = self._kept()
            amounts = amounts_of(requests, spent.input_tokens, spent.output_tokens, spent.nano_dollars)
            self._final = [amounts[kind] for kind in plan.kinds], spent.unpriced
        if self._means is not None and self.answered:
            self._observe(ask, self._means)
        if self.ratios is not None and self.answered:
            self._teach(ask, self.ratios)
        reservation = self.reservation
        if reservation is not None:
            used, unpriced = self._final
            reservation.settle(used)
            if plan.spending:
                self._listener.settled(plan, used, unpriced)

    def _settle(self, reservation: Reservation) -> None:
        used, unpriced = self._final
        reservation.settle(used)
        self._listener.settled(self.plan, used, unpriced)

    def _kept(self) -> tuple[int, Spent]:
        spent, cached = self.spent, self._bill.cached
        if cached is None or not self.answered:
            return int(self.answered or self._keeps or spent.calls > 0), spent
        if self.policy.body.countCached is CountCached.NONE:
            return int(spent.calls > 0), spent
        usage, price = cached
        return 1, Spent(
            spent.calls + 1, spent.input_tokens + usage.prompt_tokens, spent.output_tokens + usage.completion_tokens,
            spent.nano_dollars + price, spent.unpriced,
        )  # fmt: skip

    def _teach(self, ask: Ask, ratios: PromptRatios) -> None:
        """Tell what the engine has counted of the prompt that was answered; nothing where it has not."""
        by = ask.answered_by
        if by is None:
            return
        for usage, how, answered, _, model in reversed(self._bill.settled[self._mark :]):
            if answered and how is TOLD and model == by.name:
                ratios.observe(by.id, estimate=self.estimate, told=usage.prompt_tokens)
                if by.id != self._model_id:
                    ratios.observe(self._model_id, estimate=self.estimate, told=usage.prompt_tokens)
                return

    def _observe(self, ask: Ask, means: MeanOutputs) -> None:
        settled = self._bill.settled
        answer = settled[0][0] if len(settled) == 1 and settled[0][2] else self._bill.answer
        if answer is None:
            return
        means.observe(self._model_id, answer.completion_tokens)
        by = ask.answered_by
        if by is not None and by.id != self._model_id:
            means.observe(by.id, answer.completion_tokens)
