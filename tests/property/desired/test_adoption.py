"""Whose turn it is, whatever the models and nodes are."""

from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from capstan_operator.desired.adoption import RolloutState, decide_turns
from capstan_operator.desired.snapshot import NodeCapacity
from capstan_operator.resources.resource import ObjectKey

GPU = "nvidia.com/gpu"
NODES = st.lists(st.integers(0, 8), max_size=4).map(
    lambda free: tuple(NodeCapacity(str(number), {GPU: count}) for number, count in enumerate(free))
)


@st.composite
def _states(draw: st.DrawFn) -> tuple[RolloutState, ...]:
    return tuple(
        RolloutState(
            key=ObjectKey("team", f"m{number}"),
            created=draw(st.sampled_from(["2026-01-01", "2026-01-02", "2026-01-03"])),
            waits=draw(st.booleans()),
            rolls=draw(st.booleans()),
            adopts=draw(st.booleans()),
            serves=draw(st.booleans()),
            gpus=draw(st.integers(0, 4)),
            gpu_resource=GPU,
            unplaced=draw(st.integers(0, 2)),
            excused=draw(st.booleans()),
        )
        for number in range(draw(st.integers(0, 8)))
    )


@given(_states(), NODES, st.integers(1, 4), st.data())
def test_turns_keep_within_the_places_and_the_room(
    states: tuple[RolloutState, ...], nodes: tuple[NodeCapacity, ...], places: int, data: st.DataObject
) -> None:
    """No more are on their way than there are places, only those that wait get turns, and together they find room."""
    keys = [state.key for state in states]
    granted = frozenset(data.draw(st.lists(st.sampled_from(keys), unique=True)) if keys else [])
    turns = decide_turns(states, nodes=nodes, places=places, granted=granted)
    chosen = [state for state in states if state.key in turns]
    new = [state for state in chosen if not state.has_place]
    assert all(state.waits for state in chosen)
    on_their_way = sum(state.has_place for state in states)
    assert len(new) <= max(places - on_their_way, 0)
    assert sum(state.gpus for state in new) <= sum(node.free[GPU] for node in nodes)
    assert all(any(node.free[GPU] >= state.gpus for node in nodes) for state in new if state.gpus)


@given(_states(), NODES, st.integers(1, 4))
def test_it_is_decided_again_in_the_same_way(
    states: tuple[RolloutState, ...], nodes: tuple[NodeCapacity, ...], places: int
) -> None:
    """The same facts give the same turns, in whatever order they come, and those who have a turn keep it."""
    turns = decide_turns(states, nodes=nodes, places=places)
    assert decide_turns(tuple(reversed(states)), nodes=nodes, places=places) == turns
    assert decide_turns(states, nodes=nodes, places=places, granted=turns) == turns


@given(_states(), st.integers(1, 4))
def test_oldest_first_among_those_that_serve(states: tuple[RolloutState, ...], places: int) -> None:
    """With room for all, nobody is passed over by one that is younger, or that serves nobody."""
    turns = decide_turns(states, nodes=None, places=places)
    waiting = [state for state in states if state.waits and not state.has_place]
    passed = [state for state in waiting if state.key not in turns]
    taken = [state for state in waiting if state.key in turns]
    rank = {state.key: (not state.serves, state.created, state.key) for state in waiting}
    assert all(rank[one.key] < rank[other.key] for one in taken for other in passed)


@given(_states(), st.integers(1, 3))
def test_everybody_gets_a_turn(states: tuple[RolloutState, ...], places: int) -> None:
    """As rollouts come to their end, each model that waits has its turn, within as many rounds as there are models."""
    nodes = (NodeCapacity("a", {GPU: 4}),)
    left = {state.key: RolloutState(**{**vars(state), "rolls": False, "unplaced": 0}) for state in states}
    for _ in states:
        for key in decide_turns(left.values(), nodes=nodes, places=places):
            left[key] = RolloutState(**{**vars(left[key]), "waits": False})
    assert not any(state.waits for state in left.values())


@given(_states(), st.integers(1, 3), st.lists(st.booleans(), min_size=8, max_size=8))
def test_rollouts_that_never_end_for_reasons_of_their_own_stop_nobody(
    states: tuple[RolloutState, ...], places: int, broken: list[bool]
) -> None:
    """Models that come up never, and never did, hold no place for ever: each of the others has its turn."""
    left = {state.key: replace(state, rolls=False, unplaced=0) for state in states}
    ill = {state.key for state, is_ill in zip(states, broken, strict=False) if is_ill}
    for _ in states:
        for key in decide_turns(left.values(), nodes=None, places=places):
            left[key] = replace(
                left[key], waits=False, rolls=key in ill, adopts=True, stuck=key in ill, excused=key in ill
            )
    assert not any(state.waits for state in left.values())


@given(_states(), st.integers(1, 3))
def test_release_that_does_not_work_stops_with_the_first_few(states: tuple[RolloutState, ...], places: int) -> None:
    """Rollouts that are stuck, of models that served before, keep their places: no more than these are concerned."""
    left = {state.key: replace(state, rolls=False, unplaced=0, excused=False) for state in states}
    concerned = set[ObjectKey]()
    for _ in states:
        for key in decide_turns(left.values(), nodes=None, places=places):
            left[key] = replace(left[key], waits=False, rolls=True, adopts=True, stuck=True)
            concerned.add(key)
    assert len(concerned) <= places
