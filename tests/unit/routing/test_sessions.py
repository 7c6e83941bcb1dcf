"""Which endpoint has a conversation: the one that answered it last, as long as it is there and remembers it."""

from random import Random

from hypothesis import given
from hypothesis import strategies as st

from capstan_gateway.routing.picker import pick
from capstan_gateway.routing.registry import EndpointState
from capstan_gateway.routing.sessions import Sessions
from capstan_gateway.upstream.port import Endpoint

RNG = Random(1)  # noqa: S311 - a choice of endpoints


def states(count: int) -> list[EndpointState]:
    """Give so many endpoints."""
    return [EndpointState(Endpoint(id=str(number), host="h", port=1)) for number in range(count)]


def test_the_next_turn_goes_where_the_last_one_was_answered() -> None:
    """Also where the key hashes to another endpoint."""
    found = states(4)
    for holder in found:
        chosen = pick(found, 0.0, RNG, affinity=b"k" * 8, holder=holder.endpoint.id)
        assert chosen is holder


def test_a_holder_that_is_overloaded_or_gone_is_left_for_another() -> None:
    """A full replica keeps nobody waiting, and one that is not there nobody at all."""
    found = states(3)
    found[0].in_flight = 50
    hashed = pick(found[1:], 0.0, RNG, affinity=b"k" * 8)
    assert pick(found, 0.0, RNG, affinity=b"k" * 8, holder="0") in found[1:]
    assert pick(found[1:], 0.0, RNG, affinity=b"k" * 8, holder="0") is hashed


def test_what_an_endpoint_held_goes_with_it() -> None:
    """Nothing is remembered of endpoints that are gone."""
    sessions = Sessions()
    sessions.note(b"a", "1", 10)
    sessions.note(b"b", "2", 10)
    sessions.retain(frozenset(("2",)))
    assert (sessions.holder(b"a"), sessions.holder(b"b"), sessions.tokens("1")) == (None, "2", 0)


def test_those_asked_for_longest_ago_are_forgotten_first() -> None:
    """By tokens, and for each endpoint apart: what another one holds does not go for it."""
    sessions = Sessions(most_tokens=100)
    sessions.note(b"other", "2", 90)
    for key in (b"a", b"b", b"c"):
        sessions.note(key, "1", 30)
    sessions.note(b"a", "1", 40)
    sessions.note(b"d", "1", 30)
    assert [sessions.holder(key) for key in (b"a", b"b", b"c", b"d", b"other")] == ["1", None, "1", "1", "2"]
    assert sessions.tokens("1") == 100


@given(st.lists(st.tuples(st.integers(0, 9), st.integers(0, 3), st.integers(0, 150)), max_size=60))
def test_what_is_counted_is_what_is_held_and_never_more_than_the_bound(turns: list[tuple[int, int, int]]) -> None:
    """Whatever turns come: the newest of a conversation counts, and no endpoint holds too much."""
    sessions = Sessions(most_tokens=100)
    for key, endpoint, tokens in turns:
        sessions.note(bytes([key]), str(endpoint), tokens)
        assert sessions.holder(bytes([key])) == str(endpoint)
        assert all(0 <= sessions.tokens(str(one)) <= 100 for one in range(4))
    for one in range(4):
        held = any(sessions.holder(bytes([key])) == str(one) for key in range(10))
        assert held or sessions.tokens(str(one)) == 0
