"""When is asked again what nobody waits for."""

import pytest

from capstan_gateway.headers import Header
from capstan_gateway.own_asks import MOST_FAILURES, Answer, retry_of

NO = (b"x-should-retry", b"false")


def again(status: int, *headers: Header, failures: int = 1, waits: int = 1, left: float = 1000.0) -> float | None:
    """Give the seconds until it is."""
    found = retry_of(Answer(status, headers, b""), failures=failures, waits=waits, left_seconds=left)
    return None if found is None else found.seconds


@pytest.mark.parametrize("status", [200, 201, 400, 401, 403, 404, 413, 501])
def test_an_answer_is_an_answer(status: int) -> None:
    """What is neither a failure of the server nor a matter of time is asked once."""
    assert again(status) is None


@pytest.mark.parametrize("status", [429, 503])
def test_room_is_waited_for(status: int) -> None:
    """As long as it is told, or doubled where nothing is, to the end of the batch and however often; not beyond."""
    assert again(status, (b"retry-after", b"7")) == 7
    assert [again(status, waits=times) for times in (1, 2, 3, 50)] == [0.5, 1, 2, 30]
    assert again(status, (b"retry-after", b"2000")) is None
    assert [again(status, (b"retry-after", said)) for said in (b"nan", b"soon", b"inf")] == [0.5, 0.5, None]
    assert again(status, (b"retry-after", b"7"), NO) == 7
    assert again(status, NO) is None


@pytest.mark.parametrize("status", [408, 500, 502, 504])
def test_failures_are_tried_a_few_times(status: int) -> None:
    """So many times, unless the server says that it is of no use, or the time does not last for it."""
    assert [again(status, failures=times) is not None for times in (1, 2, 3, 4)] == [True, True, True, False]
    assert MOST_FAILURES == 4
    assert again(status, NO) is None
    assert again(status, left=0.1) is None


def test_a_limit_is_the_whole_batch_s() -> None:
    """429 holds all lines, since all are of one tenant; 503 does not."""
    busy, full = (retry_of(Answer(status, (), b""), failures=0, waits=1, left_seconds=9) for status in (429, 503))
    assert busy is not None
    assert full is not None
    assert (busy.all_wait, full.all_wait) == (True, False)
