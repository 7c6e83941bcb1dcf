"""Batches of requests: made, looked at, listed, cancelled. Who works on them is `batches.runner`."""

import asyncio
from typing import Any, Final

import orjson
from fastapi import APIRouter, Request

from capstan_gateway.batches.files import Files, TooManyFiles
from capstan_gateway.batches.lines import ENDPOINTS, endpoint_of
from capstan_gateway.batches.names import Names, is_of_messages, new_batch_id, new_file_id
from capstan_gateway.batches.records import BATCH_INPUT, WINDOW, WINDOW_SECONDS, BatchRecord, BatchSpec
from capstan_gateway.batches.room import BatchRoom
from capstan_gateway.batches.state import TooManyBatches
from capstan_gateway.errors import NO_RETRY, InvalidRequest, StoreUnavailable
from capstan_gateway.identity.principal import Principal
from capstan_gateway.pages.expiry import FilesOff, read_expiry
from capstan_gateway.pages.file_bytes import too_many_files
from capstan_gateway.pages.guard import principal_of
from capstan_gateway.pages.listing import place_after, read_limit, written
from capstan_gateway.stores.port import StoreDown

MOST_LISTED: Final = 100
LISTED: Final = 20
MOST_PAIRS: Final = 16
MOST_KEY: Final = 64
MOST_VALUE: Final = 512
_FIELDS: Final = ("input_file_id", "endpoint", "completion_window", "metadata", "output_expires_after")


def batch_routes(room: BatchRoom | None) -> APIRouter:
    """POST and GET /v1/batches, GET /v1/batches/{id}, POST /v1/batches/{id}/cancel."""
    router = APIRouter(tags=["batches"])

    def needed() -> BatchRoom:
        if room is None:
            raise FilesOff
        return room

    @router.post("/v1/batches")
    async def create_batch(request: Request) -> dict[str, Any]:
        """Make a batch of the requests in a file."""
        there, who = needed(), principal_of(request)
        now = int(there.batches.wall())
        spec = read_batch(await request.body(), who, now=now, seconds=there.files.bounds.seconds)
        names = Names.of(who.tenant)
        try:
            await _check_input(there.files, names, spec.input_file_id)
            await there.files.check_room(names)
            await there.batches.create(names, spec)
            return await _told(there, names, spec.id)
        except TooManyFiles as error:
            raise too_many_files(error) from None
        except TooManyBatches as error:
            raise InvalidRequest(str(error), status=429, code="too_many_batches", headers=(NO_RETRY,)) from None
        except StoreDown as error:
            raise StoreUnavailable("batches") from error

    @router.get("/v1/batches")
    async def list_batches(request: Request) -> dict[str, Any]:
        """List the batches of who asks, the newest first."""
        query, there, names = request.query_params, needed(), Names.of(principal_of(request).tenant)
        limit = read_limit(query.get("limit"), most=MOST_LISTED, otherwise=LISTED)
        try:
            ids = [one for one in await there.batches.ids(names) if not is_of_messages(one)]
            end = place_after(ids, query.get("after"))
            page: list[dict[str, Any]] = []
            # NB: some may be gone already, and clients take an empty page for the end.
            while not page and end < len(ids):
                begin, end = end, end + limit
                found = await asyncio.gather(*(there.batches.find(names, one) for one in ids[begin:end]))
                page = [record.told() for record in found if record is not None]
        except StoreDown as error:
            raise StoreUnavailable("batches") from error
        return written(page, more=end < len(ids))

    @router.get("/v1/batches/{batch_id}")
    async def get_batch(request: Request, batch_id: str) -> dict[str, Any]:
        """Say how a batch stands."""
        try:
            return await _told(needed(), Names.of(principal_of(request).tenant), batch_id)
        except StoreDown as error:
            raise StoreUnavailable("batches") from error

    @router.post("/v1/batches/{batch_id}/cancel")
    async def cancel_batch(request: Request, batch_id: str) -> dict[str, Any]:
        """Have a batch stop; what is done by then is given."""
        there, names = needed(), Names.of(principal_of(request).tenant)
        try:
            record = await _find(there, names, batch_id)
            if not await there.batches.cancel(names, batch_id):
                record = await _find(there, names, batch_id)
                raise InvalidRequest(f"Cannot cancel a batch with status '{record.status}'.", status=409)
            return await _told(there, names, batch_id)
        except StoreDown as error:
            raise StoreUnavailable("batches") from error

    return router


def read_batch(body: bytes, who: Principal, *, now: int, seconds: int) -> BatchSpec:
    """Read what a client asks for; `seconds` is how long files are kept. Raises InvalidRequest."""
    try:
        document = orjson.loads(body)
    except orjson.JSONDecodeError:
        raise InvalidRequest("the body is no JSON") from None
    if not isinstance(document, dict):
        raise InvalidRequest("the body must be an object")
    for name in document:
        if name not in _FIELDS:
            raise InvalidRequest(f"Unknown parameter: '{name[:64]}'.", code="unknown_parameter", param=name[:64])
    for name in _FIELDS[:3]:
        if document.get(name) is None:
            message = f"Missing required parameter: '{name}'."
            raise InvalidRequest(message, code="missing_required_parameter", param=name)
    input_file_id, endpoint, window = (document[name] for name in _FIELDS[:3])
    if not isinstance(input_file_id, str):
        raise _invalid("input_file_id", "must be the id of a file")
    endpoint = endpoint_of(endpoint)
    if endpoint not in ENDPOINTS:
        raise _invalid("endpoint", f"must be one of {', '.join(ENDPOINTS)}")
    if window != WINDOW:
        raise _invalid("completion_window", f"must be {WINDOW}")
    kept = read_expiry(document.get("output_expires_after"), "output_expires_after")
    return BatchSpec(
        id=new_batch_id(), endpoint=endpoint, input_file_id=input_file_id, created_at=now,
        expires_at=now + WINDOW_SECONDS, principal=who, by_key=not who.issuer,
        metadata=_metadata(document.get("metadata")),
        output_seconds=seconds if kept is None else min(kept, seconds),
        output_file_id=new_file_id(), error_file_id=new_file_id(),
    )  # fmt: skip


def _metadata(said: Any) -> dict[str, str] | None:
    if said is None:
        return None
    if not isinstance(said, dict) or len(said) > MOST_PAIRS:
        raise _invalid("metadata", f"must be an object of at most {MOST_PAIRS} texts")
    for key, value in said.items():
        if len(key) > MOST_KEY or not isinstance(value, str) or len(value) > MOST_VALUE:
            raise _invalid(
                "metadata", f"must have keys of at most {MOST_KEY} and texts of at most {MOST_VALUE} characters"
            )
    return said


async def _check_input(files: Files, names: Names, file_id: str) -> None:
    record = await files.find(names, file_id)
    if record is None:
        raise InvalidRequest(f"No such File object: {file_id[:100]}", code="file_not_found", param="input_file_id")
    if record.purpose != BATCH_INPUT:
        raise _invalid("input_file_id", f"must be a file that was uploaded with the purpose {BATCH_INPUT}")


async def _find(room: BatchRoom, names: Names, batch_id: str) -> BatchRecord:
    record = None if is_of_messages(batch_id) else await room.batches.find(names, batch_id)
    if record is None:
        message = f"No batch found with id '{batch_id[:100]}'."
        raise InvalidRequest(message, status=404, code="batch_not_found", param="batch_id")
    return record


async def _told(room: BatchRoom, names: Names, batch_id: str) -> dict[str, Any]:
    return (await _find(room, names, batch_id)).told()


def _invalid(param: str, must: str) -> InvalidRequest:
    return InvalidRequest(f"`{param}` {must}", code="invalid_value", param=param)
