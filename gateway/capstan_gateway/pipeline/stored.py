"""Stored responses on the way of a request: the earlier turns in front of it, and its answer kept when it is whole.

    previous_response_id ─► the store ─► earlier items + new ones ─► translated, as if the client had sent them all
    the answer, presented ─► keep: taken at once, written later; before the client has the last of it

A response that a hosted API gives out in the client's own dialect is stored there or nowhere, and has an id of its own.
"""

from concurrent.futures import Executor
from functools import partial
from typing import Any, Final, NamedTuple

import orjson

from capstan_gateway.dialects.clients.port import ClientTools, Dialect
from capstan_gateway.dialects.clients.responses_history import continued, hosted_items, kept_items
from capstan_gateway.dialects.clients.spoken import RESPONSES, KeptResponses
from capstan_gateway.dialects.fields import Document, wrong
from capstan_gateway.documents import INLINE_BYTES
from capstan_gateway.errors import GatewayError, InvalidRequest, NotStored, StoreUnavailable
from capstan_gateway.pipeline.ask import Ask
from capstan_gateway.pipeline.beside import beside
from capstan_gateway.pipeline.delivery import Delivery
from capstan_gateway.pipeline.loading import load_large
from capstan_gateway.pipeline.request import NativeRequest, Request
from capstan_gateway.stores.keys import is_kept_id, new_number
from capstan_gateway.stores.port import StoreDown
from capstan_gateway.stores.responses import PATIENCE, ResponseStore, Stored

PREVIOUS: Final = "previous_response_id"
MAX_SHOWN: Final = 100
"""Characters of an id that an error repeats."""


async def with_history(delivery: Delivery, ask: Ask, store: ResponseStore, executor: Executor) -> None:
    """Put the turns that the request goes on from in front of it, and have its answer kept where it is to be.

    What is wrong with `previous_response_id` is what makes the request untranslatable: a hosted API that speaks the
    dialect may know that id. Raises Overloaded and RequestTooLarge when the conversation is too much.
    """
    request = ask.request
    native = request.native
    if native is None or delivery.route.dialect is not RESPONSES:
        return
    size = request.came
    previous = native.document.get(PREVIOUS)
    if previous:
        found = await _recalled(delivery.tenant, previous, store)
        if isinstance(found, GatewayError):
            ask.request = _with(request, request.document, native, found)
            return
        size += found.size
        ask.request = await _going_on(delivery, request, native, found, executor)
    document = delivery.client_document
    if document is not None and native.document.get("store") is not False and store.fits(size):
        delivery.keeper = Keeper(store, delivery.tenant, document)


async def _recalled(tenant: str, previous: Any, store: ResponseStore) -> Stored | GatewayError:
    """Give what is stored under an id, or what is to be said instead."""
    if not isinstance(previous, str):
        return wrong(PREVIOUS, "must be a string")
    found = None
    if is_kept_id(previous):
        try:
            found = await store.load(tenant, previous, patience=PATIENCE)
        except StoreDown:
            return StoreUnavailable()
    if found is None:
        return NotStored(
            f"Previous response with id '{previous[:MAX_SHOWN]}' not found.", status=400,
            code="previous_response_not_found", param=PREVIOUS,
        )  # fmt: skip
    return found


async def _going_on(
    delivery: Delivery, request: Request, native: NativeRequest, found: Stored, executor: Executor
) -> Request:
    """Give the request that says the whole conversation; the delivery's document says it, too."""
    # It is a document like one that came in: parsed within the same bounds of memory and time.
    whole = b'{"items":%b,"response":%b}' % (found.items, found.response)
    loaded = await load_large(delivery.exchange, whole, executor)
    earlier: list[Document] = [*loaded["items"], *loaded["response"]["output"]]
    read = partial(_read, native.document, earlier)
    came = request.came + len(whole)
    found_in = read() if came <= INLINE_BYTES else await beside(executor, read)
    delivery.client_document, delivery.client_tools = found_in.echoed, found_in.tools
    sent = {key: value for key, value in native.document.items() if key != PREVIOUS}
    to_hosted = NativeRequest(continued(sent, hosted_items(earlier)), tools=found_in.tools)
    return _with(request, found_in.document, to_hosted, found_in.failure, came=came)


class _Reading(NamedTuple):
    """What a request says with the turns before it."""

    document: Document
    """Translated."""
    tools: ClientTools | None
    echoed: Document
    """What its answer refers to."""
    failure: InvalidRequest | None


def _read(given: Document, earlier: list[Document]) -> _Reading:
    """Translate a request with what was said before it; the error names fields as the client sent them."""
    alone = {key: value for key, value in given.items() if key != PREVIOUS}
    whole = continued(alone, earlier)
    echoed, tools = {**whole, PREVIOUS: given[PREVIOUS]}, None
    try:
        tools = RESPONSES.read_tools(whole)
        return _Reading(RESPONSES.read_request(whole, tools), tools, echoed, None)
    except InvalidRequest as error:
        failure = error
    try:
        RESPONSES.read_request(alone)
    except InvalidRequest as error:
        failure = error
    return _Reading(
        {"model": given["model"], "messages": [], "stream": bool(given.get("stream"))}, tools, echoed, failure
    )


def _with(
    request: Request,
    document: Document,
    native: NativeRequest,
    failure: GatewayError | None,
    *,
    came: int | None = None,
) -> Request:
    return Request(
        request.route, document, stream=request.stream, usage_asked=request.usage_asked, native=native,
        untranslatable=failure, headers=request.headers, came=request.came if came is None else came,
    )  # fmt: skip


class Keeper:
    """Keeps the answer of one delivery, under an id that nobody can guess."""

    def __init__(self, store: ResponseStore, tenant: str, document: Document) -> None:
        self._store = store
        self._tenant = tenant
        self._document = document
        self._number = new_number()
        self.dialect: Final[Dialect] = KeptResponses(self._number, lambda response: self.keep(orjson.dumps(response)))
        """What writes the answer: with that id."""

    def keep(self, response: bytes) -> bool:
        """Take the whole response as the client is given it; False when it is not kept. For the loop's thread."""
        items = orjson.dumps(kept_items(self._document, self._number))
        return self._store.keep(self._tenant, f"resp_{self._number}", Stored(response, items))


def not_kept(response: bytes) -> bytes:
    """Give a response that says that it is not stored."""
    return orjson.dumps({**orjson.loads(response), "store": False})
