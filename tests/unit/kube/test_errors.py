"""What the answers of an API server mean."""

from typing import Any

import pytest

from capstan_operator.errors import Retryable
from capstan_operator.kube.errors import (
    Conflict,
    Forbidden,
    Invalid,
    NotFound,
    Unavailable,
    UnknownResource,
    error_of,
    parse_retry_after,
)


@pytest.mark.parametrize(
    ("header", "seconds"), [(None, None), ("3", 3.0), ("-1", None), ("soon", None), ("9999", 60.0)]
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
        (422, {}, Invalid),
        (429, {}, Unavailable),
        (500, None, Unavailable),
        (503, {}, Unavailable),
    ],
)
def test_answers_become_the_error_that_the_caller_acts_on(status: int, body: Any, kind: type[Exception]) -> None:
    """Each status has one meaning, and only what may pass by itself is retryable."""
    error = error_of(status, body, what="get x", after=2.0)
    assert type(error) is kind
    assert isinstance(error, Retryable) is (kind is Unavailable)
