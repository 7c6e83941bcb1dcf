"""From a call to an answer that has begun: pick, send, and try again elsewhere while nothing has reached the client.

    pick ──► send ──► first token is there ──► answer
     ▲        │ never sent: elsewhere at once          (free)
     │        │ sent and failed, or 429/5xx: elsewhere (retry budget, attempts bounded)
     └────────┘
    first token late ──► sent to a second endpoint as well: the first token of either is the answer (hedge budget)
    none left ──► wait for the set of endpoints to change, or a moment, then all are candidates again

A pod that goes away is nothing special: its connections are refused or reset, and the request goes elsewhere within
the same turn of the loop or so. What follows from which failure is said in `verdicts`.
"""

import asyncio
import math
import time
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass
from random import Random
from typing import Any

from capstan_gateway.life.pauses import doubled
from capstan_gateway.routing.attempt import Attempt
from capstan_gateway.routing.budget import RetryBudget
from capstan_gateway.routing.dispatched import Answer
from capstan_gateway.routing.hedge import Hedging
from capstan_gateway.routing.held_blocks import PromptBlocks
from capstan_gateway.routing.least_work import Wanted, least_work
from capstan_gateway.routing.opened import open_answer
from capstan_gateway.routing.picker import pick
from capstan_gateway.routing.port import Call, DispatchedResponse
from capstan_gateway.routing.progress import Progress
from capstan_gateway.routing.race import Race
from capstan_gateway.routing.registry import EndpointState
from capstan_gateway.routing.sessions import BYTES_PER_TOKEN
from capstan_gateway.routing.tiers import pick_by_tier
from capstan_gateway.routing.unroutable import CannotStart, KeyMissing, NoEndpoint, TooManyWaiting
from capstan_gateway.routing.verdicts import (
    CLIENT_ERROR,
    Again,
    another_attempt,
    another_reading,
    describe,
    is_nonsense,
    same_endpoint_may_do,
    status_is_retried,
)
from capstan_gateway.upstream.errors import UpstreamError
from capstan_gateway.upstream.port import UpstreamClient

RETRY_AFTER_SECONDS = 5.0
"""Most that is read of a stream before its first token: twice the largest frame."""


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
        if not call.stats.attempts:
            self._budget.deposit()  # Not again for a further attempt, or a fallback: it is the same request.
        began = now = self._now()
        # NB: made once there is something to keep track of: most calls are answered by the first endpoint.
        progress: Progress | None = None
        expected = False
        if call.headers_of is not None or call.avoid:
            progress = Progress(call, now)
            if call.headers_of is not None:
                progress.exclude_unusable(call.headers_of, retry_after=self._settings.retry_after_seconds)
        try:
            while True:
                endpoints = call.endpoints
                version, states = endpoints.version, endpoints.states
                excluded = call.full if progress is None else progress.excluded
                if len(states) == 1 and not excluded:
                    state: EndpointState | None = states[0]
                elif endpoints.tiered:
                    state = pick_by_tier(states, now, self._rng, excluded=excluded, affinity=call.affinity)
                elif call.prompt is not None:
                    state = self._by_work(call, call.prompt, states, now, excluded, expected=expected)
                    expected = True
                else:
                    holder = None if call.affinity is None else endpoints.sessions.holder(call.affinity)
                    state = pick(states, now, self._rng, excluded=excluded, affinity=call.affinity, holder=holder)
                if state is None:
                    progress = progress or Progress(call, began)
                    await self._wait(progress, version)
                    now = self._now()
                    continue
                try:
                    if call.whole_bytes or self._hedging is None:
                        answer = await self._attempt(call, state, now, len(excluded))
                    else:
                        progress = progress or Progress(call, began)
                        answer = await self._ask(progress, state, self._hedging)
                except UpstreamError as error:
                    progress = progress or Progress(call, began)
                    if not self._consider(progress, state, error):
                        raise
                    now = self._now()
                    continue
                if answer.status < CLIENT_ERROR:
                    if call.affinity is not None and not endpoints.tiered:
                        tokens = len(call.body) // BYTES_PER_TOKEN
                        endpoints.sessions.note(call.affinity, answer.endpoint.id, tokens)
                    return answer
                progress = progress or Progress(call, began)
                if not self._try_elsewhere(progress, state, answer):
                    return answer
                answer.close()
                now = self._now()
        finally:
            if progress is not None:
                progress.error = None  # Its traceback holds this frame.

    def _by_work(
        self,
        call: Call,
        prompt: PromptBlocks,
        states: Sequence[EndpointState],
        now: float,
        excluded: frozenset[EndpointState],
        *,
        expected: bool,
    ) -> EndpointState | None:
        """Pick by what endpoints hold of the prompt, and note where it goes. `expected` says that it was counted."""
        endpoints, key = call.endpoints, call.affinity
        held = {} if endpoints.held is None else endpoints.held.held(prompt, now)
        holder, tokens = (None, 0) if key is None else endpoints.sessions.found(key)
        wanted = Wanted(prompt.tokens, held, prompt.shared, key, holder, tokens)
        state = least_work(states, now, self._rng, wanted, excluded)
        if state is not None and endpoints.held is not None:
            if not expected:
                endpoints.held.expect(prompt, held.get(state.endpoint.id, 0))
            endpoints.held.chosen(state.endpoint.id, prompt, now)
        return state

    def again(self, call: Call, answer: DispatchedResponse, error: BaseException) -> bool:
        """End an answer that turned out to be none; say whether to dispatch once more; see `port.DispatchPort`."""
        word = type(error).__name__
        if is_nonsense(answer.status, error):
            answer.blame(word)
        answer.close()
        if another_reading(answer.status, error, repeatable=call.repeatable) is not Again.BUDGETED:
            return False
        now = self._now()
        avoided = (*call.avoid, answer.endpoint)
        fit = any(state.endpoint not in avoided and state.breaker.allows(now) for state in call.endpoints.states)
        if not fit or not self._may_retry(call, len(avoided), now):
            return False
        call.avoid = avoided
        call.stats.note(word)
        return True

    def pay_for_fallback(self) -> bool:
        """Take from the retry budget for asking another model; see `port.DispatchPort`."""
        return self._budget.spend(self._now())

    async def _ask(self, progress: Progress, state: EndpointState, hedging: Hedging) -> Answer:
        """Send to this endpoint, and when the first token of a stream is late perhaps to a second one."""
        call = progress.call
        after = hedging.delay(call)
        if after is None:
            answer = await self._attempt(call, state, self._now(), len(progress.excluded))
        else:
            answer = await self._race(progress, state, hedging, after)
        if answer.status < CLIENT_ERROR and _fault_of(answer) is None:
            call.endpoints.first_bytes.observe(call.stats.first_byte)
        return answer

    async def _race(self, progress: Progress, state: EndpointState, hedging: Hedging, after: float) -> Answer:
        call = progress.call
        began, began_at = time.perf_counter(), self._now()

        def second() -> Coroutine[Any, Any, Answer] | None:
            other = hedging.second(call, state, progress.excluded, self._now())
            return None if other is None else self._hedge(progress, other)

        race = Race(second, lambda answer: not _is_retried(call, answer.status) and _fault_of(answer) is None)
        try:
            answer = await race.run(self._attempt(call, state, began_at, len(progress.excluded)), after=after)
        finally:
            if race.outcome is not None:
                call.stats.hedges += (race.outcome,)
        call.stats.first_byte = time.perf_counter() - began
        if race.overtaken:
            now = self._now()
            state.observe_silence(now - began_at, now)
        return answer

    async def _hedge(self, progress: Progress, state: EndpointState) -> Answer:
        """Send to a second endpoint, which is not tried again for this call."""
        progress.exclude(state)
        answer = await self._attempt(progress.call, state, self._now(), len(progress.excluded), True)
        fault = _fault_of(answer)
        if fault is not None:
            progress.call.stats.note(fault)
        return answer

    async def _attempt(
        self, call: Call, state: EndpointState, now: float, excluded: int, hedge: bool = False
    ) -> Answer:
        """Send to this endpoint, and wait until its first token is there (or the whole body, if asked for).

        Whatever becomes of it is told to its endpoint's breaker here, or by the answer that is given. So many of the
        call's endpoints are `excluded`.
        """
        # Asked for anew: the endpoint, or the loss of its key, may be younger than the call.
        endpoint, stats = state.endpoint, call.stats
        headers = call.headers if call.headers_of is None else call.headers_of(endpoint)
        if headers is None:
            stats.note(KeyMissing.__name__)
            raise KeyMissing(endpoint.id, "the gateway has no key for it")
        plain = bool(call.whole_bytes)
        attempt = Attempt(state, now, hedge)
        if stats.attempts and not hedge:
            stats.retries += 1
        stats.attempts += 1
        stats.tried += (attempt,)
        began = time.perf_counter()
        response = None
        try:
            response = await self._client.send(
                endpoint,
                method=call.method,
                path=call.path,
                headers=headers,
                body=call.body,
                connect_timeout=(
                    self._settings.quick_connect_seconds
                    if len(call.endpoints.states) - excluded > 1
                    else self._settings.connect_seconds
                ),
                first_byte_timeout=math.inf if plain else call.first_token_seconds,
                idle_timeout=call.idle_seconds,
                expires_at=call.expires_at,
                repeatable=call.repeatable,
                sending=attempt,
            )
            attempt.sent = True
            attempt.status = status = response.status
            opening = None
            body = response.read_now(call.whole_bytes) if plain and status < CLIENT_ERROR else None
            if body is None:
                opening = await open_answer(call, response, attempt)
            seconds = stats.first_byte = time.perf_counter() - began
            if body is not None:
                stats.read = 0.0
            elif plain and status < CLIENT_ERROR:
                body = await response.read(call.whole_bytes, call.memory)
                stats.read = time.perf_counter() - began - seconds
        except BaseException as error:
            self._end(attempt, call, error)
            if response is not None:
                response.abort()
            raise
        if not call.repeatable:
            stats.spent = True
        if status >= CLIENT_ERROR:
            attempt.answered(response.headers, self._now(), self._wall_clock, keyed=call.headers_of is not None)
            if _is_retried(call, status):
                stats.note(str(status))
        elif opening is not None and opening.fault is not None:
            attempt.blame(opening.fault, self._now())
        else:
            state.observe(seconds, self._now())
        return Answer(response, attempt, self._now, body, opening)

    def _end(self, attempt: Attempt, call: Call, error: BaseException) -> None:
        """Settle an attempt that came to no answer: it failed, or is cut off."""
        now = self._now()
        attempt.release()
        if isinstance(error, UpstreamError):
            attempt.fail(error, now)
            call.stats.end(attempt, describe(error))
        else:
            deadline = math.inf if call.whole_bytes else call.first_token_seconds
            attempt.leave(now, silent=now - attempt.began_at, deadline=deadline)
        call.stats.spent = call.stats.spent or (attempt.sent and not call.repeatable)

    def _consider(self, progress: Progress, state: EndpointState, error: UpstreamError) -> bool:
        """Go on behind a failed attempt; say whether there may be another one."""
        now = self._now()
        progress.error = error
        progress.exclude(state)
        verdict = another_attempt(error, repeatable=progress.call.repeatable)
        if verdict is Again.FREELY:
            call = progress.call
            if call.prompt is not None and call.endpoints.held is not None:
                call.endpoints.held.not_sent(state.endpoint.id, call.prompt)
            return True
        progress.sent += 1
        possible = progress.others() or (same_endpoint_may_do(error) and progress.wait_until > now)
        return verdict is Again.BUDGETED and possible and self._may_retry(progress.call, progress.sent, now)

    def _try_elsewhere(self, progress: Progress, state: EndpointState, answer: Answer) -> bool:
        """Whether another endpoint should be asked although this one answered."""
        if not _is_retried(progress.call, answer.status):
            return False
        progress.exclude(state)
        progress.sent += 1
        now = self._now()
        return progress.fit_others(now) and self._may_retry(progress.call, progress.sent, now)

    def _may_retry(self, call: Call, sent: int, now: float) -> bool:
        """Whether there may be another attempt behind those that were sent; pays for it when there may."""
        if sent >= self._settings.max_attempts or now >= call.expires_at:
            return False
        return self._budget.spend(now)

    async def _wait(self, progress: Progress, version: int) -> None:
        """Wait until there may be an endpoint again; raise when the time for that is over."""
        call, settings = progress.call, self._settings
        endpoints = call.endpoints
        left = progress.wait_until - self._now()
        if progress.error is not None and (call.wait_seconds <= 0 or not same_endpoint_may_do(progress.error)):
            raise progress.error
        if not endpoints.states and endpoints.start_failure is not None and not call.patient:
            raise CannotStart(endpoints.start_failure) from progress.error
        if left <= 0:
            raise NoEndpoint("no endpoint is available", retry_after=settings.retry_after_seconds) from progress.error
        if endpoints.waiting >= endpoints.max_waiting:
            raise TooManyWaiting(
                f"{endpoints.waiting} requests wait for an endpoint", retry_after=settings.retry_after_seconds
            ) from progress.error
        began = time.perf_counter()
        try:
            if endpoints.states:  # They are there, and could not be connected to.
                pause = doubled(settings.first_pause_seconds, settings.max_pause_seconds, progress.pauses)
                pause *= 0.5 + self._rng.random() / 2
                progress.pauses += 1
                await endpoints.changed(version, timeout=min(left, pause))
            else:
                await endpoints.changed(version, timeout=left, patient=call.patient)
        finally:
            call.stats.waited += time.perf_counter() - began
        progress.exclude_none()


def _is_retried(call: Call, status: int) -> bool:
    return status_is_retried(status, keyed=call.headers_of is not None, repeatable=call.repeatable)


def _fault_of(answer: Answer) -> str | None:
    return None if answer.opening is None else answer.opening.fault
