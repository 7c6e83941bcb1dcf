"""An engine behind a URL: any OpenAI-compatible server."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from types import TracebackType
from typing import Final
from urllib.parse import urlsplit

import aiohttp

from capstan_worker.engine.kinds import GAUGES, EngineKind, count_in_flight, sum_metric
from capstan_worker.engine.port import EngineAnswer, EngineRequest, Head
from capstan_worker.engine.sockets import connections_to
from capstan_worker.errors import EngineError, EngineUnreachable

_ASK = aiohttp.ClientTimeout(total=5, connect=2)
KEPT_SECONDS: Final = 2.0
"""How long a connection is kept for the next request. Engines keep an idle one for five seconds (vLLM and SGLang on
uvicorn) or for ever: it must not be used just when they close it."""


class HttpEngine:
    """Speaks with one engine. Use it as an async context manager."""

    def __init__(
        self,
        url: str,
        kind: EngineKind,
        *,
        places: int | None = None,
        first_byte_seconds: float = 600.0,
        idle_seconds: float = 600.0,
    ) -> None:
        self._url = url.rstrip("/")
        self._kind = kind
        self._places = places
        self._timeout = aiohttp.ClientTimeout(total=None, connect=5, sock_read=max(first_byte_seconds, idle_seconds))
        self._running: dict[str, aiohttp.ClientResponse] = {}
        self._told = kind in GAUGES
        """Whether the engine's metrics say how many requests it has. Where they do not connections are counted, and an
        idle one of ours would count as in flight."""
        self._session: aiohttp.ClientSession | None = None
        """Keeps no connection."""
        self._keeping: aiohttp.ClientSession | None = None

    async def __aenter__(self) -> "HttpEngine":
        self._session = aiohttp.ClientSession(connector=aiohttp.TCPConnector(force_close=True, limit=0))
        self._keeping = aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0, keepalive_timeout=KEPT_SECONDS))
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for session in (self._session, self._keeping):
            if session is not None:
                await session.close()

    async def ready(self) -> bool:
        """Ask /health; a server that has none is asked for its models."""
        try:
            status = await self._status("/health")
            if status == 404:
                status = await self._status("/v1/models")
        except EngineError:
            return False
        return 200 <= status < 300

    async def generate(self, request: EngineRequest) -> EngineAnswer:
        """Send a request; the body comes as the engine sends it."""
        headers = {"content-type": "application/json", **dict(request.headers)}
        session = self._keeping if self._told else self._session
        with _translated(self._url):
            response = await _opened(session).post(
                self._at(request.path), data=request.body, headers=headers, timeout=self._timeout
            )
        self._running[request.id] = response
        head = Head(response.status, response.headers.get("content-type", "application/json"))
        return EngineAnswer(head=head, body=self._body(request.id, response), request_id=request.id)

    async def abort(self, request_id: str) -> None:
        """Close the connection: that is how an OpenAI-compatible server is told to stop."""
        response = self._running.pop(request_id, None)
        if response is not None:
            response.close()

    async def in_flight(self) -> int:
        """Ask the engine's own metrics; count connections where it has none that say so."""
        gauges = GAUGES.get(self._kind)
        if gauges is not None:
            counted = count_in_flight((await self.metrics()).decode(errors="replace"), gauges)
            self._told = counted is not None
            if counted is not None:
                return counted
        # NB: a thread, because the kernel takes its time when there are many connections.
        return await asyncio.to_thread(connections_to, urlsplit(self._url).port or 80)

    async def room(self) -> int | None:
        """Places less what runs and waits; None unless the number of places was given."""
        gauges = GAUGES.get(self._kind)
        if self._places is None or gauges is None:
            return None
        text = (await self.metrics()).decode(errors="replace")
        busy = (sum_metric(text, gauges.running) or 0.0) + (sum_metric(text, gauges.waiting) or 0.0)
        return max(self._places - round(busy), 0)

    async def metrics(self) -> bytes:
        """Scrape /metrics; an engine without it has nothing to say."""
        with _translated(self._url):
            async with _opened(self._session).get(self._at("/metrics"), timeout=_ASK) as response:
                body = await response.read()
                return body if response.status == 200 else b""

    async def _body(self, request_id: str, response: aiohttp.ClientResponse) -> AsyncIterator[bytes]:
        try:
            with _translated(self._url):
                async for piece in response.content.iter_any():
                    yield piece
        finally:
            self._running.pop(request_id, None)
            response.close()

    async def _status(self, path: str) -> int:
        with _translated(self._url):
            async with _opened(self._session).get(self._at(path), timeout=_ASK) as response:
                return response.status

    def _at(self, path: str) -> str:
        return self._url + path


def _opened(session: aiohttp.ClientSession | None) -> aiohttp.ClientSession:
    if session is None:
        raise EngineError("the engine's client is used outside of its context")
    return session


@contextmanager
def _translated(url: str) -> Iterator[None]:
    """Turn the HTTP client's errors into ours."""
    try:
        yield
    except aiohttp.ClientConnectorError as error:
        raise EngineUnreachable(f"nothing listens at {url}") from error
    except (aiohttp.ClientError, TimeoutError) as error:
        raise EngineError(f"{url} did not answer as it should: {type(error).__name__}") from error
