"""The caller's own bound of what a request may cost: header `x-capstan-max-cost`, or field `capstan.max_cost`."""

from functools import partial

from capstan_gateway.errors import NO_RETRY, InvalidRequest
from capstan_gateway.pipeline.ask import Ask
from capstan_gateway.pipeline.beside import LARGE_BYTES, beside
from capstan_gateway.pipeline.deps import Deps
from capstan_gateway.pipeline.estimates import CostBound, asked_tokens, cost
from capstan_gateway.pipeline.governed import Governed
from capstan_gateway.pipeline.options import FIELD, caller_bound
from capstan_gateway.tokens.price import dollars_text


async def bind_cost(ask: Ask, deps: Deps) -> None:
    """Bind the ask to what its caller allows: routers, cascades and fallbacks then leave out what costs more.

    InvalidRequest for a bound that cannot be read, and for a model of one's own choice that costs more, or of which
    nobody knows what it costs.
    """
    most = caller_bound(ask.options)
    if most is None:
        return
    request = ask.request
    if request.came <= LARGE_BYTES:
        prompt = asked_tokens(request, ask.model)
    else:
        prompt = await beside(deps.executor, partial(asked_tokens, request, ask.model))
    bound = CostBound(most, prompt, deps.means)
    ask.governed = Governed(bound=bound)
    if ask.model.plan is None and not bound.allows(request, ask.runtime, ask.model):
        costs = cost(request, ask.runtime, ask.model, prompt, deps.means)
        what = "nobody knows what it costs" if costs is None else f"it may cost ${dollars_text(costs).decode()}"
        raise InvalidRequest(
            f"the model must cost at most ${dollars_text(most).decode()}, and {what}",
            code="request_exceeds_max_cost", param=f"{FIELD}.max_cost", headers=(NO_RETRY,),
        )  # fmt: skip
