"""Ids of requests: the client's own where it is harmless, else one that nobody else has."""

import re

import pytest

from capstan_gateway.serving.request_ids import MAX_BYTES, RequestIds


def test_ids_are_numbered_behind_what_the_process_chose() -> None:
    """Each one is another, in order, and two processes have none in common."""
    ids, others = RequestIds(), RequestIds()
    first, second = ids.make(), ids.make()
    assert re.fullmatch(rb"req_[0-9a-f]{16}00000001", first)
    assert second == first[:-1] + b"2"
    assert first[:20] != others.make()[:20]


@pytest.mark.parametrize("own", [b"a", b"A-z_0.9:x", b"x" * MAX_BYTES])
def test_a_harmless_id_of_the_client_is_kept(own: bytes) -> None:
    """Letters, digits and a few marks, up to a bound: it is that by which the client finds its request."""
    assert RequestIds().accept(own) == own


@pytest.mark.parametrize("own", [b"", b"x" * (MAX_BYTES + 1), b"a b", b"a\n", b"\xe4", b'"', b"a/b", b"a{"])
def test_any_other_id_is_replaced(own: bytes) -> None:
    """It would be written into logs and headers: what is too long or may mean something there is not."""
    assert RequestIds().accept(own).startswith(b"req_")
