"""What a token says."""

import re
from typing import Any

import pytest

from capstan_gateway.identity.claims import (
    NO_MODELS,
    ClaimNames,
    ClaimRefused,
    TokenRefused,
    check_claims,
    is_token,
    principal_from,
    read_token,
)
from capstan_gateway.identity.principal import Principal
from support.oidc import encoded

NOW = 1_700_000_000.0
ISSUER = "https://id.example.com"
GOOD: dict[str, Any] = {"iss": ISSUER, "aud": "capstan", "sub": "ann", "exp": NOW + 100}
HEADER = {"alg": "RS256", "kid": "k"}


def token(header: Any = HEADER, claims: Any = GOOD) -> bytes:
    """Give a token that nobody has signed."""
    return f"{encoded(header)}.{encoded(claims)}.c2ln".encode()


def test_a_token_is_read() -> None:
    """Its algorithm, the id of its key, and its claims."""
    said = read_token(token())
    assert (said.algorithm, said.key_id, said.claims) == ("RS256", "k", GOOD)
    assert read_token(token({"alg": "EdDSA"})).key_id is None


@pytest.mark.parametrize(
    "header",
    [
        {"alg": "none"}, {"alg": "None"}, {"alg": "HS256"}, {"alg": "RS512"}, {"alg": "PS256"}, {"alg": "ES384"}, {},
        {"alg": ["RS256"]}, {"alg": "RS256", "kid": 5}, {"alg": "RS256", "kid": "x" * 257},
        {"alg": "RS256", "crit": ["b64"], "b64": False}, {"alg": "RS256", "b64": True}, [], "x",
    ],
)  # fmt: skip
def test_other_algorithms_and_extensions_are_not_taken(header: Any) -> None:
    """Three algorithms, spelled as they are spelled; no header that asks for more than that."""
    with pytest.raises(TokenRefused):
        read_token(token(header))


@pytest.mark.parametrize(
    "text",
    [b"", b"a.b", b"a.b.c", b"eyJ.eyJ.x", token() + b".x", b"..", token().replace(b".", b"!.", 1), b"\xff.\xff.x"],
)
def test_what_is_no_token(text: bytes) -> None:
    """Three parts, of which two are JSON objects in base64."""
    with pytest.raises(TokenRefused):
        read_token(text)


@pytest.mark.parametrize(
    ("text", "is_one"),
    [(token(), True), (b"sk-capstan-x", False), (b"eyJ.x", False), (b"eyJ.a.b.c", False), (b"", False)],
)
def test_which_credentials_have_the_form_of_a_token(text: bytes, is_one: bool) -> None:
    """No key of ours has it."""
    assert is_token(text) is is_one


@pytest.mark.parametrize(
    ("claims", "good"),
    [
        ({}, True), ({"aud": ["x", "capstan"]}, True), ({"aud": "x"}, False), ({"aud": []}, False),
        ({"aud": None}, False),
        ({"aud": {"capstan": 1}}, False), ({"aud": ["capstan", 5]}, True),
        ({"exp": None}, False), ({"exp": NOW - 31}, False), ({"exp": NOW - 29}, True), ({"exp": "soon"}, False),
        ({"exp": True}, False), ({"exp": float("inf")}, False), ({"exp": NOW - 30}, False),
        ({"nbf": NOW + 29}, True), ({"nbf": NOW + 31}, False), ({"iat": NOW + 31}, False), ({"iat": NOW + 29}, True),
        ({"nbf": "x"}, False), ({"nbf": True}, False), ({"iat": False}, False),
    ],
)  # fmt: skip
def test_for_whom_and_for_how_long(claims: dict[str, Any], good: bool) -> None:
    """One of our audiences; a time to end; and clocks that are apart by half a minute harm nobody."""
    said = {**GOOD, **claims}
    if good:
        assert check_claims(said, audiences={"capstan"}, now=NOW, leeway=30) == said["exp"] + 30
    else:
        with pytest.raises(TokenRefused):
            check_claims(said, audiences={"capstan"}, now=NOW, leeway=30)


NAMES = ClaimNames(user="email", team="groups", tenant="org.name", tier="https://x.y/tier", models="models")


@pytest.mark.parametrize(
    ("claims", "names", "principal"),
    [
        ({}, ClaimNames(), Principal(tenant="user:ann", user="ann", key=f"{ISSUER} ann")),
        ({}, ClaimNames(user=""), Principal(tenant=f"key:{ISSUER} ann", key=f"{ISSUER} ann")),
        (
            {"email": "a@b", "groups": ["red", "blue"], "org": {"name": "acme"}, "https://x.y/tier": "gold",
             "models": ["b", "a", "a"]},
            NAMES,
            Principal(
                tenant="acme", user="a@b", team="red", tier="gold", key=f"{ISSUER} ann", models=("a", "b"),
            ),
        ),
        ({"groups": ["red"], "models": "m1 m2*"}, NAMES,
         Principal(tenant="team:red", team="red", key=f"{ISSUER} ann", models=("m1", "m2*"))),
        ({"groups": [], "org": "x"}, NAMES,
         Principal(tenant=f"key:{ISSUER} ann", key=f"{ISSUER} ann", models=NO_MODELS)),
        ({"models": []}, NAMES, Principal(tenant=f"key:{ISSUER} ann", key=f"{ISSUER} ann", models=NO_MODELS)),
        ({"models": ""}, NAMES, Principal(tenant=f"key:{ISSUER} ann", key=f"{ISSUER} ann", models=NO_MODELS)),
        ({"sub": None, "uid": 17}, ClaimNames(user="uid"), Principal(tenant="user:17", user="17", key=f"{ISSUER} 17")),
    ],
)  # fmt: skip
def test_claims_say_who_it_is(claims: dict[str, Any], names: ClaimNames, principal: Principal) -> None:
    """By the names that are configured, into objects too; a list of models that is not there allows none."""
    assert principal_from({**GOOD, **claims}, names, several_issuers=False) == principal


@pytest.mark.parametrize(
    "claims",
    [
        {"sub": None}, {"sub": ""}, {"sub": {"a": 1}}, {"sub": "x" * 257}, {"sub": "a\nb"},
        {"org": {"name": "team:red"}},
        {"models": 5}, {"models": [5]}, {"models": ["x" * 257]}, {"models": ["m"] * 257}, {"groups": [{"a": 1}]},
        {"email": True},
    ],
)  # fmt: skip
def test_claims_that_cannot_say_who_it_is(claims: dict[str, Any]) -> None:
    """What would be a line of its own in a log, another's tenant, or nothing at all."""
    with pytest.raises(TokenRefused):
        principal_from({**GOOD, **claims}, NAMES if "sub" not in claims else ClaimNames(), several_issuers=False)


@pytest.mark.parametrize(
    ("models", "said"),
    [
        ([f"m{number}*" for number in range(9)], "9 of them with `*`"),
        (" ".join(f"m{number}" for number in range(257)), "has 257 names"),
        (["x" * 257], "of 256 characters"),
        ([5], "no list of names"),
    ],
)
def test_a_list_of_models_is_bounded_and_says_by_what(models: Any, said: str) -> None:
    """Each pattern is held against every name: a token with more of them is told how many may be in it."""
    with pytest.raises(ClaimRefused, match=re.escape(said)):
        principal_from({**GOOD, "models": models}, NAMES, several_issuers=False)
    fits = [*(f"m{number}*" for number in range(8)), *(f"m{number}" for number in range(248))]
    assert len(principal_from({**GOOD, "models": fits}, NAMES, several_issuers=False).models) == 256


def test_users_of_several_issuers_are_told_apart() -> None:
    """A subject is one of its issuer; a tenant that claims name is the same whichever issuer says it."""
    names = ClaimNames(tenant="org")
    found = [
        principal_from({**GOOD, **claims, "iss": iss}, names, several_issuers=True)
        for claims in ({}, {"org": "acme"})
        for iss in ("https://a.example", "https://b.example")
    ]
    assert [one.tenant for one in found] == ["user:ann@a.example", "user:ann@b.example", "acme", "acme"]
    assert len({one.user for one in found}) == 2
