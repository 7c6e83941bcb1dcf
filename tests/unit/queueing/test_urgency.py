"""How urgent requests are: a tier decides, and a client may only lower that."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from capstan_contract.queue.names import PriorityClass
from capstan_gateway.queueing.urgency import Urgency, read_tiers, urgency_of

TIERS = read_tiers(["premium=high:4", "trial=low:0.5", "plain=default"])


@pytest.mark.parametrize(
    ("tier", "said", "priority"),
    [
        ("premium", None, PriorityClass.HIGH),
        ("premium", "auto", PriorityClass.HIGH),
        ("premium", "priority", PriorityClass.HIGH),
        ("premium", "default", PriorityClass.DEFAULT),
        ("premium", "flex", PriorityClass.LOW),
        ("plain", "priority", PriorityClass.DEFAULT),
        ("", "priority", PriorityClass.DEFAULT),
        ("", "flex", PriorityClass.LOW),
        ("trial", "default", PriorityClass.LOW),
        ("trial", "batch", PriorityClass.BATCH),
        ("nobody-knows", None, PriorityClass.DEFAULT),
    ],
)
def test_classes(tier: str, said: str | None, priority: PriorityClass) -> None:
    """`service_tier` lowers the class of a tier, and never raises it."""
    assert urgency_of(TIERS, tier, said).priority is priority


@given(
    st.sampled_from(["premium", "trial", "plain", "", "other"]),
    st.none() | st.text() | st.integers() | st.lists(st.text()),
)
def test_no_client_raises_itself(tier: str, said: object) -> None:
    """Whatever a client says, it is as urgent as its tier at most, and has the tier's weight."""
    own = urgency_of(TIERS, tier, None)
    found = urgency_of(TIERS, tier, said)
    assert found.priority >= own.priority
    assert found.weight == own.weight


def test_weights() -> None:
    """A tier's weight is 1 where nothing is said."""
    assert TIERS["premium"] == Urgency(PriorityClass.HIGH, 4.0)
    assert TIERS["plain"].weight == 1.0


@pytest.mark.parametrize(
    "entry", ["premium", "=high", "premium=urgent", "premium=high:", "premium=high:0", "premium=high:nan", "a=low:2000"]
)
def test_tiers_that_are_none(entry: str) -> None:
    """A tier that cannot be read ends the start with what is allowed."""
    with pytest.raises(ValueError, match="must be"):
        read_tiers([entry])


def test_a_tier_stands_once() -> None:
    """A tier that is there twice is refused: nobody knows which one was meant."""
    with pytest.raises(ValueError, match="twice"):
        read_tiers(["a=high", "a=low"])
