"""When a first token is late, the same request to a second endpoint. Pure: clock and load come in.

    sent to A ──── p95 of the times to a first token ───► still nothing: sent to B as well, if B has room
                                                           │
                                    the first token of either wins; the other one is cut off

Only streams are hedged: an answer in one piece has no first token that could be late, and its length says nothing about
its endpoint. What must not be sent twice is not. Hosted APIs charge for both answers, so they are left alone unless
that is allowed. What is sent twice is a share of what is asked, by a budget of its own: retries cannot starve hedges,
nor hedges retries.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass

from capstan_gateway.routing.breaker import BreakerState
from capstan_gateway.routing.budget import BudgetSettings, RetryBudget
from capstan_gateway.routing.picker import load_bound
from capstan_gateway.routing.port import Call
from capstan_gateway.routing.registry import EndpointState


@dataclass(frozen=True, slots=True)
class HedgeSettings:
    """How much may be sent twice, and when."""

    share: float = 0.02
    """Hedges per request that could be hedged."""
    burst: float = 5.0
    """Most that is saved up."""
    after_seconds: float | None = None
    """When a first token is late; None: later than nineteen of twenty were."""
    floor_seconds: float = 0.2
    """Never earlier than this, unless `after_seconds` says so."""
    hosted: bool = False
    """Whether hosted APIs may be asked twice."""


class Hedging:
    """Whether, when and where a request is sent a second time. One per process: the budget is shared."""

    def __init__(self, settings: HedgeSettings | None = None) -> None:
        self.settings = settings or HedgeSettings()
        self._budget = RetryBudget(
            BudgetSettings(share=self.settings.share, floor_per_second=0.0, burst=self.settings.burst)
        )

    def delay(self, call: Call) -> float | None:
        """Count a request, and give the seconds after which its first token is late; None: it is not to be hedged."""
        endpoints, settings = call.endpoints, self.settings
        if call.whole_bytes or not call.repeatable or len(endpoints.states) < 2:
            return None
        if call.hosted and not settings.hosted:
            return None
        self._budget.deposit()
        if settings.after_seconds is not None:
            return settings.after_seconds
        late = endpoints.first_bytes.late()
        return None if late is None else max(late, settings.floor_seconds)

    def second(
        self, call: Call, first: EndpointState, excluded: Collection[EndpointState], now: float
    ) -> EndpointState | None:
        """Give the endpoint for the second attempt, paid for; None when there is none, or no budget."""
        if now >= call.expires_at:
            return None
        chosen = with_room(call.endpoints.states, first, excluded, now)
        return chosen if chosen is not None and self._budget.spend(now) else None


def with_room(
    states: Sequence[EndpointState], first: EndpointState, excluded: Collection[EndpointState], now: float
) -> EndpointState | None:
    """Give the least loaded other endpoint that is sound and has room: within its share, and no fuller than the first.

    An endpoint on its way back is no help to anybody who is late already.
    """
    others = [
        state
        for state in states
        if state is not first
        and state not in excluded
        and state.breaker.state(now) is BreakerState.CLOSED
        and state.breaker.allows(now)
    ]
    if not others:
        return None
    chosen = min(others, key=lambda state: (state.endpoint.tier, state.in_flight))
    return chosen if chosen.in_flight <= first.in_flight and chosen.in_flight < load_bound(states) else None
