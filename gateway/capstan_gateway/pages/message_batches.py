"""Anthropic's Message Batches: made, looked at, listed, cancelled, deleted, and their results as they are read.

They are batches like OpenAI's, whose input and output are files of the tenant. Requests and results pass here piece by
piece: no framework gathers them in memory first.

POST /v1/messages/batches                  {"requests": [{"custom_id": ..., "params": {...}}, ...]}
GET  /v1/messages/batches/{id}/results     a line of JSON for each request
"""

import asyncio
import logging
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import aclosing
from functools import partial
from typing import Any, Final

import orjson
from fastapi import APIRouter, Request

from capstan_contract.names import REQUEST_ID_HEADER
from capstan_gateway.batches.files import UPLOAD_SECONDS, TooManyFiles, Upload, UploadOver
from capstan_gateway.batches.json_array import ArraySplitter, NotThatList, ObjectTooLong
from capstan_gateway.batches.lines import Splitter
from capstan_gateway.batches.messages import ENDPOINT, LIST, RequestReader, Results, page, told, too_long
from capstan_gateway.batches.names import Names, is_of_messages, new_file_id, new_message_batch_id
from capstan_gateway.batches.objects import PART_BYTES, FilesDown, ObjectGone
from capstan_gateway.batches.records import BATCH_INPUT, WINDOW_SECONDS, BatchRecord, BatchSpec, FileRecord
from capstan_gateway.batches.room import BatchRoom
from capstan_gateway.batches.state import TooManyBatches
from capstan_gateway.batches.status import ENDS, Status
from capstan_gateway.errors import (
    NO_RETRY,
    ClientGone,
    GatewayError,
    InvalidRequest,
    Overloaded,
    RequestTimeout,
    RequestTooLarge,
    StoreUnavailable,
)
from capstan_gateway.headers import Header, find_header, header_lines
from capstan_gateway.identity.principal import NOBODY, Principal
from capstan_gateway.life.threads import Busy
from capstan_gateway.pages.anthropic import error_writer
from capstan_gateway.pages.expiry import FilesOff
from capstan_gateway.pages.file_bytes import too_many_files
from capstan_gateway.pages.guard import Pages, principal_of
from capstan_gateway.pages.listing import read_limit
from capstan_gateway.serving.exchange import Exchange
from capstan_gateway.serving.refusals import respond_error
from capstan_gateway.serving.request_ids import RequestIds
from capstan_gateway.serving.service import path_of
from capstan_gateway.stores.port import StoreDown

log = logging.getLogger(__name__)
PATH: Final = "/v1/messages/batches"
MOST_LISTED: Final = 1000
LISTED: Final = 20
_ROOT: Final = PATH.encode()
_RESULTS: Final = b"/results"
_REQUEST_ID: Final = REQUEST_ID_HEADER.encode()
_ASKED_WITH: Final = frozenset((b"anthropic-version", b"anthropic-beta"))
_MOST_HEADER_BYTES: Final = 1024
_WHAT: Final = "batches"


def message_batch_routes(room: BatchRoom | None) -> APIRouter:
    """GET /v1/messages/batches, GET and DELETE .../{id}, POST .../{id}/cancel."""
    router = APIRouter(tags=["batches"])

    def needed() -> BatchRoom:
        if room is None:
            raise FilesOff
        return room

    @router.get(PATH)
    async def list_message_batches(request: Request) -> dict[str, Any]:
        """List the batches of who asks, the newest first."""
        query, there, names = request.query_params, needed(), Names.of(principal_of(request).tenant)
        limit = read_limit(query.get("limit"), most=MOST_LISTED, otherwise=LISTED)
        try:
            ids = [one for one in await there.batches.ids(names) if is_of_messages(one)]
            after, before = query.get("after_id"), query.get("before_id")
            data: list[dict[str, Any]] = []
            more = True
            # NB: some may be gone already, and clients take an empty page for the end.
            while more and not data:
                some, more = page(ids, limit=limit, after=after, before=before)
                found = await asyncio.gather(*(there.batches.find(names, one) for one in some))
                data = [told(record) for record in found if record is not None]
                if some and before is not None:
                    before = some[0]
                elif some:
                    after = some[-1]
        except StoreDown as error:
            raise StoreUnavailable(_WHAT) from error
        first, last = (data[0]["id"], data[-1]["id"]) if data else (None, None)
        return {"data": data, "first_id": first, "last_id": last, "has_more": more}

    @router.get(PATH + "/{batch_id}")
    async def get_message_batch(request: Request, batch_id: str) -> dict[str, Any]:
        """Say how a batch stands."""
        try:
            return told(await _find(needed(), Names.of(principal_of(request).tenant), batch_id))
        except StoreDown as error:
            raise StoreUnavailable(_WHAT) from error

    @router.post(PATH + "/{batch_id}/cancel")
    async def cancel_message_batch(request: Request, batch_id: str) -> dict[str, Any]:
        """Have a batch stop; one that has ended cannot be."""
        there, names = needed(), Names.of(principal_of(request).tenant)
        try:
            await _find(there, names, batch_id)
            if not await there.batches.cancel(names, batch_id):
                raise InvalidRequest(f"Batch {batch_id} cannot be canceled: its processing has ended.")
            return told(await _find(there, names, batch_id))
        except StoreDown as error:
            raise StoreUnavailable(_WHAT) from error

    @router.delete(PATH + "/{batch_id}")
    async def delete_message_batch(request: Request, batch_id: str) -> dict[str, Any]:
        """Forget a batch that has ended, with its requests and results."""
        there, names = needed(), Names.of(principal_of(request).tenant)
        try:
            record = await _find(there, names, batch_id)
            if not await there.batches.delete(names, batch_id):
                raise InvalidRequest(
                    f"Batch {batch_id} cannot be deleted while it is being processed: cancel it first."
                )
            for file_id in (record.spec.input_file_id, record.spec.output_file_id, record.spec.error_file_id):
                await there.files.delete(names, file_id)
        except StoreDown as error:
            raise StoreUnavailable(_WHAT) from error
        except FilesDown as error:
            log.warning("the place for files cannot be had", extra={"failure": str(error)})
            raise StoreUnavailable(_WHAT) from error
        return {"id": batch_id, "type": "message_batch_deleted"}

    return router


class MessageBatchPages:
    """Pages with those two before them whose bodies are long; implements `guard.Pages`."""

    def __init__(self, otherwise: Pages, room: BatchRoom | None, ids: RequestIds) -> None:
        self._otherwise = otherwise
        self._room = room
        self._ids = ids

    def __call__(self, exchange: Exchange, principal: Principal | None = None) -> Awaitable[None]:
        """Serve one request, of somebody."""
        path, who = path_of(exchange.target), principal or NOBODY
        if path == _ROOT and exchange.method == b"POST":
            return self._serve(exchange, self._create, who)
        if exchange.method == b"GET" and path.startswith(_ROOT + b"/") and path.endswith(_RESULTS):
            return self._serve(exchange, self._results, who)
        return self._otherwise(exchange, principal)

    async def _serve(self, exchange: Exchange, serve: Any, who: Principal) -> None:
        request_id = self._ids.accept(find_header(exchange.headers, _REQUEST_ID))
        try:
            if self._room is None:
                raise FilesOff
            await serve(exchange, self._room, who, request_id)
        except ClientGone:
            return
        except (StoreDown, FilesDown) as error:
            if isinstance(error, FilesDown):
                log.warning("the place for files cannot be had", extra={"failure": str(error)})
            self._refuse(exchange, StoreUnavailable(_WHAT), request_id)
        except Busy:
            self._refuse(exchange, Overloaded(), request_id)
        except GatewayError as error:
            self._refuse(exchange, error, request_id)

    @staticmethod
    def _refuse(exchange: Exchange, error: GatewayError, request_id: bytes) -> None:
        if exchange.started:
            exchange.abandon()
        else:
            respond_error(exchange, error, request_id, error_writer(exchange.target, exchange.headers))

    async def _create(self, exchange: Exchange, room: BatchRoom, who: Principal, request_id: bytes) -> None:
        names, most = Names.of(who.tenant), room.files.bounds.file_bytes
        if exchange.length is not None and exchange.length > most:
            raise _too_large(most)
        exchange.reserve(2 * PART_BYTES)
        try:
            upload = await room.files.begin(names, filename="requests.jsonl", purpose=BATCH_INPUT, size=exchange.length)
        except TooManyFiles as error:
            raise too_many_files(error) from None
        record: FileRecord | None = None
        try:
            reader = RequestReader(most=room.most_lines, most_bytes=room.most_line_bytes)
            await _read_requests(exchange, room, upload, reader)
            record = await upload.finish()
            spec = _spec(exchange, room, who, record, reader.count)
            await room.batches.create(names, spec)
        except BaseException as error:
            await _undo(room, names, upload, record)
            if isinstance(error, TooManyFiles):
                raise too_many_files(error) from None
            if isinstance(error, TooManyBatches):
                raise _too_many(str(error)) from None
            if isinstance(error, UploadOver):
                raise RequestTimeout(f"the requests took longer than {UPLOAD_SECONDS} s to come") from None
            raise
        # NB: told as it was made. To read it may fail, and who is told so would make it once more.
        _respond(exchange, orjson.dumps(told(BatchRecord(spec=spec, status=Status.VALIDATING))), request_id)

    async def _results(self, exchange: Exchange, room: BatchRoom, who: Principal, request_id: bytes) -> None:
        names = Names.of(who.tenant)
        batch = await _find(room, names, path_of(exchange.target)[len(_ROOT) + 1 : -len(_RESULTS)].decode("latin-1"))
        if batch.status not in ENDS:
            raise InvalidRequest(f"Batch {batch.spec.id} has no results yet: it is still being processed.")
        exchange.reserve(2 * PART_BYTES)
        async with aclosing(_result_lines(room, names, batch, exchange.reserve)) as pieces:
            async for piece in pieces:
                if exchange.gone:
                    raise ClientGone
                if exchange.started:
                    exchange.write(piece)
                else:
                    exchange.start(200, header_lines(_lines(request_id, b"application/x-jsonl")), piece)
                if exchange.paused:
                    await exchange.drained()
        if exchange.started:
            exchange.finish()
        else:
            _respond(exchange, b"", request_id, b"application/x-jsonl")


def _spec(exchange: Exchange, room: BatchRoom, who: Principal, record: FileRecord, count: int) -> BatchSpec:
    now = int(room.batches.wall())
    said = [
        (name.decode("latin-1"), value.decode("latin-1"))
        for name, value in exchange.headers
        if name in _ASKED_WITH and len(value) <= _MOST_HEADER_BYTES
    ]
    return BatchSpec(
        id=new_message_batch_id(), endpoint=ENDPOINT, input_file_id=record.id, created_at=now,
        expires_at=now + WINDOW_SECONDS, principal=who, by_key=not who.issuer, lines=count, headers=tuple(said),
        output_seconds=room.files.bounds.seconds, output_file_id=new_file_id(), error_file_id=new_file_id(),
    )  # fmt: skip


async def _read_requests(exchange: Exchange, room: BatchRoom, upload: Upload, reader: RequestReader) -> None:
    """Write the requests of a body as the lines of a file, as they come. Raises InvalidRequest."""
    splitter = ArraySplitter(LIST, most_bytes=room.most_line_bytes)

    def lines_of(piece: bytes) -> bytes:
        return b"".join([reader.line(element) for element in splitter.feed(piece)])

    held = PART_BYTES
    try:
        while piece := await exchange.read_piece():
            written = await room.threads.run(lines_of, piece)
            if splitter.held > held:
                # An object that is long in coming is held as a whole, and once more when it is read.
                exchange.reserve(3 * (splitter.held - held))
                held = splitter.held
            if upload.size + len(written) > room.files.bounds.file_bytes:
                raise _too_large(room.files.bounds.file_bytes)
            await upload.write(written)
        splitter.finish()
    except NotThatList as error:
        raise InvalidRequest(f"the body {error}") from None
    except ObjectTooLong as error:
        raise too_long(error.number, room.most_line_bytes) from None
    reader.finish()


async def _undo(room: BatchRoom, names: Names, upload: Upload, record: FileRecord | None) -> None:
    """Leave nothing of a batch that is not made."""
    try:
        if record is None:
            await upload.abort()
        else:
            await room.files.delete(names, record.id)
    except (StoreDown, FilesDown):
        return  # It is swept away later.


async def _result_lines(
    room: BatchRoom, names: Names, batch: BatchRecord, reserve: Callable[[int], None]
) -> AsyncGenerator[bytes, None]:
    """Give the results of a batch, some lines at a time; what long ones take is reserved."""
    spec = batch.spec
    whole, held = batch.completed + batch.failed >= spec.lines, PART_BYTES
    results = Results(batch.status, whole=whole)
    for file_id, there, change in (
        (spec.output_file_id, batch.gives_output, results.answered),
        (spec.error_file_id, batch.gives_errors, results.answered),
        (spec.input_file_id, not whole, results.unanswered),
    ):
        record = await room.files.find(names, file_id) if there else None
        if record is None:
            continue
        splitter = Splitter(room.files.bounds.file_bytes)
        try:
            async with aclosing(room.files.read(names, record)) as parts:
                async for part in parts:
                    if written := await room.threads.run(partial(_changed, splitter, change, part)):
                        yield written
                    if splitter.held > held:
                        # An answer that is long is held as a whole, and twice more when it is read and written.
                        reserve(3 * (splitter.held - held))
                        held = splitter.held
        except ObjectGone:
            # The batch was deleted just now, or its file lost: to try again helps nobody.
            raise _not_found(spec.id) from None
        if written := b"".join([change(line) for _, line in splitter.finish()]):
            yield written


def _changed(splitter: Splitter, change: Callable[[bytes], bytes], part: bytes) -> bytes:
    return b"".join([change(line) for _, line in splitter.feed(part)])


async def _find(room: BatchRoom, names: Names, batch_id: str) -> BatchRecord:
    record = await room.batches.find(names, batch_id) if is_of_messages(batch_id) else None
    if record is None:
        raise _not_found(batch_id)
    return record


def _not_found(batch_id: str) -> InvalidRequest:
    return InvalidRequest(f"Batch {batch_id[:100]} not found.", status=404, code="batch_not_found")


def _respond(exchange: Exchange, body: bytes, request_id: bytes, kind: bytes = b"application/json") -> None:
    lines = (*_lines(request_id, kind), (b"content-length", b"%d" % len(body)))
    exchange.respond(200, header_lines(lines), body)


def _lines(request_id: bytes, kind: bytes) -> tuple[Header, ...]:
    return (b"content-type", kind), (_REQUEST_ID, request_id), (b"request-id", request_id)


def _too_many(message: str) -> InvalidRequest:
    return InvalidRequest(message, status=429, code="too_many_batches", headers=(NO_RETRY,))


def _too_large(most: int) -> RequestTooLarge:
    return RequestTooLarge(f"the requests of a batch may have {most} bytes together")
