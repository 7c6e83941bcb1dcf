"""LiteLLM's table: what becomes a price, and what is refused with which reason."""

from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from capstan_contract.config import Price, PriceTier
from capstan_operator.desired.litellm_prices import read_litellm
from capstan_operator.desired.prices import build_table, read_table
from support.needs import need_data

BASE: dict[str, Any] = {
    "litellm_provider": "openai", "mode": "chat", "input_cost_per_token": 1.5e-07, "output_cost_per_token": 6e-07,
}  # fmt: skip
NO_PRICE = "it has no price per token, or one of zero"
UNTOLD = "it has a price for what nobody tells the number of"
KIND = "it has a price for a kind of token that nobody tells"


def price_of(**fields: Any) -> Price | str:
    """Give the price of an entry, or why it has none."""
    found = read_litellm({"m": {**BASE, **fields}})
    assert found.read + len(found.refused) == 1
    return found.refused["m"] if found.refused else next(iter(next(iter(found.prices.values())).values()))


def test_dollars_per_token_become_dollars_per_million_by_their_digits() -> None:
    """1.5e-07 is 0.15, not 0.15000000000000002."""
    assert price_of() == Price(inputPerMillion=0.15, outputPerMillion=0.6)


def test_every_kind_of_token_is_read() -> None:
    """Cached, written for five minutes and for an hour, sound, thoughts."""
    price = price_of(
        cache_read_input_token_cost=1e-08, cache_creation_input_token_cost=2e-08,
        cache_creation_input_token_cost_above_1hr=3e-08, input_cost_per_audio_token=4e-08,
        output_cost_per_audio_token=5e-08, output_cost_per_reasoning_token=6e-08,
    )  # fmt: skip
    assert price == Price(
        inputPerMillion=0.15, outputPerMillion=0.6, cachedInputPerMillion=0.01, cacheWritePerMillion=0.02,
        cacheWriteHourPerMillion=0.03, audioInputPerMillion=0.04, audioOutputPerMillion=0.05, reasoningPerMillion=0.06,
    )  # fmt: skip


def test_tiers_are_read_in_both_forms() -> None:
    """As fields that end in _above_200k_tokens, and as a list of ranges."""
    fields = {
        "input_cost_per_token_above_200k_tokens": 3e-07, "output_cost_per_token_above_128k_tokens": 9e-07,
        "cache_creation_input_token_cost_above_1hr_above_200k_tokens": 8e-07,
    }  # fmt: skip
    low = PriceTier(aboveInputTokens=128_000, outputPerMillion=0.9)
    high = PriceTier(aboveInputTokens=200_000, inputPerMillion=0.3, cacheWriteHourPerMillion=0.8)
    assert price_of(**fields) == Price(inputPerMillion=0.15, outputPerMillion=0.6, tiers=(low, high))
    ranges = [
        {"range": [0, 32000.0], "input_cost_per_token": 1e-07, "output_cost_per_token": 2e-07},
        {"range": [32000.0, 128000.0], "input_cost_per_token": 3e-07, "output_cost_per_token": 4e-07},
    ]
    entry = {"litellm_provider": "dashscope", "mode": "chat", "tiered_pricing": ranges}
    tier = PriceTier(aboveInputTokens=32000, inputPerMillion=0.3, outputPerMillion=0.4)
    expected = Price(inputPerMillion=0.1, outputPerMillion=0.2, tiers=(tier,))
    assert read_litellm({"dashscope/q": entry}).prices == {"dashscope": {"q": expected}}


@pytest.mark.parametrize(
    "fields",
    [
        {"input_cost_per_token_batches": 1e-9, "output_cost_per_token_priority": 1e-3},
        {"input_cost_per_token_above_200k_tokens_flex": 1e-9, "cache_creation_input_token_cost_above_12hr": 1e-3},
        {"search_context_cost_per_query": {"search_context_size_low": 0.03}, "input_dbu_cost_per_token": 1e-5},
        {"input_cost_per_image_token": 1.5e-07, "output_cost_per_image": 0.0, "input_cost_per_query": None},
    ],
)
def test_what_requests_have_to_ask_for_is_left_out(fields: dict[str, Any]) -> None:
    """Service tiers and tools cost more or less only for who asks for them; and a second name for one price is none."""
    assert price_of(**fields) == Price(inputPerMillion=0.15, outputPerMillion=0.6)


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"mode": "image_generation"}, "its mode is none that is served: image_generation"),
        ({"mode": None}, "its mode is none that is served: None"),
        ({"litellm_provider": "nobody"}, "no URL is known to be of its provider"),
        ({"litellm_provider": ["x"]}, "no URL is known to be of its provider"),
        ({"input_cost_per_token": 0.0}, NO_PRICE),
        ({"output_cost_per_token": 0}, NO_PRICE),
        ({"output_cost_per_token": None}, NO_PRICE),
        ({"mode": "embedding", "input_cost_per_token": 0}, NO_PRICE),
        ({"output_cost_per_token_above_200k_tokens": 0}, NO_PRICE),
        ({"off_peak_pricing": {"windows": []}}, "its price depends on the time of the day"),
        ({"litellm_provider": "perplexity", "search_context_cost_per_query": {}},
         "it searches for each request, which costs something beside tokens"),
        ({"output_cost_per_image": 0.04}, f"{UNTOLD}: `output_cost_per_image`"),
        ({"input_cost_per_query": 0.002}, f"{UNTOLD}: `input_cost_per_query`"),
        ({"a_new_cost_of_theirs": 1e-9}, f"{UNTOLD}: `a_new_cost_of_theirs`"),
        ({"input_cost_per_image_token": 9e-07}, f"{KIND}: `input_cost_per_image_token`"),
        ({"input_cost_per_token": "cheap"}, "`input_cost_per_token` is no price"),
        ({"input_cost_per_token": True}, "`input_cost_per_token` is no price"),
        ({"input_cost_per_token": -1e-7}, "`input_cost_per_token` is no price"),
        ({"input_cost_per_token": float("inf")}, "`input_cost_per_token` is no price"),
        ({"input_cost_per_token": 7}, "`input_cost_per_token` is no price"),
        ({"new_pricing": []}, "`new_pricing` is no price"),
        ({"tiered_pricing": []}, "its tiers are no ranges that follow one another"),
        ({"tiered_pricing": [{"range": [5, 9], "input_cost_per_token": 1e-7}]},
         "its tiers are no ranges that follow one another"),
    ],
)  # fmt: skip
def test_a_price_that_could_be_wrong_is_refused_with_the_reason(fields: dict[str, Any], reason: str) -> None:
    """What costs something that is not reckoned here has no price at all, rather than one that is too low."""
    assert price_of(**fields) == reason


@pytest.mark.parametrize("tier", ["", "_above_200k_tokens"])
@pytest.mark.parametrize(
    "name",
    [
        "cache_read_input_token_cost",
        "cache_creation_input_token_cost",
        "cache_creation_input_token_cost_above_1hr",
        "input_cost_per_audio_token",
        "output_cost_per_reasoning_token",
        "output_cost_per_audio_token",
        "input_cost_per_token_cache_hit",
    ],
)
def test_a_kind_of_token_that_would_cost_nothing_costs_what_its_like_costs(name: str, tier: str) -> None:
    """Zero is what the table says for free, for included and for unknown: a budget must not count nothing for it."""
    assert price_of(**{f"{name}{tier}": 0.0}) == Price(inputPerMillion=0.15, outputPerMillion=0.6)


def test_sound_from_a_cache_may_be_cheaper_than_sound() -> None:
    """All sound costs what sound costs, so that such an entry is never charged too little; dearer ones are refused."""
    assert isinstance(price_of(input_cost_per_audio_token=2e-07, cache_read_input_audio_token_cost=1e-07), Price)
    name = "cache_read_input_audio_token_cost"
    assert price_of(input_cost_per_audio_token=1e-07, **{name: 2e-07}) == f"{UNTOLD}: `{name}`"


def test_two_entries_of_one_name_must_agree() -> None:
    """The name with the provider in front is the same one; two prices for it are none."""
    same = read_litellm({"m": BASE, "openai/m": BASE})
    assert (same.prices, same.read) == ({"openai": {"m": Price(inputPerMillion=0.15, outputPerMillion=0.6)}}, 2)
    found = read_litellm({"m": BASE, "openai/m": {**BASE, "input_cost_per_token": 1e-06}, "n": BASE})
    assert set(found.refused) == {"m", "openai/m"}
    assert (set(found.prices["openai"]), found.read) == ({"n"}, 1)


@pytest.mark.parametrize("document", [None, [], {}, 7, "x"])
def test_what_is_no_table_is_refused(document: Any) -> None:
    """It is said which table is wanted."""
    with pytest.raises(ValueError, match="as LiteLLM's"):
        read_litellm(document)


@given(st.dictionaries(st.text(max_size=5), st.none() | st.dictionaries(
    st.sampled_from([*BASE, "tiered_pricing", "input_cost_per_token_above_1k_tokens", "off_peak_pricing", "x_cost"]),
    st.none() | st.booleans() | st.floats(0, 1e-5) | st.sampled_from(["chat", "openai", "embedding"])
    | st.lists(st.dictionaries(st.just("range"), st.lists(st.integers(0, 9), max_size=3)), max_size=2)),
    min_size=1))  # fmt: skip
def test_every_entry_is_read_or_refused(document: dict[str, Any]) -> None:
    """Whatever stands in an entry: nothing fails, nothing is forgotten, and no price is zero."""
    found = read_litellm(document)
    assert found.read + len(found.refused) == len(document)
    assert all(price.inputPerMillion > 0 for models in found.prices.values() for price in models.values())


def test_all_of_their_table_is_read_or_refused() -> None:
    """Each of its entries is one or the other, what is read fits into one ConfigMap, and prices are theirs."""
    folder = need_data("litellm_prices")
    document = orjson.loads((folder / "model_prices_and_context_window_backup.json").read_bytes())
    found = read_litellm(document)
    assert found.read + len(found.refused) == len(document)
    assert found.read > 1000
    assert read_table([build_table(found.prices, name="a", namespace="b", source="c")]).prices == found.prices
    assert found.prices["openai"]["gpt-4o-mini"].inputPerMillion == 0.15
    for price in (price for models in found.prices.values() for price in models.values()):
        said = [price, *price.tiers]
        free = ("outputPerMillion", "tiers", *(("inputPerMillion",) if price.audioInputPerMinute else ()))
        assert 0 not in [value for one in said for name, value in one if name not in free]
    assert found.prices["openai"]["whisper-1"] == Price(audioInputPerMinute=0.006)


SECOND = "input_cost_per_second"


def heard(**costs: float) -> Price | str:
    """Give the price of an entry of what hears, or why it has none."""
    found = read_litellm({"openai/w": {"litellm_provider": "openai", "mode": "audio_transcription", **costs}})
    return found.refused["openai/w"] if found.refused else found.prices["openai"]["w"]


@pytest.mark.parametrize(
    "costs",
    [
        {SECOND: 0.0001},
        {SECOND: 0.0001, "output_cost_per_second": 0.0001},
        {SECOND: 0, "output_cost_per_second": 0.0001},
    ],
)
def test_seconds_of_sound_become_minutes_by_their_digits(costs: dict[str, float]) -> None:
    """Whichever side of a call their table puts them on."""
    assert heard(**costs) == Price(audioInputPerMinute=0.006)


def test_what_hears_and_has_a_price_of_tokens_is_charged_by_those() -> None:
    """What is said of its seconds beside them is what they come to; without either there is no price, and of what does
    not hear nobody tells the seconds."""
    tokens = {"input_cost_per_token": 2.5e-06, "output_cost_per_token": 1e-05}
    assert heard(**tokens, **{SECOND: 0.0001}) == Price(inputPerMillion=2.5, outputPerMillion=10)
    assert heard(input_cost_per_token=2.5e-06) == heard(**{SECOND: 0.0}) == NO_PRICE
    assert heard(**{SECOND: 0.0001, "output_cost_per_second": 0.0002}) == "it has two prices per second"
    assert price_of(**{SECOND: 0.0001}) == f"{UNTOLD}: `{SECOND}`"
