"""The price table: which model it prices, and that nothing is priced by what only looks alike."""

from typing import Any

import pytest

from capstan_contract.config import Price, PriceTier
from capstan_operator.api.kinds import Model
from capstan_operator.desired.compile import Compiler
from capstan_operator.desired.prices import (
    HOSTS,
    MOST_BYTES,
    NO_PRICES,
    PRICES_FILE,
    PricesUnreadable,
    PriceTable,
    build_table,
    provider_of,
    read_table,
)
from capstan_operator.resources.resource import Manifest
from support.plainmodels import make_model

PRICE = Price(inputPerMillion=2.5, outputPerMillion=10, tiers=(PriceTier(aboveInputTokens=9, inputPerMillion=5),))
TABLE = PriceTable({"openai": {"gpt-4o": PRICE}, "mistral": {"small": Price(inputPerMillion=1)}})


def hosted(name: str = "gpt-4o", *urls: str, price: dict[str, Any] | None = None, provider: str = "OpenAI") -> Model:
    """Give a hosted model."""
    urls = urls or ("https://api.openai.com/v1",)
    endpoints = [{"name": f"e{place}", "url": url} for place, url in enumerate(urls)]
    serving = {} if price is None else {"price": price}
    external: dict[str, Any] = {"provider": provider, "model": name, "endpoints": endpoints}
    return make_model("hosted", external=external, serving=serving)


def compiled(model: Model, table: PriceTable = TABLE) -> tuple[Price | None, str]:
    """Give the price that the gateway is told, and what the verdict says of it."""
    found = Compiler().compile([model], prices=table)
    (entry,) = found.config.models
    return entry.price, found.verdicts[model.key].price_source


def test_a_hosted_model_without_a_price_has_that_of_the_table() -> None:
    """Found by the provider of its URL and the name that this is sent, and said where it comes from."""
    assert compiled(hosted()) == (PRICE, "Table openai/gpt-4o")


def test_what_a_manifest_says_counts_before_the_table() -> None:
    """Also where it says that tokens cost nothing."""
    assert compiled(hosted(price={"inputPerMillion": "0"})) == (Price(), "Spec")


@pytest.mark.parametrize(
    "model",
    [
        hosted("gpt-4o-mini"),
        hosted("GPT-4o"),
        hosted("gpt-4o", "https://mine.openai.azure.com/v1"),
        hosted("gpt-4o", "https://api.openai.com.example.com/v1"),
        hosted("gpt-4o", "https://gateway.example.com/v1"),
        hosted("gpt-4o", "https://api.openai.com/v1", "https://api.mistral.ai/v1"),
        hosted("gpt-4o", "https://api.openai.com/v1", "https://gateway.example.com/v1"),
        make_model("gpt-4o"),
    ],
    ids=["name", "case", "azure", "suffix", "host", "two", "one-of-two", "own"],
)
def test_what_only_looks_alike_has_no_price(model: Model) -> None:
    """Another name, another host, endpoints of two providers, a model of our own: unknown, which is not free."""
    assert compiled(model) == (None, "Unknown")


def test_another_table_prices_models_anew() -> None:
    """A table that comes, changes or goes is in the next config; one that stays gives the same entry again."""
    compiler, model = Compiler(), hosted()

    def entry(table: PriceTable) -> Any:
        return compiler.compile([model], prices=table).config.models[0]

    assert entry(NO_PRICES).price is None
    first = entry(TABLE)
    assert first.price == PRICE
    assert entry(TABLE) is first
    assert entry(PriceTable({"openai": {"gpt-4o": Price(inputPerMillion=9)}})).price == Price(inputPerMillion=9)
    assert entry(NO_PRICES).price is None


def test_a_provider_is_known_by_its_host_alone() -> None:
    """Whatever the port, the path and the case are."""
    assert provider_of(["https://API.openai.com:443/v1", "http://api.openai.com"]) == "openai"
    assert provider_of([]) is None
    assert all(host == host.lower() for host in HOSTS)


def table_of(prices: dict[str, dict[str, Price]], name: str = "t") -> Manifest:
    """Give a ConfigMap."""
    return build_table(prices, name=name, namespace="n", source="s")


def test_a_table_is_read_as_it_was_written() -> None:
    """All of it, tiers too; of two tables that have one model the first by name counts."""
    one, other = {"openai": {"gpt-4o": PRICE}}, {"openai": {"gpt-4o": Price(), "x": Price()}, "mistral": {"y": Price()}}
    assert read_table([table_of(one)]).prices == one
    both = {"openai": {"gpt-4o": PRICE, "x": Price()}, "mistral": {"y": Price()}}
    assert read_table([table_of(other, "b"), table_of(one, "a")]).prices == both
    assert read_table([]).prices == {}


@pytest.mark.parametrize(
    "data",
    [None, {}, {PRICES_FILE: ""}, {PRICES_FILE: "[]"}, {PRICES_FILE: '{"prices":[]}'},
     {PRICES_FILE: '{"prices":{"a":7}}'},
     {PRICES_FILE: '{"prices":{"a":{"m":{"inputPerMillion":-1}}}}'},
     {PRICES_FILE: '{"prices":{"a":{"m":{"tiers":[{"aboveInputTokens":2},{"aboveInputTokens":1}]}}}}'}],
)  # fmt: skip
def test_a_faulty_table_is_refused_as_a_whole(data: dict[str, str] | None) -> None:
    """With the object's name: half of a table would take prices away from models that had one."""
    with pytest.raises(PricesUnreadable, match="ConfigMap 'bad'"):
        read_table([{"metadata": {"name": "bad"}, "data": data}, table_of({"openai": {"gpt-4o": PRICE}})])


def test_a_table_that_no_config_map_takes_is_refused() -> None:
    """It says how large it is, and how large it may be."""
    prices = {"openai": {f"{number:0100}": PRICE for number in range(6000)}}
    with pytest.raises(ValueError, match=str(MOST_BYTES)):
        table_of(prices)


def test_a_price_for_minutes_is_of_what_hears() -> None:
    """A model of the same name that chats has no price, which is not free."""
    table = PriceTable({"openai": {"gpt-4o": Price(audioInputPerMinute=0.006)}})
    assert compiled(hosted(), table) == (None, "Unknown")
    external = {"provider": "OpenAI", "model": "gpt-4o", "url": "https://api.openai.com/v1"}
    ears = make_model("ears", external=external, model={"task": "transcribe"})
    assert compiled(ears, table) == (Price(audioInputPerMinute=0.006), "Table openai/gpt-4o")
