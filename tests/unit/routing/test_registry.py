"""What is known about endpoints, and how much of it is kept."""

import math

import pytest

from capstan_gateway.routing.attempt import Attempt
from capstan_gateway.routing.endpoints import EndpointSet
from capstan_gateway.routing.registry import STALE_SECONDS, EndpointRegistry, EndpointState
from capstan_gateway.upstream.port import Endpoint


def endpoint(name: str, port: int = 80) -> Endpoint:
    """An endpoint nobody calls."""
    return Endpoint(id=name, host="127.0.0.1", port=port)


def test_an_endpoint_that_comes_back_is_known() -> None:
    """State outlives its removal from a set, and another set shares it."""
    registry = EndpointRegistry()
    one = EndpointSet(registry, [endpoint("a"), endpoint("b")])
    state = one.states[0]
    one.replace([endpoint("b")])
    assert one.replace([endpoint("a"), endpoint("b")])
    assert one.states[0] is state
    assert EndpointSet(registry, [endpoint("a")]).states[0] is state


def test_an_endpoint_that_moves_keeps_its_state_and_has_its_new_address() -> None:
    """The id is the key; the address may change."""
    endpoints = EndpointSet(EndpointRegistry(), [endpoint("a", 1)])
    state = endpoints.states[0]
    assert endpoints.replace([endpoint("a", 2)])
    assert endpoints.states[0] is state
    assert state.endpoint.port == 2


def test_a_path_that_is_not_there_is_remembered_for_its_time() -> None:
    """Nobody asks for it again until then, unless there are other endpoints, which may have it."""
    endpoints = EndpointSet(EndpointRegistry(), [endpoint("a")])
    assert not endpoints.lacks(b"/responses", 0.0)
    endpoints.note_absent(b"/responses", until=10.0)
    assert [endpoints.lacks(b"/responses", now) for now in (9.9, 10.0)] == [True, False]
    assert not endpoints.lacks(b"/other", 9.9)
    endpoints.replace([endpoint("a"), endpoint("b")])
    assert not endpoints.lacks(b"/responses", 9.9)


def test_replacing_with_the_same_changes_nothing() -> None:
    """The version moves only with the endpoints, so nobody is woken for nothing."""
    endpoints = EndpointSet(EndpointRegistry(), [endpoint("a")])
    version = endpoints.version
    assert not endpoints.replace([endpoint("a")])
    assert endpoints.version == version


def test_each_change_has_a_version_of_its_own() -> None:
    """One more each time; a single endpoint has no tiers, whatever its weight."""
    endpoints = EndpointSet(EndpointRegistry())
    versions = [endpoints.version]
    for name in "abc":
        endpoints.replace([endpoint(name)])
        versions.append(endpoints.version)
    assert versions == [1, 2, 3, 4]
    weighted = [Endpoint(name, "127.0.0.1", 1, weight=1) for name in "ab"]
    assert endpoints.replace(weighted[:1])
    assert (endpoints.tiered, endpoints.max_waiting) == (False, 1000)
    assert endpoints.replace(weighted)
    assert endpoints.tiered
    assert endpoints.heads.key("", 1) is None


def test_states_that_nobody_uses_are_bounded() -> None:
    """Of 1,000 endpoints that came and went, as many as allowed are remembered: the last ones."""
    registry = EndpointRegistry(max_unused=10)
    endpoints = EndpointSet(registry)
    first = None
    for number in range(1000):
        endpoints.replace([endpoint(f"e{number}")])
        first = first or endpoints.states[0]
    endpoints.replace([endpoint("e0")])
    assert endpoints.states[0] is not first
    assert len(registry.states()) == 1
    assert len(registry._unused) == 10


async def test_whoever_waits_is_woken_by_a_change() -> None:
    """A wait ends when the endpoints change, at its timeout otherwise, and leaves no waiter behind."""
    endpoints = EndpointSet(EndpointRegistry())
    assert not await endpoints.changed(endpoints.version, timeout=0.01)
    assert endpoints.waiting == 0
    assert await endpoints.changed(endpoints.version - 1, timeout=10)


def test_latency_follows_recent_samples_and_is_forgotten() -> None:
    """The first sample counts fully, later ones by their age; it fades, and after a while nothing is known."""
    state = EndpointState(endpoint("a"))
    assert state.latency(0) is None
    state.observe(1.0, 0)
    assert state.latency(0) == 1.0
    state.observe(0.0, 10)
    assert 0.3 < (state.latency(10) or 0) < 0.4
    assert 0.1 < (state.latency(20) or 0) < 0.2
    assert state.latency(10 + STALE_SECONDS + 1) is None
    state.observe(5.0, 100)
    assert state.latency(100) == 5.0


def test_an_endpoint_that_was_cut_off_is_slow_and_has_not_answered() -> None:
    """Silence moves the average up, never down, and not the time of the last answer, by which probes are due."""
    state = EndpointState(endpoint("a"))
    assert state.answered_at == -math.inf
    state.observe(1.0, 100)
    assert state.answered_at == 100
    state.observe_silence(0.1, 100)
    assert state.latency(100) == 1.0, "that it was cut off early does not make it quick"
    state.observe_silence(9.0, 109)
    assert (state.latency(109) or 0) > 4
    assert state.answered_at == 100


def test_a_slot_is_released_once() -> None:
    """However often it is given back, it counts once."""
    state = EndpointState(endpoint("a"))
    slots = [Attempt(state, 0.0) for _ in range(3)]
    assert state.in_flight == 3
    for _ in range(5):
        slots[0].release()
    assert state.in_flight == 2


@pytest.mark.parametrize("name", ["", "ü", "a/b|http://[::1]:80"])
def test_any_id_has_a_place_in_rendezvous_hashing(name: str) -> None:
    """The place depends on the id alone."""
    assert EndpointState(endpoint(name, 1)).seed == EndpointState(endpoint(name, 2)).seed
