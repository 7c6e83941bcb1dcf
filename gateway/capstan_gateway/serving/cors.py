"""Cross-origin requests of browsers (the Fetch standard's CORS protocol). Pure; off unless origins are allowed."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from capstan_gateway.headers import Header, find_header, header_lines

ANY: Final = "*"
MAX_REQUESTED: Final = 1024
"""Bytes of the headers that a preflight may ask for where all are allowed."""
_TOKENS: Final = b"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789!#$%&'*+-.^_`|~, \t"
_ORIGIN: Final = b"origin"
_METHOD: Final = b"access-control-request-method"
_HEADERS: Final = b"access-control-request-headers"
_VARY: Final = b"vary: origin\r\n"
_VARY_PREFLIGHT: Final = b"vary: origin, access-control-request-method, access-control-request-headers\r\n"


@dataclass(frozen=True, slots=True, kw_only=True)
class CorsSettings:
    """Which pages of other origins may use the gateway from a browser."""

    origins: tuple[str, ...]
    """Such as `https://app.example.com`, compared letter by letter; `*` for every one."""
    methods: tuple[str, ...] = ("GET", "HEAD", "POST")
    headers: tuple[str, ...] = (ANY,)
    """Which headers a page may send; `*` for whatever it asks for, `authorization` among them."""
    exposed: tuple[str, ...] = ()
    """Which headers of an answer a page may read."""
    max_age_seconds: int = 600
    """How long a browser remembers a preflight."""


class Cors:
    """Writes the headers for one set of settings. Cookies take no part: credentials are never allowed."""

    def __init__(self, settings: CorsSettings) -> None:
        self._any = ANY in settings.origins
        self._origins = frozenset(origin.encode() for origin in settings.origins)
        self._exposed = _line(b"access-control-expose-headers", settings.exposed)
        self._methods = _line(b"access-control-allow-methods", settings.methods)
        self._any_header = ANY in settings.headers
        self._headers = _line(b"access-control-allow-headers", settings.headers)
        self._max_age = b"access-control-max-age: %d\r\n" % settings.max_age_seconds

    def lines(self, headers: Sequence[Header]) -> bytes:
        """What every answer to a request with these headers says about its origin, as header lines."""
        vary = b"" if self._any else _VARY
        return self._allow(headers) + vary + self._exposed if self._allows(headers) else vary

    def preflight(self, method: bytes, headers: Sequence[Header]) -> bytes | None:
        """What answers a preflight of an allowed origin; None when the request is none, or its origin not allowed."""
        if method != b"OPTIONS" or not find_header(headers, _METHOD) or not self._allows(headers):
            return None
        allowed = self._headers
        if self._any_header:
            asked = find_header(headers, _HEADERS)[:MAX_REQUESTED]
            harmless = asked and not asked.translate(None, _TOKENS)
            allowed = b"access-control-allow-headers: %b\r\n" % asked if harmless else b""
        return self._allow(headers) + self._methods + allowed + self._max_age + _VARY_PREFLIGHT

    def _allows(self, headers: Sequence[Header]) -> bool:
        origin = find_header(headers, _ORIGIN)
        return bool(origin) and (self._any or origin in self._origins)

    def _allow(self, headers: Sequence[Header]) -> bytes:
        origin = b"*" if self._any else find_header(headers, _ORIGIN)
        return header_lines(((b"access-control-allow-origin", origin),))


def _line(name: bytes, values: Sequence[str]) -> bytes:
    return b"%b: %b\r\n" % (name, ", ".join(values).encode()) if values else b""
