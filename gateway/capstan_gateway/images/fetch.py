"""Fetching the images that requests name by URL, for engines that reach no network.

What a client names is asked of the public internet only: the host must be on the operator's list, its addresses are
resolved once, checked, and the connection goes to one of those that were checked. No redirect is followed, nothing of
the client's is sent, and bytes, time and how many are fetched at once are bounded.
"""

import asyncio
import base64
from collections.abc import Callable
from concurrent.futures import Executor
from dataclasses import dataclass
from functools import partial
from typing import Final

from capstan_gateway.dialects.targets.media import type_of_data
from capstan_gateway.errors import NO_ROOM, TRY_AGAIN, InvalidRequest, Overloaded
from capstan_gateway.headers import Header, find_header
from capstan_gateway.images.addresses import is_public
from capstan_gateway.images.urls import NotAllowed, Place, Source, source_of
from capstan_gateway.memory import Share
from capstan_gateway.upstream.errors import BodyTooLarge, NoMemory, UpstreamError
from capstan_gateway.upstream.http1 import Http1Client
from capstan_gateway.upstream.limits import Limits
from capstan_gateway.upstream.port import Endpoint

MAX_IMAGES: Final = 16
"""Different URLs in one request."""
MAX_AT_ONCE: Final = 16
"""Fetches at once, of all requests."""
TYPES: Final = frozenset(("image/png", "image/jpeg", "image/gif", "image/webp"))
_LIMITS: Final = Limits(head_bytes=16 * 1024, header_count=100, connections=MAX_AT_ONCE, idle_connections=2)
_HEADERS: Final[tuple[Header, ...]] = (
    (b"accept", ", ".join(sorted(TYPES)).encode()),
    (b"user-agent", b"capstan-gateway"),
)
_OK: Final = 200
_REDIRECTS: Final = range(300, 400)


@dataclass(frozen=True, slots=True, kw_only=True)
class FetchRules:
    """What may be fetched."""

    hosts: tuple[str, ...]
    max_bytes: int
    """Of one image, before it is encoded."""
    seconds: float
    """For one image, from the look-up of its host to its last byte."""
    allow_http: bool = False


class ImageFetcher:
    """Fetches images, each as a data URL. Belongs to the loop that it was made in."""

    def __init__(self, rules: FetchRules, executor: Executor, *, allowed: Callable[[str], bool] = is_public) -> None:
        self._rules = rules
        self._executor = executor
        self._client = Http1Client(limits=_LIMITS, allowed=allowed)
        self._places = asyncio.Semaphore(MAX_AT_ONCE)

    async def aclose(self) -> None:
        """Close every connection."""
        await self._client.aclose()

    async def fetch(self, places: list[Place], memory: Share) -> dict[str, str]:
        """Give the data URL of each URL. Raises InvalidRequest that names the first that cannot be, Overloaded."""
        wanted = {place.url: place for place in reversed(places)}
        if len(wanted) > MAX_IMAGES:
            raise InvalidRequest(f"at most {MAX_IMAGES} images are fetched for one request", param="messages")
        try:
            async with asyncio.TaskGroup() as group:
                tasks = {url: group.create_task(self._one(place, memory)) for url, place in wanted.items()}
        except* (InvalidRequest, Overloaded) as errors:
            raise _first(errors) from None
        return {url: task.result() for url, task in tasks.items()}

    async def _one(self, place: Place, memory: Share) -> str:
        try:
            source = source_of(place.url, hosts=self._rules.hosts, allow_http=self._rules.allow_http)
            # NB: the wait for a place counts: nobody waits for longer than is said.
            async with asyncio.timeout(self._rules.seconds), self._places:
                body, said = await self._get(source, memory)
        except NotAllowed as error:
            raise _refused(place, str(error)) from error
        except TimeoutError as error:
            raise _refused(place, f"it took longer than {self._rules.seconds:g} s") from error
        except NoMemory as error:
            raise Overloaded(NO_ROOM, headers=TRY_AGAIN) from error
        except BodyTooLarge as error:
            raise _refused(place, f"it is larger than {self._rules.max_bytes} bytes") from error
        except UpstreamError as error:
            raise _refused(place, "its host could not be reached, or broke off") from error
        if not memory.grow(2 * len(body)):
            raise Overloaded(NO_ROOM, headers=TRY_AGAIN)
        loop = asyncio.get_running_loop()
        data = await loop.run_in_executor(self._executor, partial(base64.b64encode, body))
        text = data.decode()
        kind = type_of_data(text)
        if said not in TYPES or kind not in TYPES:
            raise _refused(place, f"it is none of {', '.join(sorted(TYPES))}")
        return f"data:{kind};base64,{text}"

    async def _get(self, source: Source, memory: Share) -> tuple[bytes, str]:
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
            if response.status in _REDIRECTS:
                raise NotAllowed("it is elsewhere, and redirects are not followed")
            if response.status != _OK:
                raise NotAllowed(f"its host answered with status {response.status}")
            said = find_header(response.headers, b"content-type").partition(b";")[0].strip().lower()
            return await response.read(self._rules.max_bytes, lambda: memory), said.decode("latin-1")
        finally:
            response.abort()


def _refused(place: Place, why: str) -> InvalidRequest:
    return InvalidRequest(f"`{place.field}` cannot be fetched: {why}", code="invalid_value", param=place.field)


def _first(group: BaseExceptionGroup[BaseException]) -> BaseException:
    error: BaseException = group
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error
