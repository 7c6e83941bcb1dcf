"""GET requests to a Kubernetes API as this pod's service account.

    KubeError                  the API did not give what was asked for; `status` says why when it answered
    └── KubeUnreachable        no whole answer came

The token is read again for every request, because the kubelet renews the file every hour.
"""

import asyncio
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final
from urllib.parse import quote, urlencode, urlsplit

import orjson

from capstan_gateway.upstream.errors import UpstreamError
from capstan_gateway.upstream.port import Endpoint, UpstreamClient, UpstreamResponse

TLS_NAME: Final = "kubernetes"
"""Name of the TLS context that trusts the cluster's certificate authority."""
MAX_BODY_BYTES: Final = 64 * 1024 * 1024
CONNECT_SECONDS: Final = 5.0
ANSWER_SECONDS: Final = 30.0
WHOLE_ANSWER_SECONDS: Final = 120.0
"""For all of an answer: one that drips is none."""
WATCH_IDLE_SECONDS: Final = 100.0
"""A watch that allows bookmarks gets one about every minute: longer silence means that the connection is dead."""

Json = dict[str, Any]


class KubeError(Exception):
    """The API did not give what was asked for."""

    def __init__(self, message: str, status: int = 0) -> None:
        super().__init__(message)
        self.status = status


class KubeUnreachable(KubeError):
    """No whole answer came."""


def api_endpoint(url: str) -> Endpoint:
    """Give the endpoint of an API server's URL."""
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ValueError(f"the Kubernetes API's URL must be http(s)://host[:port], not {url!r}")
    secure = parts.scheme == "https"
    return Endpoint(
        id=f"kubernetes/{parts.hostname}:{parts.port or (443 if secure else 80)}",
        host=parts.hostname,
        port=parts.port or (443 if secure else 80),
        scheme="https" if secure else "http",
        base_path=parts.path.rstrip("/").encode(),
        tls=TLS_NAME if secure else "",
    )


class KubeClient:
    """Reads objects and watches collections; a deadline is on every wait."""

    def __init__(self, client: UpstreamClient, endpoint: Endpoint, token_file: Path) -> None:
        self._client = client
        self._endpoint = endpoint
        self._token_file = token_file

    async def get(self, path: str, query: Mapping[str, str] | None = None) -> Json:
        """Give the object or list at this path; KubeError otherwise."""
        try:
            response = await self._send(path, query or {}, idle=ANSWER_SECONDS, whole=WHOLE_ANSWER_SECONDS)
            body = await response.read(MAX_BODY_BYTES)
        except UpstreamError as error:
            raise KubeUnreachable(str(error)) from error
        if response.status != 200:
            raise KubeError(f"GET {path} answered {response.status}", response.status)
        return _object(body, path)

    async def open_watch(self, path: str, query: Mapping[str, str], *, seconds: float) -> UpstreamResponse:
        """Open a watch that lasts so long at most; the caller reads its lines and aborts it."""
        try:
            response = await self._send(path, query, idle=WATCH_IDLE_SECONDS, whole=seconds)
            if response.status != 200:
                response.abort()
                raise KubeError(f"WATCH {path} answered {response.status}", response.status)
        except UpstreamError as error:
            raise KubeUnreachable(str(error)) from error
        return response

    async def _send(self, path: str, query: Mapping[str, str], *, idle: float, whole: float) -> UpstreamResponse:
        headers = [(b"accept", b"application/json"), (b"user-agent", b"capstan-gateway")]
        token = self._token()
        if token:
            headers.append((b"authorization", b"Bearer " + token))
        target = quote(path) + ("?" + urlencode(query) if query else "")
        return await self._client.send(
            self._endpoint,
            method=b"GET",
            path=target.encode(),
            headers=headers,
            connect_timeout=CONNECT_SECONDS,
            first_byte_timeout=idle,
            idle_timeout=idle,
            expires_at=asyncio.get_running_loop().time() + whole,
        )

    def _token(self) -> bytes:
        try:
            token = self._token_file.read_bytes().strip()
        except FileNotFoundError:
            return b""
        except OSError as error:
            raise KubeError(f"the service account's token cannot be read: {type(error).__name__}") from error
        if not token.isascii() or not token.decode("ascii").isprintable():
            raise KubeError("the service account's token is none: it holds more than one line of text")
        return token


def _object(body: bytes, path: str) -> Json:
    try:
        parsed = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise KubeError(f"GET {path} did not give JSON") from error
    if not isinstance(parsed, dict):
        raise KubeError(f"GET {path} did not give an object")
    return parsed
