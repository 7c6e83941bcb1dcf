"""Pure: what the head of a request must be like, beyond what the parser itself refuses.

RFC 9112 leaves no choice in most of this: what two servers could understand differently is refused. docs/gateway.md has
the verdicts in a table.
"""

from collections.abc import Sequence
from typing import Final

import httptools

from capstan_gateway.errors import CodingNotSupported, GatewayError, InvalidRequest, VersionNotSupported

CHUNKED: Final = b"chunked"
_VERSIONS: Final = frozenset(("1.0", "1.1"))
_SCHEMES: Final = (b"http://", b"https://")
_HOST: Final = b"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-._~!$&'()*+;=%:[]"
"""What a host and a port consist of (RFC 3986). A comma would be allowed there, and is how proxies join two hosts."""


def fault_of(
    *, method: bytes, target: bytes, version: str, hosts: Sequence[bytes], codings: Sequence[bytes], has_length: bool
) -> GatewayError | None:
    """What is wrong with this head; None when nothing is. `hosts` and `codings` are the values of these headers."""
    if version not in _VERSIONS:
        return VersionNotSupported("the request is not HTTP/1.1")
    return _host_fault(hosts, version) or _coding_fault(codings, version, has_length) or _target_fault(method, target)


def _host_fault(hosts: Sequence[bytes], version: str) -> GatewayError | None:
    if len(hosts) > 1:
        return InvalidRequest("the request has more than one `Host` header")
    if not hosts:
        return InvalidRequest("the request has no `Host` header") if version == "1.1" else None
    if hosts[0].strip(b" \t").translate(None, _HOST):
        return InvalidRequest("the `Host` header is no host")
    return None


def _coding_fault(codings: Sequence[bytes], version: str, has_length: bool) -> GatewayError | None:
    """Only bodies in chunks have another framing than their length, and only in HTTP/1.1."""
    if not codings:
        return None
    if has_length or version != "1.1" or len(codings) > 1:
        return InvalidRequest("the request's framing is not clear: `Transfer-Encoding` must stand alone in HTTP/1.1")
    if codings[0].strip(b" \t").lower() != CHUNKED:
        return CodingNotSupported("the only transfer coding is `chunked`")
    return None


def _target_fault(method: bytes, target: bytes) -> GatewayError | None:
    if b"#" in target:
        return InvalidRequest("the request's target has a fragment")
    if target.startswith(b"/") or method == b"CONNECT":
        return None
    if target == b"*":
        return None if method == b"OPTIONS" else InvalidRequest("the target `*` is for OPTIONS")
    if not target.lower().startswith(_SCHEMES):
        return InvalidRequest("the request's target is neither a path nor an http URL")
    return None if _is_url(target) else InvalidRequest("the request's target is not a valid URL")


def _is_url(target: bytes) -> bool:
    """Whether it has a host and a port that can be; a name and a password are refused (RFC 9110, 4.2.4)."""
    try:
        url = httptools.parse_url(target)
    except httptools.HttpParserInvalidURLError:
        return False
    return bool(url.host) and url.userinfo is None
