"""What a failure means, by what the API server has answered."""

import logging

import pytest

from capstan_operator.errors import Retryable, Terminal
from capstan_operator.failures import report, sort_failure
from capstan_operator.kube.errors import Conflict, Expired, Forbidden, KubeError, NotFound, Unavailable, error_of
from capstan_operator.metrics import Metrics

ACCOUNT = "system:serviceaccount:capstan-system:capstan-operator"
IN_NAMESPACE = (
    f'deployments.apps "m-model" is forbidden: User "{ACCOUNT}" cannot patch resource "deployments"'
    ' in API group "apps" in the namespace "team-a"'
)
IN_CLUSTER = (
    f'llmmodels.capstan.dev is forbidden: User "{ACCOUNT}" cannot list resource "llmmodels"'
    ' in API group "capstan.dev" at the cluster scope'
)
CORE = f'secrets "s" is forbidden: User "{ACCOUNT}" cannot get resource "secrets" in API group "" in the namespace "a"'
QUOTA = 'pods "m" is forbidden: exceeded quota: gpus, requested: requests.nvidia.com/gpu=1, used: 8, limited: 8'


def answered(status: int, message: str) -> KubeError:
    """An answer of the API server."""
    return error_of(status, {"message": message, "reason": "Forbidden"}, what="apply deployments/m-model")


@pytest.mark.parametrize(
    ("message", "right"),
    [
        (IN_NAMESPACE, "may not patch deployments.apps in the namespace 'team-a'"),
        (IN_CLUSTER, "may not list llmmodels.capstan.dev in the cluster"),
        (CORE, "may not get secrets in the namespace 'a'"),
    ],
)
def test_a_missing_right_is_named(message: str, right: str) -> None:
    """The condition says which verb on which resource in which namespace is missing, and blames no bug."""
    failure = sort_failure(answered(403, message))
    assert failure.result == "forbidden"
    assert failure.outcome.failed
    assert failure.reason == "OperatorForbidden"
    assert failure.message.startswith(f"the operator {right}")
    assert ACCOUNT not in failure.message


def test_a_quota_is_no_missing_right() -> None:
    """What an admission plugin or a quota refuses is Forbidden, too, and giving rights would not help."""
    failure = sort_failure(answered(403, QUOTA))
    assert (failure.result, failure.reason) == ("refused", "ApplyRefused")
    assert "exceeded quota" in failure.message


@pytest.mark.parametrize(
    ("error", "result", "again", "reason"),
    [
        (Unavailable("overloaded", after=7.0), "retry", True, ""),
        (Retryable("not yet"), "retry", True, ""),
        (Conflict("changed"), "retry", True, ""),
        (Expired("old"), "retry", True, ""),
        (NotFound("gone"), "gone", False, ""),
        (Terminal("TooLarge", "too large"), "terminal", False, ""),
        (answered(401, "who are you"), "refused", True, "ApplyRefused"),
        (answered(422, "spec.x: unknown"), "refused", True, "ApplyRefused"),
        (answered(405, "no such thing"), "refused", True, "ApplyRefused"),
        (ZeroDivisionError("x"), "bug", True, "InternalError"),
    ],
)
def test_only_what_is_nobodys_fault_but_ours_is_a_bug(error: Exception, result: str, again: bool, reason: str) -> None:
    """Each kind of failure has one result, and no answer of the API server is a bug of the operator."""
    failure = sort_failure(error)
    assert (failure.result, failure.outcome.failed, failure.reason) == (result, again, reason)
    assert failure.outcome.after == getattr(error, "after", None)


def test_a_missing_right_is_logged_and_counted_without_a_traceback(caplog: pytest.LogCaptureFixture) -> None:
    """The log line has verb, resource and namespace as fields; a bug's has its traceback."""
    metrics, log = Metrics(), logging.getLogger("test")
    error = answered(403, IN_NAMESPACE)
    assert isinstance(error, Forbidden)
    report(error, log=log, metrics=metrics, model="team-a/m")
    record = caplog.records[-1]
    assert (record.verb, record.resource, record.namespace) == ("patch", "deployments.apps", "team-a")  # type: ignore[attr-defined]
    assert record.exc_info is None
    assert b'capstan_operator_forbidden_total{resource="deployments.apps",verb="patch"} 1.0' in metrics.render()
    report(ZeroDivisionError(), log=log, metrics=metrics, model="team-a/m")
    assert caplog.records[-1].exc_info
