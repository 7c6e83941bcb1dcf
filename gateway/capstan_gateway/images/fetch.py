"""Fetching the images that requests name by URL, for engines that reach no network.

What a client names is asked of the public internet only: the host must be on the operator's list, its addresses are
resolved once, checked, and the connection goes to one of those that were checked. No redirect is followed, nothing of
the client's is sent, and bytes, time and how many are fetched at once are bounded.
"""

import asyncio
import binascii
from collections.abc import Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass
from typing import Final

from capstan_gateway.dialects.targets.media import type_of_data
from capstan_gateway.headers import Header, find_header
from capstan_gateway.images.addresses import is_public
from capstan_gateway.images.outcome import LATE, NO_ROOM, UNREACHABLE, WRONG, Failure, Outcome
from capstan_gateway.images.urls import NotAllowed, Source, source_of
from capstan_gateway.life.threads import Busy, Threads
from capstan_gateway.memory import Share
from capstan_gateway.upstream.errors import AddressNotAllowed, BodyTooLarge, DeadlineExceeded, NoMemory, UpstreamError
from capstan_gateway.upstream.http1 import Http1Client
from capstan_gateway.upstream.limits import Limits
from capstan_gateway.upstream.port import Endpoint

MAX_AT_ONCE: Final = 16
"""Fetches at once, of all requests."""
MAX_OF_ENTRY: Final = MAX_AT_ONCE // 2
"""Of these, from the hosts of one entry of the list, where it has several: a slow one leaves places for the others."""
TYPES: Final = frozenset(("image/png", "image/jpeg", "image/gif", "image/webp"))
ENCODING_FACTOR: Final = 4
"""How many times its size an image takes while it becomes a text: itself, its base64 twice, and once as the text."""
_LIMITS: Final = Limits(head_bytes=16 * 1024, header_count=100, connections=MAX_AT_ONCE, idle_connections=2)
_HEADERS: Final[tuple[Header, ...]] = (
    (b"accept", ", ".join(sorted(TYPES)).encode()),
    (b"user-agent", b"capstan-gateway"),
)
_OK: Final = 200
_REDIRECTS: Final = range(300, 400)
_BUSY: Final = frozenset((408, 429))
_SERVER_ERROR: Final = 500
_SIGNATURE_BYTES: Final = 18
_NO_PLACE: Final = Failure(NO_ROOM, "waits for too long: as many images are fetched as may be at once; try again")
_NO_MEMORY: Final = Failure(NO_ROOM, "has no room: the gateway holds as much as it may; try again")
_UNREACHED: Final = Failure(UNREACHABLE, "cannot be fetched: its host could not be reached, or broke off")
_PRIVATE: Final = Failure(WRONG, "cannot be fetched: its host has an address that is not one of the public internet")
_OTHER_TYPE: Final = Failure(WRONG, f"cannot be fetched: it is none of {', '.join(sorted(TYPES))}")
_ELSEWHERE: Final = Failure(WRONG, "cannot be fetched: it is elsewhere, and redirects are not followed")


@dataclass(frozen=True, slots=True, kw_only=True)
class FetchRules:
    """What may be fetched."""

    hosts: tuple[str, ...]
    max_bytes: int
    """Of one image, before it is encoded."""
    seconds: float
    """For one image, from the look-up of its host to its last byte; and before that as long for a place."""
    allow_http: bool = False


class ImageFetcher:
    """Fetches images, each as a data URL. Belongs to the loop that it was made in."""

    def __init__(self, rules: FetchRules, threads: Threads, *, allowed: Callable[[str], bool] = is_public) -> None:
        self._rules = rules
        self._threads = threads
        self._client = Http1Client(limits=_LIMITS, allowed=allowed)
        self._places = asyncio.Semaphore(MAX_AT_ONCE)
        of_entry = MAX_AT_ONCE if len(rules.hosts) == 1 else MAX_OF_ENTRY
        self._entries = {entry: asyncio.Semaphore(of_entry) for entry in rules.hosts}

    async def aclose(self) -> None:
        """Close every connection."""
        await self._client.aclose()

    async def fetch(self, url: str, share: Share) -> Outcome:
        """Give the data URL, or why there is none. `share` then holds what that takes; it holds nothing before."""
        try:
            source = source_of(url, hosts=self._rules.hosts, allow_http=self._rules.allow_http)
        except NotAllowed as error:
            return Failure(WRONG, f"cannot be fetched: {error}")
        seconds = self._rules.seconds
        async with AsyncExitStack() as places:
            try:
                # NB: the wait for a place is our own overload, and nothing that the client can do anything about.
                async with asyncio.timeout(seconds):
                    await places.enter_async_context(self._entries[source.entry])
                    await places.enter_async_context(self._places)
            except TimeoutError:
                return _NO_PLACE
            try:
                async with asyncio.timeout(seconds):
                    got = await self._get(source, share)
            except TimeoutError:
                return self._late()
            except UpstreamError as error:
                return self._failure(error)
        return got if isinstance(got, Failure) else await self._encoded(got, share)

    async def _get(self, source: Source, share: Share) -> bytes | Failure:
        endpoint = Endpoint(
            id=f"image:{source.scheme}://{source.host}:{source.port}",
            host=source.host, port=source.port, scheme=source.scheme,
        )  # fmt: skip
        seconds = self._rules.seconds
        response = await self._client.send(
            endpoint, method=b"GET", path=source.target.encode(), headers=_HEADERS,
            connect_timeout=seconds, first_byte_timeout=seconds, idle_timeout=seconds,
        )  # fmt: skip
        try:
            refused = _refused(response.status)
            if refused is not None:
                return refused
            said = find_header(response.headers, b"content-type").partition(b";")[0].strip().lower()
            body = await response.read(self._rules.max_bytes, lambda: share)
            return body if said.decode("latin-1") in TYPES else _OTHER_TYPE
        finally:
            response.abort()

    async def _encoded(self, body: bytes, share: Share) -> Outcome:
        if not share.grow_to(ENCODING_FACTOR * len(body)):
            return _NO_MEMORY
        try:
            text = await self._threads.run(data_url, body)
        except Busy:
            return _NO_MEMORY
        if text is None:
            return _OTHER_TYPE
        share.shrink_to(len(text))
        return text

    def _failure(self, error: UpstreamError) -> Failure:
        if isinstance(error, NoMemory):
            return _NO_MEMORY
        if isinstance(error, BodyTooLarge):
            return Failure(WRONG, f"cannot be fetched: it is larger than {self._rules.max_bytes} bytes")
        if isinstance(error, DeadlineExceeded):
            return self._late()
        return _PRIVATE if isinstance(error, AddressNotAllowed) else _UNREACHED

    def _late(self) -> Failure:
        return Failure(LATE, f"cannot be fetched: it took longer than {self._rules.seconds:g} s")


def data_url(body: bytes) -> str | None:
    """Give an image as a data URL of the type that its first bytes tell; None when that is none of `TYPES`."""
    kind = type_of_data(binascii.b2a_base64(body[:_SIGNATURE_BYTES], newline=False).decode())
    if kind not in TYPES:
        return None
    return (b"data:%b;base64,%b" % (kind.encode(), binascii.b2a_base64(body, newline=False))).decode("ascii")


def _refused(status: int) -> Failure | None:
    """Say why an answer of this status is no image; None when it may be one."""
    if status == _OK:
        return None
    if status in _REDIRECTS:
        return _ELSEWHERE
    passing = status >= _SERVER_ERROR or status in _BUSY
    return Failure(UNREACHABLE if passing else WRONG, f"cannot be fetched: its host answered with status {status}")
