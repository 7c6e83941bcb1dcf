"""Responses that are stored, or will be: asked for, listed with what they answer, cancelled, forgotten."""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, Final

import orjson
from fastapi import APIRouter, Request, Response

from capstan_gateway.background.outcomes import open_items
from capstan_gateway.background.records import Record
from capstan_gateway.background.room import BackgroundRoom
from capstan_gateway.documents import INLINE_BYTES, count_values, is_too_much, memory_of
from capstan_gateway.errors import InvalidRequest, NotStored, Overloaded, RequestTooLarge, StoreUnavailable
from capstan_gateway.life.threads import Threads
from capstan_gateway.memory import MemoryBudget, Share
from capstan_gateway.pages.guard import principal_of
from capstan_gateway.pipeline.beside import beside
from capstan_gateway.stores.keys import is_kept_id
from capstan_gateway.stores.port import StoreDown
from capstan_gateway.stores.responses import ResponseStore, Stored

DEFAULT_LIMIT: Final = 20
MAX_LIMIT: Final = 100
MAX_SHOWN: Final = 100
"""Characters of an id that an error repeats."""
_JSON: Final = "application/json"


def response_routes(
    store: ResponseStore | None, later: BackgroundRoom | None, budget: MemoryBudget, executor: Threads
) -> APIRouter:
    """GET and DELETE /v1/responses/{id}, GET /v1/responses/{id}/input_items, POST /v1/responses/{id}/cancel; without a
    store there are none."""
    router = APIRouter(tags=["responses"])

    @router.get("/v1/responses/{response_id}")
    async def get_response(request: Request, response_id: str) -> Response:
        """Give a stored response as it was given out."""
        if request.query_params.get("stream", "false").lower() not in ("false", "0"):
            raise InvalidRequest("`stream` must be false: events are not stored", code="invalid_value", param="stream")
        found = await look(store, later, principal_of(request).tenant, response_id)
        told = found.response if isinstance(found, Stored) else found.told.open(found.status)
        return Response(told, media_type=_JSON)

    @router.post("/v1/responses/{response_id}/cancel")
    async def cancel_response(request: Request, response_id: str) -> Response:
        """Have a response in the background stop; one that is over stays as it is."""
        tenant = principal_of(request).tenant
        found = await look(store, later, tenant, response_id)
        if later is not None and not isinstance(found, Stored):
            try:
                await later.cancel(tenant, found)
            except StoreDown as error:
                raise StoreUnavailable from error
            found = await load(store, tenant, response_id)
        if not isinstance(found, Stored) or not await _is_background(found, executor):
            raise InvalidRequest("Cannot cancel a synchronous response.", code="invalid_value", param="response_id")
        return Response(found.response, media_type=_JSON)

    @router.delete("/v1/responses/{response_id}")
    async def delete_response(request: Request, response_id: str) -> dict[str, object]:
        """Forget a stored response."""
        tenant = principal_of(request).tenant
        dropped = await _drop(later, tenant, response_id)
        if not await delete(store, tenant, response_id) and not dropped:
            raise no_such_response(response_id)
        return {"id": response_id, "object": "response", "deleted": True}

    @router.get("/v1/responses/{response_id}/input_items")
    async def list_input_items(request: Request, response_id: str) -> Response:
        """List what a stored response answers: the items of earlier turns, too."""
        query = request.query_params
        found = await look(store, later, principal_of(request).tenant, response_id)
        items = found.items if isinstance(found, Stored) else await beside(executor, partial(open_items, found))
        page = partial(list_items, limit=query.get("limit"), order=query.get("order"), after=query.get("after"))
        return Response(await listed(items, page, budget, executor), media_type=_JSON)

    return router


async def listed(
    items: bytes, page: Callable[[list[dict[str, Any]]], dict[str, Any]], budget: MemoryBudget, executor: Threads
) -> bytes:
    """Write a page of these items, a large list of them beside the loop; what that takes is in the budget meanwhile.

    Raises Overloaded without room, RequestTooLarge where there never is, or the items are too many, and what `page`
    raises.
    """

    def written() -> bytes:
        return orjson.dumps(page(orjson.loads(items)))

    large = len(items) > INLINE_BYTES
    share = budget.share()
    try:
        _take(share, 2 * len(items))  # What was read, and the texts in the document.
        counts = await beside(executor, partial(count_values, items)) if large else count_values(items)
        if is_too_much(counts):
            raise RequestTooLarge(f"the response answers too many JSON values (about {counts.values})")
        _take(share, memory_of(items, counts) + len(items))
        return await beside(executor, written) if large else written()
    finally:
        share.release()


def _take(share: Share, size: int) -> None:
    if not share.grow(size):
        if share.ever_fits(share.held + size):
            raise Overloaded
        raise RequestTooLarge("the response needs more memory than this gateway has for requests")


async def look(
    store: ResponseStore | None, later: BackgroundRoom | None, tenant: str, response_id: str
) -> Stored | Record:
    """Give what is stored under this id, or what will be; NotStored, or StoreUnavailable where that cannot be known."""
    if store is None or later is None or not is_kept_id(response_id):
        return await load(store, tenant, response_id)
    try:
        stored = await store.load(tenant, response_id)
        record = None if stored is not None else await later.find(tenant, response_id)
    except StoreDown as error:
        raise StoreUnavailable from error
    # Where there was neither it may have ended between the two.
    return stored or record or await load(store, tenant, response_id)


async def _drop(later: BackgroundRoom | None, tenant: str, response_id: str) -> bool:
    """Forget a response that is not over; False where there is none."""
    if later is None or not is_kept_id(response_id):
        return False
    try:
        return await later.drop(tenant, response_id)
    except StoreDown as error:
        raise StoreUnavailable from error


async def _is_background(stored: Stored, executor: Threads) -> bool:
    def read() -> bool:
        return bool(orjson.loads(stored.response).get("background"))

    return await beside(executor, read) if len(stored.response) > INLINE_BYTES else read()


async def load(store: ResponseStore | None, tenant: str, response_id: str) -> Stored:
    """Give what is stored under this id; NotStored, or StoreUnavailable where that cannot be known now."""
    found = None
    if store is not None and is_kept_id(response_id):
        try:
            found = await store.load(tenant, response_id)
        except StoreDown as error:
            raise StoreUnavailable from error
    if found is None:
        raise no_such_response(response_id)
    return found


async def delete(store: ResponseStore | None, tenant: str, response_id: str) -> bool:
    """Forget what is stored under this id; False when there is nothing. Raises StoreUnavailable."""
    if store is None or not is_kept_id(response_id):
        return False
    try:
        return await store.delete(tenant, response_id)
    except StoreDown as error:
        raise StoreUnavailable from error


def no_such_response(response_id: str) -> NotStored:
    """Say that there is none under this id: nor is there for whom another tenant's is meant."""
    return NotStored(f"Response with id '{response_id[:MAX_SHOWN]}' not found.", param="response_id")


def list_items(
    items: Sequence[dict[str, Any]], *, limit: str | None, order: str | None, after: str | None
) -> dict[str, Any]:
    """Give one page of the items, the newest first unless `order` is `asc`: `limit` of them, behind the id `after`.

    InvalidRequest for a limit that is not from 1 to 100, and for another order. An id that is none ends the list.
    """
    most = (
        DEFAULT_LIMIT if limit is None else int(limit) if limit.isascii() and limit.isdigit() and len(limit) < 4 else 0
    )
    if not 1 <= most <= MAX_LIMIT:
        raise InvalidRequest(
            f"`limit` must be a whole number from 1 to {MAX_LIMIT}", code="invalid_value", param="limit"
        )
    if order not in (None, "asc", "desc"):
        raise InvalidRequest("`order` must be asc or desc", code="invalid_value", param="order")
    ordered = list(items) if order == "asc" else list(reversed(items))
    # Behind the last one of this id, should there be several: a client that asks page by page comes to the end.
    places = [place for place, item in enumerate(ordered, 1) if item.get("id") == after]
    begin = 0 if after is None else places[-1] if places else len(ordered)
    page = ordered[begin : begin + most]
    first, last = (page[0]["id"], page[-1]["id"]) if page else (None, None)
    return {
        "object": "list", "data": page, "first_id": first, "last_id": last, "has_more": begin + most < len(ordered),
    }  # fmt: skip
