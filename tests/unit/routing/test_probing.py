"""When an endpoint is probed, how, and what comes of it."""

import random

import pytest

from capstan_gateway.routing.breaker import BreakerState
from capstan_gateway.routing.probing import ProbeKind, ProbeSettings, Schedule, Target, conclude, decide
from capstan_gateway.routing.registry import EndpointState
from capstan_gateway.upstream.port import Endpoint

SETTINGS = ProbeSettings()
HOSTED_TOO = ProbeSettings(hosted_requests=True)
RNG = random.Random(1)  # noqa: S311 - jitter


def target(*, hosted: bool = False, last_error: str | None = None, failures: int = 0) -> Target:
    """An endpoint that has failed so often, the last time in this way."""
    state = EndpointState(Endpoint("e", "127.0.0.1", 1))
    state.last_error = last_error
    for _ in range(failures):
        state.breaker.fail(0.0)
    return Target(state, "m", hosted, tuple, b"/chat/completions", b"{}")


def due(now: float = 0.0) -> Schedule:
    """A schedule by which everything is due."""
    return Schedule(next_at=now, request_at=now)


@pytest.mark.parametrize(
    ("wanted", "probed", "settings"),
    [
        (ProbeKind.REQUEST, target(), SETTINGS),
        (ProbeKind.READINESS, target(), ProbeSettings(request_seconds=0)),
        (None, target(hosted=True), SETTINGS),
        (ProbeKind.REQUEST, target(hosted=True), HOSTED_TOO),
        (ProbeKind.READINESS, target(last_error="ConnectFailed", failures=3), SETTINGS),
        (ProbeKind.READINESS, target(last_error="ConnectFailed", failures=3, hosted=True), SETTINGS),
        (ProbeKind.REQUEST, target(last_error="500", failures=3), SETTINGS),
        (ProbeKind.REQUEST, target(last_error="first_token-deadline", failures=3), SETTINGS),
        (None, target(last_error="500", failures=3, hosted=True), SETTINGS),
        (None, target(last_error="500", failures=3), ProbeSettings(request_seconds=0)),
    ],
)
def test_what_is_asked(wanted: ProbeKind | None, probed: Target, settings: ProbeSettings) -> None:
    """/health speaks for connections; what fails its answers is asked for one, and money is spent only with leave."""
    assert decide(probed, due(), 5.0, settings) is wanted


def test_what_is_not_asked() -> None:
    """Nothing before its time, of an open breaker, or of an endpoint that has just answered."""
    assert decide(target(), Schedule(next_at=6.0, request_at=0.0), 5.0, SETTINGS) is None
    assert decide(target(failures=3), due(), 0.5, SETTINGS) is None
    fresh = target()
    fresh.state.observe(0.1, 1.0)
    assert decide(fresh, due(), 10.0, SETTINGS) is None
    assert decide(fresh, due(), 11.0, SETTINGS) is ProbeKind.REQUEST
    fresh.state.in_flight = 1
    assert decide(fresh, due(), 11.0, SETTINGS) is ProbeKind.READINESS, "it may only be slow, and has work to do"


def test_three_failed_probes_open_the_breaker_and_go_on_faster() -> None:
    """What is well is asked every ten seconds or so, what is not after one."""
    probed, plan = target(), due()
    conclude(probed, plan, ProbeKind.READINESS, True, 0.0, SETTINGS, RNG)
    assert 7.5 <= plan.next_at <= 12.5
    for now in (10.0, 11.0, 12.0):
        conclude(probed, plan, ProbeKind.READINESS, False, now, SETTINGS, RNG)
        assert now + 0.75 <= plan.next_at <= now + 1.25
    assert probed.state.breaker.state(12.0) is BreakerState.OPEN


def test_readiness_says_nothing_about_answers() -> None:
    """An endpoint that failed two requests, and says that it is ready, is as near to being ejected as before."""
    probed = target(last_error="500", failures=2)
    conclude(probed, due(), ProbeKind.READINESS, True, 1.0, SETTINGS, RNG)
    assert probed.state.last_error == "500"
    assert probed.state.breaker.fail(2.0), "the third failure opens it"


def test_an_endpoint_that_has_requests_and_answers_none_is_asked_for_a_token() -> None:
    """One that hangs is never idle: its clients and hedges have not given it up yet. /health says nothing of that."""
    hanging = target()
    hanging.state.observe(0.1, 0.0)
    hanging.state.in_flight = 3
    assert decide(hanging, due(), SETTINGS.request_seconds - 1, SETTINGS) is ProbeKind.READINESS
    assert decide(hanging, due(), SETTINGS.request_seconds, SETTINGS) is ProbeKind.REQUEST
    hanging.state.observe_silence(9.0, SETTINGS.request_seconds)
    assert decide(hanging, due(), SETTINGS.request_seconds, SETTINGS) is ProbeKind.REQUEST, "silence is no answer"
