"""What is known of files: listed, looked at, deleted. Their bytes come and go by `file_bytes`."""

from typing import Any, Final

from fastapi import APIRouter, Request

from capstan_gateway.batches.files import Files
from capstan_gateway.batches.names import Names
from capstan_gateway.errors import InvalidRequest, StoreUnavailable
from capstan_gateway.pages.expiry import FilesOff
from capstan_gateway.pages.file_bytes import no_such_file
from capstan_gateway.pages.guard import principal_of
from capstan_gateway.pages.listing import page_of, read_limit
from capstan_gateway.stores.port import StoreDown

MOST_LISTED: Final = 10_000


def file_routes(files: Files | None) -> APIRouter:
    """GET /v1/files, GET and DELETE /v1/files/{id}."""
    router = APIRouter(tags=["files"])

    def needed() -> Files:
        if files is None:
            raise FilesOff
        return files

    @router.get("/v1/files")
    async def list_files(request: Request) -> dict[str, Any]:
        """List the files of who asks, the newest first unless `order` is `asc`."""
        query, store = request.query_params, needed()
        limit = read_limit(query.get("limit"), most=MOST_LISTED, otherwise=MOST_LISTED)
        order, purpose = query.get("order"), query.get("purpose")
        if order not in (None, "asc", "desc"):
            raise InvalidRequest("`order` must be asc or desc", code="invalid_value", param="order")
        try:
            found = await store.all(Names.of(principal_of(request).tenant))
        except StoreDown as error:
            raise StoreUnavailable("files") from error
        told = [record.told() for record in found if purpose in (None, record.purpose)]
        return page_of(told[::-1] if order == "asc" else told, limit=limit, after=query.get("after"))

    @router.get("/v1/files/{file_id}")
    async def get_file(request: Request, file_id: str) -> dict[str, Any]:
        """Say what is known of a file."""
        try:
            record = await needed().find(Names.of(principal_of(request).tenant), file_id)
        except StoreDown as error:
            raise StoreUnavailable("files") from error
        if record is None:
            raise no_such_file(file_id)
        return record.told()

    @router.delete("/v1/files/{file_id}")
    async def delete_file(request: Request, file_id: str) -> dict[str, Any]:
        """Delete a file."""
        try:
            gone = await needed().delete(Names.of(principal_of(request).tenant), file_id)
        except StoreDown as error:
            raise StoreUnavailable("files") from error
        if not gone:
            raise no_such_file(file_id)
        return {"id": file_id, "object": "file", "deleted": True}

    return router
