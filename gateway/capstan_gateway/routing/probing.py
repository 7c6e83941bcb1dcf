"""When an endpoint is probed, how, and what the outcome means for its breaker. Pure; `probe.Prober` does the asking.

    breaker closed,    nothing heard for a while   readiness; now and then one token, if it does nothing else,
                                                   or if it has had requests all the time and answered none
    breaker open                                   nothing, until a trial is due
    breaker half-open, connections failed          readiness is the trial
    breaker half-open, answers failed              one token is the trial; without leave for that, a client's request

An engine whose /health is well and whose answers fail must not come back because of its /health: a probe speaks only
for what it tried.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from random import Random
from typing import Final

from capstan_gateway.headers import Header
from capstan_gateway.routing.breaker import BreakerState
from capstan_gateway.routing.registry import EndpointState

UNREADY: Final = "probe"
NO_ANSWER: Final = "probe-request"
_CONNECTION_WORDS: Final = frozenset((None, UNREADY, "ConnectFailed", "ConnectionLost", "connect-deadline"))
"""What `EndpointState.last_error` says of an endpoint that answers well when it can be reached."""


class ProbeKind(StrEnum):
    """What is asked."""

    READINESS = "readiness"
    REQUEST = "request"


@dataclass(frozen=True, slots=True)
class ProbeSettings:
    """How often, and what is allowed."""

    idle_seconds: float = 10.0
    """After how long without an answer an endpoint is asked whether it is ready; 0: no probes at all."""
    request_seconds: float = 60.0
    """How often an endpoint that has nothing to do makes one token; 0: never."""
    hosted_requests: bool = False
    """Whether hosted APIs, which charge for it, get such requests as well."""
    retry_seconds: float = 1.0
    """Pace of the probes of an endpoint that failed one, or is on its way back."""
    readiness_timeout: float = 5.0
    request_timeout: float = 30.0
    max_concurrency: int = 16
    tick_seconds: float = 0.25


@dataclass(frozen=True, slots=True)
class Target:
    """An endpoint that may be probed."""

    state: EndpointState
    model: str
    """Name of the model in metrics."""
    hosted: bool
    headers: Callable[[], Sequence[Header] | None]
    """None: the key is missing, and there is nothing to ask."""
    path: bytes = b""
    body: bytes = b""
    """A request for one token; empty for tasks that make none."""


@dataclass(slots=True)
class Schedule:
    """When an endpoint is next probed."""

    next_at: float
    request_at: float
    by_models: bool = False
    """Whether it has no /health, so that its list of models stands in for it."""


def decide(target: Target, plan: Schedule, now: float, settings: ProbeSettings) -> ProbeKind | None:
    """Say how to probe an endpoint now; None: not now."""
    state = target.state
    if now < plan.next_at or not state.breaker.allows(now):
        return None
    may_request = bool(target.body) and settings.request_seconds > 0 and (not target.hosted or settings.hosted_requests)
    if state.breaker.state(now) is not BreakerState.CLOSED:
        if not needs_answer(state):
            return ProbeKind.READINESS
        return ProbeKind.REQUEST if may_request else None
    if now - state.answered_at < settings.idle_seconds:
        return None
    if may_request and (now >= plan.request_at or state.last_error == NO_ANSWER) and _is_doubtful(state, now, settings):
        return ProbeKind.REQUEST
    return None if target.hosted else ProbeKind.READINESS


def _is_doubtful(state: EndpointState, now: float, settings: ProbeSettings) -> bool:
    """Whether only a request tells more: it does nothing, or has long done nothing that anybody saw.

    An endpoint that hangs always has requests: those whose clients or hedges have not given it up yet.
    """
    return not state.in_flight or now - state.answered_at >= settings.request_seconds


def needs_answer(state: EndpointState) -> bool:
    """Whether only a real answer can show that the endpoint is well."""
    return state.last_error not in _CONNECTION_WORDS


def begin(state: EndpointState, now: float) -> int:
    """Take note that a probe goes out, and give its ticket: on a breaker that is not closed it is the trial."""
    return state.breaker.begin(now)


def conclude(
    target: Target,
    plan: Schedule,
    kind: ProbeKind,
    well: bool,
    now: float,
    settings: ProbeSettings,
    rng: Random,
    *,
    ticket: int | None = None,
) -> None:
    """Feed an outcome to the breaker, by the ticket that `begin` gave, and say when the next probe is due."""
    state = target.state
    jitter = 0.75 + rng.random() / 2
    if kind is ProbeKind.REQUEST:
        plan.request_at = now + settings.request_seconds * jitter
    if not well:
        if ticket is None or state.breaker.counts(ticket):
            state.last_error = UNREADY if kind is ProbeKind.READINESS else NO_ANSWER
        state.breaker.fail(now, ticket)
    elif kind is ProbeKind.REQUEST or not needs_answer(state):
        state.breaker.succeed(now, ticket)
    calm = well and state.breaker.state(now) is BreakerState.CLOSED
    if calm and (kind is ProbeKind.REQUEST or not needs_answer(state)):
        state.last_error = None  # Not earlier: the trials that are still to come are to be of the same kind.
    plan.next_at = now + (settings.idle_seconds if calm else settings.retry_seconds) * jitter


def first_plan(now: float, settings: ProbeSettings, rng: Random) -> Schedule:
    """Give the schedule of an endpoint that has just come: ready or not is asked at once, a token later."""
    return Schedule(next_at=now, request_at=now + settings.request_seconds * (0.75 + rng.random() / 2))
