"""Which requests a revision gets that is tried: exactly its share, always the same ones, and more with more weight."""

from hypothesis import given
from hypothesis import strategies as st

from capstan_gateway.selection.shares import PLACES, STRIDE, Turns, is_canarys, place_of, places_of

WEIGHTS = st.floats(0, 100)
KEYS = st.binary(min_size=1, max_size=32)
EPOCHS = st.from_regex(r"[a-z0-9-]{1,20}", fullmatch=True)
MOST_OFF = 5
"""Requests that a share of any run of requests may be off by."""


@given(KEYS, EPOCHS, WEIGHTS, WEIGHTS)
def test_with_more_weight_users_only_come(key: bytes, epoch: str, one: float, other: float) -> None:
    """Who is with the canary at a weight is with it at each larger one, with nobody at 0 and everybody at 100."""
    less, more = sorted((one, other))
    place = place_of(key, epoch=epoch)
    assert is_canarys(place, places_of(more)) or not is_canarys(place, places_of(less))
    assert not is_canarys(place, places_of(0))
    assert is_canarys(place, places_of(100))


@given(st.integers(0, PLACES))
def test_a_weight_is_just_so_many_places(hundredths: int) -> None:
    """Each hundredth of a percent is one place of 10,000."""
    places = places_of(hundredths / 100)
    assert sum(is_canarys(place, places) for place in range(PLACES)) == hundredths


def test_a_users_place_is_the_same_in_every_replica_and_release() -> None:
    """It follows from the key and the try alone: with other numbers an update would move users."""
    assert place_of(b"user-1", epoch="r2-1") == 9973
    assert place_of(b"user-1", epoch="r3-1") == 9680
    assert place_of(b"user-2", epoch="r2-1") == 8429


def test_users_are_drawn_as_the_weight_says() -> None:
    """Of 100,000 users the share lies within five standard deviations of the binomial law, for each weight."""
    places = [place_of(b"user %d" % number, epoch="e") for number in range(100_000)]
    for weight in (0.5, 1, 5, 10, 25, 50, 90):
        drawn, share = sum(is_canarys(place, places_of(weight)) for place in places), weight / 100
        assert abs(drawn - 100_000 * share) < 5 * (100_000 * share * (1 - share)) ** 0.5


@given(st.integers(0, PLACES), WEIGHTS, st.integers(1, 3000), st.integers(0, 3000))
def test_the_share_of_any_run_of_requests_is_that_of_the_weight(
    start: int, weight: float, length: int, skipped: int
) -> None:
    """Requests of nobody in particular are spread evenly: in each run of them, from wherever it begins."""
    turns = Turns(start)
    for _ in range(skipped):
        turns.next()
    drawn = sum(is_canarys(turns.next(), places_of(weight)) for _ in range(length))
    assert abs(drawn - length * places_of(weight) / PLACES) <= MOST_OFF


def test_each_place_is_taken_once_in_so_many_requests() -> None:
    """The stride visits all places: over PLACES requests the share is exact."""
    turns = Turns()
    assert {turns.next() for _ in range(PLACES)} == set(range(PLACES))
    assert 0 < STRIDE < PLACES
