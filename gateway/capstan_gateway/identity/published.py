"""What an issuer publishes over HTTP: its keys, and where they are (OpenID Connect Discovery)."""

import asyncio
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

import orjson

from capstan_gateway.upstream.errors import UpstreamError
from capstan_gateway.upstream.port import Endpoint, UpstreamClient

TLS_NAME: Final = "oidc"
"""Name of the TLS context with the authority of the issuers, where they have one of their own."""
MAX_BYTES: Final = 256 * 1024
SECONDS: Final = 5.0
"""For one document, to its last byte."""
DISCOVERY_PATH: Final = "/.well-known/openid-configuration"
_HEADERS: Final = ((b"accept", b"application/json"), (b"user-agent", b"capstan-gateway"))
_OK: Final = 200


class Unpublished(Exception):
    """What an issuer publishes could not be had; the message says why."""


class Published:
    """Reads the keys of one issuer."""

    def __init__(
        self,
        client: UpstreamClient,
        issuer: str,
        *,
        keys_url: str | None = None,
        allow_http: bool = False,
        authority: Path | None = None,
    ) -> None:
        """Read them at `keys_url`, or where the issuer says that they are."""
        self._client = client
        self._issuer = issuer
        self._keys_url = keys_url
        self._allow_http = allow_http
        self._tls = TLS_NAME if authority is not None else ""

    async def keys(self) -> bytes:
        """Give the text of the set of keys; Unpublished otherwise."""
        url = self._keys_url
        if url is None:
            url = keys_url_in(await self._get(self._issuer.rstrip("/") + DISCOVERY_PATH), self._issuer)
        return await self._get(url)

    async def _get(self, url: str) -> bytes:
        endpoint, path = place_of(url, allow_http=self._allow_http, tls=self._tls)
        try:
            response = await self._client.send(
                endpoint, method=b"GET", path=path, headers=_HEADERS,
                connect_timeout=SECONDS, first_byte_timeout=SECONDS, idle_timeout=SECONDS,
                expires_at=asyncio.get_running_loop().time() + SECONDS,
            )  # fmt: skip
            try:
                body = await response.read(MAX_BYTES)
            finally:
                response.abort()
        except UpstreamError as error:
            raise Unpublished(f"{endpoint.host} could not be read: {type(error).__name__}") from error
        if response.status != _OK:
            raise Unpublished(f"{endpoint.host} answered {response.status}")
        return body


def keys_url_in(text: bytes, issuer: str) -> str:
    """Give where the keys are by the issuer's own document; Unpublished when it is another's, or does not say it."""
    try:
        document = orjson.loads(text)
    except ValueError:
        raise Unpublished("the discovery document is not JSON") from None
    if not isinstance(document, dict) or document.get("issuer") != issuer:
        raise Unpublished("the discovery document is of another issuer")
    url = document.get("jwks_uri")
    if not isinstance(url, str):
        raise Unpublished("the discovery document names no `jwks_uri`")
    return url


def place_of(url: str, *, allow_http: bool, tls: str = "") -> tuple[Endpoint, bytes]:
    """Give the endpoint and the path of a URL; Unpublished for one that is not https, unless plain HTTP is allowed."""
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        raise Unpublished("its address is no URL") from None
    secure = parts.scheme == "https"
    if not (secure or (allow_http and parts.scheme == "http")) or not parts.hostname or parts.username is not None:
        raise Unpublished("its address is no https:// URL")
    path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    if not path.isascii() or not path.isprintable() or " " in path:
        raise Unpublished("its address is no https:// URL")
    number = port or (443 if secure else 80)
    endpoint = Endpoint(
        id=f"oidc:{parts.scheme}://{parts.hostname}:{number}", host=parts.hostname, port=number,
        scheme="https" if secure else "http", tls=tls if secure else "",
    )  # fmt: skip
    return endpoint, path.encode()
