"""What a batch answers to one line, and which lines are done. Pure."""

from collections.abc import Sequence
from math import isnan
from typing import Final, NamedTuple

import orjson

from capstan_gateway.headers import Header, find_header
from capstan_gateway.life.pauses import doubled

OUTPUT: Final = "o"
ERROR: Final = "e"
EXPIRED: Final = "batch_expired"
EXPIRED_MESSAGE: Final = "This request could not be executed before the completion window expired."
KEY_GONE: Final = "invalid_api_key"
KEY_GONE_MESSAGE: Final = "The API key that created this batch is not valid any more."
MOST_FAILURES: Final = 4
"""How often a line is asked whose answers are failures of the server."""
_WAITED: Final = frozenset((429, 503))
_RETRIED: Final = frozenset((408, 500, 502, 504))
_ONE_LINE: Final = bytes.maketrans(b"\r\n", b"  ")


class Answer(NamedTuple):
    """What the gateway answers to the request of one line."""

    status: int
    headers: Sequence[Header]
    body: bytes


class Retry(NamedTuple):
    """A line is asked once more."""

    seconds: float
    """After so long."""
    all_wait: bool
    """Whether that is so for all lines of its batch."""


def retry_of(answer: Answer, *, failures: int, waits: int, left_seconds: float) -> Retry | None:
    """Say when a line is asked once more that was answered so; None: that is its answer.

    `failures` and `waits` are how often it has failed, and how often it was to wait, this answer included. Limits and
    models without room (429, 503) are waited for as long as the batch has time (`left_seconds`), unless they end later
    than that; other failures of the server a few times.
    """
    if answer.status in _WAITED:
        told = _retry_after(answer.headers)
        seconds = _doubled(waits) if told is None else max(told, 0.05)
        # An SDK that is told not to try again has nobody waiting as long as this; what is told is when that would help.
        final = told is None and _says_no(answer.headers)
        return None if final or seconds > left_seconds else Retry(seconds, all_wait=answer.status == 429)
    if answer.status in _RETRIED and failures < MOST_FAILURES and not _says_no(answer.headers):
        seconds = _doubled(failures)
        return None if seconds > left_seconds else Retry(seconds, all_wait=False)
    return None


def line_of_answer(line_id: str, custom_id: str, answer: Answer) -> tuple[str, bytes]:
    """Write an answer as a line; give which file it is for with it."""
    request_id = find_header(answer.headers, b"x-request-id").decode("latin-1")
    response = {"status_code": answer.status, "request_id": request_id, "body": _document(answer.body)}
    line = {"id": line_id, "custom_id": custom_id, "response": response, "error": None}
    return OUTPUT if answer.status < 300 else ERROR, orjson.dumps(line) + b"\n"


def line_of_error(line_id: str, custom_id: str, code: str, message: str) -> bytes:
    """Write the line of a request that was not asked."""
    error = {"code": code, "message": message}
    return orjson.dumps({"id": line_id, "custom_id": custom_id, "response": None, "error": error}) + b"\n"


class Done:
    """Which lines are done: a bit each, by their numbers from 1."""

    __slots__ = ("_bits",)

    def __init__(self, written: bytes = b"") -> None:
        self._bits = bytearray(written)

    def __contains__(self, number: int) -> bool:
        return number >> 3 < len(self._bits) and bool(self._bits[number >> 3] & 1 << (number & 7))

    def add(self, number: int) -> None:
        """This one is."""
        missing = (number >> 3) + 1 - len(self._bits)
        if missing > 0:
            self._bits += bytes(missing)
        self._bits[number >> 3] |= 1 << (number & 7)

    def written(self) -> bytes:
        """Give them as they are kept."""
        return bytes(self._bits)


def result_field(number: int, kind: str) -> str:
    """Give the field that a line's answer is kept under until it is in an object."""
    return f"{number}{kind}"


def read_result_field(field: bytes) -> tuple[int, str]:
    """Read it."""
    text = field.decode("ascii")
    return int(text[:-1]), text[-1]


def _document(body: bytes) -> object:
    try:
        orjson.loads(body)
    except orjson.JSONDecodeError:
        return body.decode("utf-8", "replace")
    # NB: a line of an answer would be one of the file. In JSON these are never in a text, only between its parts.
    return orjson.Fragment(body.translate(_ONE_LINE))


def _retry_after(headers: Sequence[Header]) -> float | None:
    for name, value in headers:
        if name == b"retry-after":
            try:
                seconds = float(value)
            except ValueError:
                return None
            return None if isnan(seconds) else seconds
    return None


def _says_no(headers: Sequence[Header]) -> bool:
    return find_header(headers, b"x-should-retry") == b"false"


def _doubled(times: int) -> float:
    return doubled(0.5, 30.0, max(times - 1, 0))
