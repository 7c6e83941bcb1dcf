"""The budget of bytes: who gets what, and that all of it comes back."""

from pathlib import Path

import pytest

from capstan_gateway.memory import KEPT_PART, LARGE_PART, MemoryBudget
from capstan_gateway.memory_limit import UNLIMITED_BUDGET, default_budget, memory_limit


def test_what_is_taken_is_held_until_it_is_released() -> None:
    """A share holds what it has grown by, and gives it back once, however often it is released."""
    budget = MemoryBudget(1000)
    share, other = budget.share(), budget.share()
    assert share.grow(3)
    assert share.grow_to(2)
    assert share.grow_to(3)
    assert other.grow(2)
    assert (share.held, other.held, budget.held) == (3, 2, 5)
    share.release()
    share.release()
    assert (share.held, budget.held) == (0, 2)
    other.shrink_to(1)
    assert (other.held, budget.held) == (1, 1)


def test_without_room_nothing_is_taken() -> None:
    """Who gets no room holds what it held before, and that is counted."""
    budget = MemoryBudget(LARGE_PART * 4)
    share = budget.share()
    assert share.grow(4)
    while budget.share().grow(4):
        pass
    assert (share.held, budget.held) == (4, budget.limit)
    assert budget.refused == 1
    assert not budget.share().grow(1)
    assert share.grow_to(1)


def test_what_would_only_be_nice_to_have_leaves_half_of_the_budget() -> None:
    """And is no refusal where it does not: up to half, exactly; what was released takes nothing."""
    budget = MemoryBudget(LARGE_PART * 4 + 1)
    half = budget.limit // 2
    share = budget.share()
    while share.held < half - 2:
        assert share.grow(min(4, half - 2 - share.held))
    assert not share.grow_easily(3)
    assert share.grow_easily(2)
    assert not share.grow_easily(1)
    assert (share.held, budget.held, budget.refused) == (half, half, 0)
    assert share.grow_to(half)
    assert budget.refused == 0
    share.release()
    assert not share.grow_easily(1)
    assert budget.held == 0


def test_the_bounds_are_exact() -> None:
    """What is just not large has all of the budget, what is one byte larger has three quarters, rounded up."""
    budget = MemoryBudget(LARGE_PART * 100 + 3)
    for_large = budget.limit - budget.limit // KEPT_PART
    assert (budget.ever_fits(for_large), budget.ever_fits(for_large + 1)) == (True, False)
    share, other = budget.share(), budget.share()
    assert share.grow(for_large)
    while other.held < 100:
        assert other.grow(100 - other.held)
    assert budget.has_room(100)
    assert not budget.has_room(101)
    assert not budget.has_room(100, beside=1), "what grows slowly gets large too"
    assert [other.grow(1), other.grow(1)] == [False, False]
    assert budget.refused == 2


def test_what_is_held_already_asks_for_nothing() -> None:
    """To hold as much as one holds is no question of room, and never a refusal: also not when there is none."""
    budget = MemoryBudget(LARGE_PART)
    share = budget.share()
    while share.grow(1):
        pass
    refused = budget.refused
    assert share.grow_to(share.held)
    other = budget.share()
    assert other.grow_to(0)
    share.release()
    assert share.grow_to(0), "nothing is always there"
    assert budget.refused == refused


def test_a_released_share_takes_nothing() -> None:
    """What comes late, for a request that is over, is refused: nobody would give it back."""
    budget = MemoryBudget(1000)
    share = budget.share()
    share.release()
    assert not share.grow(1)
    assert budget.held == 0


def test_large_ones_leave_room_for_small_ones() -> None:
    """However many large bodies come, a quarter of the budget is kept for small ones."""
    budget = MemoryBudget(LARGE_PART * 100)
    large = 101
    while budget.share().grow(large):
        pass
    assert budget.held <= budget.limit - budget.limit // KEPT_PART
    assert budget.held > budget.limit - budget.limit // KEPT_PART - large
    assert budget.share().grow(100)
    assert not budget.ever_fits(budget.limit)
    assert budget.ever_fits(budget.limit - budget.limit // KEPT_PART)


def test_what_grows_in_small_steps_gets_large_too() -> None:
    """How much a holder has counts, and not the last piece of it: small ones are kept room from it all the same."""
    budget = MemoryBudget(LARGE_PART * 100)
    growing = budget.share()
    while growing.grow(100):
        pass
    assert budget.held == budget.limit - budget.limit // KEPT_PART
    assert budget.share().grow(100)


@pytest.mark.parametrize(
    ("text", "limit"), [("1073741824\n", 1 << 30), ("max\n", None), ("9223372036854771712\n", None), ("", None)]
)
def test_the_limit_of_the_container(tmp_path: Path, text: str, limit: int | None) -> None:
    """The limit is what the first file that has one says, in either version of cgroups; half of it is the budget."""
    file = tmp_path / "memory.max"
    file.write_text(text)
    files = (tmp_path / "none", file)
    assert memory_limit(files) == limit
    assert default_budget(files) == (UNLIMITED_BUDGET if limit is None else limit // 2)


def test_lenders_give_back_until_there_is_room() -> None:
    """Who finds no room has others give back what they could do without: no more than it takes, and never in vain."""
    budget = MemoryBudget(LARGE_PART * 4)
    lent = [budget.share() for _ in range(LARGE_PART)]
    for share in lent:
        assert share.grow(4)
    asked = 0

    def lend() -> bool:
        nonlocal asked
        asked += 1
        if len(lent) <= LARGE_PART - 3:
            return False
        lent.pop().release()
        return True

    budget.lenders += [lambda: False, lend]
    assert not budget.share().grow(LARGE_PART * 4), "it would never fit"
    assert asked == 0
    share = budget.share()
    assert share.grow(2)
    assert asked == 1
    assert share.grow(2)
    assert asked == 1
    assert budget.refused == 1
    assert budget.share().grow(4)
    assert budget.share().grow(4)
    assert not budget.share().grow(4)
    assert (asked, budget.refused) == (4, 2)
    share.release()
    assert not share.grow(1)
    assert asked == 4
