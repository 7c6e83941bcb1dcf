"""What one arm counts."""

import pytest

from capstan_contract.tracks import Quantity
from capstan_gateway.arms.tally import Tally


def test_a_value_can_be_replaced_by_another() -> None:
    """Who changes their mind is counted once, with what they say last."""
    tally, other = Tally(), Tally()
    tally.add(Quantity.FEEDBACK, 5, 1000)
    tally.replace(Quantity.FEEDBACK, 5, 1000, 250)
    other.add(Quantity.FEEDBACK, 5, 250)
    assert tally.counters() == other.counters()


def test_nothing_is_taken_from_a_histogram() -> None:
    """Times are what they are: to replace one is an error of the caller."""
    tally = Tally()
    tally.add(Quantity.LATENCY, 0, 10)
    with pytest.raises(ValueError, match="histogram"):
        tally.replace(Quantity.LATENCY, 0, 10, 20)


def test_values_are_bounded() -> None:
    """A clock that went back, or a value beyond all bounds, breaks no count."""
    tally = Tally()
    tally.add(Quantity.LATENCY, 0, -5)
    tally.add(Quantity.COST, 0, 1 << 80)
    assert tally.counters().of(Quantity.LATENCY).sum == 0
    assert tally.counters().of(Quantity.COST).sum == (1 << 40) - 1
