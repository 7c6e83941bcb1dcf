"""When a request is sent a second time, and where."""

import asyncio

import pytest

from capstan_gateway.routing.endpoints import EndpointSet
from capstan_gateway.routing.firstbytes import LEAST_SAMPLES, FirstBytes
from capstan_gateway.routing.hedge import HedgeSettings, Hedging, with_room
from capstan_gateway.routing.port import Call
from capstan_gateway.routing.registry import EndpointRegistry
from capstan_gateway.upstream.port import Endpoint


def three() -> EndpointSet:
    """Three endpoints without load."""
    return EndpointSet(EndpointRegistry(), [Endpoint(f"e{number}", "127.0.0.1", 1000 + number) for number in range(3)])


def call(endpoints: EndpointSet, **options: object) -> Call:
    """A stream with a minute to live."""
    return Call(**{"endpoints": endpoints, "path": b"/x", "expires_at": 60.0, **options})  # type: ignore[arg-type]


def test_late_is_what_nineteen_of_twenty_are_not() -> None:
    """Of few answers nobody knows what is late; of a hundred it is the 95th; old ones are forgotten."""
    times = FirstBytes()
    for _ in range(LEAST_SAMPLES - 1):
        times.observe(1.0)
    assert times.late() is None
    times = FirstBytes()
    for number in range(100):
        times.observe(number / 100)
    assert times.late() == pytest.approx(0.94)
    for _ in range(200):
        times.observe(5.0)
    assert times.late() == 5.0


def test_the_floor_holds_and_a_setting_wins() -> None:
    """A model that is fast is not hedged on every hiccup; a fixed time is taken as it is."""
    endpoints = three()
    for _ in range(LEAST_SAMPLES):
        endpoints.first_bytes.observe(0.001)
    assert Hedging(HedgeSettings(floor_seconds=0.2)).delay(call(endpoints)) == 0.2
    assert Hedging(HedgeSettings(after_seconds=0.05)).delay(call(endpoints)) == 0.05


def test_what_is_never_hedged() -> None:
    """Whole answers, models with one endpoint, and hosted APIs unless that is allowed."""
    fixed = Hedging(HedgeSettings(after_seconds=0.05))
    alone = EndpointSet(EndpointRegistry(), [Endpoint("e", "127.0.0.1", 1)])
    assert fixed.delay(call(three(), whole_bytes=1)) is None
    assert fixed.delay(call(alone)) is None
    assert fixed.delay(call(three(), hosted=True)) is None
    assert Hedging(HedgeSettings(after_seconds=0.05, hosted=True)).delay(call(three(), hosted=True)) == 0.05
    assert Hedging().delay(call(three())) is None, "nobody knows yet what is late"


def test_the_second_endpoint_is_sound_and_has_room() -> None:
    """The least loaded other one; none that is ejected, excluded, or fuller than the first."""
    one, two, three_ = states = three().states
    one.in_flight, two.in_flight = 2, 1
    assert with_room(states, one, (), 0.0) is three_
    assert with_room(states, one, {three_}, 0.0) is two
    for _ in range(3):
        three_.breaker.fail(0.0)
    assert with_room(states, one, (), 0.0) is two
    assert with_room(states, one, (), 100.0) is two, "one that is to be tried again is no help"
    two.in_flight = 3
    assert with_room(states, one, (), 0.0) is None


def test_hedges_and_retries_have_budgets_of_their_own() -> None:
    """With everything hedged that may be: a saved-up few at first, then the share."""

    async def scenario() -> int:
        hedging, endpoints = Hedging(HedgeSettings(share=0.02, burst=5, after_seconds=0.1)), three()
        sent = 0
        for _ in range(1000):
            one = call(endpoints)
            hedging.delay(one)
            sent += hedging.second(one, endpoints.states[0], (), 0.0) is not None
        return sent

    assert 20 <= asyncio.run(scenario()) <= 25
