"""Keys of hosted models from a Secret."""

from capstan_gateway.config.credentials import Credentials
from capstan_gateway.config.kubernetes_credentials import decode_secret


def test_decodes_what_is_base64_and_leaves_out_the_rest() -> None:
    """A Secret's values are decoded one by one; a broken one does not take the others away."""
    assert decode_secret({"data": {"a": "a2V5", "b": "not base64!", "c": None}}) == {"a": b"key"}
    assert decode_secret({"data": None}) == {}


def test_the_api_replaces_the_keys_of_the_directory() -> None:
    """What the API says is used as a whole: a key that is no longer there is forgotten."""
    credentials = Credentials()
    credentials.take({"a": b"old", "b": b"other"})
    credentials.take_from_api({"a": b"new\n"})
    assert credentials.key("a") == b"new"
    assert credentials.key("b") is None
