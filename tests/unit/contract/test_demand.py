"""What gateways say of demand: written and read, also by releases that know less or more."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from capstan_contract.demand import (
    DemandError,
    DemandReport,
    ModelDemand,
    QueueState,
    ReadDemand,
    read_demand,
)

FULL = ModelDemand(
    inFlight=3, waiting=2, coldWaiting=1, oldestWaitSeconds=4.5, readyEndpoints=1, arrivalsPerSecond=1.5,
    rejectedPerSecond=0.25, tokensPerSecond=120.0, firstTokenP95Seconds=0.8,
    kvCacheUtilization=0.5, kvCacheEndpoints=1,
    queue=QueueState(waiting=5, running=8, room=1, workers=2, gateways=3, oldestWaitSeconds=6.0, meanSeconds=0.01),
)  # fmt: skip


def test_a_page_is_read_as_it_was_written() -> None:
    """Every field comes through."""
    page = DemandReport(models={"team/full": FULL, "team/idle": ModelDemand()}).model_dump_json()
    assert read_demand(page) == ReadDemand({"team/full": FULL, "team/idle": ModelDemand()}, ())


def test_a_page_of_a_later_release_is_read() -> None:
    """Fields that are not known change nothing, at any depth."""
    page: dict[str, Any] = json.loads(DemandReport(models={"team/full": FULL}).model_dump_json())
    page["more"] = page["models"]["team/full"]["more"] = page["models"]["team/full"]["queue"]["more"] = {"a": 1}
    assert read_demand(json.dumps(page)).models == {"team/full": FULL}


@pytest.mark.parametrize("page", ["{", "[]", "[" * 100_000, "{}", '{"version":2}', '{"version":true}',
                                  '{"version":1,"models":[]}'])  # fmt: skip
def test_pages_that_are_none(page: str) -> None:
    """What is no page of this version is refused, and not taken for one where nothing is asked of any model."""
    with pytest.raises(DemandError):
        read_demand(page)


@pytest.mark.parametrize("demand", [1, {"waiting": -1}, {"inFlight": "many"}, {"tokensPerSecond": float("nan")}])
def test_a_model_that_cannot_be_read_is_named(demand: object) -> None:
    """Nothing is known of such a model, which is something else than that nothing is asked of it; others are read."""
    page = json.dumps({"version": 1, "models": {"team/odd": demand, "team/full": FULL.model_dump()}})
    assert read_demand(page) == ReadDemand({"team/full": FULL}, ("team/odd",))


def test_a_queue_that_cannot_be_read_is_left_out() -> None:
    """What a replica says of its own requests counts, whatever it says of the queue."""
    page = json.dumps({"version": 1, "models": {"team/chat": {"waiting": 2, "queue": {"running": -1}}}})
    assert read_demand(page) == ReadDemand({"team/chat": ModelDemand(waiting=2)}, ())


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
        lambda inner: (
            st.lists(inner, max_size=3)
            | st.dictionaries(st.sampled_from(["version", "models", "queue", "waiting", "a"]), inner, max_size=4)
        ),
    )
)
def test_whatever_is_there_is_read_or_refused(page: object) -> None:
    """No page raises anything but DemandError."""
    try:
        found = read_demand(json.dumps(page))
    except DemandError:
        return
    assert isinstance(found, ReadDemand)
