"""The choice of an endpoint, for any load, health and latency."""

import math
from random import Random

from hypothesis import given
from hypothesis import strategies as st

from capstan_gateway.routing.breaker import BreakerSettings
from capstan_gateway.routing.picker import LOAD_FACTOR, SLACK, candidates, load_bound, pick, preferred
from capstan_gateway.routing.registry import EndpointState
from capstan_gateway.upstream.port import Endpoint

NOW = 1000.0
KEYS = st.binary(min_size=8, max_size=8)


def state_of(name: str, in_flight: int = 0, latency: float | None = None, broken: bool = False) -> EndpointState:
    """An endpoint in a given state."""
    state = EndpointState(Endpoint(id=name, host="h", port=1), BreakerSettings(threshold=1, open_seconds=10))
    state.in_flight = in_flight
    if latency is not None:
        state.observe(latency, NOW)
    if broken:
        state.breaker.fail(NOW)
    return state


@st.composite
def fleets(draw: st.DrawFn, *, least: int = 0) -> list[EndpointState]:
    """Some endpoints in any state."""
    count = draw(st.integers(least, 8))
    return [
        state_of(
            f"e{number}",
            draw(st.integers(0, 50)),
            draw(st.none() | st.floats(0, 100)),
            draw(st.booleans()),
        )
        for number in range(count)
    ]


@given(states=fleets(), drop=st.sets(st.integers(0, 7)), seed=st.integers(), key=st.none() | KEYS)
def test_the_choice_is_never_excluded_and_never_broken_without_need(
    states: list[EndpointState], drop: set[int], seed: int, key: bytes | None
) -> None:
    """An excluded endpoint is never chosen, a broken one only when every other is broken or excluded."""
    excluded = {states[number] for number in drop if number < len(states)}
    chosen = pick(states, NOW, Random(seed), excluded=excluded, affinity=key)  # noqa: S311
    left = [state for state in states if state not in excluded]
    if chosen is None:
        assert not left
    else:
        assert chosen in left
        assert chosen.breaker.allows(NOW) or not any(state.breaker.allows(NOW) for state in left)


@given(states=fleets(least=1), key=KEYS)
def test_affinity_is_bounded_by_load(states: list[EndpointState], key: bytes) -> None:
    """The preferred endpoint has less than its bound in flight, whatever the key; there always is one."""
    chosen = preferred(states, key)
    total = sum(state.in_flight for state in states) + 1
    assert chosen.in_flight < max(SLACK, math.ceil(LOAD_FACTOR * total / len(states))) == load_bound(states)


@given(count=st.integers(2, 8), gone=st.integers(0, 7), keys=st.lists(KEYS, min_size=1, max_size=50))
def test_an_endpoint_that_leaves_moves_only_its_own_keys(count: int, gone: int, keys: list[bytes]) -> None:
    """Rendezvous hashing: minimal disruption when the set of endpoints changes, in any order of the set."""
    states = [state_of(f"e{number}") for number in range(count)]
    leaving = states[gone % count]
    rest = [state for state in reversed(states) if state is not leaving]
    for key in keys:
        before = preferred(states, key)
        assert preferred(rest, key) is before or before is leaving


def test_keys_spread_evenly() -> None:
    """Of 4,000 keys each of four endpoints gets about a quarter."""
    states = [state_of(f"http://10.0.0.{number}:8000") for number in range(4)]
    random = Random(7)  # noqa: S311
    counts = dict.fromkeys(states, 0)
    for _ in range(4000):
        counts[preferred(states, random.randbytes(8))] += 1
    assert all(850 < count < 1150 for count in counts.values())


@given(states=fleets(least=1))
def test_there_is_always_a_candidate(states: list[EndpointState]) -> None:
    """Breakers never eject the last endpoint."""
    assert candidates(states, NOW)


def test_two_choices_even_out_the_load() -> None:
    """A thousand requests that never end are spread over ten endpoints within a few of each other."""
    states = [state_of(f"e{number}") for number in range(10)]
    random = Random(3)  # noqa: S311
    for _ in range(1000):
        chosen = pick(states, NOW, random)
        assert chosen is not None
        chosen.in_flight += 1
    loads = [state.in_flight for state in states]
    assert max(loads) - min(loads) <= 6


def test_the_slower_of_two_gets_less_but_not_nothing() -> None:
    """Latency counts, but at most fourfold."""
    slow, fast = state_of("slow", 0, 60.0), state_of("fast", 0, 0.1)
    random = Random(3)  # noqa: S311
    for _ in range(100):
        chosen = pick([slow, fast], NOW, random)
        assert chosen is not None
        chosen.in_flight += 1
    assert 15 <= slow.in_flight <= 25
