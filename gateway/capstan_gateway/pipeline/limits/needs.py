"""What a request takes under one policy if a model answers: its charges, from what is known of its input and output."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Final, NamedTuple

from capstan_contract.limits import UnknownPrice
from capstan_gateway.config.runtime import ServedModel
from capstan_gateway.errors import NO_RETRY, InvalidRequest
from capstan_gateway.life.threads import Threads
from capstan_gateway.limits.port import Charge, Limiter
from capstan_gateway.pipeline.ask import Ask
from capstan_gateway.pipeline.background import Background
from capstan_gateway.pipeline.beside import LARGE_BYTES, beside
from capstan_gateway.pipeline.estimates import CostBound, MeanOutputs, asked_output, asked_tokens, cost, price_of
from capstan_gateway.pipeline.governed import Governed
from capstan_gateway.pipeline.limits.counting import PolicyCells
from capstan_gateway.pipeline.limits.exact import ExactCounts
from capstan_gateway.pipeline.limits.plans import Plans
from capstan_gateway.pipeline.limits.rules import Plan, Policy, fitted
from capstan_gateway.pipeline.limits.streams import first_of, output_in, reserved_output
from capstan_gateway.pipeline.request import Request
from capstan_gateway.tokens.ratios import PromptRatios

SLICE_TOKENS: Final = 256
NOTHING: Final = Governed()
NOBODY: Final[frozenset[int]] = frozenset()
_new: Final = tuple.__new__
"""NB: the constructor of a named tuple of Python's takes several times as long."""


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
    counts: ExactCounts | None = None
    """Tell how long prompts really are; None: estimates decide."""
    slice_tokens: int = SLICE_TOKENS
    """How much of a stream's output is taken at a time."""
    counts_together: bool = False
    """Whether the counts are those of all gateways together."""
    now: Callable[[], float] = time.time
    """Unix seconds: periods of budgets begin by it."""


class Needs:
    """Says what requests take under one policy that stands around one model."""

    def __init__(self, policy: Policy, cells: PolicyCells, shared: Shared, model_id: str) -> None:
        self._cells = cells
        self._shared = shared
        self._model_id = model_id
        self._prices_known = policy.body.unknownPrice is UnknownPrice.DENY

    def model_of(self, ask: Ask) -> ServedModel:
        """Give the model around which it stands."""
        if ask.model.id == self._model_id:
            return ask.model
        # NB: a judge answers also who may not use it.
        return ask.runtime.whole.by_id.get(self._model_id, ask.model)

    async def prompt(self, ask: Ask, model: ServedModel) -> int:
        """Estimate the input of this model, beside the loop where that takes long."""
        request = ask.request
        if request.came <= LARGE_BYTES:
            return asked_tokens(request, model)
        return await beside(self._shared.executor, partial(asked_tokens, request, model))

    async def of_ask(self, ask: Ask, plan: Plan) -> Need:
        """Give what the request takes if the model answers around which the policy stands."""
        model = self.model_of(ask)
        return self.of(ask, plan, model, await self.prompt(ask, model))

    def at_once(self, ask: Ask, plan: Plan) -> Need | None:
        """Give the same, where that takes no long."""
        request, model = ask.request, ask.model
        if request.came > LARGE_BYTES:
            return None
        if model.id != self._model_id:
            model = self.model_of(ask)
        return self.of(ask, plan, model, asked_tokens(request, model))

    def of(
        self, ask: Ask, plan: Plan, model: ServedModel, estimate: int, *, count: int | None = None,
        waived: frozenset[int] = NOBODY,
    ) -> Need:  # fmt: skip
        """Give what the request takes if this model answers; raises where the price must be known, and is not.

        Its input is what was counted, else the estimate, corrected by what the model's prompts had before. Of what is
        `waived` nothing is taken.

        A client that sets no limit to its answer does not ask for all that the model could give: by that alone no
        request is more than there ever is.
        """
        request, shared = ask.request, self._shared
        prompt = shared.ratios.corrected(model.id, estimate) if count is None else count
        output = reserved_output(request, model, shared.means, shared.slice_tokens) if plan.has_output else 0
        charges = plan.charges(prompt, output, self.cost(ask, plan, model, prompt, output))
        if output and plan.is_exceeded(charges) and asked_output(request) is None:
            least = plan.charges(prompt, 0, 0 if model.rates is None else price_of(request, model.rates, prompt, 0))
            fit = fitted(charges, least, plan.counters)
            charges, output = fit, output_in(fit, charges, least, output)
        if waived:
            charges = without(charges, waived)
        return _new(Need, (charges, output, waived, estimate))

    def cost(self, ask: Ask, plan: Plan, model: ServedModel, prompt: int, output: int) -> int:
        """Give what so many tokens may cost, in nano-dollars, and 0 where nothing counts money."""
        if not plan.has_money:
            return 0
        if model.rates is not None and not self._prices_known:
            return price_of(ask.request, model.rates, prompt, output)
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


def without(charges: Sequence[Charge], waived: frozenset[int]) -> tuple[Charge, ...]:
    """Give charges that take nothing at these places."""
    return tuple([_new(Charge, (one[0], 0)) if place in waived else one for place, one in enumerate(charges)])


def beyond(charges: Sequence[Charge], taken: Sequence[Charge]) -> list[int]:
    """Give what these take beyond what was taken."""
    return [max(one.amount - had.amount, 0) for one, had in zip(charges, taken, strict=True)]


def _first(slice: int, request: Request, output: int) -> int:
    return first_of(request, output, slice)
