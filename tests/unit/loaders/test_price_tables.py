"""The price tables as the operator lists them: what is faulty, or away for a moment, changes no price."""

import pytest

from capstan_contract.config import Price
from capstan_operator.desired.prices import PRICES_FILE, build_table
from capstan_operator.errors import Retryable
from capstan_operator.kube.errors import KubeError
from capstan_operator.kube.port import Listing
from capstan_operator.loaders.prices import PriceTables
from capstan_operator.resources.api_resource import CONFIG_MAPS
from fakes.kube import FakeKube

HOME = "capstan-system"
ONE = {"openai": {"m": Price(inputPerMillion=1)}}
OTHER = {"openai": {"m": Price(inputPerMillion=2)}}


class Away(FakeKube):
    """An API server that does not list while it is told not to."""

    away = False
    is_short = False
    """Whether lists lack everything."""

    async def list(self, *args: object, **options: object) -> object:  # type: ignore[override]
        """Give a list, or fail."""
        if self.away:
            raise KubeError("no answer")
        if self.is_short:
            return Listing([], "1")
        return await super().list(*args, **options)  # type: ignore[arg-type]


async def test_prices_stay_while_the_table_is_faulty_or_away() -> None:
    """A fault is told once, by the object's name; the table that was read last counts until there is a better one."""
    kube, told = Away(), list[str]()
    tables = PriceTables(kube, namespace=HOME, tell=lambda _, reason, note: told.append(f"{reason}: {note}"))
    kube.away = True
    with pytest.raises(KubeError):
        await tables.load()
    kube.away = False
    assert (await tables.load()).prices == {}
    kube.put(build_table(ONE, name="t", namespace=HOME, source="s"))
    first = await tables.load()
    assert first.prices == ONE
    assert await tables.load() is first
    kube.away = True
    assert await tables.load() is first
    kube.away = False
    kube.put(build_table(ONE, name="t", namespace=HOME, source="s") | {"data": {PRICES_FILE: "{"}})
    assert await tables.load() is first
    assert await tables.load() is first
    assert told == [
        "PricesUnreadable: `prices.json` of the ConfigMap 't' holds no table of prices; prices stay as they were"
    ]
    kube.put(build_table(OTHER, name="t", namespace=HOME, source="s"))
    assert (await tables.load()).prices == OTHER


async def test_a_list_that_lacks_a_table_is_not_believed() -> None:
    """A table that was read is asked for by name before its prices go, and what else has changed is read when the list
    is whole again; one that is gone, or is no table any more, goes at once."""
    kube = Away()
    tables = PriceTables(kube, namespace=HOME)
    kube.put(build_table(ONE, name="t", namespace=HOME, source="s"))
    assert (await tables.load()).prices == ONE
    kube.is_short = True
    kube.put(build_table(OTHER, name="t", namespace=HOME, source="s"))
    with pytest.raises(Retryable):
        await tables.load()
    kube.is_short = False
    assert (await tables.load()).prices == OTHER
    kube.is_short = True
    table = build_table(ONE, name="t", namespace=HOME, source="s")
    del table["metadata"]["labels"]
    kube.put(table)
    assert (await tables.load()).prices == {}
    kube.is_short = False
    kube.put(build_table(ONE, name="t", namespace=HOME, source="s"))
    assert (await tables.load()).prices == ONE
    kube.drop(CONFIG_MAPS, "t", HOME)
    assert (await tables.load()).prices == {}


async def test_tables_of_other_namespaces_count_for_nothing() -> None:
    """Who may write in a team's namespace says nobody what models cost."""
    kube = FakeKube()
    kube.put(build_table(ONE, name="t", namespace="team", source="s"))
    assert (await PriceTables(kube, namespace=HOME).load()).prices == {}
