"""The turns that a request refers to, out of the store: a whole earlier conversation, or single items of one.

An item that was given out here says in its id of which response it is, and each response has the whole conversation
before it: the last response that a request refers to nearly always has all the items that it does.
"""

from typing import Any, Final, NamedTuple

from capstan_gateway.background.records import is_unanswered
from capstan_gateway.background.room import BackgroundRoom
from capstan_gateway.dialects.clients.responses_history import hosted_items
from capstan_gateway.dialects.fields import Document, word, wrong
from capstan_gateway.errors import InvalidRequest, NotStored, StoreUnavailable
from capstan_gateway.life.threads import Threads
from capstan_gateway.pipeline.delivery import Delivery
from capstan_gateway.pipeline.loading import load_large
from capstan_gateway.stores.keys import is_kept_id, response_of_item
from capstan_gateway.stores.port import StoreDown
from capstan_gateway.stores.responses import PATIENCE, ResponseStore, Stored

PREVIOUS: Final = "previous_response_id"
MAX_SHOWN: Final = 100
"""Characters of an id that an error repeats."""
MOST_RESPONSES: Final = 16
"""Stored responses that are read for one request."""
_REFERENCE: Final = "item_reference"


class Recalled(NamedTuple):
    """What a request refers to."""

    earlier: list[Document]
    """The items that come before its own."""
    own: Any
    """Its own `input`, with the items in place of references to them."""
    own_for_hosted: Any
    """The same as a hosted API that speaks the dialect takes it."""
    size: int
    """How many bytes were read."""


def refers(document: Document) -> bool:
    """Whether a request refers to something stored."""
    given = document.get("input")
    return bool(document.get(PREVIOUS)) or (isinstance(given, list) and any(map(_is_reference, given)))


async def recall(
    delivery: Delivery, document: Document, store: ResponseStore, executor: Threads, later: BackgroundRoom | None = None
) -> Recalled:
    """Read what the request refers to; `later` knows of responses that are not over.

    Raises NotStored where that is not there for the tenant, StoreUnavailable where nobody knows, InvalidRequest for
    what is no id, or is not over; Overloaded and RequestTooLarge when it is too much.
    """
    reader = _Reader(delivery, store, executor, later)
    earlier: list[Document] = []
    previous = document.get(PREVIOUS)
    if previous:
        if not isinstance(previous, str):
            raise wrong(PREVIOUS, "must be a string")
        items = await reader.items(previous)
        if items is None:
            raise NotStored(
                f"Previous response with id '{previous[:MAX_SHOWN]}' not found.", status=400,
                code="previous_response_not_found", param=PREVIOUS,
            )  # fmt: skip
        earlier = items
    own = for_hosted = document.get("input")
    if isinstance(own, list) and any(map(_is_reference, own)):
        own, for_hosted = await _resolved(own, reader)
    return Recalled(earlier, own, for_hosted, reader.size)


async def _resolved(own: list[Any], reader: "_Reader") -> tuple[list[Any], list[Any]]:
    """Give the items, and those for a hosted API; all but references stay as they came."""
    items: list[Any] = []
    for_hosted: list[Any] = []
    # From the end on: the last one is of the response that has the most.
    for place, item in reversed(list(enumerate(own))):
        if _is_reference(item):
            found = await reader.item(word(item.get("id")), place)
            items.append(found)
            for_hosted.extend(hosted_items([found]))
        else:
            items.append(item)
            for_hosted.append(item)
    return items[::-1], for_hosted[::-1]


class _Reader:
    """Reads for one request, and remembers what it has read."""

    def __init__(
        self, delivery: Delivery, store: ResponseStore, executor: Threads, later: BackgroundRoom | None
    ) -> None:
        self.size = 0
        self._later = later
        self._delivery = delivery
        self._store = store
        self._executor = executor
        self._read: dict[str, list[Document] | None] = {}
        self._known: dict[object, Document] = {}

    async def items(self, response_id: str) -> list[Document] | None:
        """Give the conversation up to the end of a response, item by item; None when there is none for the tenant."""
        if response_id not in self._read:
            self._read[response_id] = await self._items(response_id) if is_kept_id(response_id) else None
        return self._read[response_id]

    async def item(self, item_id: str, place: int) -> Document:
        """Give the item that a reference means; NotStored when there is none for the tenant."""
        if item_id not in self._known:
            home = response_of_item(item_id)
            if home is not None and (home in self._read or len(self._read) < MOST_RESPONSES):
                self._known |= {one.get("id"): one for one in await self.items(home) or ()}
        found = self._known.get(item_id)
        if found is None:
            raise NotStored(
                f"Item with id '{item_id[:MAX_SHOWN]}' not found.", code="item_not_found", param=f"input.{place}.id"
            )
        return found

    async def _load(self, response_id: str) -> Stored | None:
        """Give what is stored; None where there is nothing. Raises InvalidRequest for one that is not over."""
        tenant, store, later = self._delivery.tenant, self._store, self._later
        found = await store.load(tenant, response_id, patience=() if later is not None else PATIENCE)
        if found is not None or later is None:
            return found
        if await later.find(tenant, response_id) is not None:
            raise InvalidRequest(
                f"Response with id '{response_id[:MAX_SHOWN]}' is not over yet: ask for it until it is.",
                code="invalid_value", param=PREVIOUS,
            )  # fmt: skip
        # It may have ended between the two, and another replica may just be writing one that somebody waited for.
        return await store.load(tenant, response_id, patience=PATIENCE)

    async def _items(self, response_id: str) -> list[Document] | None:
        try:
            found = await self._load(response_id)
        except StoreDown as error:
            raise StoreUnavailable from error
        if found is None:
            return None
        # It is a document like one that came in: parsed within the same bounds of memory and time. Whatever waits for
        # that is in the budget: twice, as what was read and its copy, then as the texts and the copy that is sent.
        self._delivery.exchange.reserve(2 * found.size)
        whole = b'{"items":%b,"response":%b}' % (found.items, found.response)
        del found
        self.size += len(whole)
        document = await load_large(self._delivery.exchange, whole, self._executor)
        if is_unanswered(document["response"]):
            raise InvalidRequest(
                f"Response with id '{response_id[:MAX_SHOWN]}' has no answer that could be gone on from.",
                code="invalid_value", param=PREVIOUS,
            )  # fmt: skip
        return [*document["items"], *document["response"]["output"]]


def _is_reference(item: Any) -> bool:
    return isinstance(item, dict) and item.get("type") == _REFERENCE
