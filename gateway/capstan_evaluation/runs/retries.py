"""Which failures are worth another try, and when. Pure."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

MOST_TRIES: Final = 5
LONGEST_WAIT_SECONDS: Final = 60.0
FIRST_WAIT_SECONDS: Final = 0.5
LATER: Final = (429, 503)
UNREACHED: Final = frozenset({"connection_failed", "connection_lost", "timeout", "tls_failed"})
"""Codes of who was not there, rather than there and failing."""
_SERVER: Final = 500
_SLOW: Final = 408


@dataclass(frozen=True)
class Failure:
    """One try that gave no answer."""

    code: str
    status: int = 0
    """0: there was none."""
    sent: bool = True
    """Whether the request may have reached the server, and may have been paid for."""
    retryable: bool = False
    after: float | None = None
    """Seconds, as the server asks."""

    @property
    def transient(self) -> bool:
        """Whether it says nothing of what was asked, so that whoever goes on with a run asks again."""
        return not self.status or self.status >= _SERVER or self.status in (_SLOW, *LATER)

    @property
    def in_doubt(self) -> bool:
        """Whether nobody knows what the try took. A refusal with a status has taken nothing."""
        return self.sent and not 400 <= self.status < _SERVER and self.status not in LATER


def refusal(status: int, code: str, headers: Mapping[str, str]) -> Failure:
    """Read what an answer with a status of 400 or more says of another try."""
    stays = headers.get("x-should-retry", "").lower() == "false"
    return Failure(code, status, retryable=status in LATER and not stays, after=retry_after(headers))


def retry_after(headers: Mapping[str, str]) -> float | None:
    """Give what `retry-after-ms` or `retry-after` say in seconds; None where they say no number."""
    for name, unit in (("retry-after-ms", 1000.0), ("retry-after", 1.0)):
        value = headers.get(name, "").strip()
        if value.isascii() and value.isdigit() and len(value) < 10:
            return int(value) / unit
    return None


def decide_wait(failure: Failure, tries: int, draw: float) -> float | None:
    """Give the seconds to wait before the next try, after so many; None: it is given up.

    What the server asks is waited for, and a little more, so that those who were sent away together do not come back
    together; what is longer than LONGEST_WAIT_SECONDS is not waited for. `draw` is a random number from 0 to 1.
    """
    if not failure.retryable or tries >= MOST_TRIES:
        return None
    if failure.after is not None:
        return None if failure.after > LONGEST_WAIT_SECONDS else failure.after * (1 + draw / 10)
    return min(LONGEST_WAIT_SECONDS, FIRST_WAIT_SECONDS * 2.0 ** (tries - 1)) * (0.5 + draw / 2)
