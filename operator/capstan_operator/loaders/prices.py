"""The price tables of the install namespace, read for every compile of the gateway config."""

import logging
from collections.abc import Callable, Collection, Mapping
from typing import Any, Final, Literal

from capstan_contract.names import COMPONENT_LABEL
from capstan_operator.desired.prices import (
    NO_PRICES,
    PRICES_COMPONENT,
    PRICES_SELECTOR,
    PricesUnreadable,
    PriceTable,
    read_table,
)
from capstan_operator.errors import Retryable
from capstan_operator.kube.errors import Forbidden, KubeError, NotFound
from capstan_operator.kube.port import KubePort
from capstan_operator.resources.api_resource import CONFIG_MAPS

log = logging.getLogger(__name__)

MOST_DOUBTED: Final = 8
"""So many of the tables that a list does not have are asked for before it is believed."""

Tell = Callable[[Literal["Normal", "Warning"], str, str], None]


class PriceTables:
    """Keeps the last table that could be read: a faulty one, or one that cannot be had now, changes no price."""

    def __init__(self, kube: KubePort, *, namespace: str, tell: Tell = lambda *_: None) -> None:
        self._kube = kube
        self._namespace = namespace
        self._tell = tell
        self._versions: Mapping[str, str] | None = None
        """Of the objects that were read last, by name."""
        self._table = NO_PRICES
        self._told = ""

    async def load(self, before: Callable[[], PriceTable] = lambda: NO_PRICES) -> PriceTable:
        """Give the table: the same object as long as nothing has changed. `before` gives the prices that the process
        before has left in force: they count while the first table that is seen is faulty. Raises KubeError if it was
        never read, and Retryable for a list that lacks a table: nothing in it is believed."""
        try:
            listing = await self._kube.list(CONFIG_MAPS, namespace=self._namespace, label_selector=PRICES_SELECTOR)
        except KubeError:
            if self._versions is None:
                raise
            return self._table
        versions = {one["metadata"]["name"]: str(one["metadata"].get("resourceVersion")) for one in listing.items}
        if await self._lacks(versions):
            raise Retryable("the list of price tables does not have one that is there")
        if versions != self._versions:
            self._read(listing.items, before)
            self._versions = versions
        return self._table

    async def _lacks(self, listed: Collection[str]) -> bool:
        """Whether a table that was read before is there, although a list does not have it. Who may not ask goes by the
        list."""
        missing = sorted(name for name in self._versions or () if name not in listed)
        for name in missing[:MOST_DOUBTED]:
            try:
                found = await self._kube.get(CONFIG_MAPS, name, namespace=self._namespace)
            except (NotFound, Forbidden):
                continue
            except KubeError:
                return True
            if (found["metadata"].get("labels") or {}).get(COMPONENT_LABEL) == PRICES_COMPONENT:
                return True
        return False

    def _read(self, items: Any, before: Callable[[], PriceTable]) -> None:
        try:
            self._table = read_table(items)
        except PricesUnreadable as error:
            if self._versions is None:
                self._table = before()
            self._say(f"{error}; prices stay as they were")
        else:
            self._say("")
            log.info("read the price tables", extra={"count": sum(map(len, self._table.prices.values()))})

    def _say(self, fault: str) -> None:
        if fault and fault != self._told:
            log.error("a price table is faulty", extra={"error": fault})
            self._tell("Warning", "PricesUnreadable", fault)
        self._told = fault
