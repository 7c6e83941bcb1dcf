"""What a request shows of who sends it. Pure.

Clients of OpenAI's API send `Authorization: Bearer`, those of Anthropic's `x-api-key`, those of Azure's `api-key`. The
first of them, in this order, that says anything is the credential; no other header says who asks.
"""

from typing import Final

from capstan_gateway.errors import Unauthenticated
from capstan_gateway.headers import Header, find_header

AUTHORIZATION: Final = b"authorization"
X_API_KEY: Final = b"x-api-key"
API_KEY: Final = b"api-key"
CREDENTIAL_HEADERS: Final = frozenset((AUTHORIZATION, X_API_KEY, API_KEY))
MAX_CREDENTIAL_BYTES: Final = 8192
"""A longer text is neither a key nor a token."""
_BEARER: Final = b"bearer "
_VISIBLE: Final = bytes(range(0x21, 0x7F))
_NONE: Final = "no API key was sent: `Authorization: Bearer KEY`, `x-api-key` or `api-key` takes it"
_JUNK: Final = f"the API key is longer than {MAX_CREDENTIAL_BYTES} bytes, or has characters that no key has"
_UNKNOWN: Final = "the API key is not valid, or no longer"


def credential_of(authorization: bytes, x_api_key: bytes, api_key: bytes) -> bytes:
    """Give the credential in the values of these headers, b"" for one that is not there; b"" when there is none.

    Another scheme than Bearer is no credential of ours.
    """
    if authorization and authorization[:7].lower() == _BEARER:
        token = authorization[7:].strip()
        if token:
            return token
    return x_api_key or api_key


def find_credential(headers: list[Header]) -> bytes:
    """Give the credential in these headers; b"" when there is none."""
    return credential_of(
        find_header(headers, AUTHORIZATION), find_header(headers, X_API_KEY), find_header(headers, API_KEY)
    )


def refused(credential: bytes) -> Unauthenticated:
    """Say why nobody is known by it. What it is never repeated, and whether it once was valid is not told."""
    if not credential:
        return Unauthenticated(_NONE)
    junk = len(credential) > MAX_CREDENTIAL_BYTES or credential.translate(None, _VISIBLE)
    return Unauthenticated(_JUNK if junk else _UNKNOWN)
