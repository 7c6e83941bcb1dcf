"""What all gateways say, added up."""

from typing import Any

import pytest

from capstan_contract.demand import ModelDemand, QueueState
from capstan_operator.scaling.demand import Demand, add_up


def test_what_replicas_say_of_themselves_is_added_up() -> None:
    """Sums of what each has, the longest wait, and the slowest first tokens."""
    one = ModelDemand(
        inFlight=3,
        waiting=2,
        oldestWaitSeconds=4,
        rejectedPerSecond=0.5,
        tokensPerSecond=100,
        firstTokenP95Seconds=0.4,
    )
    two = ModelDemand(inFlight=1, waiting=1, oldestWaitSeconds=9, tokensPerSecond=50)
    assert _add_up(one, two) == Demand(
        in_flight=4, waiting=3, oldest_wait=9, rejected=0.5, tokens=150, first_token=0.4, complete=True
    )


def test_a_queue_that_all_share_counts_once() -> None:
    """The youngest that is said of it, and never less than what replicas say that they wait for."""
    old = ModelDemand(waiting=1, queue=QueueState(waiting=50, running=9, ageSeconds=3))
    new = ModelDemand(waiting=1, queue=QueueState(waiting=7, running=2, oldestWaitSeconds=6, ageSeconds=0.5))
    found = _add_up(old, new)
    assert found
    assert (found.waiting, found.in_flight, found.oldest_wait) == (7, 2, 6)
    more = _add_up(ModelDemand(waiting=5, queue=QueueState(waiting=1)))
    assert more
    assert more.waiting == 5


def test_silence_is_not_zero() -> None:
    """With one replica silent what is said is too little, with all silent nothing is known."""
    assert _add_up(None, None) is None
    assert add_up([]) is None
    found = _add_up(ModelDemand(inFlight=1), None)
    assert found
    assert not found.complete


@pytest.mark.parametrize(
    ("before", "now", "came"),
    [
        ({"arrived": 5}, {"arrived": 5}, False),
        ({"arrived": 5}, {"arrived": 6}, True),
        ({"arrived": 5}, {"arrived": 1}, True),
        ({"arrived": 5}, {"arrived": 0}, False),
        ({"arrived": 5, "arrivalsPerSecond": 0.1}, {"arrived": 5, "arrivalsPerSecond": 0.2}, False),
        ({"arrivalsPerSecond": 1.0}, {"arrivalsPerSecond": 1.0}, False),
        ({"arrivalsPerSecond": 1.0}, {"arrivalsPerSecond": 0.9}, False),
        ({"arrivalsPerSecond": 0.0}, {"arrivalsPerSecond": 0.03}, True),
        (None, {"arrived": 7}, False),
        ({"arrived": 5}, None, False),
    ],
)
def test_whether_a_request_came_in_between(
    before: dict[str, Any] | None, now: dict[str, Any] | None, came: bool
) -> None:
    """By what each replica has counted, and by rates of a release that does not say that; one that begins anew has
    what it has counted since, and one that was not known says nothing. The same holds of those that were refused."""
    for first, second in (("arrived", "arrivals"), ("rejected", "rejected")):

        def made(said: dict[str, Any] | None, first: str = first, second: str = second) -> ModelDemand | None:
            if said is None:
                return None
            words = {"arrived": first, "arrivalsPerSecond": f"{second}PerSecond"}
            return ModelDemand(**{words[key]: value for key, value in said.items()})

        found = add_up([(made(now), made(before)), (ModelDemand(), ModelDemand())])
        assert found
        assert (found.came if first == "arrived" else found.was_refused) is came


def _add_up(*said: ModelDemand | None) -> Demand | None:
    return add_up([(one, None) for one in said])


def test_who_knows_most_replicas_tells_how_full_they_are() -> None:
    """Gateways ask the same engines, so that nothing is added up; among equals the fuller one counts."""
    one = ModelDemand(kvCacheUtilization=0.9, kvCacheEndpoints=1)
    two = ModelDemand(kvCacheUtilization=0.5, kvCacheEndpoints=4)
    three = ModelDemand(kvCacheUtilization=0.6, kvCacheEndpoints=4)
    found = _add_up(one, two, three, ModelDemand(), None)
    assert found
    assert (found.kv_used, found.kv_told) == (pytest.approx(2.4), 4)
    silent = _add_up(ModelDemand())
    assert silent
    assert (silent.kv_used, silent.kv_told) == (None, 0)
