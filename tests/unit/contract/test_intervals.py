"""How sure a share is."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from capstan_contract.intervals import wilson


def test_wilson() -> None:
    """The interval is that of the literature: 8 of 10 is 49.0% to 94.3%."""
    assert wilson(8, 10) == pytest.approx((0.4902, 0.9433), abs=5e-4)
    assert wilson(0, 0) == (0.0, 1.0)


@given(st.integers(1, 10_000).flatmap(lambda of: st.tuples(st.integers(0, of), st.just(of))))
def test_wilson_holds_the_share(counts: tuple[int, int]) -> None:
    """The interval is within 0 and 1, and the share that was seen is in it."""
    low, high = wilson(*counts)
    assert 0 <= low <= counts[0] / counts[1] + 1e-9
    assert counts[0] / counts[1] - 1e-9 <= high <= 1
