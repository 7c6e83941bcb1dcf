"""Models over HTTP: the OpenAI API of any gateway or engine, asked by few connections and within a bound on spend.

Answers are streamed, so that the time of the first token is known, and their usage is asked for. Nothing that a server
or a network does raises: it becomes a code in the answer (docs/evaluation-runs.md has them). Of a connection that broke
after the request was sent nobody knows what was done for it; a bound on spend counts it in full.
"""

import asyncio
import random
import ssl
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final
from urllib.parse import unquote, urlsplit
from urllib.request import getproxies, proxy_bypass

import aiohttp

from capstan_evaluation.records import Answer, Usage
from capstan_evaluation.runs.budget import Budget, Reservation
from capstan_evaluation.runs.prices import Bound, ModelPrice, bound_of, bound_of_texts
from capstan_evaluation.runs.retries import Failure, decide_wait, refusal
from capstan_evaluation.runs.stream import (
    CONTENT_FILTER,
    DONE,
    MOST_BYTES,
    Assembly,
    BadStream,
    Frames,
    clean,
    error_code,
    parse,
    read_vectors,
    usage_of,
)

CHAT: Final = "/v1/chat/completions"
EMBEDDINGS: Final = "/v1/embeddings"
HELLO: Final = "/api/hello"
"""What a gateway of Capstan's answers with its name."""
DEFAULT_SECONDS: Final = 600.0
DEFAULT_ANSWER_TOKENS: Final = 4096
_MOST_ERROR_BYTES: Final = 64 * 1024

Floats = tuple[tuple[float, ...], ...]
OnTry = Callable[[Reservation], None]
Read = Callable[[aiohttp.ClientResponse, float], Awaitable[Answer]]


def _ignore(reservation: Reservation) -> None:
    """Nobody wants to know."""


class BadUrl(ValueError):
    """What is no base URL; the message says why, without what stands before an `@`."""


@dataclass(frozen=True)
class Server:
    """Where models are asked."""

    url: str
    """Base URL, without /v1."""
    key: str = field(default="", repr=False)
    seconds: float = DEFAULT_SECONDS
    """For one try of an ask."""
    request_id: Callable[[], str] | None = None
    """Names each try to the server; None: the server does."""


class Connection:
    """What all asks of one process share: the connections, how many there are at once, and the bound on spend."""

    def __init__(
        self,
        session: aiohttp.ClientSession,
        *,
        concurrency: int,
        budget: Budget | None = None,
        now: Callable[[], float] = time.monotonic,
        draw: Callable[[], float] = random.random,
    ) -> None:
        self.session = session
        self.slots = asyncio.Semaphore(concurrency)
        self.budget = budget or Budget()
        self.now = now
        self.draw = draw


def open_session(concurrency: int, context: ssl.SSLContext | None = None) -> aiohttp.ClientSession:
    """Open the connections. Proxies are those of the environment; the time of an ask is bounded by the ask."""
    connector = aiohttp.TCPConnector(limit=concurrency, ssl=context if context is not None else True)
    timeout = aiohttp.ClientTimeout(total=None, connect=None, sock_connect=30, sock_read=None)
    return aiohttp.ClientSession(connector=connector, timeout=timeout, read_bufsize=2**20)


class Model:
    """One model of one server: a `Chat` and an `Embedder`."""

    def __init__(
        self,
        connection: Connection,
        server: Server,
        name: str,
        *,
        price: ModelPrice | None = None,
        tells_cost: bool = False,
        most_tokens: int = DEFAULT_ANSWER_TOKENS,
    ) -> None:
        """`tells_cost`: the server is a gateway of Capstan's, which is asked what an answer cost. `most_tokens`: of an
        answer, where the ask says nothing and spend is bounded."""
        self.name = name
        self._connection = connection
        self._server = server
        self._price = price
        self._tells_cost = tells_cost
        self._most_tokens = most_tokens

    @property
    def bounded(self) -> bool:
        """Whether spend is."""
        return self._connection.budget.bounded

    async def chat(self, document: Mapping[str, Any], *, on_try: OnTry = _ignore) -> Answer:
        """Ask once, and tell of each try before it begins. Raises BudgetSpent, and nothing else."""
        said: dict[str, Any] = {**document}
        if self._connection.budget.bounded:
            said.setdefault("max_tokens", self._most_tokens)
        bound = bound_of(said.get("messages", ()), int(said.get("max_tokens", 0)) * int(said.get("n", 1)))
        return await self._ask(CHAT, self._chat_body(said), bound, self._read_chat, on_try)

    async def embed(self, texts: Sequence[str], *, on_try: OnTry = _ignore) -> tuple[Answer, Floats]:
        """Ask for the vectors of texts, and tell of each try. The answer has no text. Raises BudgetSpent, and nothing
        else."""
        body = {"model": self.name, "input": list(texts), "encoding_format": "float"}
        found: list[Floats] = []

        async def read(response: aiohttp.ClientResponse, began: float) -> Answer:
            document = parse(await _whole(response, MOST_BYTES))
            found.append(read_vectors(document, len(texts)))
            return Answer(usage=usage_of(document), seconds=self._connection.now() - began)

        answer = await self._ask(EMBEDDINGS, body, bound_of_texts(texts), read, on_try)
        return answer, () if answer.error else found[-1]

    def _chat_body(self, document: Mapping[str, Any]) -> dict[str, Any]:
        body = {**document, "model": self.name, "stream": True, "stream_options": {"include_usage": True}}
        return {**body, "capstan": {"cost": True}} if self._tells_cost else body

    async def _ask(self, path: str, body: Mapping[str, Any], bound: Bound, read: Read, on_try: OnTry) -> Answer:
        budget = self._connection.budget
        doubt = Usage()
        tries = 0
        while True:
            tries += 1
            dollars = self._price.most(bound) if self._price else 0.0
            async with self._connection.slots:
                reservation = await budget.reserve(bound.tokens, dollars)
                usage = _in_doubt(Usage(), reservation)
                try:
                    on_try(reservation)
                    found = await self._try(path, body, read)
                    if isinstance(found, Answer):
                        found = found.model_copy(update={"usage": self._priced(found.usage)})
                        usage = found.usage
                    elif not found.in_doubt:
                        usage = Usage()
                finally:
                    budget.settle(reservation, usage)
            doubt = _sum(doubt, usage)
            if isinstance(found, Answer):
                return found.model_copy(update={"usage": _with_doubt(found.usage, doubt)})
            wait = decide_wait(found, tries, self._connection.draw())
            if wait is None:
                return _no_answer(found, doubt)
            await asyncio.sleep(wait)

    async def _try(self, path: str, body: Mapping[str, Any], read: Read) -> Answer | Failure:
        headers = {"authorization": f"Bearer {self._server.key}"} if self._server.key else {}
        # NB: an answer out of a cache says nothing of the model.
        headers["cache-control"] = "no-store"
        if self._server.request_id is not None:
            headers["x-request-id"] = self._server.request_id()
        began = self._connection.now()
        try:
            async with (
                asyncio.timeout(self._server.seconds),
                self._connection.session.post(
                    self._server.url + path,
                    json=body,
                    headers=headers,
                    allow_redirects=False,
                    **_proxy(self._server.url),
                ) as response,
            ):
                if response.status >= 300:
                    return await self._refused(response, began)
                return await read(response, began)
        except TimeoutError:
            return Failure("timeout")
        except BadStream as error:
            return Failure(error.code)
        except aiohttp.ClientConnectorCertificateError:
            return Failure("tls_failed", sent=False)
        except aiohttp.ClientConnectorError as error:
            broken = isinstance(error, aiohttp.ClientConnectorSSLError)
            return Failure("tls_failed" if broken else "connection_failed", sent=False, retryable=not broken)
        except (aiohttp.ClientPayloadError, aiohttp.ClientConnectionError, ConnectionError):
            return Failure("connection_lost", retryable=True)
        except (aiohttp.ClientError, ValueError):
            return Failure("bad_answer")

    async def _refused(self, response: aiohttp.ClientResponse, began: float) -> Answer | Failure:
        """Read an error. A prompt that a filter blocks is answered by that."""
        raw = await _whole(response, _MOST_ERROR_BYTES)
        try:
            code = error_code(parse(raw), f"http_{response.status}")
        except BadStream:
            code = f"http_{response.status}"
        if code == CONTENT_FILTER:
            return Answer(finishReason=CONTENT_FILTER, usage=Usage(cost=0.0), seconds=self._connection.now() - began)
        return refusal(response.status, code, response.headers)

    async def _read_chat(self, response: aiohttp.ClientResponse, began: float) -> Answer:
        assembly, first = Assembly(), None
        if not response.content_type.endswith("event-stream"):
            assembly.add(await _whole(response, MOST_BYTES))
            return assembly.answer(seconds=self._connection.now() - began, first=None)
        frames = Frames()
        async for piece in response.content.iter_any():
            for data in frames.feed(piece):
                if data == DONE:
                    return self._end(assembly, began, first)
                assembly.add(data)
                if assembly.begun and first is None:
                    first = self._connection.now() - began
        return self._end(assembly, began, first)

    def _end(self, assembly: Assembly, began: float, first: float | None) -> Answer:
        if not assembly.finish:
            raise BadStream("stream_broken")
        return assembly.answer(seconds=self._connection.now() - began, first=first)

    def _priced(self, usage: Usage) -> Usage:
        """Put the price of the file, where it has one, over what the gateway says."""
        return usage if self._price is None else usage.model_copy(update={"cost": self._price.cost(usage)})


async def tells_cost(connection: Connection, server: Server) -> bool:
    """Ask whether a server is a gateway of Capstan's, which takes fields that others refuse."""
    try:
        async with (
            asyncio.timeout(10),
            connection.session.get(server.url + HELLO, allow_redirects=False, **_proxy(server.url)) as response,
        ):
            return response.status == 200 and parse(await _whole(response, 4096)).get("name") == "capstan"
    except (TimeoutError, aiohttp.ClientError, OSError, BadStream, ValueError):
        return False


def read_url(url: str) -> str:
    """Give the base URL without /v1. Raises BadUrl."""
    try:
        parts = urlsplit(url)
        host, port = parts.hostname, parts.port
    except ValueError:
        raise BadUrl("is no URL") from None
    if parts.scheme not in ("http", "https") or not host or port == 0:
        raise BadUrl("must be http://HOST or https://HOST, with or without /v1")
    if parts.username is not None or parts.password is not None:
        raise BadUrl("must hold no user and no password: keys are read from a file or the environment")
    if parts.query or parts.fragment:
        raise BadUrl("must have no `?` and no `#`")
    return url.rstrip("/").removesuffix("/v1").rstrip("/")


def _proxy(url: str) -> dict[str, Any]:
    """Give the proxy of the environment for a server, as aiohttp takes it.

    NB: its own `trust_env` would send what a .netrc has for the host in the place of the API key.
    """
    parts = urlsplit(url)
    named = getproxies().get(parts.scheme)
    if not named or proxy_bypass(parts.hostname or ""):
        return {}
    proxy = urlsplit(named)
    if proxy.username is None:
        return {"proxy": named}
    # NB: aiohttp says to the proxy, as Proxy-Authorization, what stands here.
    told = aiohttp.encode_basic_auth(unquote(proxy.username), unquote(proxy.password or ""))
    plain = proxy._replace(netloc=proxy.netloc.rpartition("@")[2]).geturl()
    return {"proxy": plain, "proxy_headers": {"authorization": told}}


async def _whole(response: aiohttp.ClientResponse, most: int) -> bytes:
    """Read a body of at most so many bytes. Raises BadStream for more."""
    pieces, size = [], 0
    async for piece in response.content.iter_any():
        size += len(piece)
        if size > most:
            raise BadStream("answer_too_large")
        pieces.append(piece)
    return b"".join(pieces)


def _in_doubt(usage: Usage, reservation: Reservation) -> Usage:
    return usage.model_copy(update={"doubtTokens": reservation.tokens, "doubtCost": reservation.nano / 1e9})


def _sum(first: Usage, second: Usage) -> Usage:
    """Add up what is in doubt."""
    return Usage(doubtTokens=first.doubtTokens + second.doubtTokens, doubtCost=first.doubtCost + second.doubtCost)


def _with_doubt(usage: Usage, doubt: Usage) -> Usage:
    return usage.model_copy(update={"doubtTokens": doubt.doubtTokens, "doubtCost": doubt.doubtCost})


def _no_answer(failure: Failure, doubt: Usage) -> Answer:
    return Answer(error=clean(failure.code), transient=failure.transient, usage=doubt)
