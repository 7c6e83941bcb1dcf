"""When a file ends, as clients say it (`expires_after`), and what is said where there are no files. Pure."""

from typing import Any, Final

from capstan_gateway.batches.files import LEAST_SECONDS, MOST_SECONDS
from capstan_gateway.errors import NO_RETRY, GatewayError, InvalidRequest

ANCHOR: Final = "created_at"


class FilesOff(GatewayError):
    """There are neither files nor batches."""

    status = 501
    code = "not_configured"

    def __init__(self) -> None:
        super().__init__(
            "files and batches are not on at this gateway: it needs --files-url and --redis-url", headers=(NO_RETRY,)
        )


def read_expiry(said: Any, param: str) -> int | None:
    """Read `{"anchor": "created_at", "seconds": 3600}`, also with the seconds as a text; None where nothing is said.

    Raises InvalidRequest.
    """
    if said is None:
        return None
    if not isinstance(said, dict) or said.get("anchor") != ANCHOR or set(said) != {"anchor", "seconds"}:
        raise InvalidRequest(
            f"`{param}` must have `anchor`, which is {ANCHOR}, and `seconds`", code="invalid_value", param=param
        )
    seconds = said["seconds"]
    if isinstance(seconds, str) and seconds.isascii() and seconds.isdigit() and len(seconds) < 10:
        seconds = int(seconds)
    if isinstance(seconds, bool) or not isinstance(seconds, int) or not LEAST_SECONDS <= seconds <= MOST_SECONDS:
        raise InvalidRequest(
            f"`{param}.seconds` must be a whole number from {LEAST_SECONDS} to {MOST_SECONDS}",
            code="invalid_value", param=f"{param}.seconds",
        )  # fmt: skip
    return seconds
