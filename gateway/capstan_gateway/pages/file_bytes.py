"""Files as they come and go: uploads and downloads, which no framework gathers in memory first.

POST /v1/files                a form with `purpose` and `file`
GET  /v1/files/{id}/content   the bytes of a file
"""

import logging
from collections.abc import AsyncGenerator, Awaitable
from typing import Any, Final

import orjson

from capstan_contract.names import REQUEST_ID_HEADER
from capstan_gateway.batches.files import UPLOAD_SECONDS, Files, TooManyFiles, Upload, UploadOver
from capstan_gateway.batches.names import Names
from capstan_gateway.batches.objects import PART_BYTES, FilesDown, ObjectGone
from capstan_gateway.batches.records import BATCH_INPUT, FileRecord
from capstan_gateway.errors import (
    ClientGone,
    GatewayError,
    InvalidRequest,
    RequestTimeout,
    RequestTooLarge,
    StoreUnavailable,
)
from capstan_gateway.headers import find_header, header_lines
from capstan_gateway.identity.principal import NOBODY, Principal
from capstan_gateway.pages.expiry import FilesOff, read_expiry
from capstan_gateway.pages.form import FILE, Form
from capstan_gateway.pages.guard import Pages
from capstan_gateway.serving.exchange import Exchange
from capstan_gateway.serving.refusals import respond_error
from capstan_gateway.serving.request_ids import RequestIds
from capstan_gateway.serving.service import path_of
from capstan_gateway.stores.port import StoreDown

log = logging.getLogger(__name__)
PATH: Final = b"/v1/files"
_CONTENT: Final = b"/content"
_FORM_BYTES: Final = 64 * 1024
"""What a form may have beside its file."""
_PIECE: Final = 64 * 1024
_REQUEST_ID: Final = REQUEST_ID_HEADER.encode()
_PURPOSE: Final = "purpose"
_EXPIRES: Final = "expires_after"
_FIELDS: Final = {_PURPOSE: "", f"{_EXPIRES}[anchor]": "anchor", f"{_EXPIRES}[seconds]": "seconds"}


class FilePages:
    """Pages with those two before them; implements `guard.Pages`."""

    def __init__(self, otherwise: Pages, files: Files | None, ids: RequestIds) -> None:
        self._otherwise = otherwise
        self._files = files
        self._ids = ids

    def __call__(self, exchange: Exchange, principal: Principal | None = None) -> Awaitable[None]:
        """Serve one request, of somebody."""
        path, who = path_of(exchange.target), principal or NOBODY
        if path == PATH and exchange.method == b"POST":
            return self._serve(exchange, self._upload, who)
        if exchange.method == b"GET" and path.startswith(PATH + b"/") and path.endswith(_CONTENT):
            return self._serve(exchange, self._download, who)
        return self._otherwise(exchange, principal)

    async def _serve(self, exchange: Exchange, serve: Any, who: Principal) -> None:
        request_id = self._ids.accept(find_header(exchange.headers, _REQUEST_ID))
        try:
            if self._files is None:
                raise FilesOff
            await serve(exchange, self._files, Names.of(who.tenant), request_id)
        except ClientGone:
            return
        except (StoreDown, FilesDown) as error:
            if isinstance(error, FilesDown):
                log.warning("the place for files cannot be had", extra={"failure": str(error)})
            if exchange.started:
                exchange.abandon()
            else:
                respond_error(exchange, StoreUnavailable("files"), request_id)
        except GatewayError as error:
            if exchange.started:
                exchange.abandon()
            else:
                respond_error(exchange, error, request_id)

    async def _upload(self, exchange: Exchange, files: Files, names: Names, request_id: bytes) -> None:
        most = files.bounds.file_bytes
        if exchange.length is not None and exchange.length > most + _FORM_BYTES:
            raise _too_large(most)
        form = Form(find_header(exchange.headers, b"content-type"))
        exchange.reserve(2 * PART_BYTES)
        upload: Upload | None = None
        try:
            while piece := await exchange.read_piece():
                data = form.feed(piece)
                _check(form.fields)
                if upload is None and form.filename is not None:
                    upload = await _begin(files, names, form.filename, exchange.length)
                if upload is not None and data:
                    if upload.size + len(data) > most:
                        raise _too_large(most)
                    await upload.write(data)
            record = await _finish(form, upload)
        except BaseException:
            if upload is not None:
                await _abort(upload)
            raise
        body = orjson.dumps(record.told())
        lines = ((b"content-type", b"application/json"), (b"content-length", b"%d" % len(body)))
        exchange.respond(200, header_lines((*lines, (_REQUEST_ID, request_id))), body)

    async def _download(self, exchange: Exchange, files: Files, names: Names, request_id: bytes) -> None:
        file_id = path_of(exchange.target)[len(PATH) + 1 : -len(_CONTENT)].decode("latin-1")
        record = await files.find(names, file_id)
        if record is None:
            raise no_such_file(file_id)
        exchange.reserve(PART_BYTES)
        async for part in _read(files, names, record):
            for begin in range(0, len(part), _PIECE):
                piece = part[begin : begin + _PIECE]
                if exchange.gone:
                    raise ClientGone
                if exchange.started:
                    exchange.write(piece)
                else:
                    lines = ((b"content-type", b"application/octet-stream"), (_REQUEST_ID, request_id))
                    exchange.start(200, header_lines(lines), piece)
                if exchange.paused:
                    await exchange.drained()
        exchange.finish()


async def _read(files: Files, names: Names, record: FileRecord) -> AsyncGenerator[bytes, None]:
    try:
        async for part in files.read(names, record):
            yield part
    except ObjectGone:
        # It was deleted just now, or lost: to try again helps nobody.
        raise no_such_file(record.id) from None


async def _begin(files: Files, names: Names, filename: str, size: int | None) -> Upload:
    try:
        return await files.begin(names, filename=filename, purpose=BATCH_INPUT, size=size)
    except TooManyFiles as error:
        raise too_many_files(error) from None


async def _finish(form: Form, upload: Upload | None) -> FileRecord:
    if not form.complete:
        raise InvalidRequest("the form ends in the middle")
    if _PURPOSE not in form.fields:
        raise InvalidRequest(
            "`purpose` is missing: it must be batch", code="missing_required_parameter", param=_PURPOSE
        )
    if upload is None:
        raise InvalidRequest("`file` is missing", code="missing_required_parameter", param=FILE)
    if not upload.size:
        raise InvalidRequest("`file` is empty", code="empty_file", param=FILE)
    said = {part: form.fields[name] for name, part in _FIELDS.items() if part and name in form.fields}
    seconds = read_expiry(said or None, _EXPIRES)
    try:
        return await upload.finish(seconds=seconds)
    except TooManyFiles as error:
        raise too_many_files(error) from None
    except UploadOver:
        raise RequestTimeout(f"the upload took longer than {UPLOAD_SECONDS} s") from None


async def _abort(upload: Upload) -> None:
    try:
        await upload.abort()
    except (StoreDown, FilesDown):
        return  # It is swept away later.


def _check(fields: dict[str, str]) -> None:
    for name in fields:
        if name not in _FIELDS:
            raise InvalidRequest(f"`{name[:64]}` is unknown", code="unknown_parameter", param=name[:64])
    if fields.get(_PURPOSE, BATCH_INPUT) != BATCH_INPUT:
        raise InvalidRequest("`purpose` must be batch: files are kept for nothing else", param=_PURPOSE)


def too_many_files(error: TooManyFiles) -> InvalidRequest:
    """Say that the tenant has as many as it may."""
    return InvalidRequest(f"{error}: delete some of them first", code="too_many_files")


def _too_large(most: int) -> RequestTooLarge:
    return RequestTooLarge(f"the file is larger than {most} bytes", param=FILE)


def no_such_file(file_id: str) -> InvalidRequest:
    """Say that there is none: nor is there for whom another tenant's is meant."""
    return InvalidRequest(f"No such File object: {file_id[:100]}", status=404, code="file_not_found", param="id")
