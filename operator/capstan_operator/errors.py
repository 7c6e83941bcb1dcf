"""What can go wrong in the operator, by what the loop does about it.

    OperatorError
    ├── Retryable           try the key again: after `after` seconds, or by the key's own backoff
    ├── Terminal            trying again is useless until something changes; goes into a condition
    └── LeaseLost           another process may be working: end this one

Anything else that a reconcile raises is a bug: it is logged with its traceback and the key backs off.
"""


class OperatorError(Exception):
    """Every error that the operator raises on purpose."""


class Retryable(OperatorError):
    """The same work may succeed later."""

    def __init__(self, message: str, *, after: float | None = None) -> None:
        super().__init__(message)
        self.after = after
        """Seconds to wait as the other side asked for; None: the key's own backoff."""


class Terminal(OperatorError):
    """The work cannot succeed until a person, or another object, changes something."""

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason
        """CamelCase, fit for a condition."""


class LeaseLost(OperatorError):
    """The lease was not renewed in time, or someone else holds it."""
