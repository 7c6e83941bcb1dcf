"""The bound on spend."""

import asyncio

import pytest
from hypothesis import given
from hypothesis import strategies as st

from capstan_evaluation.records import Spent, Usage
from capstan_evaluation.runs.budget import Budget, BudgetSpent, to_nano
from capstan_evaluation.runs.prices import BadPrices, ModelPrice, bound_of, read_prices


@given(
    st.integers(0, 300),
    st.lists(st.tuples(st.integers(1, 40), st.integers(0, 40), st.integers(0, 3)), max_size=40),
    st.integers(1, 8),
)
def test_spend_never_passes_its_bound(most: int, asks: list[tuple[int, int, int]], workers: int) -> None:
    """Whatever asks take of what was set aside for them, in whichever order they end, the sum stays below the bound."""

    async def scenario() -> None:
        budget, spent, reserved = Budget(tokens=most), 0, 0
        todo = iter(asks)

        async def work() -> None:
            nonlocal spent, reserved
            for bound, took, turns in todo:
                try:
                    reservation = await budget.reserve(bound, 0.0)
                except BudgetSpent:
                    return
                reserved += bound
                assert spent + reserved <= most
                for _ in range(turns):
                    await asyncio.sleep(0)
                reserved -= bound
                spent += min(took, bound)
                budget.settle(reservation, Usage(outputTokens=min(took, bound)))

        async with asyncio.timeout(60), asyncio.TaskGroup() as group:
            for _ in range(workers):
                group.create_task(work())
        assert spent <= most

    asyncio.run(scenario())


async def test_an_ask_waits_for_what_comes_back() -> None:
    """What has no room while others are under way, and may have it behind them, waits for them."""
    budget = Budget(tokens=100)
    first = await budget.reserve(80, 0.0)
    waiting = asyncio.create_task(budget.reserve(50, 0.0))
    await asyncio.sleep(0)
    assert not waiting.done()
    budget.settle(first, Usage(inputTokens=20, outputTokens=30))
    assert (await waiting).tokens == 50


async def test_an_ask_that_can_have_no_room_does_not_wait() -> None:
    """What has no room even if everything comes back ends the run at once."""
    budget = Budget(tokens=100)
    await budget.reserve(10, 0.0)
    with pytest.raises(BudgetSpent):
        await budget.reserve(101, 0.0)


async def test_what_was_spent_before_counts() -> None:
    """The bound is of the run: what the file says, in doubt or not, is gone."""
    budget = Budget(dollars=1.0, spent=Spent(cost=0.5, doubtCost=0.25))
    await budget.reserve(0, 0.25)
    with pytest.raises(BudgetSpent):
        await Budget(dollars=1.0, spent=Spent(cost=0.5, doubtCost=0.25)).reserve(0, 0.26)


@given(st.floats(0, 1e6))
def test_money_is_rounded_up(dollars: float) -> None:
    """What is set aside is never less than what it costs, and less than a nano-dollar and noise more."""
    assert to_nano(dollars) >= dollars * 1e9 - 1e-6 - dollars * 1e-6
    assert to_nano(dollars) <= dollars * 1e9 + 1 + dollars * 1e-6


def test_a_price_of_each_kind_of_token() -> None:
    """Cached input has a price of its own; without one it costs what input does."""
    usage = Usage(inputTokens=1_000_000, cachedInputTokens=400_000, outputTokens=100_000)
    assert ModelPrice(inputPerMillion=1, cachedInputPerMillion=0.5, outputPerMillion=10).cost(usage) == 1.8
    assert ModelPrice(inputPerMillion=1, outputPerMillion=10).cost(usage) == 2.0


@given(st.lists(st.text(max_size=50), max_size=5), st.integers(0, 500))
def test_no_ask_takes_more_than_is_set_aside(texts: list[str], output: int) -> None:
    """A token is at least a byte of the messages: the bound is no smaller than their size."""
    bound = bound_of([{"role": "user", "content": text} for text in texts], output)
    assert bound.inputTokens >= sum(len(text.encode("utf-8", "replace")) for text in texts)
    assert bound.outputTokens == output


def test_prices_are_read_strictly() -> None:
    """A field that is no price, or a file that is none, is told by its place."""
    assert read_prices("llama: {inputPerMillion: 0.1, outputPerMillion: 0.4}")["llama"].outputPerMillion == 0.4
    for text, told in (
        ("llama: {inputPerMillion: 0.1}", "llama.outputPerMillion"),
        ("llama: {inputPerMillion: -1, outputPerMillion: 1}", "llama.inputPerMillion"),
        ("llama: {inputPerMillion: 1, outputPerMillion: 1, perImage: 2}", "llama.perImage"),
        ("- 1", "dictionary"),
        ("a: [", "line"),
    ):
        with pytest.raises(BadPrices, match=told):
            read_prices(text)
