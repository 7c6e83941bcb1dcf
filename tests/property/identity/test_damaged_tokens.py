"""Whatever is done to a token, it is refused in words or is the very same one."""

import random

import orjson
from hypothesis import given, settings
from hypothesis import strategies as st

from capstan_gateway.errors import Unauthenticated
from capstan_gateway.identity.claims import ClaimNames
from capstan_gateway.identity.issuer import Issuer
from capstan_gateway.identity.jwks import read_key_set
from capstan_gateway.identity.signatures import read_key
from capstan_gateway.identity.tokens import Tokens
from support.oidc import FakeIssuer, encoded

FAKE = FakeIssuer("EdDSA")
FAKE.url = "https://id.example.com"
TOKEN = FAKE.sign(exp=9_000_000_000).encode()
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)


async def _never() -> bytes:
    raise AssertionError


def checker() -> Tokens:
    """Give who checks, with the keys known and not to be fetched."""
    issuer = Issuer(
        FAKE.url,
        _never,
        read_key,
        clock=lambda: 0.0,
        rng=random.Random(1),  # noqa: S311 - no secret
        refresh_seconds=1,
        stale_seconds=1,
    )
    issuer._began_at = 0.0
    issuer.keys = read_key_set(orjson.dumps(FAKE.keys()), read_key)
    return Tokens([issuer], audiences=("capstan",), names=ClaimNames(), leeway=0, wall=lambda: 1e9)


def is_taken(token: bytes) -> bool:
    """Say whether it is taken; anything else than a refusal fails."""
    try:
        checker().check(token)
    except Unauthenticated:
        return False
    return True


@settings(max_examples=150)
@given(st.integers(0, len(TOKEN) - 1), st.binary(min_size=0, max_size=2))
def test_another_byte_is_another_token(place: int, piece: bytes) -> None:
    """A byte that is left out, replaced, or put in makes it one that nobody has signed."""
    changed = TOKEN[:place] + piece + TOKEN[place + 1 :]
    assert is_taken(TOKEN)
    # NB: the last characters of a part have bits that count for nothing in lenient readings of base64.
    assert not is_taken(changed) or changed == TOKEN


@settings(max_examples=150)
@given(JSON, JSON, st.sampled_from(["", "c2ln", TOKEN.decode().rsplit(".", 1)[1]]))
def test_any_parts(header: object, claims: object, signature: str) -> None:
    """Parts that are any JSON are refused, and break nothing."""
    assert not is_taken(f"{encoded(header)}.{encoded(claims)}.{signature}".encode())  # type: ignore[arg-type]


@settings(max_examples=150)
@given(JSON, st.sampled_from(["iss", "aud", "sub", "exp", "nbf", "iat"]))
def test_any_claims_under_a_good_signature(value: object, name: str) -> None:
    """Whatever an issuer says is taken or refused, and breaks nothing."""
    is_taken(FAKE.sign(**{"exp": 9_000_000_000, name: value}).encode()) if name != "iss" else None
