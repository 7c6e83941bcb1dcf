"""Which way a request goes, by what is known of its model."""

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from capstan_contract.config import Dispatch
from capstan_contract.queue.calls import State
from capstan_contract.queue.names import PriorityClass
from capstan_gateway.queueing.choice import Sight, Way, choose, has_place, places_of_one, waiting_as_urgent, waits

FREE = Sight(usable=True, ready=True, free=True, waiting=0, workers=2)
BUSY = Sight(usable=True, ready=True, free=False, waiting=0, workers=2)
ZERO = Sight(usable=True, ready=False, free=False, waiting=0, workers=None)
sights = st.builds(
    Sight, usable=st.booleans(), ready=st.booleans(), free=st.booleans(), waiting=st.integers(0, 5),
    workers=st.none() | st.integers(0, 3),
)  # fmt: skip
dispatches = st.sampled_from(Dispatch)


@pytest.mark.parametrize(
    ("sight", "way"),
    [
        (FREE, Way.DIRECT),
        (BUSY, Way.QUEUE),
        (ZERO, Way.QUEUE),
        (Sight(usable=True, ready=True, free=True, waiting=1, workers=2), Way.QUEUE),
        (Sight(usable=True, ready=True, free=False, waiting=0, workers=None), Way.QUEUE),
        (Sight(usable=True, ready=True, free=False, waiting=3, workers=0), Way.DIRECT),
        (Sight(usable=False, ready=False, free=False, waiting=0, workers=2), Way.DIRECT),
    ],
)
def test_auto(sight: Sight, way: Way) -> None:
    """Directly while a place is free and nobody waits, or where nobody takes from the queue; else by the queue."""
    assert choose(Dispatch.AUTO, sight, apart=False, may_wait=True) is way


@pytest.mark.parametrize(("sight", "way"), [(FREE, Way.DIRECT), (BUSY, Way.DIRECT), (ZERO, Way.QUEUE)])
@pytest.mark.parametrize("dispatch", [Dispatch.AUTO, Dispatch.QUEUE])
def test_what_goes_apart(dispatch: Dispatch, sight: Sight, way: Way) -> None:
    """The gateway's own questions, and what must not be sent twice, wait in the queue at zero only."""
    assert choose(dispatch, sight, apart=True, may_wait=True) is way


def test_at_zero_another_model_is_asked_at_once() -> None:
    """A request that another model may answer does not wait for one without endpoints."""
    assert choose(Dispatch.QUEUE, ZERO, apart=False, may_wait=False) is Way.DIRECT


@given(dispatches, sights, st.booleans(), st.booleans())
def test_nothing_is_queued_where_that_cannot_be(dispatch: Dispatch, sight: Sight, apart: bool, may_wait: bool) -> None:
    """Without a Redis, or with Direct, everything goes directly; nothing is queued for engines that nobody takes for,
    unless the queue is asked for by name."""
    way = choose(dispatch, sight, apart=apart, may_wait=may_wait)
    if not sight.usable or dispatch is Dispatch.DIRECT:
        assert way is Way.DIRECT
    if dispatch is Dispatch.AUTO and sight.ready and sight.workers == 0:
        assert way is Way.DIRECT


@given(st.integers(1, 1000), st.integers(0, 50))
def test_gateways_share_places(places: int, gateways: int) -> None:
    """All gateways together send to all places, each at least to one, and to no more than one each beyond them."""
    each = places_of_one(places, gateways)
    assert each >= 1
    assert places <= each * max(gateways, 1) < places + max(gateways, 1)


@given(st.integers(1, 8), st.lists(st.integers(0, 12), max_size=5), st.integers(0, 20), st.randoms())
def test_a_place_is_free_wherever_the_unplaced_are(
    places: int, loads: list[int], unplaced: int, rng: random.Random
) -> None:
    """A place is free just when one is left however those are spread that nobody knows the endpoint of: each takes one
    that is free as long as there is any."""
    left = list(loads)
    for _ in range(unplaced):
        free = [index for index, load in enumerate(left) if load < places]
        if free:
            left[rng.choice(free)] += 1
    assert has_place(places, loads, unplaced) is any(load < places for load in left)


def state_of(waiting: int) -> State:
    """Give what Redis says of a queue."""
    return State((0, waiting, 0, 0), data=0, oldest_ms=0, mean_us=0, running=0, room=9, workers=1, gateways=1)


@pytest.mark.parametrize(
    ("unanswered", "free", "waiting", "wait"),
    [
        (5, 5, 0, 0),  # engines have all of them
        (5, 3, 0, 2),  # Redis has not been asked since they came
        (5, 5, 2, 2),  # engines have fewer places than is known, or leave some free
        (5, -1, 0, 5),
        (2, 9, 7, 2),  # the others are another gateway's
    ],
)
def test_who_waits_for_a_worker(unanswered: int, free: int, waiting: int, wait: int) -> None:
    """An entry that a worker has waits no more, though its answer has not begun."""
    assert waits(unanswered, free=free, state=state_of(waiting)) == wait


@given(st.integers(0, 50), st.integers(0, 50))
def test_without_redis_all_that_have_no_answer_wait(unanswered: int, free: int) -> None:
    """While nobody says how the queue stands, none of its entries is taken for being worked on."""
    assert waits(unanswered, free=free, state=None) == unanswered


def test_who_waits_counts_for_who_is_less_urgent() -> None:
    """A request that is more urgent than all that wait goes past them."""
    state = State(
        waiting=(0, 2, 3, 100), data=0, oldest_ms=0, mean_us=0, running=0, room=0, workers=1, gateways=1
    )  # fmt: skip
    assert [waiting_as_urgent(state, one) for one in PriorityClass] == [0, 2, 5, 105]
    assert waiting_as_urgent(None, PriorityClass.BATCH) == 0
