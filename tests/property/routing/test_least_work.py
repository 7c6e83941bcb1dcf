"""The choice of an endpoint by what each holds of a prompt, for any load, health and knowledge."""

from random import Random

from hypothesis import given
from hypothesis import strategies as st

from capstan_gateway.routing.breaker import BreakerSettings
from capstan_gateway.routing.least_work import LEAST_HELD, Wanted, least_work
from capstan_gateway.routing.picker import load_bound, pick
from capstan_gateway.routing.registry import EndpointState
from capstan_gateway.upstream.port import Endpoint

NOW = 1000.0
TOKENS = 1000


def state_of(name: str, in_flight: int = 0, broken: bool = False) -> EndpointState:
    """An endpoint in a given state."""
    state = EndpointState(Endpoint(id=name, host="h", port=1), BreakerSettings(threshold=1, open_seconds=10))
    state.in_flight = in_flight
    if broken:
        state.breaker.fail(NOW)
    return state


@st.composite
def fleets(draw: st.DrawFn) -> list[EndpointState]:
    """Some endpoints in any state."""
    loads = draw(st.lists(st.tuples(st.integers(0, 50), st.booleans()), min_size=0, max_size=8))
    return [state_of(f"e{number}", load, broken) for number, (load, broken) in enumerate(loads)]


IDS = st.sampled_from([f"e{number}" for number in range(8)])
WANTED = st.builds(
    Wanted,
    tokens=st.just(TOKENS),
    held=st.dictionaries(IDS, st.integers(0, TOKENS)),
    shared=st.integers(0, TOKENS),
    affinity=st.none() | st.binary(min_size=8, max_size=8),
    holder=st.none() | IDS,
    holder_tokens=st.integers(0, 2 * TOKENS),
)


@given(states=fleets(), drop=st.sets(st.integers(0, 7)), seed=st.integers(), wanted=WANTED)
def test_the_choice_is_never_excluded_never_broken_without_need_and_below_the_bound(
    states: list[EndpointState], drop: set[int], seed: int, wanted: Wanted
) -> None:
    """Whatever an endpoint holds: one that is left out, sick or full does not get the request while there are others.

    Where nobody tells, and no key is there, two are drawn by their load as ever: those are not bounded.
    """
    excluded = {states[number] for number in drop if number < len(states)}
    chosen = least_work(states, NOW, Random(seed), wanted, excluded)  # noqa: S311
    left = [state for state in states if state not in excluded]
    if chosen is None:
        assert not left
        return
    usable = [state for state in left if state.breaker.allows(NOW)] or left
    assert chosen in usable
    told = max((wanted.held.get(state.endpoint.id, 0) for state in usable), default=0)
    if len(usable) > 1 and (wanted.affinity is not None or told - wanted.shared >= LEAST_HELD):
        assert chosen.in_flight < load_bound(usable)


@given(states=fleets(), seed=st.integers(), wanted=WANTED)
def test_equal_inputs_give_equal_choices(states: list[EndpointState], seed: int, wanted: Wanted) -> None:
    """Also in another order of the endpoints, where a key decides; no choice is left to chance then."""
    choices = {least_work(states, NOW, Random(seed), wanted) for _ in range(2)}  # noqa: S311
    if wanted.affinity is not None:
        choices |= {least_work(states[::-1], NOW, Random(seed + 1), wanted)}  # noqa: S311
    assert len(choices) == 1


@given(states=fleets(), key=st.binary(min_size=8, max_size=8), holder=st.none() | IDS, seed=st.integers())
def test_where_nobody_tells_it_is_as_ever(
    states: list[EndpointState], key: bytes, holder: str | None, seed: int
) -> None:
    """The holder, or the hash: what the picker says."""
    wanted = Wanted(TOKENS, {}, affinity=key, holder=holder, holder_tokens=TOKENS)
    expected = pick(states, NOW, Random(seed), affinity=key, holder=holder)  # noqa: S311
    chosen = least_work(states, NOW, Random(seed), wanted)  # noqa: S311
    assert chosen is expected


@given(
    order=st.permutations(range(4)), most=st.integers(0, 3), found=st.integers(200, TOKENS), seed=st.integers(),
    key=st.none() | st.binary(min_size=8, max_size=8), holder=st.none() | IDS,
)  # fmt: skip
def test_a_conversation_goes_where_its_blocks_are(
    order: list[int], most: int, found: int, seed: int, key: bytes | None, holder: str | None
) -> None:
    """Whoever answered it last, and whatever it hashes to."""
    states = [state_of(f"e{number}") for number in order]
    held = {state.endpoint.id: found if number == most else 0 for number, state in enumerate(states)}
    wanted = Wanted(TOKENS, held, affinity=key, holder=holder)
    assert least_work(states, NOW, Random(seed), wanted) is states[most]  # noqa: S311


def test_what_all_have_soon_decides_nothing() -> None:
    """New conversations behind one system prompt are spread by their keys, also while one endpoint alone has it."""
    states = [state_of(f"e{number}") for number in range(4)]
    rng = Random(1)  # noqa: S311
    held = {"e0": 900, "e1": 0, "e2": 0, "e3": 0}
    wanted = [Wanted(TOKENS, held, shared=900, affinity=rng.randbytes(8)) for _ in range(100)]
    assert len({least_work(states, NOW, rng, one) for one in wanted}) == 4


def test_an_endpoint_that_tells_nothing_is_not_passed_over() -> None:
    """It gets its share of new prompts, and the conversations that it answered last; not those that others have."""
    states = [state_of(f"e{number}") for number in range(4)]
    rng = Random(1)  # noqa: S311
    held = {"e0": 800, "e1": 800, "e2": 800}
    new = [Wanted(TOKENS, held, shared=800, affinity=rng.randbytes(8)) for _ in range(400)]
    assert [least_work(states, NOW, rng, one) for one in new].count(states[3]) > 50
    mine = Wanted(TOKENS, dict.fromkeys(held, 100), affinity=b"x" * 8, holder="e3", holder_tokens=900)
    assert least_work(states, NOW, rng, mine) is states[3]
    others = Wanted(TOKENS, {"e0": 800}, affinity=b"x" * 8)
    assert least_work(states, NOW, rng, others) is states[0]


def test_a_full_endpoint_is_left_for_one_that_computes_the_prompt_anew() -> None:
    """The bound of load is in force for who has the blocks, too, however many they are."""
    full, idle = state_of("full", 40), state_of("idle")
    wanted = Wanted(1_000_000, {"full": 1_000_000, "idle": 0})
    assert least_work([full, idle], NOW, Random(1), wanted) is idle  # noqa: S311


@given(key=st.binary(min_size=8, max_size=8), holder=st.none() | IDS, seed=st.integers())
def test_of_two_that_hold_the_same_the_one_with_less_to_do_is_chosen(key: bytes, holder: str | None, seed: int) -> None:
    """Where what is before the request counts more than a sixteenth of its prompt."""
    busy, idle = state_of("e0", 3), state_of("e1")
    wanted = Wanted(TOKENS, {"e0": 900, "e1": 900}, affinity=key, holder=holder)
    assert least_work([busy, idle], NOW, Random(seed), wanted) is idle  # noqa: S311
