"""Why a request could not be dispatched.

    RoutingError
    ├── NoEndpoint        none became available in the time allowed: 503 with Retry-After
    │   └── CannotStart   none is expected, and why: the same, at once
    ├── NoCredential      no endpoint of a hosted model has its key: 502
    ├── TooManyWaiting    enough requests wait for this model already: 429 with Retry-After, at once
    └── QueueRefused      as many as may wait in its queue, or longer than it has time for: the same

    UpstreamError (upstream.errors)
    └── KeyMissing        nothing was sent: this endpoint of a hosted model has no key; the next one may have

When an endpoint was called and failed, the last `upstream.errors.UpstreamError` is raised as it is: 502, or 504 for
DeadlineExceeded.
"""

from typing import Final

from capstan_contract.config import StartFailure
from capstan_gateway.upstream.errors import UpstreamError

START_RETRY_SECONDS: Final = 30.0
"""When it is worth asking again for a model that does not come up: mostly a person, or another model, has to act."""


class RoutingError(Exception):
    """The request was given to no endpoint."""

    def __init__(self, message: str, *, retry_after: float) -> None:
        super().__init__(message)
        self.retry_after = retry_after
        """Seconds after which it is worth trying again."""


class NoEndpoint(RoutingError):
    """No endpoint was available before the wait was over."""


class CannotStart(NoEndpoint):
    """No replica of the model comes up, as the operator has found: to wait for one is of no use."""

    def __init__(self, failure: StartFailure) -> None:
        super().__init__(f"no replica comes up: {failure.reason}", retry_after=START_RETRY_SECONDS)
        self.failure = failure


class NoCredential(RoutingError):
    """The gateway has no key for any endpoint of the hosted model."""


class KeyMissing(UpstreamError):
    """The gateway has no key for this endpoint, so nothing was sent: safe to repeat elsewhere."""

    sent = False


class TooManyWaiting(RoutingError):
    """As many requests as allowed wait for an endpoint of this model."""


class QueueRefused(RoutingError):
    """The queue of this model does not take it now."""

    def __init__(self, message: str, *, retry_after: float, full: bool) -> None:
        super().__init__(message, retry_after=retry_after)
        self.full = full
        """Whether as much waits as may; else it would wait too long."""
