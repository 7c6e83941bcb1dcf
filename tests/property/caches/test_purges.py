"""Purges: what is about an entry and came after it covers it, whatever the order in which replicas hear of them."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from capstan_contract.caches import MOST_TTL_SECONDS
from capstan_gateway.caches import purges
from capstan_gateway.caches.key import model_of, partition_of
from capstan_gateway.caches.port import CacheKey
from capstan_gateway.caches.purges import Covers, Marks, Purge, What, is_about, read_key, read_purge

SECRET = b"s" * 32
MODELS, TENANTS, USERS = ("t/a", "t/b"), ("one", "two"), (None, "u", "v")
KEYS = st.builds(
    lambda tenant, user, model, digest: CacheKey(
        partition_of(tenant=tenant, user=user, secret=SECRET), model_of(model), bytes([digest]) * 32
    ),
    st.sampled_from(TENANTS), st.sampled_from(USERS), st.sampled_from(MODELS), st.integers(0, 2),
)  # fmt: skip
PURGES = st.one_of(
    st.builds(lambda key: Purge(What.ENTRY, key.text), KEYS),
    st.builds(lambda model: Purge(What.MODEL, model), st.sampled_from(MODELS)),
    st.builds(lambda tenant: Purge(What.TENANT, tenant), st.sampled_from(TENANTS)),
    st.just(Purge(What.ALL)),
)
TIMES = st.integers(1, 50)


@given(st.lists(st.tuples(PURGES, TIMES), max_size=20), KEYS, TIMES)
def test_an_entry_is_covered_when_something_about_it_came_later(
    purges: list[tuple[Purge, int]], key: CacheKey, created: int
) -> None:
    """The same as asking each purge by itself, in any order, heard once or twice."""
    marks = Marks()
    covers = Covers(marks, lambda: SECRET)
    for purge, at in (*purges, *reversed(purges)):
        marks.note(purge, at)
        covers(key, created)
    expected = any(created <= at and is_about(purge, key, SECRET) for purge, at in purges)
    assert covers(key, created) is expected


@given(st.lists(st.tuples(st.sampled_from("abcde"), st.booleans(), st.integers(0, 9)), max_size=30))
def test_who_has_heard_all_along_says_what_who_has_just_come_says(steps: list[tuple[str, bool, int]]) -> None:
    """Of each tenant, in whatever order they are purged, forgotten beyond the bound and asked for; with a new secret,
    too."""
    secret = [b"1" * 32]
    marks = Marks(most=3)
    covers = Covers(marks, lambda: secret[0])

    def said(by: Covers) -> list[bool]:
        partitions = [partition_of(tenant=name, user=None, secret=secret[0]) for name in "abcde"]
        return [by(CacheKey(one, "m", b"d" * 32), created) for one in partitions for created in (1, len(steps))]

    for at, (name, looks, renews) in enumerate(steps):
        marks.note(Purge(What.TENANT, name), at + 1)
        if renews == 1:
            secret[0] = bytes([at]) * 32
        if looks:
            said(covers)
    assert said(covers) == said(Covers(marks, lambda: secret[0]))


def test_a_purge_has_its_own_tenant_digested_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """One of an entry has none digested anew, however many tenants are purged, and one of a tenant this one."""
    digested: list[str] = []

    def digest(*, tenant: str, user: str | None, secret: bytes) -> str:
        digested.append(tenant)
        return partition_of(tenant=tenant, user=user, secret=secret)

    monkeypatch.setattr(purges, "partition_of", digest)
    marks, key = Marks(), CacheKey("p" * 32, "m" * 16, b"d" * 32)
    covers = Covers(marks, lambda: SECRET)
    for number in range(20):
        marks.note(Purge(What.TENANT, f"t{number}"), 10)
    assert not covers(key, 5)
    digested.clear()
    marks.note(Purge(What.ENTRY, key.text), 20)
    assert covers(key, 15)
    assert digested == []
    marks.note(Purge(What.TENANT, "t3"), 30)
    assert not covers(key, 25)
    assert digested == ["t3"]


@given(PURGES)
def test_a_purge_is_read_as_it_was_written(purge: Purge) -> None:
    """Its word says all of it."""
    assert read_purge(purge.word) == purge


@given(st.text(max_size=40))
def test_what_is_no_purge_is_none(text: str) -> None:
    """A word of a newer release, or anything else that lies there, is passed over."""
    found = read_purge(text)
    assert found is None or found.word == text
    assert read_key(text) is None


@given(KEYS)
def test_a_key_is_read_as_clients_are_told_it(key: CacheKey) -> None:
    """Who has `x-cache-key` can purge."""
    assert read_key(key.text) == key


def test_news_is_told_apart_from_what_was_known() -> None:
    """The same purge again is news when it is later, and an older one is not."""
    marks = Marks()
    assert [marks.note(Purge(What.ALL), at) for at in (5, 5, 4, 6)] == [True, False, False, True]


def test_marks_are_bounded_and_forgotten() -> None:
    """However many are purged, so many are known; what no entry can be about is forgotten."""
    marks = Marks(most=3)
    for number in range(10):
        marks.note(Purge(What.TENANT, f"t{number}"), number + 1)
        marks.note(Purge(What.MODEL, f"m/{number}"), number + 1)
    assert len(marks) == 6
    assert marks.until(Purge(What.TENANT, "t9")) == 10
    marks.forget(10**13)
    assert len(marks) == 0


@pytest.mark.parametrize("what", list(What))
def test_a_purge_holds_as_long_as_any_entry_may_live(what: What) -> None:
    """What lies in Redis because it was away, or was written by another replica just then, comes back at no time."""
    key = CacheKey("a" * 32, model_of("m"), bytes(32))
    purge = Purge(what, {What.ENTRY: key.text, What.MODEL: "m", What.TENANT: "t", What.ALL: ""}[what])
    marks = Marks()
    marks.note(purge, 1000)
    marks.forget(1000 + MOST_TTL_SECONDS * 1000)
    assert marks.until(purge) == 1000


def test_another_secret_makes_other_partitions_and_the_purge_of_a_tenant_holds() -> None:
    """A key that is rotated takes no purge away."""
    secret = [b"a" * 32]
    marks = Marks()
    covers = Covers(marks, lambda: secret[0])
    marks.note(Purge(What.TENANT, "one"), 5)
    for now in (b"a" * 32, b"b" * 32, b""):
        secret[0] = now
        key = CacheKey(partition_of(tenant="one", user="u", secret=now), "m", b"")
        assert covers(key, 5)
        assert not covers(key, 6)
        assert not covers(key._replace(partition=partition_of(tenant="two", user=None, secret=now)), 5)
