"""When an endpoint is probed, how, and what comes of it."""

import random
from dataclasses import replace

import pytest

from capstan_gateway.routing.breaker import BreakerState
from capstan_gateway.routing.probing import (
    NO_ANSWER,
    UNREADY,
    ProbeKind,
    ProbeSettings,
    Schedule,
    Target,
    begin,
    conclude,
    decide,
    first_plan,
)
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


# --- by number --------------------------------------------------------------------------------------------------------


class Throws(random.Random):
    """Always throws the same."""

    def __init__(self, throw: float) -> None:
        super().__init__(0)
        self.throw = throw

    def random(self) -> float:
        return self.throw


@pytest.mark.parametrize(("throw", "jitter"), [(0.0, 0.75), (1.0, 1.25)])
def test_schedules_are_spread(throw: float, jitter: float) -> None:
    """By a quarter of their time, earlier or later; a new endpoint is asked whether it is ready at once."""
    plan = first_plan(100.0, SETTINGS, Throws(throw))
    assert (plan.next_at, plan.request_at, plan.by_models) == (100.0, 100.0 + 60.0 * jitter, False)
    probed = target()
    for kind, well, pace in (
        (ProbeKind.READINESS, True, 10.0), (ProbeKind.READINESS, False, 1.0), (ProbeKind.REQUEST, True, 10.0),
    ):  # fmt: skip
        plan = Schedule(0.0, 5.0)
        conclude(probed, plan, kind, well, 200.0, SETTINGS, Throws(throw), ticket=begin(probed.state, 200.0))
        assert plan.next_at == 200.0 + pace * jitter
        assert plan.request_at == (200.0 + 60.0 * jitter if kind is ProbeKind.REQUEST else 5.0)


@pytest.mark.parametrize(("kind", "word"), [(ProbeKind.READINESS, UNREADY), (ProbeKind.REQUEST, NO_ANSWER)])
def test_what_failed_is_remembered_by_what_was_asked(kind: ProbeKind, word: str) -> None:
    """It decides how the endpoint is probed from then on."""
    probed = target()
    conclude(probed, Schedule(0, 0), kind, False, 9.0, SETTINGS, Throws(0), ticket=begin(probed.state, 9.0))
    assert probed.state.last_error == word


def test_a_probe_from_before_says_nothing_of_a_breaker_that_has_opened_since() -> None:
    """Neither its failure nor its success: only the trial does that it was not."""
    for well in (False, True):
        probed = target()
        state = probed.state
        old = begin(state, 0.0)
        for _ in range(3):
            state.breaker.fail(0.0)
        state.last_error = "ConnectFailed"
        assert state.breaker.state(100.0) is BreakerState.HALF_OPEN
        for _ in range(3):
            conclude(probed, Schedule(0, 0), ProbeKind.READINESS, well, 100.0, SETTINGS, Throws(0), ticket=old)
        assert state.breaker.state(100.0) is BreakerState.HALF_OPEN
        assert state.last_error == "ConnectFailed"
        for _ in range(3):
            trial = begin(state, 100.0)
            conclude(probed, Schedule(0, 0), ProbeKind.READINESS, True, 100.0, SETTINGS, Throws(0), ticket=trial)
        assert state.breaker.state(100.0) is BreakerState.CLOSED
        assert state.last_error is None


def test_a_token_is_due_in_its_moment() -> None:
    """Also where one is made each second; who is busy is left alone, unless nobody has seen an answer for as long."""
    probed = target()
    assert decide(probed, Schedule(0.0, 50.0), 50.0, SETTINGS) is ProbeKind.REQUEST
    assert decide(probed, Schedule(0.0, 50.1), 50.0, SETTINGS) is ProbeKind.READINESS
    often = replace(SETTINGS, request_seconds=1.0)
    assert decide(probed, Schedule(0.0, 50.0), 50.0, often) is ProbeKind.REQUEST
    probed.state.in_flight, probed.state.answered_at = 1, 100.0
    assert decide(probed, Schedule(0.0, 50.0), 159.9, SETTINGS) is ProbeKind.READINESS
    assert decide(probed, Schedule(0.0, 50.0), 160.0, SETTINGS) is ProbeKind.REQUEST


def test_a_probe_from_before_is_not_taken_for_a_clients_trial() -> None:
    """While a request of a client is the trial, what an older probe came to neither opens nor closes the breaker."""
    for well in (False, True):
        probed = target(last_error="ConnectFailed")
        breaker = probed.state.breaker
        old = begin(probed.state, 0.0)
        for _ in range(3):
            breaker.fail(0.0)
        begin(probed.state, 100.0)
        for _ in range(3):
            conclude(probed, due(), ProbeKind.READINESS, well, 100.0, SETTINGS, Throws(0), ticket=old)
        assert breaker.state(100.0) is BreakerState.HALF_OPEN
        assert breaker.state(0.0) is BreakerState.HALF_OPEN, "the trial is still under way"


def test_an_endpoint_that_probes_bring_back_begins_slowly() -> None:
    """From when it was back, as one that requests bring back."""
    probed = target(last_error="ConnectFailed", failures=3)
    for _ in range(3):
        trial = begin(probed.state, 100.0)
        conclude(probed, due(), ProbeKind.READINESS, True, 100.0, SETTINGS, Throws(0), ticket=trial)
    assert probed.state.breaker.state(100.0) is BreakerState.CLOSED
    assert probed.state.breaker.share(100.0) == 0.1
