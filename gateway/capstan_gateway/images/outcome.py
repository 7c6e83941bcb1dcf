"""What comes of an image that is to be fetched, and what its request is told when that is no image."""

from dataclasses import dataclass
from typing import Final

from capstan_gateway.errors import GatewayError, ImageUnavailable, InvalidRequest, Overloaded, RequestTooLarge

WRONG: Final = 400
TOO_LARGE: Final = 413
UNREACHABLE: Final = 502
NO_ROOM: Final = 503
LATE: Final = 504


@dataclass(frozen=True, slots=True)
class Failure:
    """Why there is no image. The reason holds no URL."""

    status: int
    """400, 413: the same URL fails again. 502, 504: its host may do better later. 503: so may this gateway."""
    why: str

    def error(self, what: str) -> GatewayError:
        """Give the error for the client: a new one each time, as each holds the frames that it was raised in.

        `what` is the path of the field where the client wrote it, else words for the image.
        """
        param = what if " " not in what else None
        message = f"`{what}` {self.why}" if param else f"{what} {self.why}"
        if self.status == NO_ROOM:
            return Overloaded(message)
        if self.status in (UNREACHABLE, LATE):
            return ImageUnavailable(message, status=self.status, param=param)
        if self.status == TOO_LARGE:
            return RequestTooLarge(message, param=param)
        return InvalidRequest(message, code="invalid_value", param=param)


Outcome = str | Failure
"""The data URL of an image, or why there is none."""
