"""What a background response comes to, by what the gateway has answered to its request. Pure."""

from typing import Any, Final, NamedTuple

import orjson

from capstan_gateway.background.records import Record, Spec
from capstan_gateway.background.status import ENDS, Status
from capstan_gateway.dialects.clients.responses_answer import failed
from capstan_gateway.dialects.clients.responses_history import kept_items
from capstan_gateway.documents import TooDeep, to_json
from capstan_gateway.errors import GatewayError
from capstan_gateway.own_asks import Answer
from capstan_gateway.stores.responses import Stored

LATE: Final = "The response was not there in time."
KEY_GONE: Final = "The API key that asked for this response is not valid any more."
LOST: Final = (
    "The gateway that asked for this response was lost, and nobody knows whether the model has had the request."
)
ABANDONED: Final = "The gateway failed again and again at this response."
TOO_LARGE: Final = "The response is larger than responses are stored."
NOT_KEPT: Final = "The response cannot be stored without what guards have replaced in its request."
NONSENSE: Final = "The gateway gave no response."

MOST_MESSAGE: Final = 1000
"""Characters of an error that are told."""


class Outcome(NamedTuple):
    """How a response ends."""

    status: Status
    stored: Stored


def outcome_of(record: Record, answer: Answer, kept: Stored | None, *, most_bytes: int) -> Outcome:
    """Say how a response ends that was answered so; `kept` is what was given to be stored of the answer.

    What a hosted API has given in the client's own dialect gets the id that the client knows. What is larger than
    `most_bytes` is not stored.
    """
    if answer.status >= 300:
        return failure(record, *_error_in(answer))
    try:
        response = orjson.loads(answer.body if kept is None else kept.response)
        status = Status(response["status"])
        if status not in ENDS or not isinstance(response["output"], list):
            raise ValueError
        if kept is None:
            return failure(record, NOT_KEPT)
        stored = Stored(to_json(_as_known(response, record.spec)), kept.items)
    except (ValueError, KeyError, TypeError, TooDeep):
        return failure(record, NONSENSE)
    return failure(record, TOO_LARGE) if stored.size > most_bytes else Outcome(status, stored)


def failure(record: Record, message: str, status: int = 500, code: str | None = None) -> Outcome:
    """Say how a response ends that has failed so."""
    error = failed(GatewayError(message[:MOST_MESSAGE], status=status, code=code))["error"]
    return Outcome(Status.FAILED, Stored(record.told.ended(Status.FAILED, error), b"[]"))


def cancelled(record: Record) -> Outcome:
    """Say how a response ends that is not wanted any more."""
    return Outcome(Status.CANCELLED, Stored(record.told.ended(Status.CANCELLED), b"[]"))


def open_items(record: Record) -> bytes:
    """Give the items that an open response will answer, but for those of earlier turns. Raises TooDeep."""
    return to_json(kept_items(orjson.loads(record.body), _number(record.spec)))


def _as_known(response: dict[str, Any], spec: Spec) -> dict[str, Any]:
    """Give the response as the client knows it already."""
    completed = response.get("completed_at")
    return {
        **response, "id": spec.id, "created_at": spec.created_at, "background": True, "store": True,
        "completed_at": max(completed, spec.created_at) if isinstance(completed, int | float) else completed,
    }  # fmt: skip


def _error_in(answer: Answer) -> tuple[str, int, str | None]:
    try:
        told = orjson.loads(answer.body)["error"]
        message, code = told["message"], told.get("code")
    except (ValueError, KeyError, TypeError, AttributeError):
        message, code = NONSENSE, None
    return str(message), answer.status, code if isinstance(code, str) else None


def _number(spec: Spec) -> str:
    return spec.id.removeprefix("resp_")
