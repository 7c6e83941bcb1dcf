"""What the answers of an API server mean."""

from typing import Any

import pytest

from capstan_operator.errors import Retryable
from capstan_operator.kube.errors import (
    Conflict,
    Expired,
    Forbidden,
    Invalid,
    KubeError,
    MissingRight,
    NotFound,
    Unauthorized,
    Unavailable,
    UnknownResource,
    VersionTooNew,
    error_of,
    parse_retry_after,
)


@pytest.mark.parametrize(
    ("header", "seconds"),
    [(None, None), ("3", 3.0), ("0", 0.0), ("-1", None), ("soon", None), ("60", 60.0), ("9999", 60.0)],
)
def test_retry_after_is_read_and_bounded(header: str | None, seconds: float | None) -> None:
    """A number of seconds counts, up to a bound; anything else is as if it were absent."""
    assert parse_retry_after(header) == seconds


@pytest.mark.parametrize(
    ("status", "body", "kind"),
    [
        (404, {"details": {"name": "x"}}, NotFound),
        (404, {"details": {}}, UnknownResource),
        (404, None, UnknownResource),
        (403, {}, Forbidden),
        (409, {}, Conflict),
        (400, {}, Invalid),
        (401, {}, Unauthorized),
        (405, {}, UnknownResource),
        (410, {}, Expired),
        (413, {}, Invalid),
        (415, {}, Invalid),
        (422, {}, Invalid),
        (418, {}, KubeError),
        (429, {}, Unavailable),
        (500, None, Unavailable),
        (503, {}, Unavailable),
        (504, {}, Unavailable),
        (504, {"details": {"causes": [{"reason": "Other"}, {"reason": "ResourceVersionTooLarge"}]}}, VersionTooNew),
        (503, {"details": {"causes": [{"reason": "ResourceVersionTooLarge"}]}}, Unavailable),
        (500, "not a Status", Unavailable),
    ],
)
def test_answers_become_the_error_that_the_caller_acts_on(status: int, body: Any, kind: type[Exception]) -> None:
    """Each status has one meaning, and only what may pass by itself is retryable."""
    error = error_of(status, body, what="get x", after=2.0)
    assert type(error) is kind
    assert isinstance(error, Retryable) is (kind is Unavailable)


@pytest.mark.parametrize("status", [403, 404, 418, 429, 503])
def test_an_error_names_the_call_and_what_the_api_server_said(status: int) -> None:
    """Its status and reason are kept for those who look closer, and Retry-After where it means something."""
    body = {"reason": "Because", "message": "it does not please", "details": {"name": "x"}}
    error = error_of(status, body, what="apply x", after=2.0)
    assert (str(error), error.status, error.reason) == ("apply x: it does not please", status, "Because")
    assert getattr(error, "after", 2.0) == 2.0


def test_a_version_that_is_too_new_says_so() -> None:
    """With all that the answer said."""
    causes = {"causes": [{"reason": "ResourceVersionTooLarge"}]}
    error = error_of(504, {"reason": "Timeout", "message": "too large", "details": causes}, what="list pods")
    assert (type(error), str(error), error.status, error.reason) == (
        VersionTooNew, "list pods: too large", 504, "Timeout",
    )  # fmt: skip


def test_an_answer_without_words_is_told_by_its_status() -> None:
    """A proxy in between answers with a page of its own."""
    error = error_of(502, None, what="list pods")
    assert (str(error), error.reason, getattr(error, "after", 0)) == ("list pods: HTTP 502", "", None)


@pytest.mark.parametrize(
    ("says", "missing"),
    [
        (
            'pods is forbidden: User "system:serviceaccount:ns:op" cannot list resource "pods" in API group ""'
            ' in the namespace "team"',
            MissingRight("list", "pods", "team"),
        ),
        (
            'nodes is forbidden: User "op" cannot get resource "nodes" in API group "" at the cluster scope',
            MissingRight("get", "nodes", ""),
        ),
        (
            'x is forbidden: User "op" cannot patch resource "llmmodels/status" in API group "capstan.dev"'
            ' in the namespace "team"',
            MissingRight("patch", "llmmodels/status.capstan.dev", "team"),
        ),
        ('pods "x" is forbidden: exceeded quota: gpus', None),
    ],
)
def test_a_missing_right_is_told_from_other_refusals(says: str, missing: MissingRight | None) -> None:
    """Verb, resource with its group, and namespace; a quota is no missing right."""
    error = error_of(403, {"message": says}, what="call")
    assert isinstance(error, Forbidden)
    assert error.missing == missing


def test_a_missing_right_is_said_with_its_place() -> None:
    """In a namespace, or in the cluster."""
    assert str(MissingRight("list", "pods", "team")) == "may not list pods in the namespace 'team'"
    assert str(MissingRight("get", "nodes", "")) == "may not get nodes in the cluster"


@pytest.mark.parametrize("kind", [KubeError, Unavailable])
def test_an_error_without_an_answer_has_neither_status_nor_reason(kind: type[KubeError]) -> None:
    """A connection that broke said nothing."""
    error = kind("the connection broke")
    assert (error.status, error.reason, getattr(error, "after", None)) == (0, "", None)
