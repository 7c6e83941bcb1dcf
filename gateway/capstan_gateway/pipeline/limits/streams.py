"""From a grant to a stream that goes on as long as its limits and budgets do.

What is reserved of a stream's output before it begins is all that may come where that is little (`FEW_SLICES` slices
or less): such an answer never ends early, and is not asked for again. Of others it is one slice, so that a client that
allows much and uses little keeps nobody else away; the rest is taken as it comes.
"""

from collections.abc import Callable, Sequence
from typing import Final

from capstan_gateway.config.runtime import ServedModel
from capstan_gateway.limits.port import Charge, Outcome, StoreDown, Verdict
from capstan_gateway.pipeline.ask import Ask
from capstan_gateway.pipeline.estimates import MeanOutputs, asked_output, output_tokens
from capstan_gateway.pipeline.limits.counting import CUT, PolicyCells
from capstan_gateway.pipeline.limits.grant import Grant
from capstan_gateway.pipeline.limits.metered import Refusal, metered
from capstan_gateway.pipeline.limits.slices import Slices
from capstan_gateway.pipeline.limits.told import moment
from capstan_gateway.pipeline.reply import StreamReply
from capstan_gateway.pipeline.request import Request
from capstan_gateway.tokens.price import Rates
from capstan_gateway.tokens.usage import Usage

FEW_SLICES: Final = 2


def reserved_output(request: Request, model: ServedModel, means: MeanOutputs, slice: int) -> int:
    """Give how many tokens of output are reserved before this model is asked."""
    return first_of(request, output_tokens(request, model, means), slice)


def first_of(request: Request, output: int, slice: int) -> int:
    """Give what is reserved of an output that probably has so many tokens."""
    return slice if request.stream and output > FEW_SLICES * slice else output


def output_in(fit: Sequence[Charge], charges: Sequence[Charge], least: Sequence[Charge], output: int) -> int:
    """Give how much of an output is in charges that were made to fit; `least` are those without any."""
    return min(
        (
            output * max(took.amount - low.amount, 0) // (charge.amount - low.amount)
            for took, charge, low in zip(fit, charges, least, strict=True)
            if charge.amount > low.amount
        ),
        default=output,
    )


def is_metered(request: Request, reserved: int) -> bool:
    """Whether it is counted while it goes on: more may come than was reserved."""
    if not request.stream:
        return False
    most = asked_output(request)
    return most is None or most > reserved


def metered_stream(
    reply: StreamReply, ask: Ask, grant: Grant, *,
    reserved: int, slice: int, cells: PolicyCells, now: Callable[[], float],
) -> StreamReply:  # fmt: skip
    """Let a stream go on as long as its grant can be extended; `reserved` is its first output, in tokens."""
    request, rates = ask.request, (ask.answered_by or ask.model).rates
    before = grant.spent.output_tokens
    most = asked_output(request)
    slices = Slices(granted=reserved - before, slice=slice, most=most)
    return metered(reply, slices, ask=ask, more=_More(grant, rates, cells, now).take)


class _More:
    """Takes more for one stream."""

    def __init__(self, grant: Grant, rates: Rates | None, cells: PolicyCells, now: Callable[[], float]) -> None:
        self._grant = grant
        self._rates = rates
        self._cells = cells
        self._now = now

    async def take(self, tokens: int, so_far: Usage) -> Refusal | None:
        """See `metered.More`."""
        try:
            verdict = await self._grant.extend(output_tokens=tokens, so_far=so_far, rates=self._rates)
        except StoreDown:
            return self._unavailable()
        if verdict.admitted:
            return None
        return self._unavailable() if verdict.outcome is Outcome.LOST else self._refused(verdict)

    def _unavailable(self) -> Refusal:
        """Nobody knows what is left."""
        return Refusal(False, {"ended_by": "limiter_unavailable"}, self._cells.unavailable)

    def _refused(self, verdict: Verdict) -> Refusal:
        rule = self._grant.plan.counters[verdict.denied].rule
        note = {"ended_by": "limit" if rule.budget is None else "budget", "limit": rule.name}
        if verdict.wait_ms:
            note["reset"] = moment(self._now(), verdict.wait_ms).decode()
        return Refusal(verdict.outcome is not Outcome.WAIT, note, lambda: self._cells.denied(rule, CUT))
