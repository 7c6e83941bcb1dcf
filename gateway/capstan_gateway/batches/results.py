"""What a batch answers to one line, and which lines are done. Pure."""

from typing import Final

import orjson

from capstan_gateway.headers import find_header
from capstan_gateway.own_asks import Answer

OUTPUT: Final = "o"
ERROR: Final = "e"
EXPIRED: Final = "batch_expired"
EXPIRED_MESSAGE: Final = "This request could not be executed before the completion window expired."
KEY_GONE: Final = "invalid_api_key"
KEY_GONE_MESSAGE: Final = "The API key that created this batch is not valid any more."
_ONE_LINE: Final = bytes.maketrans(b"\r\n", b"  ")


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
