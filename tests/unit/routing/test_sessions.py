"""Which endpoint has a conversation: the one that answered it last, as long as it is there and remembers it."""

from collections import OrderedDict
from collections.abc import Iterator
from random import Random
from typing import Any

import pytest
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


class Counted(OrderedDict[bytes, Any]):
    """Counts what is looked at on the way through it."""

    looked = 0

    def __iter__(self) -> Iterator[bytes]:
        for key in super().__iter__():
            Counted.looked += 1
            yield key

    def items(self) -> Any:
        """Give them all, which looks at all."""
        Counted.looked += len(self)
        return super().items()


def test_room_is_made_without_a_look_at_all_conversations() -> None:
    """A turn costs the same however many conversations others have: at the bound is where a busy gateway is."""
    sessions = Sessions(most_tokens=1000)
    sessions._holders = Counted()
    for number in range(1000):
        sessions.note(b"other %d" % number, "2", 1)
    Counted.looked = 0
    for number in range(20):
        sessions.note(b"long %d" % number, "1", 1000)
    assert Counted.looked < 100
    assert (sessions.tokens("1"), sessions.holder(b"long 19"), sessions.holder(b"long 18")) == (1000, "1", None)


def test_the_oldest_of_all_go_where_there_are_too_many(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever holds them."""
    monkeypatch.setattr("capstan_gateway.routing.sessions.MOST_SESSIONS", 3)
    sessions = Sessions()
    for key, endpoint in ((b"a", "1"), (b"b", "2"), (b"c", "1"), (b"a", "1"), (b"d", "2")):
        sessions.note(key, endpoint, 5)
    assert [sessions.holder(key) for key in (b"a", b"b", b"c", b"d")] == ["1", None, "1", "2"]
    assert (len(sessions), sessions.tokens("1"), sessions.tokens("2")) == (3, 10, 5)


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
