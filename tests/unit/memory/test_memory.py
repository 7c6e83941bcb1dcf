"""The budget of bytes: who gets what, and that all of it comes back."""

from collections.abc import Iterable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from capstan_gateway.memory import KEPT_PART, LARGE_PART, Loan, MemoryBudget, enough_of
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


class Lender:
    """Has lent so many bytes to each of some holders, the first of which is the first to give back."""

    def __init__(self, budget: MemoryBudget, *sizes: int) -> None:
        self.shares = [budget.share() for _ in sizes]
        for share, size in zip(self.shares, sizes, strict=True):
            while share.held < size:
                assert share.grow(min(budget.limit // LARGE_PART, size - share.held))

    def lendable(self) -> int:
        return sum(share.held for share in self.shares)

    def loans(self) -> Iterable[Loan]:
        for rank, share in enumerate(self.shares):
            if share.held:
                yield Loan(owner=share, size=share.held, rank=rank, give_back=share.release)

    @property
    def left(self) -> list[int]:
        """What each still holds."""
        return [share.held for share in self.shares]


def test_lenders_give_back_until_there_is_room() -> None:
    """Who finds no room has others give back what they could do without, and no more of them than it takes."""
    budget = MemoryBudget(LARGE_PART * 4)
    lender = Lender(budget, *[4] * LARGE_PART)
    budget.lenders += [Lender(budget), lender]
    assert not budget.share().grow(LARGE_PART * 4), "it would never fit"
    assert lender.left == [4] * LARGE_PART
    share = budget.share()
    assert share.grow(2)
    assert lender.left == [0] + [4] * (LARGE_PART - 1)
    assert share.grow(2)
    assert budget.share().grow(4)
    assert lender.left == [0, 0] + [4] * (LARGE_PART - 2)
    assert budget.refused == 1


def test_where_all_would_not_suffice_nobody_gives_back() -> None:
    """What others could do without is left to them when it would not make room."""
    budget = MemoryBudget(LARGE_PART * 100)
    lender, rest = Lender(budget, 40, 40), Lender(budget, *[100] * (LARGE_PART - 1))
    budget.lenders.append(lender)
    share = budget.share()
    assert share.grow(20)
    assert not budget.share().grow(81)
    assert (lender.left, share.held, budget.refused) == ([40, 40], 20, 1)
    assert share.grow(80)
    assert (lender.left, share.held, rest.lendable()) == ([0, 0], 100, 100 * (LARGE_PART - 1))


def test_who_asks_gives_nothing_back_for_itself() -> None:
    """A holder that could do without what it has gets room from others, and is no victim of its own."""
    budget = MemoryBudget(LARGE_PART * 4)
    lender = Lender(budget, *[4] * LARGE_PART)
    budget.lenders.append(lender)
    asker = lender.shares[0]
    asker.shrink_to(3)
    assert budget.share().grow(1)
    assert asker.grow(1)
    assert lender.left == [4, 0] + [4] * (LARGE_PART - 2)
    alone = MemoryBudget(LARGE_PART * 4)
    lender = Lender(alone, *[4] * (LARGE_PART - 1), 3)
    asker = alone.share()
    assert asker.grow(1)
    lender.shares = [asker]
    alone.lenders.append(lender)
    assert not asker.grow(1)
    assert lender.left == [1]


def test_nobody_is_asked_for_loans_where_there_are_too_few() -> None:
    """However many find no room, those who could give back are looked through only where that may help."""
    budget = MemoryBudget(LARGE_PART * 4)
    rest = Lender(budget, *[4] * LARGE_PART)

    class Poor:
        def lendable(self) -> int:
            return 2

        def loans(self) -> Iterable[Loan]:
            raise AssertionError("looked through in vain")

    budget.lenders.append(Poor())
    assert not budget.share().grow(3)
    assert rest.lendable() == budget.limit


@given(
    sizes=st.lists(st.integers(1, 9), max_size=8),
    needed=st.integers(1, 40),
)
def test_as_few_loans_as_make_room(sizes: list[int], needed: int) -> None:
    """Those chosen suffice, none of them is superfluous, and none is chosen when all together do not suffice."""
    loans = [Loan(owner=None, size=size, rank=rank, give_back=list) for rank, size in enumerate(sizes)]
    chosen = enough_of(reversed(loans), needed)
    total = sum(loan.size for loan in chosen)
    if sum(sizes) < needed:
        assert not chosen
    else:
        assert total >= needed
        assert all(total - loan.size < needed for loan in chosen)
        assert chosen[-1] == next(
            loan for at, loan in enumerate(loans) if sum(one.size for one in loans[: at + 1]) >= needed
        ), "nobody gives back who is behind the first that suffice"
