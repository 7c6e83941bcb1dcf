"""Keys of hosted models from a Secret."""

import base64
from typing import Any

from capstan_contract.names import CREDENTIAL_SHARDS_ANNOTATION, MAX_CREDENTIAL_SHARDS
from capstan_gateway.config.credentials import Credentials
from capstan_gateway.config.kubernetes_credentials import SecretShards, decode_secret, shards_of


def test_decodes_what_is_base64_and_leaves_out_the_rest() -> None:
    """A Secret's values are decoded one by one; a broken one does not take the others away."""
    assert decode_secret({"data": {"a": "a2V5", "b": "a2V5!", "c": None, "d": "a2V"}}) == {"a": b"key"}
    assert decode_secret({"data": None}) == {}


def test_the_api_replaces_the_keys_of_the_directory() -> None:
    """What the API says is used as a whole: a key that is no longer there is forgotten."""
    credentials = Credentials()
    credentials.take({"a": b"old", "b": b"other"})
    credentials.take_from_api({"a": b"new\n"})
    assert credentials.key("a") == b"new"
    assert credentials.key("b") is None


def secret(shards: str | None = None, **values: str) -> dict[str, Any]:
    """Give a Secret."""
    annotations = {} if shards is None else {CREDENTIAL_SHARDS_ANNOTATION: shards}
    data = {name: base64.b64encode(value.encode()).decode() for name, value in values.items()}
    return {"metadata": {"annotations": annotations}, "data": data}


def test_the_first_secret_says_how_many_others_are_to_be_watched() -> None:
    """None where nothing is said, as by an older operator; never more than there can be; each is begun once."""
    assert [shards_of(secret(text)) for text in (None, "", "x", "-1", "2", "999")] == [
        0,
        0,
        0,
        0,
        2,
        MAX_CREDENTIAL_SHARDS,
    ]
    shards = SecretShards()
    assert shards.heard(0, secret(a="1")) == []
    assert shards.heard(0, secret("2", a="1")) == [1, 2]
    assert shards.heard(0, secret("3", a="1")) == [3]


def test_a_secret_that_went_takes_nothing_away() -> None:
    """The first one is on its way back; of another one what it held stays, and one that never came holds nothing."""
    shards = SecretShards()
    shards.absent(0)
    assert not shards.complete
    shards.heard(0, secret("2", a="1"))
    shards.heard(1, secret(b="2"))
    shards.absent(0)
    shards.absent(1)
    assert (shards.files, shards.complete, shards.known) == ({"a": b"1", "b": b"2"}, False, (0, 1, 2))
    shards.absent(2)
    assert (shards.files, shards.complete) == ({"a": b"1", "b": b"2"}, True)


def test_keys_of_all_secrets_are_used_and_one_on_the_move_is_never_without_a_value() -> None:
    """A key that moves is first in both Secrets, then in the new one alone."""
    shards = SecretShards()
    shards.heard(0, secret("1", a="1", b="2"))
    for number, moved in ((1, secret(b="2", c="3")), (0, secret("1", a="1"))):
        shards.heard(number, moved)
        assert shards.files == {"a": b"1", "b": b"2", "c": b"3"}


def test_until_every_secret_was_heard_of_what_is_known_stays() -> None:
    """The first Secret alone takes away no key that the files of another one have brought."""
    shards, credentials = SecretShards(), Credentials()
    credentials.take({"a": b"old", "b": b"2", "gone": b"3"})
    shards.heard(0, secret("2", a="new"))
    shards.heard(1, secret(b="2"))
    credentials.take_from_api(shards.files, complete=shards.complete)
    assert [credentials.key(name) for name in ("a", "b", "gone")] == [b"new", b"2", b"3"]
    shards.absent(2)
    credentials.take_from_api(shards.files, complete=shards.complete)
    assert [credentials.key(name) for name in ("a", "b", "gone")] == [b"new", b"2", None]
