"""Takes what requests need from a store, near the limit: where it matters how many tokens a prompt really has, that is
asked for, once, and decides; see `exact`."""

from collections.abc import Callable, Sequence
from typing import Final

from capstan_gateway.config.runtime import ServedModel
from capstan_gateway.errors import LimiterUnavailable
from capstan_gateway.limits.port import Charge, Outcome, Reservation, StoreDown, Verdict
from capstan_gateway.pipeline.ask import Ask
from capstan_gateway.pipeline.estimates import asked_output
from capstan_gateway.pipeline.limits.counting import PolicyCells
from capstan_gateway.pipeline.limits.doubts import fits, is_far, is_open
from capstan_gateway.pipeline.limits.grant import Grant
from capstan_gateway.pipeline.limits.needs import Need, Needs, Shared, beyond
from capstan_gateway.pipeline.limits.rules import Plan


class Deciding:
    """Decides for the requests under one policy that stands around one model."""

    def __init__(self, needs: Needs, shared: Shared, cells: PolicyCells, *, local: bool) -> None:
        self._needs: Final = needs
        self._shared: Final = shared
        self._cells: Final = cells
        self._local: Final = local

    async def decided(self, ask: Ask, plan: Plan, model: ServedModel, need: Need) -> tuple[Reservation | Verdict, Need]:
        """Take what the request needs if this model answers, or say why not; and what that is.

        Where it depends on how many tokens the prompt really has, that is asked for, and decides.
        """
        held = await self.reserve(need.charges)
        if not need.estimate:
            return held, need
        if not isinstance(held, Verdict):
            if self._shared.counts is None or is_far(need.charges, held.verdict.standings, plan.spending):
                return held, need
            return await self._looked_at(ask, plan, model, need, held)
        count = await self._count(ask, plan, model, need, held, [0] * len(need.charges), _amounts)
        if count is None and held.outcome is Outcome.NEVER:
            count = need.estimate  # What other prompts had is no reason to refuse one for good.
        if count is None:
            return held, need
        counted = self._needs.of(ask, plan, model, need.estimate, count=count, waived=need.waived)
        if counted.charges == need.charges:
            return held, need
        return await self.reserve(counted.charges), counted

    async def _looked_at(
        self, ask: Ask, plan: Plan, model: ServedModel, need: Need, held: Reservation
    ) -> tuple[Reservation | Verdict, Need]:
        """Take more of what is nearly all taken, where the prompt has more tokens than were taken for it; or give all
        of it back, and say why not."""
        nothing = [0] * len(need.charges)
        try:
            taken = _amounts(need.charges)
            count = await self._count(
                ask, plan, model, need, held.verdict, taken, lambda charges: beyond(charges, need.charges)
            )
            if count is None:
                return held, need
            counted = self._needs.of(ask, plan, model, need.estimate, count=count, waived=need.waived)
            more = beyond(counted.charges, need.charges)
            if not any(more):
                return held, need
            verdict = await held.extend(more, used=nothing)
        except BaseException as error:
            held.settle(nothing)
            if isinstance(error, StoreDown):
                self._cells.unavailable()
                raise LimiterUnavailable from None
            raise
        if not verdict.admitted:
            held.settle(nothing)
            if verdict.outcome is Outcome.LOST:
                self._cells.unavailable()
                raise LimiterUnavailable
            return _for_good(plan, counted, verdict), counted
        charges = tuple(
            [charge._replace(amount=charge.amount + extra) for charge, extra in zip(need.charges, more, strict=True)]
        )
        return held, counted._replace(charges=charges)

    async def _count(
        self, ask: Ask, plan: Plan, model: ServedModel, need: Need, verdict: Verdict,
        taken: Sequence[int], missing: Callable[[Sequence[Charge]], Sequence[int]],
    ) -> int | None:  # fmt: skip
        """Give how many tokens the prompt has, where what was decided depends on it and somebody knows.

        `missing` gives what charges take beyond what is `taken` already.
        """
        counts = self._shared.counts
        if counts is None or not need.estimate or len(verdict.standings) != len(need.charges):
            return None
        rooms = [[one.remaining for one in verdict.standings]]
        ever = [counter.rule.limit - had for counter, had in zip(plan.counters, taken, strict=True)]
        if verdict.outcome is Outcome.NEVER:
            rooms.append(ever)

        def missing_at(tokens: int) -> Sequence[int]:
            at = self._needs.of(ask, plan, model, need.estimate, count=tokens, waived=need.waived)
            return missing(at.charges)

        return await counts.count(
            ask,
            model,
            need.estimate,
            self._shared.ratios,
            lambda least, most: any(is_open(missing_at, room, least, most) for room in rooms),
            lambda tokens: not fits(missing_at(tokens), ever),
        )

    async def reserve(self, charges: tuple[Charge, ...]) -> Reservation | Verdict:
        """Take all of it or nothing; LimiterUnavailable where nobody can tell what is left."""
        try:
            return await self._shared.limiter.reserve(charges, local=self._local)
        except StoreDown:
            self._cells.unavailable()
            raise LimiterUnavailable from None

    async def raised(self, ask: Ask, grant: Grant, model: ServedModel, need: Need) -> tuple[Verdict | None, Need]:
        """Have so much beyond what was used, as `Grant.raise_to` does; where that depends on how many tokens the
        prompt really has, so much as that needs."""
        plan, bounded = grant.plan, asked_output(ask.request) is not None
        verdict = await grant.raise_to(need.charges, bounded=bounded)
        if verdict is None or verdict.outcome is Outcome.LOST:
            return verdict, need
        taken = _amounts(grant.held)
        count = await self._count(
            ask, plan, model, need, verdict, taken, lambda charges: grant.missing(charges, bounded=bounded)
        )
        if count is None and verdict.outcome is Outcome.NEVER:
            count = need.estimate
        if count is None:
            return verdict, need
        counted = self._needs.of(ask, plan, model, need.estimate, count=count)
        if counted.charges == need.charges:
            return verdict, need
        return await grant.raise_to(counted.charges, bounded=bounded), counted


def _for_good(plan: Plan, need: Need, verdict: Verdict) -> Verdict:
    """Say of what was refused to be enlarged that no waiting helps where it is more in all than there ever is."""
    for place in plan.spending:
        if need.charges[place].amount > plan.counters[place].rule.limit:
            return Verdict(Outcome.NEVER, verdict.standings, place)
    return verdict


def _amounts(charges: Sequence[Charge]) -> list[int]:
    return [charge.amount for charge in charges]
