"""One call of a service that a policy names by its URL.

Whoever writes a policy names it, so that private addresses are asked. Those that only a cloud's own services have
(link-local ones, where instances read their credentials) are not, nor this machine's own unless that is allowed, nor
public ones without TLS, whatever a name resolves to (`images.addresses`). Policies of namespaces may name the hosts
that the installation allows them. No redirect is followed, the certificate is verified, and of an answer no more than
`MOST_BYTES` is read.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final
from urllib.parse import urlsplit

from capstan_gateway.errors import UpstreamFailed
from capstan_gateway.headers import Header
from capstan_gateway.images.urls import fits_host
from capstan_gateway.pipeline.ask import Ask
from capstan_gateway.pipeline.deps import Deps
from capstan_gateway.pipeline.guards.asked.failures import NotAsked
from capstan_gateway.upstream.port import Endpoint

MOST_BYTES: Final = 64 * 1024
MOST_SECONDS: Final = 60.0
OK: Final = 200
_PORTS: Final = {"http": 80, "https": 443}
_PRINTABLE: Final = range(0x21, 0x7F)


@dataclass(frozen=True, slots=True)
class Service:
    """Where it is."""

    endpoint: Endpoint
    path: bytes


def service_at(url: str) -> Service:
    """Give the service of a URL. ValueError, with words for whoever wrote it, when it is none of http or https."""
    try:
        parts = urlsplit(url)
        host, port = parts.hostname, parts.port
        host = host if host is None or host.isascii() else host.encode("idna").decode()
    except (ValueError, UnicodeError):
        raise ValueError("its url cannot be read") from None
    if parts.scheme not in ("http", "https") or not host:
        raise ValueError("its url must begin with http:// or https:// and name a host")
    if parts.username is not None or parts.password is not None or parts.fragment:
        raise ValueError("its url must hold no user, no password and no fragment: keys stand in Secrets")
    target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    if not all(ord(character) in _PRINTABLE for character in target + host):
        raise ValueError("its url holds a character that must be escaped")
    scheme, port = parts.scheme, port or _PORTS[parts.scheme]
    endpoint = Endpoint(
        id=f"guard:{scheme}://{host}:{port}", host=host, port=port, scheme="https" if scheme == "https" else "http"
    )
    return Service(endpoint, target.encode())


def is_allowed(service: Service, hosts: Sequence[str]) -> bool:
    """Whether policies of namespaces may name this service; without any hosts they may name all."""
    where = service.endpoint
    return not hosts or any(fits_host(entry, where.host, where.port, _PORTS[where.scheme]) for entry in hosts)


async def post(
    deps: Deps, service: Service, ask: Ask, body: bytes, headers: Sequence[Header] = (), *, everywhere: bool
) -> bytes:
    """Give the body of the answer, which has the status 200. Raises as `exchange` does."""
    return (await exchange(deps, service, ask, body, headers, everywhere=everywhere))[0]


async def exchange(
    deps: Deps, service: Service, ask: Ask, body: bytes, headers: Sequence[Header] = (), *, everywhere: bool
) -> tuple[bytes, Sequence[Header]]:
    """Give the body and the headers of the answer, which has the status 200. Raises UpstreamError, UpstreamFailed or
    NotAsked.

    `everywhere`: the policy that names the service is the installation's own, which may name any.
    """
    outside = deps.outside
    if outside is None:
        raise NotAsked("this gateway asks no services")
    if not everywhere and not is_allowed(service, outside.hosts):
        raise NotAsked("the host of its url is not one that this installation lets policies of namespaces name")
    client = outside.secure if service.endpoint.scheme == "https" else outside.plain
    response = await client.send(
        service.endpoint, method=b"POST", path=service.path, body=body, expires_at=ask.expires_at,
        headers=(
            (b"content-type", b"application/json"), (b"accept", b"application/json"),
            (b"user-agent", b"capstan-gateway"), (b"x-request-id", ask.request_id), *headers,
        ),
        connect_timeout=MOST_SECONDS, first_byte_timeout=MOST_SECONDS, idle_timeout=MOST_SECONDS,
    )  # fmt: skip
    try:
        if response.status != OK:
            raise UpstreamFailed(f"the service of a guard answered with status {response.status}")
        return await response.read(MOST_BYTES), response.headers
    finally:
        response.abort()
