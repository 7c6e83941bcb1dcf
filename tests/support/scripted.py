"""An upstream client whose endpoints follow a script, in a loop whose time is virtual: for every order of events."""

import asyncio
import math
import random
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from capstan_gateway.memory import Share
from capstan_gateway.routing.breaker import BreakerSettings
from capstan_gateway.routing.budget import BudgetSettings, RetryBudget
from capstan_gateway.routing.dispatch import Dispatcher
from capstan_gateway.routing.endpoints import EndpointSet
from capstan_gateway.routing.hedge import HedgeSettings, Hedging
from capstan_gateway.routing.port import Call
from capstan_gateway.routing.registry import EndpointRegistry, EndpointState
from capstan_gateway.upstream.errors import (
    BodyBroken,
    ConnectFailed,
    ConnectionLost,
    DeadlineExceeded,
    DeadlineKind,
    UpstreamError,
)
from capstan_gateway.upstream.port import Endpoint, Headers, Sending

TOKEN = b"token"
PING = b": ping\n\n"


@dataclass(frozen=True)
class Plan:
    """What an endpoint does with a request: a head after a while, then pieces, then an end."""

    head: float = 0.0
    """Seconds to the head of the answer."""
    pieces: tuple[tuple[float, bytes], ...] = ((0.0, TOKEN),)
    """Seconds from what was before, and what comes then."""
    status: int = 200
    """0: the connection is lost instead of a head; -1: there is none."""
    ends: bool = True
    """Whether the body comes to its end behind its last piece; otherwise nothing ever comes again."""
    breaks: bool = False
    """Whether the body breaks off behind its last piece."""
    headers: tuple[tuple[bytes, bytes], ...] = ()
    at_once: bool = False
    """Whether the whole body is there with the head, for who asks for it then."""


HANGS = Plan(head=math.inf)


@dataclass
class Reply:
    """A response that follows a plan, keeps its deadlines, and counts how often its connection is ended."""

    plan: Plan
    endpoint_id: str
    first_byte_at: float
    idle_seconds: float
    expires_at: float
    status: int = 0
    headers: list[tuple[bytes, bytes]] = field(default_factory=list)
    complete: bool = False
    body_began: bool = False
    awaits_token: bool | None = None
    ended: int = 0
    asked_for: list[tuple[str, object]] = field(default_factory=list)
    """How it was read as a whole, and up to how many bytes (`read` from a budget: and from which)."""
    _next: int = 0
    _pending: bytes = b""
    _waits_since: float | None = None

    async def until(self, seconds: float) -> None:
        """Let so much time pass, or fail at the deadline in force."""
        loop = asyncio.get_running_loop()
        now = loop.time()
        at, kind = self.first_byte_at, DeadlineKind.FIRST_TOKEN
        if not self.awaits_token and (self.body_began or self.awaits_token is not None):
            at, kind = now + self.idle_seconds, DeadlineKind.IDLE
        if self.expires_at < at:
            at, kind = self.expires_at, DeadlineKind.TOTAL
        if now + seconds >= at:
            await asyncio.sleep(at - now)
            self.abort()
            raise DeadlineExceeded(self.endpoint_id, kind)
        await asyncio.sleep(seconds)

    async def wait_body(self) -> None:
        """Wait for the first piece, or the end."""
        while not self._pending and not self.complete:
            await self._step()

    async def receive(self) -> bytes:
        """Give the next piece."""
        if self.body_began:
            self._waits_since = asyncio.get_running_loop().time()
        if not self._pending and not self.complete:
            await self._step()
        self._waits_since = None
        piece, self._pending = self._pending, b""
        return piece

    def read_now(self, max_bytes: int) -> bytes | None:
        """Give the body that is there at once, or let it be awaited."""
        self.asked_for.append(("now", max_bytes))
        if not self.plan.at_once:
            return None
        self.complete, self.ended = True, self.ended + 1
        return b"".join(piece for _, piece in self.plan.pieces)

    async def read(self, max_bytes: int, memory: Callable[[], Share] | None = None) -> bytes:
        """Give the body."""
        self.asked_for.append(("whole", max_bytes if memory is None else (max_bytes, memory)))
        pieces = []
        while piece := await self.receive():
            pieces.append(piece)
        return b"".join(pieces)[:max_bytes]

    async def read_beginning(self, max_bytes: int) -> bytes:
        """Give the body, and end."""
        self.asked_for.append(("beginning", max_bytes))
        try:
            return await self.read(max_bytes)
        finally:
            self.abort()

    def silent_for(self, now: float) -> float:
        """How long its reader has waited."""
        return 0.0 if self._waits_since is None else now - self._waits_since

    def abort(self) -> None:
        """End the connection; harmless when it has ended."""
        if not self.ended:
            self.ended += 1

    async def _step(self) -> None:
        if self._next < len(self.plan.pieces):
            seconds, piece = self.plan.pieces[self._next]
            self._next += 1
            await self.until(seconds)
            self._pending, self.body_began = piece, True
            return
        if self.plan.breaks:
            self.abort()
            raise BodyBroken(self.endpoint_id, "broken")
        if not self.plan.ends:
            await self.until(math.inf)
        self.complete = True
        self.ended += 1


class Upstreams:
    """Endpoints that follow plans: by their id where there is one for it, otherwise in turn."""

    def __init__(self, *plans: Plan, by_id: dict[str, Plan] | None = None) -> None:
        self._plans = plans
        self._by_id = by_id or {}
        self.replies: list[Reply] = []
        self.open = 0
        """Requests of which there is no head yet."""
        self.asked: list[str] = []
        self.options: list[dict[str, Any]] = []

    async def send(
        self,
        endpoint: Endpoint,
        *,
        method: bytes,
        path: bytes,
        headers: Headers = (),
        body: bytes = b"",
        connect_timeout: float = 5.0,
        first_byte_timeout: float = 120.0,
        idle_timeout: float = 60.0,
        expires_at: float = math.inf,
        repeatable: bool = False,
        sending: Sending | None = None,
    ) -> Reply:
        """Follow the plan of this endpoint, or the next one."""
        plan = self._by_id.get(endpoint.id) or self._plans[len(self.asked) % len(self._plans)]
        self.asked.append(endpoint.id)
        self.options.append({
            "method": method, "path": path, "headers": headers, "body": body, "repeatable": repeatable,
            "connect": connect_timeout, "first": first_byte_timeout, "idle": idle_timeout, "expires_at": expires_at,
        })  # fmt: skip
        self.open += 1
        now = asyncio.get_running_loop().time()
        reply = Reply(plan, endpoint.id, now + first_byte_timeout, idle_timeout, expires_at)
        try:
            if plan.status == -1:
                await asyncio.sleep(min(plan.head, connect_timeout))
                raise ConnectFailed(endpoint.id, "refused")
            if sending is not None:
                sending.sent = True
            await reply.until(plan.head)
            if not plan.status:
                raise ConnectionLost(endpoint.id, "lost")
        finally:
            self.open -= 1
        reply.status, reply.headers = plan.status, list(plan.headers)
        self.replies.append(reply)
        return reply

    def close_idle(self, endpoint_id: str) -> None:
        """There is nothing idle."""

    async def aclose(self) -> None:
        """There is nothing to close."""


class TokenOpening:
    """Waits for the word `token`; the word `nonsense` is a fault."""

    def __init__(self) -> None:
        self.fault: str | None = None
        self.seen = b""

    def feed(self, data: bytes) -> bool:
        """Take a piece."""
        self.seen += data
        if b"nonsense" in data:
            self.fault = "Nonsense"
        return not data or TOKEN in data or self.fault is not None


def token_opening(status: int, headers: object) -> TokenOpening:
    """What a call has that waits for a first token."""
    del status, headers
    return TokenOpening()


def endpoint_set(count: int = 2, *, settings: BreakerSettings | None = None) -> EndpointSet:
    """Endpoints e0, e1, ...; without settings their breakers open after a million failures."""
    registry = EndpointRegistry(settings=settings or BreakerSettings(threshold=1_000_000))
    return EndpointSet(registry, [Endpoint(f"e{number}", "127.0.0.1", 1000 + number) for number in range(count)])


def call(endpoints: EndpointSet, **options: Any) -> Call:
    """A stream with a hundred seconds to live."""
    given = {"path": b"/x", "expires_at": asyncio.get_running_loop().time() + 100, **options}
    return Call(endpoints=endpoints, **given)


def budget_of(retries: float) -> RetryBudget:
    """A budget of so many retries, and no more ever."""
    return RetryBudget(BudgetSettings(share=0, floor_per_second=0, burst=retries))


def dispatcher(
    client: Upstreams, *, retries: float = 0, hedge_after: float | None = None, share: float = 1.0, seed: int = 3
) -> Dispatcher:
    """A dispatcher with so many retries, that hedges after so many seconds."""
    hedging = None
    if hedge_after is not None:
        hedging = Hedging(HedgeSettings(share=share, burst=5, after_seconds=hedge_after))
    rng = random.Random(seed)  # noqa: S311 - a test's choices
    return Dispatcher(client, budget=budget_of(retries), rng=rng, hedging=hedging)


def failures(state: EndpointState) -> int:
    """Failures in a row that a closed breaker has counted."""
    return state.breaker._failures


async def settled(task: "asyncio.Task[Any]") -> BaseException | None:
    """Wait for a task; give what it raised."""
    await asyncio.wait([task])
    await asyncio.sleep(0)
    if task.cancelled():
        return asyncio.CancelledError()
    error = task.exception()
    assert (
        error is None
        or isinstance(error, UpstreamError | asyncio.CancelledError)
        or error.__class__.__module__ != ("builtins")
    ), error
    return error
