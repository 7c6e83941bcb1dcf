"""Stored responses on the way of a request: the earlier turns in front of it, and its answer kept when it is whole.

    previous_response_id, item_reference ─► the store ─► earlier items + new ones ─► translated, as if all had been sent
    the answer, presented ─► keep: taken at once, written later; before the client has the last of it

What guards have replaced in a request is not kept: the placeholders are, in the request and in the answer.

A response that a hosted API gives out in the client's own dialect is stored there or nowhere, and has an id of its own.
"""

from collections.abc import Callable
from functools import partial
from typing import Final, NamedTuple, Protocol

import orjson

from capstan_gateway.background.room import BackgroundRoom
from capstan_gateway.dialects.clients.port import ClientTools, Dialect
from capstan_gateway.dialects.clients.responses_history import continued, hosted_items, kept_items
from capstan_gateway.dialects.clients.spoken import RESPONSES, KeptResponses
from capstan_gateway.dialects.fields import Document
from capstan_gateway.documents import INLINE_BYTES, TooDeep, to_json
from capstan_gateway.errors import GatewayError, InvalidRequest, Overloaded, RequestTooLarge
from capstan_gateway.life.threads import Threads
from capstan_gateway.pipeline.ask import Ask
from capstan_gateway.pipeline.beside import beside
from capstan_gateway.pipeline.delivery import Delivery
from capstan_gateway.pipeline.recall import PREVIOUS, Recalled, recall, refers
from capstan_gateway.pipeline.replaced import Replaced
from capstan_gateway.pipeline.request import NativeRequest, Request
from capstan_gateway.stores.keys import new_number
from capstan_gateway.stores.responses import ResponseStore, Stored


async def with_history(
    delivery: Delivery, ask: Ask, store: ResponseStore, executor: Threads, later: BackgroundRoom | None = None
) -> None:
    """Put what the request refers to in its place, and have its answer kept where it is to be; `later` knows of
    responses that are not over.

    What is wrong with a reference is what makes the request untranslatable: a hosted API that speaks the dialect may
    know that id. Raises Overloaded and RequestTooLarge when the conversation is too much.
    """
    request = ask.request
    native = request.native
    if native is None or delivery.route.dialect is not RESPONSES:
        return
    if refers(native.document):
        try:
            found = await recall(delivery, native.document, store, executor, later)
        except (RequestTooLarge, Overloaded):
            raise
        except GatewayError as error:
            ask.request = _with(request, request.document, native, error.with_traceback(None))
            return
        request = ask.request = await _going_on(delivery, request, native, found, executor)
    document, slot = delivery.client_document, delivery.slot
    if document is None:
        return
    if slot is not None:
        delivery.keeper = Keeper(slot, delivery.tenant, document, lambda: ask.replaced, number=slot.number)
    elif native.document.get("store") is not False and store.fits(request.came):
        delivery.keeper = Keeper(store, delivery.tenant, document, lambda: ask.replaced)


async def _going_on(
    delivery: Delivery, request: Request, native: NativeRequest, found: Recalled, executor: Threads
) -> Request:
    """Give the request that says the whole conversation; the delivery's document says it, too."""
    read = partial(_read, native.document, found)
    came = request.came + found.size
    if came <= INLINE_BYTES:
        reading = read()
    else:
        delivery.exchange.reserve(found.size)  # Texts that the translation joins are there twice.
        reading = await beside(executor, read)
    delivery.client_document, delivery.client_tools = reading.echoed, reading.tools
    to_hosted = NativeRequest(reading.to_hosted, tools=reading.tools)
    return _with(request, reading.document, to_hosted, reading.failure, came=came)


class _Reading(NamedTuple):
    """What a request says with the turns before it."""

    document: Document
    """Translated."""
    tools: ClientTools | None
    echoed: Document
    """What its answer refers to."""
    to_hosted: Document
    """What a hosted API that speaks the dialect is sent."""
    failure: InvalidRequest | None


def _read(given: Document, found: Recalled) -> _Reading:
    """Translate a request with what was said before it; the error names fields as the client sent them."""
    alone = {**given, "input": found.own}
    alone.pop(PREVIOUS, None)
    whole = continued(alone, found.earlier)
    echoed = {**whole, PREVIOUS: given.get(PREVIOUS)}
    to_hosted = continued({**alone, "input": found.own_for_hosted}, hosted_items(found.earlier))
    tools = None
    try:
        tools = RESPONSES.read_tools(whole)
        return _Reading(RESPONSES.read_request(whole, tools), tools, echoed, to_hosted, None)
    except InvalidRequest as error:
        failure = error
    try:
        RESPONSES.read_request(alone)
    except InvalidRequest as error:
        failure = error
    nothing = {"model": given["model"], "messages": [], "stream": bool(given.get("stream"))}
    return _Reading(nothing, tools, echoed, to_hosted, failure)


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


class Keeps(Protocol):
    """Takes responses that are to be kept: the store of them, for one."""

    def keep(self, tenant: str, response_id: str, stored: Stored) -> bool:
        """Take it; False when it will not be kept."""
        ...


class Keeper:
    """Keeps the answer of one delivery, under an id that nobody can guess."""

    def __init__(
        self,
        store: Keeps,
        tenant: str,
        document: Document,
        replaced: Callable[[], Replaced | None] = lambda: None,
        *,
        number: str = "",
    ) -> None:
        """Make it. `replaced` gives what guards have replaced in the request: that is not kept. `number` is what its id
        is made of, where somebody knows that already."""
        self._store = store
        self._replaced = replaced
        self._tenant = tenant
        self._document = document
        self._number = number or new_number()
        self.dialect: Final[Dialect] = KeptResponses(self._number, lambda response: self.keep(to_json(response)))
        """What writes the answer: with that id."""

    def keep(self, response: bytes) -> bool:
        """Take the whole response as the client is given it; False when it is not kept. For the loop's thread."""
        listed = kept_items(self._document, self._number)
        replaced = self._replaced()
        try:
            if replaced:
                whole = replaced.rewritten([listed, orjson.loads(response)], self._document)
                if whole is None:
                    return False
                listed, response = whole[0], to_json(whole[1])
            items = to_json(listed)
        except TooDeep:
            return False  # JSON may be read deeper than it is written.
        return self._store.keep(self._tenant, f"resp_{self._number}", Stored(response, items))


def not_kept(response: bytes) -> bytes:
    """Give a response that says that it is not stored."""
    return to_json({**orjson.loads(response), "store": False})
