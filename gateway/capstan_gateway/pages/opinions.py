"""What clients say of how good an answer was: read here, and the pages on which the admin reads all of it."""

from typing import Any, Final, NamedTuple

from fastapi import APIRouter, Request, Response

from capstan_contract.feedback import (
    FEEDBACK_PATH,
    MOST_COMMENT,
    MOST_ID,
    WHOLE,
    FeedbackPage,
    Label,
    Source,
)
from capstan_gateway.errors import InvalidRequest, LimitReached, StoreUnavailable
from capstan_gateway.feedback.port import Put
from capstan_gateway.feedback.room import FeedbackRoom, TooOften
from capstan_gateway.headers import retry_after_headers
from capstan_gateway.pages.listing import read_limit
from capstan_gateway.stores.port import StoreDown

SCORE: Final = "score"
LABEL: Final = "label"
OPINION_FIELDS: Final = ("response_id", SCORE, LABEL, "comment", "source")
_MILLIS: Final = {Label.GOOD: WHOLE, Label.NEUTRAL: WHOLE // 2, Label.BAD: 0}
_MOST_PAGE: Final = 1000
_USUAL_PAGE: Final = 500
_MOST_PLACE: Final = 1 << 53


class Opinion(NamedTuple):
    """What a client says of an answer."""

    id: str
    millis: int
    """Its score in thousandths."""
    comment: str
    source: Source


def is_opinion(document: dict[str, Any]) -> bool:
    """Whether a document says how good an answer was, rather than that one out of a cache was wrong."""
    return SCORE in document or LABEL in document


def read_opinion(document: dict[str, Any]) -> Opinion:
    """Read what a client says. Raises InvalidRequest."""
    for name in document:
        if name not in OPINION_FIELDS:
            raise _invalid(name[:64], f"is unknown beside a score or a label; there are {', '.join(OPINION_FIELDS)}")
    id = document.get("response_id")
    if not isinstance(id, str) or not 0 < len(id) <= MOST_ID:
        raise _invalid("response_id", f"must be the `id` of the answer, of at most {MOST_ID} characters")
    score, label = document.get(SCORE), document.get(LABEL)
    if (score is None) == (label is None):
        raise _invalid(SCORE, "or `label` must be given, and not both")
    if score is not None and (isinstance(score, bool) or not isinstance(score, int | float) or not 0 <= score <= 1):
        raise _invalid(SCORE, "must be a number from 0 (bad) to 1 (good)")
    if label is not None and label not in tuple(Label):
        raise _invalid(LABEL, f"must be one of {', '.join(Label)}")
    comment = document.get("comment")
    if comment is not None and (not isinstance(comment, str) or len(comment) > MOST_COMMENT):
        raise _invalid("comment", f"must be a text of at most {MOST_COMMENT} characters")
    source = document.get("source", Source.USER)
    if source not in tuple(Source):
        raise _invalid("source", f"must be one of {', '.join(Source)}")
    millis = round(score * WHOLE) if score is not None else _MILLIS[Label(str(label))]
    return Opinion(id, millis, comment or "", Source(source))


async def say(room: FeedbackRoom, opinion: Opinion, tenant: str) -> dict[str, Any]:
    """Keep what somebody says, and give what they are told."""
    try:
        found = await room.say(tenant, opinion.id, opinion.millis, opinion.comment, opinion.source)
    except TooOften as error:
        raise LimitReached("too much feedback at once; try again", headers=retry_after_headers(error.seconds)) from None
    except StoreDown:
        raise StoreUnavailable("feedback") from None
    if found is None:
        raise InvalidRequest(
            "no answer of this gateway is known by this id: ids are known for a while, and the newest ones only",
            status=404, code="answer_not_found", param="response_id",
        )  # fmt: skip
    said, outcome = found
    return {
        "object": "feedback", "response_id": said.id, "score": said.score, "label": said.label.value,
        "changed": outcome is Put.CHANGED,
    }  # fmt: skip


def opinion_routes(room: FeedbackRoom | None) -> APIRouter:
    """GET /internal/feedback; without a room there is none."""
    router = APIRouter(tags=["admin"])
    if room is None:
        return router

    @router.get(FEEDBACK_PATH)
    async def get_feedback(request: Request) -> Response:
        """Give what clients said of answers, the oldest first: `limit` of them, behind the place `after`."""
        query = dict(request.query_params)
        for name in query:
            if name not in ("after", "limit"):
                raise _invalid(name[:64], "is unknown; there are after, limit")
        limit = read_limit(query.get("limit"), most=_MOST_PAGE, otherwise=_USUAL_PAGE)
        try:
            page = await room.page(_read_place(query.get("after")), limit)
        except StoreDown:
            raise StoreUnavailable("feedback") from None
        told = FeedbackPage(source=room.source, data=page.data, next=page.next)
        return Response(told.model_dump_json(), media_type="application/json")

    return router


def _read_place(text: str | None) -> int:
    if text is None:
        return 0
    place = int(text) if text.isascii() and text.isdigit() and len(text) < 17 else -1
    if not 0 <= place < _MOST_PLACE:
        raise _invalid("after", "must be `next` of the page before")
    return place


def _invalid(name: str, must: str) -> InvalidRequest:
    return InvalidRequest(f"`{name}` {must}", code="invalid_value", param=name)
