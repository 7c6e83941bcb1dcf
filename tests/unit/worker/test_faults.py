"""Faults: how they are written and whom they strike."""

import pytest

from capstan_worker.errors import UsageError
from capstan_worker.simulator.faults import FaultBook, parse_fault


def test_a_fault_has_parameters():
    """What is written after the name is read as numbers."""
    fault = parse_fault("429;retry-after=2.5;first=3;skip=1")
    assert (fault.name, fault.params, fault.first, fault.skip) == ("429", {"retry-after": 2.5}, 3, 1)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("explode", "known are"),
        ("die;before=3", "it has after, first, probability, skip"),
        ("die;after=soon", "must be a number"),
        ("die;probability=2", "from 0 to 1"),
        ("die;after=-1", "0 or more"),
        ("die;after=nan", "0 or more"),
    ],
)
def test_a_wrong_fault_says_what_is_allowed(text: str, says: str):
    """A fault that cannot be used is refused with what could be."""
    with pytest.raises(UsageError, match=says):
        parse_fault(text)


def test_first_and_skip_choose_requests():
    """`skip` lets requests through before, `first` after."""
    book = FaultBook([parse_fault("500;skip=1;first=2")])
    assert [fault is not None for fault in (book.choose() for _ in range(5))] == [False, True, True, False, False]


def test_the_first_fault_wins_and_all_count():
    """Of several faults the first that strikes is taken, and the others count the request too."""
    book = FaultBook([parse_fault("500;first=1"), parse_fault("503;first=2")])
    names = [fault.name if fault else None for fault in (book.choose() for _ in range(3))]
    assert names == ["500", "503", None]


def test_a_probability_is_drawn_from_the_seed():
    """Two books with one seed strike the same requests, some and not all."""
    draws = [
        [book.choose() is not None for _ in range(200)]
        for book in (FaultBook([parse_fault("500;probability=0.3")], seed=4) for _ in range(2))
    ]
    assert draws[0] == draws[1]
    assert 20 < sum(draws[0]) < 120
