"""What clients say of answers that they got: that one out of a cache was wrong, or how good any was."""

import logging
from typing import Any, Final, NamedTuple

import orjson
from fastapi import APIRouter, Request

from capstan_gateway.caches.answered import MOST, Of
from capstan_gateway.caches.port import CacheKey
from capstan_gateway.caches.purges import read_key
from capstan_gateway.errors import InvalidRequest, StoreUnavailable
from capstan_gateway.feedback.room import FeedbackRoom
from capstan_gateway.pages.guard import principal_of
from capstan_gateway.pages.opinions import is_opinion, read_opinion, say
from capstan_gateway.pipeline.caches.kind import Caches, Reported
from capstan_gateway.stores.port import StoreDown

log: Final = logging.getLogger(__name__)
_KEY: Final = "cache_key"
_IDS: Final = {"request_id": Of.REQUEST, "response_id": Of.ANSWER}
_ABOUT: Final = (_KEY, *_IDS)
_FIELDS: Final = (*_ABOUT, "wrong", "similarity")
_MOST_ID: Final = 256


class About(NamedTuple):
    """Which answer is spoken of, and by which field: exactly one of those that name one."""

    field: str
    value: str
    key: CacheKey | None = None
    """Of `cache_key`."""


class Feedback(NamedTuple):
    """What a client says. `wrong` is all that can be said so far, and is true."""

    about: About
    similarity: float | None
    """Of a hit by meaning, as the answer had it in `x-cache-similarity`."""


def feedback_routes(caches: Caches, room: FeedbackRoom | None) -> APIRouter:
    """POST /v1/feedback; without a room nothing can be said of how good an answer was."""
    router = APIRouter(tags=["feedback"])

    @router.post("/v1/feedback")
    async def feedback(request: Request) -> dict[str, Any]:
        """Say how good an answer was, which `response_id`, the `id` in its body, names: a `score` from 0 to 1 or a
        `label`, good, neutral or bad, with a `comment` and a `source`, user or annotator. It takes the place of what
        was said of it before.

        Or have an answer not be given again: it was wrong. It is named by one of three: `request_id`, which it had as
        `x-request-id`; `response_id`, the `id` in its body; `cache_key`, which it had as `x-cache-key`.

        `everywhere`: whether all replicas hear of it, within a second; otherwise it holds on this one alone, for now.
        404 where nothing is known by that for who asks, whether or not something is for somebody else.
        """
        body = await request.body()
        document = read_document(body)
        if room is not None and is_opinion(document):
            return await say(room, read_opinion(document), principal_of(request).tenant)
        said = read_feedback(document)
        found = await _reported(caches, said, principal_of(request).tenant)
        log.info("an answer was reported as wrong", extra={"everywhere": found.everywhere})
        named = {said.about.field: said.about.value, _KEY: found.key.text}
        return {"object": "feedback", **named, "evicted": True, "everywhere": found.everywhere}

    return router


async def _reported(caches: Caches, said: Feedback, tenant: str) -> Reported:
    about = said.about
    if about.key is not None:
        everywhere = await caches.report_wrong(about.key, tenant, said.similarity)
        if everywhere is None:
            raise _unknown("nothing is kept under this key", "entry_not_found", about)
        return Reported(about.key, everywhere)
    try:
        found = await caches.report_answer(_IDS[about.field], about.value, tenant, said.similarity)
    except StoreDown:
        raise StoreUnavailable("ids of answers") from None
    if found is None:
        message = (
            "no answer that was kept, or came out of a cache, is known by this id:"
            f" ids are known for half an hour at most, and the newest {MOST} of each replica"
        )
        raise _unknown(message, "answer_not_found", about)
    return found


def read_document(body: bytes) -> dict[str, Any]:
    """Read the body. Raises InvalidRequest."""
    try:
        document = orjson.loads(body)
    except orjson.JSONDecodeError:
        raise InvalidRequest("the body is no JSON") from None
    if not isinstance(document, dict):
        raise InvalidRequest(
            f"the body must be an object with `wrong` and one of {', '.join(_ABOUT)}, or with `response_id` and"
            " `score` or `label`",
            code="invalid_value",
        )
    return document


def read_feedback(document: dict[str, Any]) -> Feedback:
    """Read what a client says of an answer out of a cache. Raises InvalidRequest."""
    for name in document:
        if name not in _FIELDS:
            raise _invalid(name[:64], f"is unknown beside `wrong`; there are {', '.join(_FIELDS)}")
    about = _about(document)
    if document.get("wrong") is not True:
        raise _invalid("wrong", "must be true; how good an answer was is said by `score` or `label`")
    similarity = document.get("similarity")
    if similarity is None:
        return Feedback(about, None)
    if isinstance(similarity, bool) or not isinstance(similarity, int | float) or not 0 <= similarity <= 1:
        raise _invalid("similarity", "must be a number from 0 to 1, as the answer had it in x-cache-similarity")
    return Feedback(about, float(similarity))


def _about(document: dict[str, Any]) -> About:
    """Read which answer is spoken of."""
    given = [name for name in _ABOUT if document.get(name) is not None]
    if len(given) > 1:
        raise _invalid(given[1], f"must not be given together with `{given[0]}`: one names the answer")
    if not given or given[0] == _KEY:
        text = document.get(_KEY)
        key = read_key(text) if isinstance(text, str) else None
        if key is None:
            other = "" if given else ", or `request_id` or `response_id` must be given"
            raise _invalid(_KEY, f"must be the key that the answer had as x-cache-key{other}")
        return About(_KEY, key.text, key)
    [name] = given
    if not isinstance(document[name], str) or not 0 < len(document[name]) <= _MOST_ID:
        where = "x-request-id" if _IDS[name] is Of.REQUEST else "the `id` of its body"
        raise _invalid(name, f"must be what the answer had as {where}, of at most {_MOST_ID} characters")
    return About(name, document[name])


def _unknown(message: str, code: str, about: About) -> InvalidRequest:
    return InvalidRequest(message, status=404, code=code, param=about.field)


def _invalid(name: str, must: str) -> InvalidRequest:
    return InvalidRequest(f"`{name}` {must}", code="invalid_value", param=name)
