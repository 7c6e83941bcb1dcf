"""What holds of decisions whatever is asked of a model."""

import itertools
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from capstan_operator.api.scaling import Scaling
from capstan_operator.scaling.decision import Now, Scaler
from capstan_operator.scaling.demand import Demand
from capstan_operator.scaling.windows import MOST_SLOTS, Window

BEGAN = datetime(2026, 5, 4, 12, tzinfo=UTC)

amounts = st.integers(0, 500)
rates = st.floats(0, 50)
demands = st.builds(
    Demand,
    in_flight=amounts,
    waiting=amounts,
    oldest_wait=st.floats(0, 100),
    came=st.booleans(),
    was_refused=st.booleans(),
    rejected=rates,
    tokens=st.floats(0, 5000),
    first_token=st.none() | st.floats(0, 10),
    kv_used=st.none() | st.floats(0, 20),
    kv_told=st.integers(0, 20),
    complete=st.booleans(),
)
targets = st.fixed_dictionaries(
    {},
    optional={
        "inFlightPerReplica": st.integers(1, 100),
        "tokensPerSecond": st.integers(1, 1000),
        "kvCacheUtilization": st.integers(1, 100),
        "queueWaitSeconds": st.integers(1, 60),
        "timeToFirstTokenSeconds": st.sampled_from(["0.2", "1", "5.5"]),
    },
)


@st.composite
def scalings(draw: st.DrawFn) -> Scaling:
    """Any bounds, targets and times."""
    most = draw(st.integers(1, 20))
    spec: dict[str, Any] = {
        "min": draw(st.integers(0, most)),
        "max": most,
        "targets": draw(targets),
        "scaleUpStabilizationSeconds": draw(st.sampled_from([0, 3, 30])),
        "scaleDownStabilizationSeconds": draw(st.sampled_from([0, 5, 300])),
        "coldStartSeconds": 5,
        "idleSeconds": draw(st.sampled_from([6, 20])),
    }
    return Scaling.model_validate(spec)


def _now(second: int, current: int, ready: int | None = None) -> Now:
    return Now(BEGAN + timedelta(seconds=second), float(second), current, current if ready is None else ready)


def _follow(scaling: Scaling, told: list[Demand | None], current: int) -> list[int]:
    """Give the replicas that there are after each second."""
    scaler, found = Scaler(), []
    for second, demand in enumerate(told):
        current = scaler.decide(scaling, demand, _now(second, current)).desired
        found.append(current)
    return found


@given(scalings(), st.lists(st.none() | demands, min_size=1, max_size=40), st.integers(0, 30))
def test_bounds_are_kept(scaling: Scaling, told: list[Demand | None], current: int) -> None:
    """Whatever is told, and whatever there was."""
    assert all(scaling.min <= one <= scaling.max for one in _follow(scaling, told, current))


@given(scalings(), st.lists(demands, max_size=10), demands, demands, st.integers(0, 20), st.integers(0, 20))
def test_more_demand_never_asks_for_less(
    scaling: Scaling, before: list[Demand], less: Demand, more: Demand, current: int, ready: int
) -> None:
    """After the same history, what is greater in everything gives as many replicas at least."""
    greater = Demand(
        in_flight=max(less.in_flight, more.in_flight),
        waiting=max(less.waiting, more.waiting),
        oldest_wait=max(less.oldest_wait, more.oldest_wait),
        came=less.came or more.came,
        was_refused=less.was_refused or more.was_refused,
        rejected=max(less.rejected, more.rejected),
        tokens=max(less.tokens, more.tokens),
        first_token=max((one for one in (less.first_token, more.first_token) if one is not None), default=None),
        kv_used=None if less.kv_used is None else max(less.kv_used, more.kv_used or 0.0),
        kv_told=less.kv_told,  # What is not known is neither more nor less.
        complete=less.complete,
    )
    desired = []
    for last in (less, greater):
        scaler = Scaler()
        for second, demand in enumerate(before):
            scaler.decide(scaling, demand, _now(second, current, min(ready, current)))
        desired.append(scaler.decide(scaling, last, _now(len(before), current, min(ready, current))).desired)
    assert desired[0] <= desired[1]


@given(scalings(), demands, st.integers(0, 20))
def test_constant_demand_does_not_flap(scaling: Scaling, demand: Demand, current: int) -> None:
    """It goes into one direction only, and comes to rest; a model without demand may go to zero besides."""
    steady = replace(demand, complete=True)
    found = [current, *_follow(scaling, [steady] * 400, current)]
    signs = [(b > a) - (b < a) for a, b in itertools.pairwise(found) if a != b]
    turns = sum(a != b for a, b in itertools.pairwise(signs))
    assert turns == 0 or (found[-1] == 0 and turns <= 1)
    assert found[-1] == found[-2]


@given(scalings(), st.lists(demands, max_size=20), st.integers(1, 100), st.integers(0, 20))
def test_silence_takes_nothing_away(scaling: Scaling, before: list[Demand], silent: int, current: int) -> None:
    """However long nothing is told, what there is within the bounds stays."""
    scaler = Scaler()
    for second, demand in enumerate(before):
        current = scaler.decide(scaling, demand, _now(second, current)).desired
    current = min(max(current, scaling.min), scaling.max)
    for second in range(silent):
        assert scaler.decide(scaling, None, _now(len(before) + second, current)).desired == current


@given(
    scalings(),
    st.floats(-100, 1_000_000),
    st.lists(st.none() | st.just(Demand()) | demands, max_size=40),
    st.integers(0, 20),
    st.floats(-1_000_000, 1_000_000),
)
def test_nothing_goes_to_zero_at_once_by_what_a_process_before_has_told(
    scaling: Scaling, ago: float, told: list[Demand | None], current: int, set_to: float
) -> None:
    """Whatever it told, and whatever somebody makes of the clock on the wall: this process has to have seen it."""
    seen = min(scaling.idle_for, max(scaling.down_seconds, 60))
    scaler = Scaler(idle_since=BEGAN - timedelta(seconds=ago))
    for second, demand in enumerate([*told, *[Demand()] * seen][:seen]):
        now = replace(_now(second, current), time=BEGAN + timedelta(seconds=second + (set_to if second > 2 else 0)))
        before, current = current, scaler.decide(scaling, demand, now).desired
        assert current > 0 or before == 0


@given(st.floats(0, 100), st.lists(st.tuples(st.floats(0, 30), st.integers(0, 9)), min_size=1, max_size=300))
def test_a_window_has_what_was_said_within_it(seconds: float, steps: list[tuple[float, int]]) -> None:
    """Everything of the stretch is in it, nothing that is older by a 64th of it, in bounded memory."""
    window, said, now = Window(seconds), [], 0.0
    for step, number in steps:
        now += step
        window.add(number, now)
        said.append((now, number))
        inside = [number, *(one for at, one in said if now - at < seconds)]
        around = [one for at, one in said if now - at <= seconds * (1 + 2 / MOST_SLOTS)]
        assert min(around) <= window.least <= min(inside)
        assert max(inside) <= window.most <= max(around)
        assert len(window._slots) <= MOST_SLOTS + 2
