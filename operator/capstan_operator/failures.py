"""What every failure of a piece of work means, in one place: how it is counted, said, shown, and when to try again.

    result     what                                                          again        shown on the model
    retry      it may pass by itself: overload, a conflict, a broken call     backs off
    gone       the object, or its namespace, went away                        no
    terminal   useless until something changes                                no
    forbidden  the operator lacks a right                                     backs off    OperatorForbidden
    refused    the API server, a quota or an admission plugin says no         backs off    ApplyRefused
    bug        anything else: with its traceback                              backs off    InternalError

A missing right is a fault of the installation, not of the code: it is said as what it is, with verb, resource and
namespace, and without a traceback.
"""

import logging
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from capstan_operator.errors import Retryable, Terminal
from capstan_operator.kube.errors import Conflict, Expired, Forbidden, KubeError, NotFound
from capstan_operator.loop.workqueue import DONE, Outcome
from capstan_operator.metrics import Metrics

MOST_TEXT: Final = 1000
INTERNAL_ERROR: Final = "InternalError"
OPERATOR_FORBIDDEN: Final = "OperatorForbidden"
APPLY_REFUSED: Final = "ApplyRefused"


@dataclass(frozen=True)
class Failure:
    """What to make of an exception."""

    result: str
    outcome: Outcome
    said: str
    """The constant log message."""
    level: int = logging.WARNING
    reason: str = ""
    """Reason of the condition on the model; empty: its conditions stay as they are."""
    message: str = ""
    """Message of that condition."""
    fields: Mapping[str, Any] = field(default_factory=dict)


def sort_failure(error: Exception) -> Failure:
    """Say what an exception means. Pure."""
    text = (str(error) or type(error).__name__)[:MOST_TEXT]
    again = Outcome(failed=True, after=getattr(error, "after", None))
    match error:
        case NotFound():
            return Failure("gone", DONE, "object went away", level=logging.INFO, fields={"error": text})
        case Terminal():
            fields = {"reason": error.reason, "error": text}
            return Failure("terminal", DONE, "cannot reconcile", level=logging.ERROR, fields=fields)
        case Forbidden(missing=right) if right is not None:
            fields = {"verb": right.verb, "resource": right.resource, "namespace": right.namespace}
            message = forbidden_message(error)
            return Failure(
                "forbidden", again, "the operator lacks a right", logging.ERROR, OPERATOR_FORBIDDEN, message, fields
            )
        case Retryable() | Conflict() | Expired():
            return Failure("retry", again, "will try again", fields={"error": text})
        case KubeError():
            return Failure("refused", again, "was refused", logging.WARNING, APPLY_REFUSED, text, {"error": text})
        case _:
            message = "the operator failed on this object; its log has the details"
            return Failure("bug", again, "failed", logging.ERROR, INTERNAL_ERROR, message)


def forbidden_message(error: Forbidden) -> str:
    """Say for a condition which right is missing; what the API server said when it is not a right."""
    if error.missing is None:
        return str(error)[:MOST_TEXT]
    return f"the operator {error.missing}; docs/operator.md lists what it needs"


def report(error: Exception, *, log: logging.Logger, metrics: Metrics, **about: str) -> Failure:
    """Log and count a failure; give what it means. `about` says what was worked on."""
    failure = sort_failure(error)
    traceback = error if failure.result == "bug" else None
    log.log(failure.level, failure.said, extra={**failure.fields, **about}, exc_info=traceback)
    if isinstance(error, Forbidden) and error.missing is not None:
        metrics.missing_rights.labels(error.missing.verb, error.missing.resource).inc()
    return failure
