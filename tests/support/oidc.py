"""An issuer of tokens: it has keys, publishes them over HTTP, and signs."""

import base64
import json
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from functools import cache
from typing import Any

import jwt
from aiohttp import web
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from jwt.algorithms import ECAlgorithm, OKPAlgorithm, RSAAlgorithm

AUDIENCE = "capstan"
FORMS = {"RS256": RSAAlgorithm, "ES256": ECAlgorithm, "EdDSA": OKPAlgorithm}


def private_key(algorithm: str, number: int = 0) -> Any:
    """Give a private key for an algorithm, for each number another one."""
    return _private_key(algorithm, number)


@cache
def _private_key(algorithm: str, number: int) -> Any:
    if algorithm == "RS256":
        return rsa.generate_private_key(65537, 2048)
    return ec.generate_private_key(ec.SECP256R1()) if algorithm == "ES256" else ed25519.Ed25519PrivateKey.generate()


def public_jwk(key: Any, algorithm: str, **fields: Any) -> dict[str, Any]:
    """Give the public part of a key as it is published; a field that is None is left out."""
    document = {**FORMS[algorithm].to_jwk(key.public_key(), as_dict=True), "alg": algorithm, "use": "sig", **fields}
    return {name: value for name, value in document.items() if value is not None}


def encoded(part: Mapping[str, Any]) -> str:
    """Give a part of a token."""
    return base64.urlsafe_b64encode(json.dumps(part).encode()).rstrip(b"=").decode()


def claims_of(issuer: str, **claims: Any) -> dict[str, Any]:
    """Give claims that are good for an hour; a claim that is None is left out."""
    given = {"iss": issuer, "aud": AUDIENCE, "sub": "ann", "exp": int(time.time()) + 3600, **claims}
    return {name: value for name, value in given.items() if value is not None}


class FakeIssuer:
    """What an identity provider is to the gateway."""

    def __init__(self, algorithm: str = "RS256") -> None:
        self.url = ""
        self.algorithm = algorithm
        self.number = 0
        """Which of its keys it signs with."""
        self.published: list[int] = [0]
        self.status = 200
        self.fetches = 0
        self.named: str | None = None
        """What its discovery document calls it, where that is not what it is."""

    def sign(self, *, number: int | None = None, headers: dict[str, Any] | None = None, **claims: Any) -> str:
        """Give a token."""
        which = self.number if number is None else number
        return jwt.encode(
            claims_of(self.url, **claims), private_key(self.algorithm, which), self.algorithm,
            headers={"kid": f"key-{which}", **(headers or {})},
        )  # fmt: skip

    def keys(self) -> dict[str, Any]:
        """Give what it publishes."""
        return {
            "keys": [
                public_jwk(private_key(self.algorithm, number), self.algorithm, kid=f"key-{number}")
                for number in self.published
            ]
        }

    async def _discovery(self, _: web.Request) -> web.Response:
        document = {"issuer": self.named or self.url, "jwks_uri": f"{self.url}/keys"}
        return web.json_response(document, status=self.status)

    async def _keys(self, _: web.Request) -> web.Response:
        self.fetches += 1
        return web.json_response(self.keys(), status=self.status)

    @asynccontextmanager
    async def running(self) -> AsyncIterator["FakeIssuer"]:
        """Publish over HTTP until the block ends."""
        app = web.Application()
        app.router.add_get("/.well-known/openid-configuration", self._discovery)
        app.router.add_get("/keys", self._keys)
        runner = web.AppRunner(app)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        self.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
        try:
            yield self
        finally:
            await runner.cleanup()
