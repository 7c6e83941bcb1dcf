"""Which counters the members of weighted routers have, and for how long."""

from capstan_contract.config import RouterBackend, RouterMember, StickyBy, Strategy
from capstan_contract.tracks import Quantity
from capstan_gateway.arms.counted import CLIENT_GONE, Counted, Went
from capstan_gateway.arms.experiments import Experiments, Setup, setup_of
from capstan_gateway.arms.tally import Tally


def _router(*weights: int, strategy: Strategy = Strategy.WEIGHTED) -> RouterBackend:
    members = tuple(RouterMember(model=f"n/{place}", weight=weight) for place, weight in enumerate(weights))
    return RouterBackend(strategy=strategy, stickyBy=StickyBy.USER, members=members)


def _setup(router: str = "n/r", *weights: int) -> Setup:
    found = setup_of(router, _router(*weights or (1, 1)))
    assert found is not None
    return found


def test_only_a_choice_between_weights_is_an_experiment() -> None:
    """A router compares its members when it is weighted, and two of them have a weight."""
    assert setup_of("n/r", _router(1, 1)) is not None
    assert setup_of("n/r", _router(1, 0)) is None
    assert setup_of("n/r", _router(1, 1, strategy=Strategy.CHEAPEST)) is None


def test_the_epoch_is_what_the_shares_are_drawn_by() -> None:
    """Equal members and weights have one epoch wherever it is reckoned, other weights another."""
    assert _setup("n/r", 1, 1).epoch == _setup("n/r", 1, 1).epoch
    assert _setup("n/r", 1, 1).epoch != _setup("n/r", 1, 2).epoch


def test_counts_outlive_the_config_that_they_began_with() -> None:
    """The same router finds its counters again, and another weight begins new ones beside them."""
    experiments, before, after = Experiments(), _setup("n/r", 1, 1), _setup("n/r", 1, 3)
    experiments.tally(before, "n/0").add(Quantity.ERROR, 0, 0)
    assert experiments.tally(_setup("n/r", 1, 1), "n/0").counters().requests == 1
    current, old = experiments.report([(after, "r")])
    assert (current.epoch, current.current, [arm.counters.requests for arm in current.arms]) == (
        after.epoch, True, [0, 0],
    )  # fmt: skip
    assert (old.epoch, old.current, [arm.counters.requests for arm in old.arms]) == (before.epoch, False, [1, 0])


def test_a_router_that_is_gone_is_forgotten() -> None:
    """What was counted of a router goes with it, and its room is free again."""
    experiments = Experiments(most=2)
    experiments.tally(_setup("n/r"), "n/0")
    experiments.retain(["n/other"])
    assert experiments.report([]) == ()
    experiments.tally(_setup("n/a"), "n/0").add(Quantity.ERROR, 0, 0)
    experiments.tally(_setup("n/b"), "n/0")
    assert len(experiments.report([])) == 2


def test_memory_is_bounded() -> None:
    """With more arms than there may be the experiment goes that was asked longest ago."""
    experiments = Experiments(most=4)
    for router in ("n/a", "n/b"):
        for member in ("n/0", "n/1"):
            experiments.tally(_setup(router), member)
    experiments.tally(_setup("n/a"), "n/0")
    experiments.tally(_setup("n/c"), "n/0")
    assert [one.router for one in experiments.report([])] == ["n/a", "n/c"]


def test_a_request_that_went_well_is_counted_with_all_that_is_known() -> None:
    """Times are whole microseconds, the price whole nano-dollars."""
    tally = Tally()
    Counted(tally, 3).count(Went(200, 1.5, first_token=0.25, inter_token=0.01, nanos=7))
    counters = tally.counters()
    assert {quantity: measure.sum for quantity, measure in counters.measures.items()} == {
        Quantity.ERROR: 0, Quantity.FIRST_TOKEN: 250_000, Quantity.INTER_TOKEN: 10_000,
        Quantity.LATENCY: 1_500_000, Quantity.COST: 7,
    }  # fmt: skip
    assert counters.of(Quantity.LATENCY).buckets == ((3, 1, 1_500_000),)


def test_who_does_not_answer_itself_has_failed() -> None:
    """A member whose request another one had to answer counts an error, and none of the other's times."""
    tally = Tally()
    counted = Counted(tally, 0)
    counted.answered = False
    counted.count(Went(200, 1.0, nanos=5))
    assert tally.counters().of(Quantity.ERROR).sum == 1
    assert tally.counters().of(Quantity.LATENCY).count == 0
    assert tally.counters().of(Quantity.COST).count == 0


def test_a_clients_own_fault_is_no_error_and_no_answer() -> None:
    """A request that is refused for what it says counts as a request, without times; one whose client has gone not."""
    tally = Tally()
    Counted(tally, 0).count(Went(400, 1.0))
    Counted(tally, 0).count(Went(CLIENT_GONE, 1.0))
    assert tally.counters().requests == 1
    assert tally.counters().of(Quantity.ERROR).sum == 0
    assert tally.counters().of(Quantity.LATENCY).count == 0


def test_what_failed_is_an_error() -> None:
    """An answer with a status of 500 or more is an error of the member."""
    tally = Tally()
    Counted(tally, 0).count(Went(502, 1.0))
    assert tally.counters().of(Quantity.ERROR).sum == 1
