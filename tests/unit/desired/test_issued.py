"""API keys as people make, replace and list them."""

import base64

import pytest
from hypothesis import given
from hypothesis import strategies as st

from capstan_contract.keys import KEY_PREFIX
from capstan_operator.desired.api_keys import KeyFault, read_key
from capstan_operator.desired.issued import (
    Terms,
    build_key_secret,
    check_name,
    check_terms,
    issued_of,
    make_key,
    make_name,
    read_duration,
    read_end,
    retired,
    time_text,
)

NOW = 1_800_000_000.0
TERMS = Terms("alice", "red", "acme", "gold", "qwen-*,llama", 1_900_000_000)


def test_what_is_made_is_what_the_operator_reads() -> None:
    """The Secret of a new key becomes an entry with the same terms, and is listed with them."""
    key = make_key()
    secret = build_key_secret("alice-1", "capstan-system", key, TERMS)
    found = read_key(secret, "0" * 32)
    assert found.complaint is None
    assert found.entry is not None
    assert found.entry.model_copy(update={"digest": ""}) == check_terms("alice-1", TERMS).model_copy(
        update={"digest": ""}
    )
    assert issued_of(secret["metadata"]).terms == TERMS
    assert key.startswith(KEY_PREFIX)
    assert base64.b64decode(secret["data"]["key"]).decode() == key


def test_no_two_keys_are_the_same() -> None:
    """Nor are two names of one user's keys."""
    assert make_key() != make_key()
    assert make_name(TERMS) != make_name(TERMS)


@given(st.text(max_size=100))
def test_every_user_gets_a_name_that_an_object_can_have(user: str) -> None:
    """Whatever the user is called."""
    assert check_name(make_name(Terms(user=user)))


@pytest.mark.parametrize("name", ["", "A", "a b", "-a", "a-", "a/b", "a..b", "x" * 254])
def test_other_names_are_refused(name: str) -> None:
    """Before anything is written."""
    with pytest.raises(KeyFault):
        check_name(name)


@pytest.mark.parametrize(
    ("text", "seconds"), [("90d", 7_776_000), ("1d12h", 129_600), ("30m", 1800), ("45s", 45), ("0", 0)]
)
def test_durations(text: str, seconds: int) -> None:
    """Days, hours, minutes and seconds, the larger ones first."""
    assert read_duration(text) == seconds


@pytest.mark.parametrize("text", ["", "d", "12", "1h1d", "-1d", "1w", "1.5h"])
def test_what_is_no_duration_is_refused(text: str) -> None:
    """A key must not live for another time than was meant."""
    with pytest.raises(KeyFault):
        read_duration(text)


def test_an_end_is_a_duration_or_a_time() -> None:
    """From now on, or as it stands; both as Unix seconds."""
    assert read_end("12h", NOW) == NOW + 43_200
    assert read_end("2027-06-01T00:00:00Z", NOW) == 1_811_808_000
    for text in ("2020-01-01T00:00:00Z", "0", "soon"):
        with pytest.raises(KeyFault):
            read_end(text, NOW)


def test_a_replaced_key_ends_after_the_grace_and_never_later_than_before() -> None:
    """A rotation prolongs nothing."""
    assert retired(Terms(), now=NOW, grace=60) == NOW + 60
    assert retired(Terms(expires=int(NOW) + 30), now=NOW, grace=60) == NOW + 30


def test_a_faulty_key_is_listed_as_such() -> None:
    """With what is wrong with it, and whose it is meant to be."""
    metadata = build_key_secret("k", "ns", "v", Terms(user="alice"))["metadata"]
    metadata["annotations"]["capstan.dev/expires"] = "soon"
    issued = issued_of(metadata)
    assert issued.state(NOW) == "Faulty"
    assert "must be a time" in issued.fault
    assert issued.terms.user == "alice"


def test_times_are_written_as_they_are_read() -> None:
    """To the second, in UTC."""
    assert time_text(1_811_808_000) == "2027-06-01T00:00:00Z"
