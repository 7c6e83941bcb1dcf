"""Whatever holders do, in whatever order: the budget holds what they hold together, and never more than its limit."""

from hypothesis import given
from hypothesis import strategies as st

from capstan_gateway.memory import MemoryBudget, Share

STEPS = st.lists(
    st.tuples(st.integers(0, 4), st.sampled_from(["grow", "grow_to", "shrink_to", "release"]), st.integers(0, 700))
)


@given(st.integers(1, 2000), STEPS)
def test_the_sum_is_right(limit: int, steps: list[tuple[int, str, int]]) -> None:
    """The sum of all shares is what the budget holds, after every step; at the end everything comes back."""
    budget = MemoryBudget(limit)
    shares: list[Share] = [budget.share() for _ in range(5)]
    for number, step, size in steps:
        share = shares[number]
        if step == "release":
            share.release()
        else:
            getattr(share, step)(size)
        assert budget.held == sum(one.held for one in shares)
        assert 0 <= budget.held <= limit
    for share in shares:
        share.release()
    assert budget.held == 0
