"""What a token says, before and after its signature is checked. Pure.

eyJhbGciOi...  .  eyJpc3MiOi...  .  SflKxw...
header: algorithm, key    claims: who, for whom, how long    signature
"""

import math
from binascii import Error, a2b_base64
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any, Final

import orjson

from capstan_contract.keys import tenant_for
from capstan_gateway.identity.names import ANY
from capstan_gateway.identity.principal import Principal

ALGORITHMS: Final = ("RS256", "ES256", "EdDSA")
"""What is taken: signatures by a key that only the issuer has. Never `none`; no HMAC, whose key we would have too."""
MAX_CHARS: Final = 256
"""Of the id of a key, and of a claim that becomes a part of who asks."""
MAX_MODELS: Final = 256
MAX_GLOBS: Final = 8
"""Patterns with `*` in one token: each of them is held against the names that there are."""
NO_MODELS: Final = ("",)
"""Allows no name at all, where an empty list would allow every one."""
_URLSAFE: Final = bytes.maketrans(b"-_", b"+/")
_PARTS: Final = 3


class TokenRefused(Exception):
    """This is no token that is taken; the message says why, for whoever looks for it, and holds nothing of it."""


class ClaimRefused(TokenRefused):
    """The token is its issuer's, and what it says of models cannot be used; the message is for whoever sends it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ClaimNames:
    """Which claims say what. A name with dots that no claim has as a whole leads into objects (`realm.team`)."""

    user: str = "sub"
    team: str = ""
    tenant: str = ""
    tier: str = ""
    models: str = ""
    """Empty: a token may use all models. Else one without the claim may use none."""


@dataclass(frozen=True, slots=True)
class Unverified:
    """A token that was read, and of which nothing is known to be true."""

    algorithm: str
    key_id: str | None
    claims: dict[str, Any]


TOKEN_BEGINS: Final = b"eyJ"
"""What every token begins with: the base64 of a JSON object's first bytes."""


def is_token(credential: bytes) -> bool:
    """Whether a credential has the form of a token: three parts, of which the first begins a JSON object."""
    return credential.startswith(TOKEN_BEGINS) and credential.count(b".") == _PARTS - 1


def read_token(token: bytes) -> Unverified:
    """Read a token; TokenRefused when it is none, or of an algorithm that is not taken."""
    parts = token.split(b".")
    if len(parts) != _PARTS:
        raise TokenRefused("it has not three parts")
    header, claims = _object(parts[0]), _object(parts[1])
    algorithm, key_id = header.get("alg"), header.get("kid")
    if algorithm not in ALGORITHMS:
        raise TokenRefused(f"its algorithm is none of {', '.join(ALGORITHMS)}")
    if "crit" in header or "b64" in header:
        raise TokenRefused("its header asks for an extension")
    if key_id is not None and (not isinstance(key_id, str) or len(key_id) > MAX_CHARS):
        raise TokenRefused("the id of its key is none")
    return Unverified(algorithm, key_id, claims)


def check_claims(claims: Mapping[str, Any], *, audiences: Collection[str], now: float, leeway: float) -> float:
    """Give the time from which on it is refused, in Unix seconds; TokenRefused when it is not for us, or not now.

    `exp` must be there; `nbf` and `iat` hold where they are. Clocks may be apart by `leeway` seconds.
    """
    audience = claims.get("aud")
    said = audience if isinstance(audience, list) else [audience]
    if not any(isinstance(one, str) and one in audiences for one in said):
        raise TokenRefused("it is for another audience")
    expires = _time(claims, "exp")
    if expires is None or now >= expires + leeway:
        raise TokenRefused("it says no end, or has expired")
    for name in ("nbf", "iat"):
        begins = _time(claims, name)
        if begins is not None and now < begins - leeway:
            raise TokenRefused("it is not valid yet")
    return expires + leeway


def principal_from(claims: Mapping[str, Any], names: ClaimNames, *, several_issuers: bool) -> Principal:
    """Say who it is; TokenRefused when a claim that says so cannot.

    Subjects are unique within an issuer: with several, the user is one of an issuer. What claims say of tenants, teams
    and tiers counts as it is, whichever issuer says it: all of them are trusted with that.
    """
    issuer, subject = str(claims.get("iss", "")), _text(claims, "sub")
    user, team = _text(claims, names.user), _text(claims, names.team)
    tenant, tier = _text(claims, names.tenant), _text(claims, names.tier)
    if ":" in tenant:
        raise TokenRefused("the claim of the tenant holds a colon")
    if user and several_issuers:
        user = f"{user}@{issuer.removeprefix('https://')}"
    key = f"{issuer} {subject or user}"
    if not (subject or user):
        raise TokenRefused("it says of nobody who it is")
    return Principal(
        tenant=tenant_for(tenant=tenant, team=team, user=user, key=key),
        user=user, team=team, tier=tier, key=key, models=_models(claims, names.models),
    )  # fmt: skip


def _object(part: bytes) -> dict[str, Any]:
    try:
        found = orjson.loads(a2b_base64(part.translate(_URLSAFE) + b"=" * (-len(part) % 4), strict_mode=True))
    except (Error, ValueError):
        raise TokenRefused("a part of it is not JSON in base64") from None
    if not isinstance(found, dict):
        raise TokenRefused("a part of it is no JSON object")
    return found


def _time(claims: Mapping[str, Any], name: str) -> float | None:
    value = claims.get(name)
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise TokenRefused("a time of it is none")
    return float(value)


def _claim(claims: Mapping[str, Any], name: str) -> Any:
    if not name or name in claims:
        return claims.get(name)
    found: Any = claims
    for part in name.split("."):
        found = found.get(part) if isinstance(found, dict) else None
    return found


def _text(claims: Mapping[str, Any], name: str) -> str:
    """Give what a claim says: a text, or the first one of a list; "" where it says nothing."""
    value = _claim(claims, name)
    if isinstance(value, list):
        value = value[0] if value else None
    if value is None:
        return ""
    text = str(value) if isinstance(value, int) and not isinstance(value, bool) else value
    if not isinstance(text, str) or len(text) > MAX_CHARS or not text.isprintable():
        raise TokenRefused("a claim that says who it is is no text, or too long")
    return text


def _models(claims: Mapping[str, Any], name: str) -> tuple[str, ...]:
    if not name:
        return ()
    value = _claim(claims, name)
    names = value.split() if isinstance(value, str) else value
    if names is None or names == []:
        return NO_MODELS
    if not isinstance(names, list) or not all(isinstance(one, str) for one in names):
        raise ClaimRefused("the token's claim of models is no list of names")
    globs = sum(ANY in one for one in names)
    if len(names) > MAX_MODELS or globs > MAX_GLOBS or any(len(one) > MAX_CHARS for one in names):
        raise ClaimRefused(
            f"the token's claim of models has {len(names)} names, {globs} of them with `{ANY}`: at most {MAX_MODELS} "
            f"are allowed, of {MAX_CHARS} characters, and {MAX_GLOBS} with `{ANY}`"
        )
    return tuple(sorted(set(names))) or NO_MODELS
