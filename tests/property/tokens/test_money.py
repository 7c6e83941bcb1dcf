"""What tokens cost, and what is on a bill, whatever an engine tells."""

from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from capstan_contract.config import Price, PriceTier
from capstan_gateway.tokens.bill import Bill, How, weigh
from capstan_gateway.tokens.price import MILLION, Rates, dollars_text, to_nano
from capstan_gateway.tokens.usage import MOST_TOKENS, Usage, parse_usage

COUNTS = st.integers(0, MOST_TOKENS - 1)
USAGES = st.builds(Usage, COUNTS, COUNTS, COUNTS, COUNTS, st.just(False), COUNTS, COUNTS, COUNTS, COUNTS)
SECONDS = st.integers(0, 10**6)
DOLLARS = st.one_of(st.just(0.0), st.decimals(0, 1000, places=4).map(float))
KINDS = (
    "cachedInputPerMillion", "cacheWritePerMillion", "cacheWriteHourPerMillion", "audioInputPerMillion",
    "reasoningPerMillion", "audioOutputPerMillion",
)  # fmt: skip
SOME = {kind: st.none() | DOLLARS for kind in KINDS}
TIERS = st.lists(
    st.builds(PriceTier, aboveInputTokens=st.integers(1, 10**6), inputPerMillion=st.none() | DOLLARS,
              outputPerMillion=st.none() | DOLLARS, **SOME),
    max_size=3, unique_by=lambda tier: tier.aboveInputTokens,
).map(lambda tiers: tuple(sorted(tiers, key=lambda tier: tier.aboveInputTokens)))  # fmt: skip
PRICES = st.builds(Price, inputPerMillion=DOLLARS, outputPerMillion=DOLLARS, **SOME, tiers=TIERS)
FLAT = st.builds(Price, inputPerMillion=DOLLARS, outputPerMillion=DOLLARS, **SOME)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)
NAMES = st.sampled_from(["prompt_tokens", "completion_tokens", "total_tokens", "prompt_tokens_details",
                         "completion_tokens_details"])  # fmt: skip
DETAILS = st.dictionaries(
    st.sampled_from(["cached_tokens", "cache_write_tokens", "audio_tokens", "reasoning_tokens",
                     "cache_creation_token_details"]),
    JSON | st.dictionaries(st.just("ephemeral_1h_input_tokens"), JSON),
)  # fmt: skip


@given(PRICES, USAGES)
def test_no_tokens_make_a_price_negative(price: Price, usage: Usage) -> None:
    """However many cached and written tokens an engine tells of, no part of them is paid back."""
    rates = Rates.of(price)
    cost = rates.cost(usage)
    assert cost >= 0
    assert cost >= rates.cost(usage._replace(completion_tokens=0))
    held = rates.above(usage.prompt_tokens)
    cheapest = min(held.input, held.cached, held.written, held.hour, held.audio)
    assert cost * MILLION >= usage.prompt_tokens * cheapest


@given(PRICES, COUNTS, COUNTS, COUNTS)
def test_each_kind_of_input_has_its_own_price(price: Price, plain: int, cached: int, written: int) -> None:
    """Cached tokens cost what cached ones cost, written ones what written ones cost, the rest what input costs."""
    usage = Usage(plain + cached + written, 0, cached, written)
    rates = Rates.of(price)
    held = rates.above(usage.prompt_tokens)
    exact = plain * held.input + cached * held.cached + written * held.written
    assert 0 <= rates.cost(usage) * MILLION - exact < MILLION


@given(FLAT, USAGES)
def test_the_kinds_of_a_call_are_all_of_its_tokens(price: Price, usage: Usage) -> None:
    """Whatever is told of kinds, each token is charged once: with one rate for all, the sum of input and output is."""
    one = Rates.of(Price(inputPerMillion=price.inputPerMillion, outputPerMillion=price.inputPerMillion))
    exact = (usage.prompt_tokens + usage.completion_tokens) * one.input
    assert one.cost(usage) == -(-exact // MILLION)


@given(FLAT, USAGES, COUNTS)
def test_more_tokens_never_cost_less(price: Price, usage: Usage, more: int) -> None:
    """One more token of input or output, of no kind of its own, never makes a call cheaper."""
    rates = Rates.of(price)
    grown = rates.cost(usage._replace(completion_tokens=usage.completion_tokens + more))
    assert grown >= rates.cost(usage) or usage.thought_tokens + usage.spoken_tokens > usage.completion_tokens
    plain = Usage(usage.prompt_tokens, usage.completion_tokens)
    assert rates.cost(plain._replace(prompt_tokens=plain.prompt_tokens + more)) >= rates.cost(plain)
    assert rates.cost(plain._replace(completion_tokens=plain.completion_tokens + more)) >= rates.cost(plain)


@given(PRICES, USAGES)
def test_a_call_is_charged_by_one_tier_alone(price: Price, usage: Usage) -> None:
    """The rates that hold for the input are those that hold for all of the call."""
    rates = Rates.of(price)
    assert rates.cost(usage) == replace(rates.above(usage.prompt_tokens), tiers=()).cost(usage)


@given(PRICES, COUNTS, COUNTS)
def test_a_tier_holds_for_the_whole_request(price: Price, prompt: int, output: int) -> None:
    """Above its bound all tokens cost what the tier says, what it does not say costs as below it."""
    rates = Rates.of(price)
    held_in, held_out = price.inputPerMillion, price.outputPerMillion
    for tier in price.tiers:
        if prompt > tier.aboveInputTokens:
            held_in = held_in if tier.inputPerMillion is None else tier.inputPerMillion
            held_out = held_out if tier.outputPerMillion is None else tier.outputPerMillion
    exact = prompt * to_nano(held_in) + output * to_nano(held_out)
    assert rates.cost(Usage(prompt, output)) == -(-exact // MILLION)


@given(PRICES, DOLLARS, USAGES, SECONDS)
def test_a_minute_costs_beside_tokens_what_it_costs(price: Price, minute: float, usage: Usage, seconds: int) -> None:
    """Exactly, whatever tokens and tiers cost, and rounded up with them once."""
    timed = Rates.of(price.model_copy(update={"audioInputPerMinute": minute}))
    cost, plain = timed.cost(usage._replace(sound_seconds=seconds)), Rates.of(price).cost(usage)
    exact = seconds * to_nano(minute)
    assert timed.cost(usage._replace(sound_seconds=0)) == plain
    assert exact <= (cost - plain + 1) * 60
    assert (cost - plain) * 60 < exact + 60


@given(st.lists(st.tuples(PRICES, USAGES), max_size=8), st.randoms())
def test_a_bill_does_not_depend_on_the_order_of_its_calls(calls: list[tuple[Price, Usage]], rng: object) -> None:
    """Money is added as whole numbers: no order of the calls gives another sum."""
    bills = Bill(), Bill()
    prices = [Rates.of(price).cost(usage) for price, usage in calls]
    for (_, usage), cost in zip(calls, prices, strict=True):
        bills[0].add(usage, How.TOLD, cost)
    shuffled = list(zip(calls, prices, strict=True))
    rng.shuffle(shuffled)  # type: ignore[attr-defined]
    for (_, usage), cost in shuffled:
        bills[1].add(usage, How.TOLD, cost)
    assert bills[0].nano_dollars == bills[1].nano_dollars == sum(prices)
    assert bills[0].input_tokens == bills[1].input_tokens == sum(usage.prompt_tokens for _, usage in calls)


@given(st.none() | USAGES, st.booleans(), COUNTS, COUNTS)
def test_a_cut_off_call_is_settled_at_the_larger_count(
    told: Usage | None, whole: bool, prompt: int, output: int
) -> None:
    """Of a call that was cut off, neither what was told nor what was seen is left out; a whole one is told, but for
    one that was reckoned from something else: what that leaves out is estimated."""
    usage, how = weigh(told, whole=whole, prompt=lambda: prompt, output=lambda: output)
    if told is not None and whole and told.reckoned:
        ins, out = told.prompt_tokens or prompt, told.completion_tokens or output
        assert (usage, how) == (told._replace(prompt_tokens=ins, completion_tokens=out), How.ESTIMATED)
        return
    if told is not None and whole:
        assert (usage, how) == (told, How.TOLD)
        return
    assert how is How.ESTIMATED
    assert usage.completion_tokens == max(output, 0 if told is None else told.completion_tokens)
    assert usage.prompt_tokens == (told.prompt_tokens if told is not None and told.prompt_tokens else prompt)


@given(COUNTS, COUNTS, st.booleans())
def test_a_bare_sum_is_charged_as_a_whole(total: int, output: int, whole: bool) -> None:
    """Of an engine that tells only the sum, the sum counts, and the text says how much of it is output."""
    told = parse_usage({"total_tokens": total})
    if told is None:
        assert total == 0
        return
    usage, _ = weigh(told, whole=whole, prompt=lambda: 0, output=lambda: output)
    assert usage.prompt_tokens + usage.completion_tokens >= total
    assert usage.completion_tokens >= min(output, total)


@given(st.dictionaries(NAMES, JSON | DETAILS, max_size=4) | JSON)
def test_any_usage_is_read(found: object) -> None:
    """Whatever stands where usage should be: counts are whole numbers, not negative, or there are none."""
    usage = parse_usage(found)
    if usage is not None:
        counts = (count for name, count in usage._asdict().items() if name not in ("bare", "reckoned"))
        assert all(type(count) is int and 0 <= count <= 3 * MOST_TOKENS for count in counts)


@given(st.integers(0, 10**18))
def test_dollars_are_written_exactly(nano: int) -> None:
    """What is shown is the exact sum, rounded up to the eighth digit."""
    whole, digits = dollars_text(nano).split(b".")
    assert len(digits) == 8
    assert 0 <= (int(whole) * 10**8 + int(digits)) * 10 - nano < 10


def test_a_price_is_read_by_its_digits() -> None:
    """0.15 dollars are 150 million nano-dollars, although 0.15 is no float."""
    assert to_nano(0.15) == 150_000_000
    assert to_nano(0.1 + 0.2) == 300_000_000
