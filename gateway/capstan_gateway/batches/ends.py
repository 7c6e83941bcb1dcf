"""How a batch ends before all of its lines are done. Pure."""

from typing import Final, NamedTuple

from capstan_gateway.batches.results import EXPIRED, EXPIRED_MESSAGE, KEY_GONE, KEY_GONE_MESSAGE
from capstan_gateway.batches.status import Status


class End(NamedTuple):
    """How a batch ends before all of its lines are done."""

    status: Status
    code: str = ""
    message: str = ""
    rest: bool = False
    """Whether the lines that are not done get an error of their own."""


CANCELLED: Final = End(Status.CANCELLED)
OVER: Final = End(Status.EXPIRED, EXPIRED, EXPIRED_MESSAGE, rest=True)
NO_KEY: Final = End(Status.FAILED, KEY_GONE, KEY_GONE_MESSAGE, rest=True)
NO_INPUT: Final = End(Status.FAILED, "input_file_not_found", "The input file was deleted, or has expired.")
TOO_LONG: Final = End(Status.FAILED, "line_too_long", "A line is longer than a request may be by now.")
ABANDONED: Final = End(Status.FAILED, "batch_abandoned", "The gateway failed again and again at this batch.", rest=True)
