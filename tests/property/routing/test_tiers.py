"""The choice among endpoints of which some come before others."""

from collections import Counter
from random import Random

from hypothesis import given
from hypothesis import strategies as st

from capstan_contract.config import ExternalBackend, ExternalEndpoint, Provider
from capstan_gateway.discovery.table import hosted_endpoints
from capstan_gateway.routing.breaker import BreakerSettings
from capstan_gateway.routing.registry import EndpointState
from capstan_gateway.routing.tiers import pick_by_tier
from capstan_gateway.upstream.port import Endpoint

NOW = 1000.0
SETTINGS = BreakerSettings(threshold=1, open_seconds=1, successes_to_close=1, slow_start_seconds=10)


def dice(seed: int) -> Random:
    """Chance that is the same every time."""
    return Random(seed)  # noqa: S311 - a test's dice


def state_of(name: str, tier: int = 0, weight: int = 100) -> EndpointState:
    """An endpoint that never failed."""
    return EndpointState(Endpoint(id=name, host="h", port=1, tier=tier, weight=weight), SETTINGS)


def fleets() -> st.SearchStrategy[list[EndpointState]]:
    """Some endpoints of a few tiers."""
    one = st.tuples(st.integers(0, 2), st.integers(1, 100))
    return st.lists(one, min_size=1, max_size=6).map(
        lambda drawn: [state_of(f"e{at}", tier, weight) for at, (tier, weight) in enumerate(drawn)]
    )


@given(fleets(), st.integers(), st.none() | st.binary(min_size=8, max_size=8))
def test_a_healthy_tier_takes_everything(states: list[EndpointState], seed: int, affinity: bytes | None) -> None:
    """While nothing is wrong, only endpoints of the first tier are chosen."""
    chosen = pick_by_tier(states, NOW, dice(seed), affinity=affinity)
    assert chosen is not None
    assert chosen.endpoint.tier == min(state.endpoint.tier for state in states)


@given(fleets(), st.sets(st.integers(0, 5)), st.sets(st.integers(0, 5)), st.integers())
def test_what_is_open_or_excluded_is_left_out(
    states: list[EndpointState], broken: set[int], excluded: set[int], seed: int
) -> None:
    """An excluded endpoint is never chosen; one with an open breaker only when nothing else is left."""
    for at in broken:
        if at < len(states):
            states[at].breaker.fail(NOW)
    out = [states[at] for at in excluded if at < len(states)]
    chosen = pick_by_tier(states, NOW, dice(seed), excluded=out)
    left = [state for state in states if state not in out]
    assert (chosen is None) == (not left)
    assert chosen is None or chosen in left
    fit = [state for state in left if state.breaker.allows(NOW)]
    assert not fit or chosen in fit


@given(st.binary(min_size=8, max_size=8), st.integers(), st.integers())
def test_a_key_keeps_its_endpoint(key: bytes, seed: int, other: int) -> None:
    """One affinity key gets one endpoint, whatever the dice say."""
    states = [state_of(f"e{at}") for at in range(4)]
    picked = {pick_by_tier(states, NOW, dice(number), affinity=key) for number in (seed, other)}
    assert len(picked) == 1


def test_weights_are_shares() -> None:
    """Among equals an endpoint gets about its weight."""
    states, rng = [state_of("a", weight=90), state_of("b", weight=10)], dice(7)
    counted = Counter(pick_by_tier(states, NOW, rng).endpoint.id for _ in range(2000))  # type: ignore[union-attr]
    assert 120 < counted["b"] < 280


def test_traffic_comes_back_slowly() -> None:
    """An endpoint that is back gets a tenth of the traffic at first, half of it midway, all of it in the end."""
    home, away, rng = state_of("home"), state_of("away", tier=1), dice(3)
    home.breaker.fail(NOW)
    assert pick_by_tier([home, away], NOW, rng) is away
    home.breaker.begin(NOW + 2)
    home.breaker.succeed(NOW + 2)

    def share(seconds: float) -> float:
        picks = [pick_by_tier([home, away], NOW + 2 + seconds, rng) for _ in range(1000)]
        return picks.count(home) / len(picks)

    assert 0.05 < share(0) < 0.15
    assert 0.4 < share(5) < 0.6
    assert share(10) == 1


def test_a_full_endpoint_comes_back_slowly_as_well() -> None:
    """After the time that an upstream asked to be left alone its share grows from a tenth."""
    home, away = state_of("home"), state_of("away", tier=1)
    home.breaker.defer(NOW, 5)
    assert pick_by_tier([home, away], NOW + 4.9, dice(1)) is away
    assert home.breaker.share(NOW + 5.1) == SETTINGS.first_share
    assert home.breaker.share(NOW + 15) == 1


def test_the_own_region_comes_first_among_equals() -> None:
    """Priority decides, then the region; endpoints of weight 0 are none."""
    endpoints = tuple(
        ExternalEndpoint(name=name, url=f"https://{name}.example/v1", region=region, priority=priority, weight=weight)
        for name, region, priority, weight in (
            ("a", "us", 0, 100), ("b", "eu", 0, 100), ("c", "eu", 1, 100), ("d", "us", 1, 100), ("e", "eu", 0, 0),
        )
    )  # fmt: skip
    backend = ExternalBackend(provider=Provider.OPENAI, endpoints=endpoints)
    at_home = {found.id: found.tier for found in hosted_endpoints("ns/m", backend, "eu")}
    assert at_home == {"ns/m@b": 0, "ns/m@a": 1, "ns/m@c": 2, "ns/m@d": 3}
    nowhere = {found.id: found.tier for found in hosted_endpoints("ns/m", backend, "")}
    assert nowhere == {"ns/m@a": 0, "ns/m@b": 0, "ns/m@c": 1, "ns/m@d": 1}
