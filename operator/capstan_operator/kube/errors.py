"""What the API server answers, by what the caller can do.

KubeError                   status, reason and message of the answer
├── NotFound                404: the object is not there
├── UnknownResource         404 of the resource itself: the CRD is not installed
├── Conflict                409: a precondition (uid, resourceVersion) does not hold, or the namespace is going away
├── Invalid                 400, 422: the object itself is refused; also what a validating policy answers
├── Forbidden               403: RBAC, a quota or an admission plugin says no
├── Unauthorized            401, after the credentials were read afresh
├── Expired                 410: a continue token or a resourceVersion is too old
├── VersionTooNew           504 with that cause: a LIST asked for a version that the API server has not reached
└── Unavailable (Retryable) 429, 5xx, timeouts and broken connections, after the retries
"""

import re
from dataclasses import dataclass
from typing import Any, Final

from capstan_operator.errors import OperatorError, Retryable


class KubeError(OperatorError):
    """An answer of the API server that is not a success."""

    def __init__(self, message: str, *, status: int = 0, reason: str = "") -> None:
        super().__init__(message)
        self.status = status
        self.reason = reason


class NotFound(KubeError):
    """The object does not exist."""


class UnknownResource(KubeError):
    """The API server does not serve this resource."""


class Conflict(KubeError):
    """A precondition of the write does not hold."""


class Invalid(KubeError):
    """The API server refuses the object as it is."""


@dataclass(frozen=True)
class MissingRight:
    """A right that an account does not have."""

    verb: str
    resource: str
    """`deployments.apps`, `pods`, `llmmodels/status.capstan.dev`."""
    namespace: str
    """Empty: in the whole cluster."""

    def __str__(self) -> str:
        where = f"in the namespace '{self.namespace}'" if self.namespace else "in the cluster"
        return f"may not {self.verb} {self.resource} {where}"


class Forbidden(KubeError):
    """The operator may not do this, or a quota or an admission plugin refuses it."""

    @property
    def missing(self) -> MissingRight | None:
        """The right that is missing; None when something else than the lack of a right is the reason."""
        found = _RIGHT.search(str(self))
        if found is None:
            return None
        resource = found["resource"] + (f".{found['group']}" if found["group"] else "")
        return MissingRight(found["verb"], resource, found["namespace"] or "")


# NB: the Status has one reason for a right that is missing, a quota and an admission plugin; only its words differ.
_RIGHT: Final = re.compile(
    r'User "[^"]*" cannot (?P<verb>[a-z]+) resource "(?P<resource>[^"]+)" in API group "(?P<group>[^"]*)"'
    r' (?:in the namespace "(?P<namespace>[^"]+)"|at the cluster scope)'
)


class Unauthorized(KubeError):
    """The credentials are not accepted."""


class Expired(KubeError):
    """A continue token or resourceVersion is too old."""


class VersionTooNew(KubeError):
    """The API server has not reached this resourceVersion."""


class Unavailable(KubeError, Retryable):
    """The API server could not answer now."""

    def __init__(self, message: str, *, status: int = 0, reason: str = "", after: float | None = None) -> None:
        KubeError.__init__(self, message, status=status, reason=reason)
        self.after = after


_BY_STATUS: dict[int, type[KubeError]] = {
    400: Invalid,
    401: Unauthorized,
    403: Forbidden,
    405: UnknownResource,
    409: Conflict,
    410: Expired,
    413: Invalid,
    415: Invalid,
    422: Invalid,
}


def error_of(status: int, body: Any, *, what: str, after: float | None = None) -> KubeError:
    """Give the error for an answer; `body` is the parsed Status object when there was one.

    The message names the call and what the API server said: field paths and causes, never the object's content.
    """
    answer = body if isinstance(body, dict) else {}
    reason = str(answer.get("reason") or "")
    message = f"{what}: {answer.get('message') or f'HTTP {status}'}"
    if status == 504 and _is_version_too_new(answer):
        return VersionTooNew(message, status=status, reason=reason)
    if status == 429 or status >= 500:
        return Unavailable(message, status=status, reason=reason, after=after)
    if status == 404:
        # NB: a missing resource answers with a plain-text 404 or a Status without the name of an object.
        named = bool((answer.get("details") or {}).get("name"))
        return (NotFound if named else UnknownResource)(message, status=status, reason=reason)
    return _BY_STATUS.get(status, KubeError)(message, status=status, reason=reason)


def _is_version_too_new(answer: dict[str, Any]) -> bool:
    causes = (answer.get("details") or {}).get("causes") or ()
    return any(cause.get("reason") == "ResourceVersionTooLarge" for cause in causes)


def parse_retry_after(header: str | None, *, most: float = 60.0) -> float | None:
    """Read a Retry-After header in seconds, which is what the API server sends; None for anything else."""
    if header is None:
        return None
    try:
        seconds = float(header)
    except ValueError:
        return None
    return min(seconds, most) if seconds >= 0 else None
