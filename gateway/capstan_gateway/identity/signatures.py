"""Signatures of tokens. PyJWT, and cryptography under it, check them; nobody else knows these libraries.

Loaded only where issuers are named: it takes some ten megabytes.
"""

from collections.abc import Mapping
from typing import Any, Final

import jwt

from capstan_gateway.identity.claims import ALGORITHMS, TokenRefused
from capstan_gateway.identity.jwks import Key

LEAST_RSA_BITS: Final = 2048
_KINDS: Final = {("RSA", None): "RS256", ("EC", "P-256"): "ES256", ("OKP", "Ed25519"): "EdDSA"}
_SIGNED: Final = jwt.PyJWS(algorithms=list(ALGORITHMS))


class VerifyingKey:
    """A public key, and the one algorithm that it is for."""

    __slots__ = ("_key", "algorithm")

    def __init__(self, key: jwt.PyJWK, algorithm: str) -> None:
        self._key = key
        self.algorithm = algorithm

    def check(self, token: bytes) -> None:
        """Return where its owner has signed this token; TokenRefused otherwise."""
        try:
            _SIGNED.decode_complete(token, self._key, algorithms=[self.algorithm])
        except jwt.PyJWTError:
            raise TokenRefused("its signature is not by that key") from None


def read_key(document: Mapping[str, Any]) -> Key | None:
    """Give the key in a JSON Web Key; None for one that is for something else, or not safe, or damaged.

    Its algorithm follows from its kind and curve, whatever a token says.
    """
    kind = document.get("kty")
    algorithm = _KINDS.get((kind, document.get("crv") if kind != "RSA" else None)) if isinstance(kind, str) else None
    said = document.get("alg")
    operations = document.get("key_ops")
    if algorithm is None or said not in (None, algorithm) or document.get("use") not in (None, "sig"):
        return None
    if "d" in document or (isinstance(operations, list) and "verify" not in operations):
        return None  # A private key has no place there: who published it has lost it.
    try:
        key = jwt.PyJWK(dict(document), algorithm)
    except (jwt.PyJWTError, TypeError, ValueError, KeyError):
        return None
    if kind == "RSA" and key.key.key_size < LEAST_RSA_BITS:
        return None
    return VerifyingKey(key, algorithm)
