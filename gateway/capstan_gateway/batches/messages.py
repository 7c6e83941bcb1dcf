"""Anthropic's Message Batches on the machinery of batches: requests as lines, lines as results. Pure.

    {"custom_id": ..., "params": {...}}     ─► a line that asks /v1/messages
    a line of the files that a batch gives  ─► {"custom_id": ..., "result": {"type": "succeeded" | "errored", ...}}
    a line that has no answer               ─► "canceled" or "expired", as the batch ended

https://platform.claude.com/docs/en/api/messages/batches
"""

import re
from collections.abc import Sequence
from datetime import UTC, datetime
from hashlib import blake2b
from typing import Any, Final

import orjson

from capstan_gateway.batches.lines import LineRequest, read_line
from capstan_gateway.batches.records import BatchRecord
from capstan_gateway.batches.status import ENDS, Status, at_field
from capstan_gateway.documents import INLINE_BYTES, TooDeep, count_values, is_too_much, to_json
from capstan_gateway.errors import InvalidRequest, RequestTooLarge

ENDPOINT: Final = "/v1/messages"
LIST: Final = "requests"
CUSTOM_ID: Final = re.compile(r"[a-zA-Z0-9_-]{1,64}")
_MOST_SHOWN: Final = 64
_MEMBERS: Final = frozenset(("custom_id", "params"))
_ENDED: Final = {Status.CANCELLED: "canceled", Status.EXPIRED: "expired"}
"""What becomes of the requests that have no answer."""
_AUTHENTICATION: Final = "authentication_error"
_API: Final = "api_error"


class RequestReader:
    """Reads the requests of one batch, one after the other."""

    def __init__(self, *, most: int, most_bytes: int) -> None:
        """There may be so many of them, each of so many bytes as it is kept."""
        self.count = 0
        self._most = most
        self._most_bytes = most_bytes
        self._seen: set[bytes] = set()
        """Hashes of ids, as `lines.Validator` has them."""

    def line(self, element: bytes) -> bytes:
        """Give a request as a line of a batch's input.

        Raises InvalidRequest and RequestTooLarge, which name its place from 0.
        """
        at = f"{LIST}.{self.count}"
        self.count += 1
        if self.count > self._most:
            raise InvalidRequest(f"`{LIST}` may have {self._most} requests at most", param=LIST)
        if len(element) > INLINE_BYTES and is_too_much(count_values(element)):
            raise InvalidRequest(f"`{at}` has more values than a request may have", param=at)
        try:
            document = orjson.loads(element)
        except orjson.JSONDecodeError:
            raise InvalidRequest(f"`{at}` is no JSON", param=at) from None
        for name in document:
            if name not in _MEMBERS:
                raise InvalidRequest(f"`{at}.{name[:_MOST_SHOWN]}` is not known", param=f"{at}.{name[:_MOST_SHOWN]}")
        custom_id, params = document.get("custom_id"), document.get("params")
        if not isinstance(custom_id, str) or CUSTOM_ID.fullmatch(custom_id) is None:
            raise _wrong(f"{at}.custom_id", "must be 1 to 64 letters, digits, `_` and `-`")
        digest = blake2b(custom_id.encode(), digest_size=16).digest()
        if digest in self._seen:
            raise _wrong(f"{at}.custom_id", "must be unique in the batch")
        self._seen.add(digest)
        return self._written(at, custom_id, params)

    def finish(self) -> None:
        """There are no more. Raises InvalidRequest where there was none."""
        if not self.count:
            raise _wrong(LIST, "must have at least one request")

    def _written(self, at: str, custom_id: str, params: Any) -> bytes:
        if not isinstance(params, dict):
            raise _wrong(f"{at}.params", "must be an object: the body of a request to /v1/messages")
        if not isinstance(params.get("model"), str) or not params["model"]:
            raise _wrong(f"{at}.params.model", "must be the name of a model")
        for field in ("stream", "background"):
            if params.get(field):
                raise _wrong(f"{at}.params.{field}", "must be false: an answer of a batch is given as a whole")
        try:
            line = to_json({"custom_id": custom_id, "method": "POST", "url": ENDPOINT, "body": params})
        except TooDeep:
            raise _wrong(f"{at}.params", "may have 254 levels of objects and lists at most") from None
        # NB: what it is kept as may be longer than what came, and who reads it again takes no longer line.
        if len(line) > self._most_bytes:
            raise too_long(self.count - 1, self._most_bytes)
        if not isinstance(read_line(line, 1, ENDPOINT), LineRequest):
            raise _wrong(f"{at}.params", "cannot be asked in a batch")
        return line + b"\n"


def told(batch: BatchRecord) -> dict[str, Any]:
    """Give a batch as Anthropic tells it: all requests are counted as being processed until all of it has ended."""
    spec, status = batch.spec, batch.status
    over = status in ENDS
    rest = max(spec.lines - batch.completed - batch.failed, 0)
    counts = {"processing": 0 if over else spec.lines, "succeeded": 0, "errored": 0, "canceled": 0, "expired": 0}
    if over:
        counts |= {"succeeded": batch.completed, "errored": batch.failed}
        counts[_ENDED.get(status, "errored")] += rest
    cancelled, ended = batch.times.get(at_field(Status.CANCELLING)), batch.times.get(at_field(status)) if over else None
    working = "canceling" if status is Status.CANCELLING else "in_progress"
    return {
        "id": spec.id, "type": "message_batch", "processing_status": "ended" if over else working,
        "request_counts": counts, "created_at": _time(spec.created_at), "expires_at": _time(spec.expires_at),
        "ended_at": _time(ended), "cancel_initiated_at": _time(cancelled), "archived_at": None,
        "results_url": f"/v1/messages/batches/{spec.id}/results" if over else None,
    }  # fmt: skip


class Results:
    """The results of a batch that is over, as lines: of what was answered first, then of the rest."""

    def __init__(self, status: Status, *, whole: bool) -> None:
        """`whole`: each request was answered, so that nobody asks for the rest."""
        self._status = status
        self._whole = whole
        self._seen: set[bytes] = set()

    def answered(self, line: bytes) -> bytes:
        """Give the result of a line that a batch gave."""
        document = orjson.loads(line)
        custom_id, response = document["custom_id"], document["response"]
        if not self._whole:
            self._seen.add(_digest(custom_id))
        if response is None:
            kind = _AUTHENTICATION if document["error"]["code"] == "invalid_api_key" else _API
            return _errored(custom_id, kind, document["error"]["message"])
        if response["status_code"] < 300:
            return _line(custom_id, {"type": "succeeded", "message": response["body"]})
        body = response["body"]
        if not isinstance(body, dict) or body.get("type") != "error":
            return _errored(custom_id, _API, "the gateway gave no answer")
        return _line(custom_id, {"type": "errored", "error": body})

    def unanswered(self, line: bytes) -> bytes:
        """Give the result of a line of the input, b"" where it has one already."""
        request = read_line(line, 1, ENDPOINT)
        if not isinstance(request, LineRequest) or _digest(request.custom_id) in self._seen:
            return b""
        kind = _ENDED.get(self._status)
        if kind is None:
            return _errored(request.custom_id, _API, "the batch failed before this was asked")
        return _line(request.custom_id, {"type": kind})


def page(ids: Sequence[str], *, limit: int, after: str | None, before: str | None) -> tuple[Sequence[str], bool]:
    """Give the ids of one page of those, the newest first, and whether there are more in the direction of paging.

    An id that is none is at the end of the list.
    """
    if before is not None:
        end = ids.index(before) if before in ids else len(ids)
        return ids[max(0, end - limit) : end], end > limit
    begin = 0 if after is None else ids.index(after) + 1 if after in ids else len(ids)
    return ids[begin : begin + limit], begin + limit < len(ids)


def _errored(custom_id: str, kind: str, message: str) -> bytes:
    error = {"type": "error", "error": {"type": kind, "message": message}, "request_id": None}
    return _line(custom_id, {"type": "errored", "error": error})


def _line(custom_id: str, result: dict[str, Any]) -> bytes:
    return orjson.dumps({"custom_id": custom_id, "result": result}) + b"\n"


def _digest(custom_id: str) -> bytes:
    return blake2b(custom_id.encode(), digest_size=16).digest()


def _time(seconds: int | None) -> str | None:
    return None if seconds is None else datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def too_long(number: int, most_bytes: int) -> RequestTooLarge:
    """Say that a request is too large, by its place from 0."""
    at = f"{LIST}.{number}"
    return RequestTooLarge(f"`{at}` is larger than {most_bytes} bytes", param=at)


def _wrong(field: str, must: str) -> InvalidRequest:
    return InvalidRequest(f"`{field}` {must}", code="invalid_value", param=field)
