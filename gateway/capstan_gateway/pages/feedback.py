"""What clients say of answers that they got: that one out of a cache was wrong."""

import logging
from typing import Any, Final, NamedTuple

import orjson
from fastapi import APIRouter, Request

from capstan_gateway.caches.port import CacheKey
from capstan_gateway.caches.purges import read_key
from capstan_gateway.errors import InvalidRequest
from capstan_gateway.pages.guard import principal_of
from capstan_gateway.pipeline.caches.kind import Caches

log: Final = logging.getLogger(__name__)
_FIELDS: Final = ("cache_key", "wrong", "similarity")


class Feedback(NamedTuple):
    """What a client says."""

    key: CacheKey
    similarity: float | None
    """Of a hit by meaning, as the answer had it in `x-cache-similarity`."""


def feedback_routes(caches: Caches) -> APIRouter:
    """POST /v1/feedback."""
    router = APIRouter(tags=["cache"])

    @router.post("/v1/feedback")
    async def feedback(request: Request) -> dict[str, Any]:
        """Have an answer not be given again: it was wrong. `cache_key` is what it had as `x-cache-key`.

        `everywhere`: whether all replicas hear of it, within a second; otherwise it holds on this one alone, for now.
        404 where nothing is kept under that for who asks, whether or not something is for somebody else.
        """
        said = read_feedback(await request.body())
        everywhere = await caches.report_wrong(said.key, principal_of(request).tenant, said.similarity)
        if everywhere is None:
            raise InvalidRequest(
                "nothing is kept under this key", status=404, code="entry_not_found", param="cache_key"
            )
        log.info("an answer was reported as wrong", extra={"everywhere": everywhere})
        return {"object": "feedback", "cache_key": said.key.text, "evicted": True, "everywhere": everywhere}

    return router


def read_feedback(body: bytes) -> Feedback:
    """Read what a client says. Raises InvalidRequest."""
    try:
        document = orjson.loads(body)
    except orjson.JSONDecodeError:
        raise InvalidRequest("the body is no JSON") from None
    if not isinstance(document, dict):
        raise InvalidRequest("the body must be an object with `cache_key` and `wrong`", code="invalid_value")
    for name in document:
        if name not in _FIELDS:
            raise _invalid(name[:64], f"is unknown; there are {', '.join(_FIELDS)}")
    text = document.get("cache_key")
    key = read_key(text) if isinstance(text, str) else None
    if key is None:
        raise _invalid("cache_key", "must be the key that the answer had as x-cache-key")
    if document.get("wrong") is not True:
        raise _invalid("wrong", "must be true: nothing else can be said of an answer")
    similarity = document.get("similarity")
    if similarity is None:
        return Feedback(key, None)
    if isinstance(similarity, bool) or not isinstance(similarity, int | float) or not 0 <= similarity <= 1:
        raise _invalid("similarity", "must be a number from 0 to 1, as the answer had it in x-cache-similarity")
    return Feedback(key, float(similarity))


def _invalid(name: str, must: str) -> InvalidRequest:
    return InvalidRequest(f"`{name}` {must}", code="invalid_value", param=name)
