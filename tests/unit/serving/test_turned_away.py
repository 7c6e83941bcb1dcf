"""Requests that are refused before anybody serves them: their id, their line in the log, their count."""

from typing import Any

import pytest

from capstan_gateway.errors import GatewayError, HeadersTooLarge, InvalidRequest, Overloaded
from capstan_gateway.serving.turned_away import MAX_ROUTE, Reason, TurnedAway
from support.serving import FixedIds


@pytest.mark.parametrize(
    ("error", "reason"),
    [(HeadersTooLarge("x"), "head"), (Overloaded(), "memory"), (InvalidRequest("x"), "malformed")],
)
def test_why_a_head_was_refused(error: GatewayError, reason: str) -> None:
    """By what was wrong with it: too large, no room for it, or no request at all."""
    assert Reason.of(error) == reason


def test_a_refusal_is_counted_and_written() -> None:
    """With its id, what the client was told and why, and the route where it is known, of which a part is enough."""
    counted: list[str] = []
    lines: list[dict[str, Any]] = []
    away = TurnedAway(FixedIds(), count=counted.append, write=lines.append)
    away.note(Reason.METHOD, InvalidRequest("x"), b"req_1", "/" + "x" * 500)
    away.note(Reason.MEMORY, Overloaded(), b"req_2")
    assert counted == ["method", "memory"]
    assert lines == [
        {
            "request_id": "req_1", "route": "/" + "x" * (MAX_ROUTE - 1), "status": 400,
            "error": "invalid_request_error", "refused": "method",
        },
        {"request_id": "req_2", "status": 503, "error": "overloaded", "refused": "memory"},
    ]  # fmt: skip


def test_the_id_is_the_client_s_own_where_it_gave_one() -> None:
    """Or a fresh one where it did not, or could do harm with it; nothing fails where nobody wants to know."""
    away = TurnedAway(FixedIds())
    assert away.request_id([(b"a", b"b"), (b"x-request-id", b"mine")]) == b"mine"
    assert away.request_id([(b"x-request-id", b"not mine")]) == b"req_test"
    assert away.request_id([]) == b"req_test"
    away.note(Reason.CONNECTIONS, Overloaded(), b"req_1")
    assert TurnedAway().request_id([]).startswith(b"req_")
