"""What is put on a bill, and what a call costs, number by number."""

import pytest
from pydantic import ValidationError

from capstan_contract.config import Price, PriceTier
from capstan_gateway.tokens.bill import Bill, How, weigh
from capstan_gateway.tokens.price import MILLION, Rates, dollars_text, to_dollars, to_nano
from capstan_gateway.tokens.usage import Usage


def test_a_bill_adds_up_its_calls() -> None:
    """Every number is the sum over all calls; an estimate or a price of one of them is not forgotten by the next."""
    bill = Bill()
    assert (bill.calls, bill.estimated, bill.open, bill.how) == (0, 0, 0, How.TOLD)
    assert (bill.input_tokens, bill.output_tokens, bill.nano_dollars, bill.priced, bill.answer) == (
        0,
        0,
        0,
        False,
        None,
    )
    bill.add(Usage(1, 2), How.TOLD, None)
    assert (bill.how, bill.priced) == (How.TOLD, False)
    bill.add(Usage(10, 20), How.ESTIMATED, 0)
    assert bill.priced is True
    bill.add(Usage(100, 200), How.TOLD, 7)
    bill.add(Usage(1000, 2000), How.ESTIMATED, None)
    assert (bill.calls, bill.estimated, bill.how) == (4, 2, How.ESTIMATED)
    assert (bill.input_tokens, bill.output_tokens, bill.nano_dollars, bill.priced) == (1111, 2222, 7, True)
    assert bill.answer == Usage(1000, 2000)


BARE = Usage(9, 0, bare=True)


@pytest.mark.parametrize(
    ("told", "whole", "usage", "how"),
    [
        (None, True, Usage(50, 70), How.ESTIMATED),
        (None, False, Usage(50, 70), How.ESTIMATED),
        (Usage(5, 3, 2, 1), True, Usage(5, 3, 2, 1), How.TOLD),
        (Usage(5, 3, 2, 1), False, Usage(5, 70, 2, 1), How.ESTIMATED),
        (Usage(5, 300), False, Usage(5, 300), How.ESTIMATED),
        (Usage(0, 3), False, Usage(50, 70), How.ESTIMATED),
        (Usage(0, 0), True, Usage(0, 0), How.TOLD),
        (Usage(90, 0, bare=True), True, Usage(20, 70), How.TOLD),
        (Usage(90, 0, bare=True), False, Usage(20, 70), How.ESTIMATED),
        (BARE, True, Usage(0, 9), How.TOLD),
        (BARE, False, Usage(50, 70), How.ESTIMATED),
    ],
)
def test_what_was_told_is_weighed_against_what_came(told: Usage | None, whole: bool, usage: Usage, how: How) -> None:
    """A whole answer is as told; of any other the larger count of each kind is taken, and it says which it was."""
    assert weigh(told, whole=whole, prompt=lambda: 50, output=lambda: 70) == (usage, how)


def test_nothing_is_estimated_that_was_told() -> None:
    """To estimate reads a whole prompt: that is not done for what an engine has counted."""
    asked: list[str] = []

    def prompt() -> int:
        asked.append("prompt")
        return 1

    def output() -> int:
        asked.append("output")
        return 1

    weigh(Usage(5, 3), whole=True, prompt=prompt, output=output)
    assert asked == []
    weigh(Usage(5, 3), whole=False, prompt=prompt, output=output)
    assert asked == ["output"]


def rates_of(input: int, cached: int, written: int, output: int) -> Rates:
    """Give rates where kinds that are not said cost like any other."""
    return Rates(input, cached, written, output, hour=written, audio=input, thought=output, spoken=output)


RATES = rates_of(input=1_000_000, cached=10_000_000, written=100_000_000, output=1_000_000_000)
"""So that a token of each kind costs 1, 10, 100 and 1000."""


@pytest.mark.parametrize(
    ("usage", "cost"),
    [
        (Usage(0, 0), 0),
        (Usage(1, 0), 1),
        (Usage(0, 1), 1000),
        (Usage(7, 3, 2, 1), 4 + 20 + 100 + 3000),
        (Usage(3, 0, 3, 0), 30),
        (Usage(3, 0, 0, 3), 300),
        (Usage(3, 0, 5, 5), 30),
        (Usage(3, 0, 1, 5), 10 + 200),
        (Usage(-5, -5, -5, -5), 0),
        (Usage(5, 0, -1, -1), 5),
    ],
)
def test_each_kind_of_token_costs_its_own(usage: Usage, cost: int) -> None:
    """Cached and written ones are part of the input, however many an engine tells of, and none is below nothing."""
    assert RATES.cost(usage) == cost


def test_a_call_is_rounded_once_and_up() -> None:
    """A fraction of a nano-dollar is one; what comes out even stays so."""
    assert [rates_of(1, 1, 1, 1).cost(Usage(count, 0)) for count in (0, 1, MILLION, MILLION + 1)] == [0, 1, 1, 2]


def test_a_price_that_is_not_said_is_that_of_any_input() -> None:
    """Nothing said of cached or written tokens is not the same as said to cost nothing."""
    assert Rates.of(Price(inputPerMillion=0.15, outputPerMillion=0.6)) == rates_of(
        input=150_000_000, cached=150_000_000, written=150_000_000, output=600_000_000
    )
    assert Rates.of(Price(inputPerMillion=2, cachedInputPerMillion=0, cacheWritePerMillion=0)) == rates_of(
        input=2_000_000_000, cached=0, written=0, output=0
    )
    said = Price(inputPerMillion=1, cachedInputPerMillion=2, cacheWritePerMillion=3, outputPerMillion=4)
    assert Rates.of(said) == rates_of(10**9, 2 * 10**9, 3 * 10**9, 4 * 10**9)


def test_dollars_are_shown_in_two_ways() -> None:
    """As a number, and written with eight digits, rounded up."""
    assert to_dollars(1_500_000_000) == 1.5
    assert to_nano(1.5) == 1_500_000_000
    assert [dollars_text(nano) for nano in (0, 1, 10, 11, 10**9, 12 * 10**9 + 5)] == [
        b"0.00000000", b"0.00000001", b"0.00000001", b"0.00000002", b"1.00000000", b"12.00000001",
    ]  # fmt: skip


def test_each_kind_has_the_rate_that_the_price_says() -> None:
    """Sound, thoughts and what is cached for an hour cost what is said of them, and a tier what it says and no more."""
    price = Price(
        inputPerMillion=1, cachedInputPerMillion=2, cacheWritePerMillion=4, cacheWriteHourPerMillion=8,
        audioInputPerMillion=16, outputPerMillion=32, reasoningPerMillion=64, audioOutputPerMillion=128,
        tiers=(PriceTier(aboveInputTokens=10, inputPerMillion=3, audioOutputPerMillion=300),),
    )  # fmt: skip
    rates = Rates.of(price)
    usage = Usage(9, 6, cached_tokens=1, written_tokens=3, hour_tokens=1, audio_tokens=2, thought_tokens=2,
                  spoken_tokens=3)  # fmt: skip
    parts = 3 * 1 + 1 * 2 + 2 * 4 + 1 * 8 + 2 * 16 + 1 * 32 + 2 * 64 + 3 * 128
    assert rates.cost(usage) == parts * 1000
    above = 5 * 3 + 1 * 2 + 2 * 4 + 1 * 8 + 2 * 16 + 1 * 32 + 2 * 64 + 3 * 300
    assert rates.cost(usage._replace(prompt_tokens=11)) == above * 1000
    assert rates.cost(usage._replace(prompt_tokens=10)) == (parts + 1) * 1000
    assert rates.cost(Usage(3, 0, cached_tokens=2, audio_tokens=2)) == (2 * 16 + 1 * 2) * 1000
    assert rates.cost(Usage(3, 0, cached_tokens=2, audio_tokens=9)) == 3 * 16 * 1000


def test_tiers_come_in_order() -> None:
    """A price whose tiers are not sorted, or one of which is there twice, is no price."""
    low, high = PriceTier(aboveInputTokens=1), PriceTier(aboveInputTokens=2)
    assert Price(tiers=(low, high)).tiers == (low, high)
    for tiers in ((high, low), (low, low)):
        with pytest.raises(ValidationError, match="sorted"):
            Price(tiers=tiers)


def test_minutes_of_sound_cost_beside_its_tokens() -> None:
    """By the second, rounded up once with all else; tiers of tokens change nothing of it, and without such a price
    seconds cost nothing."""
    tier = PriceTier(aboveInputTokens=10, inputPerMillion=3)
    rates = Rates.of(Price(audioInputPerMinute=0.006, tiers=(tier,)))
    assert rates.cost(Usage(0, 0, sound_seconds=60)) == 6_000_000
    assert rates.cost(Usage(0, 0, sound_seconds=1)) == 100_000
    assert rates.cost(Usage(20, 0, sound_seconds=1)) == 100_000 + 20 * 3000
    assert Rates.of(Price(audioInputPerMinute=1e-9)).cost(Usage(0, 0, sound_seconds=1)) == 1
    assert Rates.of(Price(inputPerMillion=1)).cost(Usage(5, 0, sound_seconds=60)) == 5000
