"""What HPAs are told, whatever gateways say."""

import asyncio

from hypothesis import given
from hypothesis import strategies as st

from capstan_operator.api.kinds import Model
from capstan_operator.metrics_api.loads import Loads
from capstan_operator.resources.resource import ObjectKey
from capstan_operator.scaling.demand import Demand
from support.plainmodels import make_model

KEY = ObjectKey("team", "llama")

demands = st.builds(
    Demand,
    in_flight=st.integers(0, 300),
    waiting=st.integers(0, 300),
    rejected=st.floats(0, 20),
    ready=st.integers(0, 9),
    complete=st.booleans(),
)


def _follow(told: list[Demand | None]) -> list[float | None]:
    """Give what an HPA is told that asks each second."""
    at = 0

    async def find(_: ObjectKey) -> Model | None:
        return make_model(scaling={"max": 9})

    loads = Loads(lambda _: told[at], find=find, clock=lambda: float(at))

    async def ask() -> list[float | None]:
        nonlocal at
        found = []
        for second in range(len(told)):
            at = second
            loads.step()
            found.append(await loads.of(KEY))
        return found

    return asyncio.run(ask())


@given(st.lists(st.none() | demands, min_size=1, max_size=30))
def test_what_only_some_gateways_say_never_lowers_what_is_told(told: list[Demand | None]) -> None:
    """It may raise it, is never less than what is ready, and with no gateway at all nothing is told."""
    before = 0.0
    for demand, load in zip(told, _follow(told), strict=True):
        assert (load is None) == (demand is None)
        if demand is None or load is None:
            continue
        assert demand.complete or load >= max(before, demand.ready)
        before = load


def test_refusals_without_a_ready_replica_neither_raise_nor_lower_what_is_told() -> None:
    """An HPA keeps what it has of a model that does not come up."""
    waits, refused = Demand(waiting=90), Demand(rejected=30.0)
    assert _follow([waits, *[refused] * 100]) == [90 / 32, *[3.0] * 100]


def test_a_silent_gateway_takes_no_replica_away() -> None:
    """For as long as it is silent; when it speaks again its word counts."""
    whole, half = Demand(in_flight=200, ready=7), Demand(in_flight=3, ready=7, complete=False)
    found = _follow([whole, *[half] * 400, Demand(in_flight=3, ready=7)])
    assert found == [6.25, *[7.0] * 400, 3 / 32]
