"""What KEDA is told of zero and not zero is what the operator itself would do."""

import asyncio
from datetime import UTC, datetime, timedelta

from hypothesis import given
from hypothesis import strategies as st

from capstan_operator.api.kinds import Model
from capstan_operator.metrics_api.loads import Loads
from capstan_operator.resources.resource import ObjectKey
from capstan_operator.scaling.decision import Now, Scaler
from capstan_operator.scaling.demand import Demand
from support.plainmodels import make_model

KEY = ObjectKey("team", "llama")
BEGIN = datetime(2026, 5, 4, 7, 59, tzinfo=UTC)
SCALING = {
    "min": 0,
    "max": 4,
    "strategy": "KEDA",
    "idleSeconds": 40,
    "coldStartSeconds": 5,
    "scaleDownStabilizationSeconds": 20,
    "schedules": [{"cron": "0 8 * * *", "min": 1}, {"cron": "2 8 * * *", "min": 0}],
}

asked = st.one_of(
    st.none(),
    st.builds(Demand, complete=st.booleans()),
    st.builds(Demand, in_flight=st.integers(0, 99), waiting=st.integers(0, 99), came=st.booleans()),
    st.builds(Demand, was_refused=st.booleans(), rejected=st.floats(0, 9)),
)
stretches = st.lists(st.tuples(asked, st.integers(1, 90)), min_size=1, max_size=8)
"""What is said, and for how many seconds."""


def _is_woken_as_told(demands: list[Demand | None], *, replicas: int) -> list[bool]:
    """Give for each second whether KEDA has any replica, which does at once what it is told."""
    second, there = 0, replicas

    async def find(_: ObjectKey) -> Model | None:
        return make_model(scaling=SCALING, status={"replicas": there})

    def demand_of(_: ObjectKey) -> Demand | None:
        return _with_ready(demands[second], there)

    loads = Loads(demand_of, find=find, now=lambda: BEGIN + timedelta(seconds=second), clock=lambda: float(second))

    async def ask() -> list[bool]:
        nonlocal second, there
        found = []
        for at in range(len(demands)):
            second = at
            loads.step()
            is_active = await loads.is_active(KEY)
            assert is_active is not None
            there = int(is_active)
            found.append(is_active)
        return found

    return asyncio.run(ask())


def _is_woken_by_the_operator(demands: list[Demand | None], *, replicas: int) -> list[bool]:
    scaling = make_model(scaling=SCALING).spec.scaling  # type: ignore[union-attr]
    assert scaling
    scaler, there, found = Scaler(), replicas, []
    for second, demand in enumerate(demands):
        now = Now(BEGIN + timedelta(seconds=second), float(second), there, min(there, 1))
        there = scaler.decide(scaling, _with_ready(demand, there), now).desired
        found.append(there > 0)
    return found


def _with_ready(demand: Demand | None, there: int) -> Demand | None:
    return None if demand is None else Demand(**{**demand.__dict__, "ready": min(there, 1)})


@given(stretches, st.integers(0, 1))
def test_keda_is_told_what_the_operator_would_do(told: list[tuple[Demand | None, int]], replicas: int) -> None:
    """Whatever gateways say and for however long, and through a schedule: a model is at zero in the same seconds."""
    demands = [Demand(), *(demand for demand, seconds in told for _ in range(seconds))]
    expected = _is_woken_by_the_operator(demands, replicas=replicas)
    assert _is_woken_as_told(demands, replicas=replicas) == expected
