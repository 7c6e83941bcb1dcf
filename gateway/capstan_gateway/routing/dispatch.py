"""From a call to an answer that has begun: pick, send, and try again elsewhere while nothing has reached the client.

    pick ──► send ──► first piece is there ──► answer
     ▲        │ never sent: elsewhere at once          (free)
     │        │ sent and failed, or 429/5xx: elsewhere (retry budget, attempts bounded)
     └────────┘
    first piece late ──► sent to a second endpoint as well: the first piece of either is the answer (hedge budget)
    none left ──► wait for the set of endpoints to change, or a moment, then all are candidates again

A pod that goes away is nothing special: its connections are refused or reset, and the request goes elsewhere within
the same turn of the loop or so.
"""

import asyncio
import time
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from random import Random
from typing import Any

from capstan_gateway.routing.answer import Answer, Slot
from capstan_gateway.routing.budget import RetryBudget
from capstan_gateway.routing.errors import KeyMissing, NoCredential, NoEndpoint, TooManyWaiting
from capstan_gateway.routing.hedge import Hedging
from capstan_gateway.routing.outcome import describe, record_error, record_status
from capstan_gateway.routing.picker import pick
from capstan_gateway.routing.port import Call, CallStats, DispatchedResponse, Tried
from capstan_gateway.routing.race import Race
from capstan_gateway.routing.registry import EndpointState
from capstan_gateway.routing.retry import RETRIED_STATUSES, RETRIED_WITH_KEYS, Again, judge, may_wait
from capstan_gateway.routing.tiers import pick_by_tier
from capstan_gateway.upstream.errors import UpstreamError
from capstan_gateway.upstream.port import Endpoint, Headers, UpstreamClient

RETRY_AFTER_SECONDS = 5.0
CLIENT_ERROR = 400
_NONE_EXCLUDED: frozenset[EndpointState] = frozenset()


@dataclass(frozen=True, slots=True)
class DispatchSettings:
    """Bounds of one dispatch."""

    max_attempts: int = 3
    """Attempts that were sent. Those that never were are bounded by the wait."""
    connect_seconds: float = 5.0
    quick_connect_seconds: float = 1.0
    """Connect deadline while another endpoint is there to be tried."""
    first_pause_seconds: float = 0.05
    """How long to wait before trying endpoints again that could not be connected to; doubles each time."""
    max_pause_seconds: float = 1.0
    retry_after_seconds: float = RETRY_AFTER_SECONDS
    """What a client is told when no endpoint is there."""


class _Progress:
    """What one dispatch has tried so far."""

    __slots__ = ("call", "error", "excluded", "pause", "sent", "wait_until")

    def __init__(self, call: Call, pause: float, now: float) -> None:
        self.call = call
        self.excluded = _NONE_EXCLUDED
        self.error: UpstreamError | None = None
        self.sent = 0
        self.pause = pause
        self.wait_until = min(now + call.wait_seconds, call.expires_at)

    def exclude(self, *states: EndpointState) -> None:
        """Leave these out from now on."""
        self.excluded = self.excluded.union(states)

    def exclude_unusable(self, headers_of: Callable[[Endpoint], Headers | None]) -> None:
        """Leave out the endpoints for which there are no headers (no key); raise NoCredential if that leaves none."""
        states = self.call.endpoints.states
        unusable = [state for state in states if headers_of(state.endpoint) is None]
        self.exclude(*unusable)
        if states and len(unusable) == len(states):
            raise NoCredential("no endpoint has its credential", retry_after=RETRY_AFTER_SECONDS)


class Dispatcher:
    """Implements `port.DispatchPort`. One per process: the budget is shared by everything that retries."""

    def __init__(
        self,
        client: UpstreamClient,
        *,
        budget: RetryBudget,
        rng: Random,
        hedging: Hedging | None = None,
        settings: DispatchSettings | None = None,
        wall_clock: Callable[[], float] = time.time,
    ) -> None:
        self._client = client
        self._budget = budget
        self._rng = rng
        self._hedging = hedging
        self._settings = settings or DispatchSettings()
        self._wall_clock = wall_clock
        self._now = asyncio.get_running_loop().time

    async def dispatch(self, call: Call) -> Answer:
        """Pick, send, and retry on other endpoints until an answer has begun; see `port.DispatchPort`."""
        self._budget.deposit()
        now = self._now()
        progress = _Progress(call, self._settings.first_pause_seconds, now)
        if call.avoid:
            progress.exclude(*(state for state in call.endpoints.states if state.endpoint in call.avoid))
            progress.sent = len(call.avoid)
        if call.headers_of is not None:
            progress.exclude_unusable(call.headers_of)
        try:
            while True:
                endpoints = call.endpoints
                version = endpoints.version
                choose = pick_by_tier if endpoints.tiered else pick
                state = choose(endpoints.states, now, self._rng, excluded=progress.excluded, affinity=call.affinity)
                if state is None:
                    await self._wait(progress, version)
                    now = self._now()
                    continue
                try:
                    if call.whole_bytes or self._hedging is None:
                        answer = await self._attempt(progress, state)
                    else:
                        answer = await self._ask(progress, state, self._hedging)
                except UpstreamError as error:
                    if not self._consider(progress, state, error):
                        raise
                    now = self._now()
                    continue
                if answer.status < CLIENT_ERROR or not self._try_elsewhere(progress, state, answer):
                    return answer
                answer.close()
                now = self._now()
        finally:
            progress.error = None  # Its traceback holds this frame.

    def again(self, call: Call, answer: DispatchedResponse, why: str) -> bool:
        """Whether to dispatch once more, elsewhere; see `port.DispatchPort`."""
        now = self._now()
        avoided = (*call.avoid, answer.endpoint)
        fit = any(state.endpoint not in avoided and state.breaker.allows(now) for state in call.endpoints.states)
        if not fit or not self._may_retry(call, len(avoided), now):
            return False
        call.avoid = avoided
        _note(call.stats, why)
        return True

    async def _ask(self, progress: _Progress, state: EndpointState, hedging: Hedging) -> Answer:
        """Send to this endpoint, and when the first piece of a stream is late perhaps to a second one."""
        call = progress.call
        after = hedging.delay(call)
        if after is None:
            answer = await self._attempt(progress, state)
        else:
            answer = await self._race(progress, state, hedging, after)
        if answer.status < CLIENT_ERROR:
            call.endpoints.first_bytes.observe(call.stats.first_byte)
        return answer

    async def _race(self, progress: _Progress, state: EndpointState, hedging: Hedging, after: float) -> Answer:
        call = progress.call
        began = time.perf_counter()

        def second() -> Coroutine[Any, Any, Answer] | None:
            other = hedging.second(call, state, progress.excluded, self._now())
            return None if other is None else self._hedge(progress, other)

        race = Race(second, lambda answer: not self._is_retried(progress, answer.status))
        try:
            answer = await race.run(self._attempt(progress, state), after=after)
        finally:
            if race.outcome is not None:
                call.stats.hedges += (race.outcome,)
        call.stats.first_byte = time.perf_counter() - began
        if answer.endpoint is not state.endpoint:
            # It took at least so long; what is slow should be asked less.
            state.observe(max(call.stats.first_byte, state.latency(self._now()) or 0.0), self._now())
        return answer

    async def _hedge(self, progress: _Progress, state: EndpointState) -> Answer:
        """Send to a second endpoint; when it fails, that is noted, and it is not tried again for this call."""
        progress.exclude(state)
        try:
            return await self._attempt(progress, state, hedge=True)
        except UpstreamError as error:
            record_error(state, error, self._now())
            _note(progress.call.stats, describe(error))
            raise

    async def _attempt(self, progress: _Progress, state: EndpointState, *, hedge: bool = False) -> Answer:
        """Send to this endpoint, and wait until the answer's body has begun (or is whole, if asked for)."""
        call = progress.call
        # Asked for anew: the endpoint, or the loss of its key, may be younger than the call.
        endpoint, stats = state.endpoint, call.stats
        headers = call.headers if call.headers_of is None else call.headers_of(endpoint)
        if headers is None:
            raise KeyMissing(endpoint.id, "the gateway has no key for it")
        stats.attempts += 1
        tried = Tried(may_have_worked=True)  # As long as nothing else is known: a race leaves it as it is.
        stats.tried.append(tried)
        if stats.attempts > 1 and not hedge:
            stats.retries += 1
        state.breaker.begin(self._now())
        slot = Slot(state)
        began = time.perf_counter()
        response = None
        try:
            response = await self._client.send(
                endpoint,
                method=call.method,
                path=call.path,
                headers=headers,
                body=call.body,
                connect_timeout=self._connect_seconds(progress),
                first_byte_timeout=call.first_token_seconds,
                idle_timeout=call.idle_seconds,
                expires_at=call.expires_at,
                repeatable=True,
            )
            if not response.body_began:
                await response.wait_body()
            seconds = stats.first_byte = time.perf_counter() - began
            body = None
            if call.whole_bytes and response.status < CLIENT_ERROR:
                body = await response.read(call.whole_bytes, call.memory)
                stats.read = time.perf_counter() - began - seconds
        except BaseException as error:
            tried.may_have_worked = error.sent if isinstance(error, UpstreamError) else True
            if response is not None and response.status >= CLIENT_ERROR:
                tried.may_have_worked = False
            slot.release()
            if response is not None:
                response.abort()
            raise
        failed = False
        tried.may_have_worked = response.status < CLIENT_ERROR
        if tried.may_have_worked:
            state.observe(seconds, self._now())
        else:
            failed = record_status(
                state, response.status, response.headers, self._now(), self._wall_clock,
                keyed=call.headers_of is not None,
            )  # fmt: skip
        return Answer(response, slot, state, self._now, body, failed=failed)

    def _consider(self, progress: _Progress, state: EndpointState, error: UpstreamError) -> bool:
        """Take note of a failed attempt; say whether there may be another one."""
        now = self._now()
        record_error(state, error, now)
        _note(progress.call.stats, describe(error))
        progress.error = error
        progress.exclude(state)
        again = judge(error)
        if again is Again.FREELY:
            return True
        progress.sent += 1
        elsewhere = any(other not in progress.excluded for other in progress.call.endpoints.states)
        possible = elsewhere or (may_wait(error) and progress.wait_until > now)
        return again is not Again.NEVER and possible and self._may_retry(progress.call, progress.sent, now)

    def _try_elsewhere(self, progress: _Progress, state: EndpointState, answer: Answer) -> bool:
        """Whether another endpoint should be asked although this one answered."""
        if not self._is_retried(progress, answer.status):
            return False
        _note(progress.call.stats, str(answer.status))
        progress.exclude(state)
        progress.sent += 1
        now = self._now()
        fit = any(
            other not in progress.excluded and other.breaker.allows(now) for other in progress.call.endpoints.states
        )
        return fit and self._may_retry(progress.call, progress.sent, now)

    def _is_retried(self, progress: _Progress, status: int) -> bool:
        return status in (RETRIED_STATUSES if progress.call.headers_of is None else RETRIED_WITH_KEYS)

    def _may_retry(self, call: Call, sent: int, now: float) -> bool:
        """Whether there may be another attempt behind those that were sent; pays for it when there may."""
        if sent >= self._settings.max_attempts or now >= call.expires_at:
            return False
        return self._budget.spend(now)

    async def _wait(self, progress: _Progress, version: int) -> None:
        """Wait until there may be an endpoint again; raise when the time for that is over."""
        endpoints, settings = progress.call.endpoints, self._settings
        left = progress.wait_until - self._now()
        if progress.error is not None and (progress.call.wait_seconds <= 0 or not may_wait(progress.error)):
            raise progress.error
        if left <= 0:
            raise NoEndpoint("no endpoint is available", retry_after=settings.retry_after_seconds) from progress.error
        if endpoints.waiting >= endpoints.max_waiting:
            raise TooManyWaiting(
                f"{endpoints.waiting} requests wait for an endpoint", retry_after=settings.retry_after_seconds
            ) from progress.error
        began = time.perf_counter()
        try:
            if endpoints.states:  # They are there, and could not be connected to.
                pause = progress.pause * (0.5 + self._rng.random() / 2)
                progress.pause = min(progress.pause * 2, settings.max_pause_seconds)
                await endpoints.changed(version, timeout=min(left, pause))
            else:
                await endpoints.changed(version, timeout=left)
        finally:
            progress.call.stats.waited += time.perf_counter() - began
        progress.excluded = _NONE_EXCLUDED

    def _connect_seconds(self, progress: _Progress) -> float:
        others = len(progress.call.endpoints.states) - len(progress.excluded) > 1
        return self._settings.quick_connect_seconds if others else self._settings.connect_seconds


MAX_NOTES = 20


def _note(stats: CallStats, word: str) -> None:
    if len(stats.failures) < MAX_NOTES:
        stats.failures.append(word)
