"""What of a request's headers is its credential."""

import pytest

from capstan_gateway.identity.credential import MAX_CREDENTIAL_BYTES, find_credential, refused

BEARER = (b"authorization", b"Bearer one")
ANTHROPIC = (b"x-api-key", b"two")
AZURE = (b"api-key", b"three")


@pytest.mark.parametrize(
    ("headers", "credential"),
    [
        ([BEARER, ANTHROPIC, AZURE], b"one"), ([AZURE, ANTHROPIC, BEARER], b"one"), ([AZURE, ANTHROPIC], b"two"),
        ([AZURE], b"three"), ([], b""), ([(b"x-tenant", b"team"), (b"x-user", b"ann")], b""),
        ([(b"authorization", b"bearer  one ")], b"one"), ([(b"authorization", b"BEARER one")], b"one"),
        ([(b"authorization", b"Basic YTpi")], b""), ([(b"authorization", b"Basic YTpi"), AZURE], b"three"),
        ([(b"authorization", b"Bearer"), ANTHROPIC], b"two"), ([(b"authorization", b"Bearer "), ANTHROPIC], b"two"),
        ([(b"authorization", b"one"), ANTHROPIC], b"two"), ([(b"authorization", b"Bearer a b")], b"a b"),
    ],
)  # fmt: skip
def test_the_first_that_says_anything_counts(headers: list[tuple[bytes, bytes]], credential: bytes) -> None:
    """Bearer goes before x-api-key, that before api-key, in whatever order they come; nothing else says who asks."""
    assert find_credential(headers) == credential


@pytest.mark.parametrize(
    ("credential", "said"),
    [
        (b"", "no API key was sent"), (b"sk-unknown", "is not valid, or no longer"), (b"a b", "characters"),
        (b"\xff\x00", "characters"), (b"x" * (MAX_CREDENTIAL_BYTES + 1), "longer than 8192 bytes"),
    ],
)  # fmt: skip
def test_a_refusal_says_what_is_wrong_and_never_what_was_sent(credential: bytes, said: str) -> None:
    """The message is of the kind of fault; the header says which scheme is asked for."""
    error = refused(credential)
    assert said in error.message
    assert not credential or credential.decode("latin-1") not in error.message
    assert (error.status, error.code, error.headers) == (401, "invalid_api_key", ((b"www-authenticate", b"Bearer"),))
