"""What all gateways say, added up."""

from capstan_contract.demand import ModelDemand, QueueState
from capstan_operator.scaling.demand import Demand, add_up, has_come


def test_what_replicas_say_of_themselves_is_added_up() -> None:
    """Sums of what each has, the longest wait, and the slowest first tokens."""
    one = ModelDemand(
        inFlight=3,
        waiting=2,
        oldestWaitSeconds=4,
        arrivalsPerSecond=1.5,
        rejectedPerSecond=0.5,
        tokensPerSecond=100,
        firstTokenP95Seconds=0.4,
    )
    two = ModelDemand(inFlight=1, waiting=1, oldestWaitSeconds=9, arrivalsPerSecond=0.5, tokensPerSecond=50)
    assert add_up([one, two]) == Demand(
        in_flight=4, waiting=3, oldest_wait=9, arrivals=2.0, rejected=0.5, tokens=150, first_token=0.4, complete=True
    )


def test_a_queue_that_all_share_counts_once() -> None:
    """The youngest that is said of it, and never less than what replicas say that they wait for."""
    old = ModelDemand(waiting=1, queue=QueueState(waiting=50, running=9, ageSeconds=3))
    new = ModelDemand(waiting=1, queue=QueueState(waiting=7, running=2, oldestWaitSeconds=6, ageSeconds=0.5))
    found = add_up([old, new])
    assert found
    assert (found.waiting, found.in_flight, found.oldest_wait) == (7, 2, 6)
    more = add_up([ModelDemand(waiting=5, queue=QueueState(waiting=1))])
    assert more
    assert more.waiting == 5


def test_silence_is_not_zero() -> None:
    """With one replica silent what is said is too little, with all silent nothing is known."""
    assert add_up([None, None]) is None
    assert add_up([]) is None
    found = add_up([ModelDemand(inFlight=1), None])
    assert found
    assert not found.complete


def test_a_rate_that_only_decays_says_that_nothing_came() -> None:
    """Over 30 s a rate falls to a third; a single request in the meantime shows."""
    assert not has_come(0.0, 0.0, 1.0)
    assert not has_come(1.0 * 0.9672, 1.0, 1.0)
    assert not has_come(0.3679, 1.0, 30.0)
    assert has_come(0.9672 + 1 / 30, 1.0, 1.0)
    assert has_come(1 / 30, 0.0, 1.0)
