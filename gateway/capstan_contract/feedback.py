"""What clients say of answers that they got: how gateways tell it at `FEEDBACK_PATH`, page by page, the oldest first.

    {"object":"feedback.list","data":[{"at":1760000000000,"id":"chatcmpl-1","score":0.0,"label":"bad",...}],"next":17}

It is apart from scores, which scorers give. A reader takes what it knows; what cannot be read is left out and counted.
"""

import json
from enum import StrEnum
from typing import Any, Final, Literal, NamedTuple

from pydantic import Field, NonNegativeInt, ValidationError

from capstan_contract.entries import Document, is_empty

FEEDBACK_PATH: Final = "/internal/feedback"
FEEDBACK_LIST: Final = "feedback.list"
MOST_COMMENT: Final = 2000
"""Characters of a comment."""
MOST_ID: Final = 256
"""Characters of an id."""
WHOLE: Final = 1000
"""Scores are kept as whole thousandths, so that they add up exactly."""


class Label(StrEnum):
    """What a score comes to."""

    GOOD = "good"
    NEUTRAL = "neutral"
    """Exactly between the two."""
    BAD = "bad"


class Source(StrEnum):
    """Who says it."""

    USER = "user"
    ANNOTATOR = "annotator"
    """Somebody who looks at answers for a living: not whoever asked."""


def label_of(millis: int) -> Label:
    """Give what a score in thousandths comes to."""
    return Label.NEUTRAL if 2 * millis == WHOLE else Label.GOOD if 2 * millis > WHOLE else Label.BAD


class ArmName(Document):
    """A member of a weighted router that gave the answer, or a track of a model."""

    key: str
    """Id of the router, or of the model."""
    epoch: str = ""
    member: str
    """Id of the model, or the track."""
    bucket: NonNegativeInt = 0
    """Of whose request it was; see `tracks`."""


class Feedback(Document):
    """What somebody says of one answer. There is one of each: what is said later takes its place."""

    at: NonNegativeInt
    """Unix milliseconds of when it was said."""
    id: str
    """`id` of the answer."""
    requestId: str = Field(default="", exclude_if=is_empty)
    """`x-request-id` of its request."""
    model: str = ""
    """Name of the model that answered."""
    asked: str = Field(default="", exclude_if=is_empty)
    """Name by which it was asked for, where that is another one: a router's."""
    tenant: str = Field(default="", exclude_if=is_empty)
    score: float = Field(ge=0, le=1)
    label: Label
    comment: str = Field(default="", max_length=MOST_COMMENT, exclude_if=is_empty)
    source: Source = Source.USER
    arms: tuple[ArmName, ...] = Field(default=(), exclude_if=is_empty)


class FeedbackPage(Document):
    """Some of what was said."""

    object: Literal["feedback.list"] = "feedback.list"
    source: str = "memory"
    """`redis`, with that of all gateways, or `memory`, with that of this one since it began."""
    data: tuple[Feedback, ...] = ()
    next: NonNegativeInt | None = None
    """`after` of the next page; None: this is the last."""


class FeedbackError(ValueError):
    """A page that is none; the message says what is wrong."""


class ReadFeedback(NamedTuple):
    """What a page says."""

    data: tuple[Feedback, ...]
    next: int | None
    source: str
    unreadable: int
    """Entries that could not be read."""


def read_feedback_page(text: bytes | str) -> ReadFeedback:
    """Read a page. Raises FeedbackError for what is none."""
    try:
        said = json.loads(text)
    except (ValueError, RecursionError):
        raise FeedbackError("a page of feedback must be JSON") from None
    if not isinstance(said, dict) or said.get("object") != FEEDBACK_LIST or not isinstance(said.get("data"), list):
        raise FeedbackError(f"a page of feedback must be an object `{FEEDBACK_LIST}` with `data`")
    following = said.get("next")
    if following is not None and (type(following) is not int or following < 0):
        raise FeedbackError("`next` of a page of feedback must be a whole number")
    found: list[Feedback] = []
    for one in said["data"]:
        entry = read_feedback(one)
        if entry is not None:
            found.append(entry)
    return ReadFeedback(tuple(found), following, str(said.get("source", "")), len(said["data"]) - len(found))


def read_feedback(document: Any) -> Feedback | None:
    """Read one entry; None where it is none."""
    try:
        return Feedback.model_validate(document, extra="ignore")
    except ValidationError:
        return None
