"""What becomes of a Secret that is an API key."""

from typing import Any

import pytest

from capstan_contract.keys import digest_of
from capstan_operator.desired.api_keys import DUPLICATE, EXPIRED, INVALID, WEAK, compile_keys, is_key, read_key
from support.keysecrets import VALUE, key_secret

SALT = "0" * 32


def test_a_key_is_its_hash_and_whose_it_is() -> None:
    """The entry has what the annotations say, and of the key nothing but its salted hash."""
    secret = key_secret(
        "alice", f"{VALUE}\n", user="alice", team="red", tier="gold", models="b, a-*", expires="2027-06-01T00:00:00Z"
    )
    found = read_key(secret, SALT)
    assert found.entry is not None
    assert found.complaint is None
    assert found.entry.model_dump() == {
        "id": "alice", "digest": digest_of(SALT, VALUE.encode()), "user": "alice", "team": "red",
        "tenant": "team:red", "tier": "gold", "models": ("a-*", "b"), "expires": 1811808000,
    }  # fmt: skip
    assert VALUE not in repr(found)


@pytest.mark.parametrize(
    ("said", "tenant"),
    [
        ({"tenant": "acme", "team": "red", "user": "alice"}, "acme"),
        ({"team": "red", "user": "alice"}, "team:red"),
        ({"user": "alice"}, "user:alice"),
        ({}, "key:k"),
    ],
)
def test_a_key_without_a_tenant_has_its_team_or_user_or_is_one_itself(said: dict[str, str], tenant: str) -> None:
    """What is not said cannot be the same as what somebody else says."""
    entry = read_key(key_secret("k", **said), SALT).entry
    assert entry is not None
    assert entry.tenant == tenant


@pytest.mark.parametrize(
    ("value", "annotations", "words"),
    [
        ("", {}, "is empty"),
        (" \n", {}, "is empty"),
        ("a b", {}, "without spaces"),
        ("k\u00e9y", {}, "printable ASCII"),
        ("x" * 513, {}, "more than 512"),
        (VALUE, {"tenant": "team:red"}, "`capstan.dev/tenant` must hold no ':'"),
        (VALUE, {"user": "a:b"}, "`capstan.dev/user` must hold no ':'"),
        (VALUE, {"team": "a\nb"}, "no control characters"),
        (VALUE, {"tier": "x" * 254}, "at most 253"),
        (VALUE, {"models": " "}, "must name a model"),
        (VALUE, {"models": ""}, "must name a model"),
        (VALUE, {"expires": ""}, "must be a time"),
        (VALUE, {"expires": " "}, "must be a time"),
        (VALUE, {"models": "a,,b"}, "one comma"),
        (VALUE, {"models": "a b"}, "without spaces"),
        (VALUE, {"expires": "tomorrow"}, "must be a time"),
        (VALUE, {"expires": "1960-01-01T00:00:00Z"}, "after 1970"),
    ],
)
def test_what_is_not_as_it_should_be_is_no_key(value: str, annotations: dict[str, str], words: str) -> None:
    """It is refused and its owner told what is wrong, without a word of the value."""
    found = read_key(key_secret("k", value, **annotations), SALT)
    assert found.entry is None
    assert found.complaint is not None
    assert found.complaint.reason == INVALID
    assert words in found.complaint.message
    assert not value.strip() or value not in repr(found)


@pytest.mark.parametrize("data", [None, {}, {"other": "eA=="}, {"key": "%%%"}, {"key": 7}])
def test_a_secret_without_a_readable_key_is_told(data: Any) -> None:
    """Whatever is in the place of the key."""
    secret = key_secret("k")
    secret["data"] = data
    found = read_key(secret, SALT)
    assert found.entry is None
    assert found.complaint is not None
    assert found.complaint.reason == INVALID


def test_a_short_key_counts_and_is_told() -> None:
    """Keys that people choose work; one that could be guessed from its hash is worth a warning."""
    found = read_key(key_secret("k", "mine"), SALT)
    assert found.entry is not None
    assert found.complaint is not None
    assert found.complaint.reason == WEAK


def test_of_two_secrets_with_one_key_the_older_one_counts() -> None:
    """Whoever copies a key takes it from nobody, and is told."""
    old = read_key(key_secret("z-old", created="2026-01-01T00:00:00Z", user="a"), SALT)
    new = read_key(key_secret("a-new", created="2027-01-01T00:00:00Z", user="b"), SALT)
    for order in ([old, new], [new, old]):
        compiled = compile_keys(order, now=0)
        assert [entry.id for entry in compiled.entries] == ["z-old"]
        assert compiled.complaints.keys() == {"a-new"}
        assert compiled.complaints["a-new"].reason == DUPLICATE


def test_an_expired_key_is_told_and_left_to_the_gateway() -> None:
    """The same Secrets give the same entries at any time: who refuses it is the one that knows when it is asked."""
    secret = read_key(key_secret("k", expires="2027-01-01T00:00:00Z"), SALT)
    before, after = (compile_keys([secret], now=now) for now in (1798761599, 1798761600))
    assert before.entries == after.entries
    assert not before.complaints
    assert after.complaints["k"].reason == EXPIRED


def test_a_secret_that_is_being_deleted_is_no_key_any_more() -> None:
    """Nor is one that has lost its label."""
    metadata = key_secret("k")["metadata"]
    assert is_key(metadata)
    assert not is_key({**metadata, "deletionTimestamp": "2027-01-01T00:00:00Z"})
    assert not is_key({**metadata, "labels": {}})
