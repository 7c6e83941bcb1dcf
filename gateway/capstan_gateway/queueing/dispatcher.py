"""Behind `routing.port.DispatchPort`: calls of models with a queue go directly, or by that.

    choose ──► directly ──► routing.dispatch
       └─► put in ──► wait for a worker's head ──► first token ──► answer
             │ refused: 429 at once       │ lost and given to another worker, or put in again: it starts over
             └ Redis is away: directly    └ the worker, or its engine, failed: again (retry budget, attempts bounded)

What waits for a worker is bounded by the total deadline alone; the deadline of the first token begins with the head.
Whatever ends a wait tells the queue that nobody wants the entry any more.
"""

import asyncio
import secrets
import time
from typing import Final

from capstan_contract.config import Dispatch
from capstan_contract.queue.wire import AnswerHead, Packing, Unreadable, read_answer_head
from capstan_gateway.life.threads import Busy
from capstan_gateway.queueing.answer import QueuedAnswer
from capstan_gateway.queueing.choice import Sight, Way, choose, has_place, places_of_one, waiting_as_urgent
from capstan_gateway.queueing.entry import Entry, SentDirectly, StartedOver
from capstan_gateway.queueing.line import Line
from capstan_gateway.queueing.room import Room, hopeless
from capstan_gateway.routing.attempt import Attempt
from capstan_gateway.routing.budget import RetryBudget
from capstan_gateway.routing.port import Call, DispatchedResponse, DispatchPort, Queueing, SentResponse
from capstan_gateway.routing.progress import NONE_EXCLUDED
from capstan_gateway.routing.registry import EndpointState
from capstan_gateway.routing.unroutable import CannotStart, NoEndpoint, QueueRefused
from capstan_gateway.routing.verdicts import (
    CLIENT_ERROR,
    Again,
    another_attempt,
    describe,
    is_out_of_time,
    status_is_retried,
)
from capstan_gateway.stores.port import StoreDown
from capstan_gateway.telemetry.metrics import Metrics
from capstan_gateway.upstream.errors import ProtocolError, UpstreamError
from capstan_gateway.upstream.port import Endpoint

MOST_ATTEMPTS: Final = 3
"""How often a call is put in. Workers that are lost before they have answered do not count."""
LOOK_SECONDS: Final = 0.25
"""How often a request that waits for an endpoint looks whether Redis is back."""
_QUEUE: Final = "queue"


class QueueDispatcher:
    """Implements `port.DispatchPort` around the one that sends directly."""

    def __init__(self, direct: DispatchPort, room: Room, *, budget: RetryBudget, metrics: Metrics) -> None:
        self._direct = direct
        self._budget = budget
        self._room = room
        self._metrics = metrics
        self._now = asyncio.get_running_loop().time

    async def dispatch(self, call: Call) -> SentResponse:
        """Send it the way that it is to go; see `port.DispatchPort`. Raises QueueRefused too."""
        wish = call.queueing
        if wish is None:
            return await self._direct.dispatch(call)
        line = self._room.line(wish.model, wish.name)
        packing = self._room.packings.of(wish.rules)
        way = choose(
            wish.rules.dispatch, self._sight(call, wish, line, packing), apart=wish.apart, may_wait=wish.may_wait
        )
        if way is Way.QUEUE:
            call.full = NONE_EXCLUDED  # What is full now says nothing of when it may be sent directly after all.
        self._metrics.queue_dispatched.at(wish.name, way.value).value += 1
        if packing is None or (way is Way.DIRECT and self._room.reachable):
            return await self._direct.dispatch(call)
        until: float | None = None
        while True:
            if way is Way.QUEUE:
                try:
                    return await self._queue(call, wish, line)
                except (SentDirectly, StoreDown):
                    self._metrics.queue_rejected.at(wish.name, "away").value += 1
                    call.stats.queued = None
            until = self._now() + call.wait_seconds if until is None else until
            answer = await self._without_redis(call, wish, until)
            if answer is not None:
                return answer
            way = Way.QUEUE

    async def _without_redis(self, call: Call, wish: Queueing, until: float) -> SentResponse | None:
        """Send it directly while Redis is away; None when it is back before there was an endpoint, and before then."""
        if wish.rules.dispatch is Dispatch.DIRECT or not wish.may_wait:
            return await self._direct.dispatch(call)
        wait = call.wait_seconds
        try:
            while True:
                left = until - self._now()
                call.wait_seconds = min(max(left, 0.0), LOOK_SECONDS)
                try:
                    return await self._direct.dispatch(call)
                except CannotStart:
                    raise
                except NoEndpoint:
                    if left <= 0.0:
                        raise
                    if self._room.reachable:
                        return None
                    if left <= LOOK_SECONDS:
                        raise
        finally:
            call.wait_seconds = wait

    def again(self, call: Call, answer: DispatchedResponse, error: BaseException) -> bool:
        """End an answer that turned out to be none; say whether to dispatch once more; see `port.DispatchPort`."""
        return self._direct.again(call, answer, error)

    def pay_for_fallback(self) -> bool:
        """Take from the retry budget for asking another model; see `port.DispatchPort`."""
        return self._direct.pay_for_fallback()

    def _sight(self, call: Call, wish: Queueing, line: Line, packing: Packing | None) -> Sight:
        now = self._now()
        room, state = self._room, line.state
        places = places_of_one(wish.rules.places, room.gateways(line))
        states = [one for one in call.endpoints.states if one.breaker.allows(now)]
        call.full, free = NONE_EXCLUDED, False
        if wish.rules.dispatch is Dispatch.AUTO:
            loads, unplaced = line.loads(states)
            free = has_place(places, loads, unplaced)
            if free:
                call.full = frozenset(one for one, load in zip(states, loads, strict=True) if load >= places)
        waiting = waiting_as_urgent(state, wish.priority)
        if free and not waiting:
            waiting = int(line.waits_since(0.0 if state is None else line.state_at, wish.priority))
        return Sight(
            usable=room.reachable and packing is not None, ready=bool(states), free=free, waiting=waiting,
            workers=None if state is None else state.workers,
        )  # fmt: skip

    async def _queue(self, call: Call, wish: Queueing, line: Line) -> QueuedAnswer:
        """Put it in, and wait until an answer has begun; again while that failed and may be had elsewhere."""
        if not call.stats.attempts:
            self._budget.deposit()  # As the one that sends directly does.
        sent = 0
        while True:
            try:
                answer = await self._attempt(call, wish, line)
            except UpstreamError as error:
                sent += 1
                again = another_attempt(error, repeatable=call.repeatable) is not Again.NEVER
                if not (again and self._may_retry(call, sent)):
                    raise
                call.stats.note(describe(error))
                continue
            sent += 1
            retried = status_is_retried(answer.status, keyed=False, repeatable=call.repeatable)
            if not (retried and self._may_retry(call, sent)):
                return answer
            call.stats.note(str(answer.status))
            answer.close()

    def _may_retry(self, call: Call, sent: int) -> bool:
        return sent < MOST_ATTEMPTS and self._now() < call.expires_at and self._budget.spend(self._now())

    async def _attempt(self, call: Call, wish: Queueing, line: Line) -> QueuedAnswer:
        if (failure := hopeless(call, self._now())) is not None:
            raise CannotStart(failure)
        stats, packing = call.stats, self._room.packings.of(wish.rules)  # Asked for anew: it may have changed.
        if packing is None:
            raise StoreDown("what seals entries is not there")
        entry = Entry(f"{wish.request_id}-{secrets.token_hex(8)}", call, wish, packing, self._room.threads)
        attempt = Attempt(EndpointState(_place(entry.whose)), self._now())
        if stats.attempts:
            stats.retries += 1
        stats.attempts += 1
        stats.tried += (attempt,)
        entry.began_at = self._now()
        line.entries[entry.id] = entry
        self._room.reader(line).wake()
        refused = False
        try:
            try:
                placed = await line.put(entry)
            except QueueRefused:
                refused = True
                raise
            except Busy:
                refused = True
                raise StoreDown("too much waits to be written into the queue") from None
            stats.queued = (placed.place, placed.milliseconds)
            return await self._answer(entry, attempt, line)
        except BaseException as error:
            now = self._now()
            if isinstance(error, UpstreamError):
                attempt.fail(error, now)
                if is_out_of_time(error) and entry.waits:
                    call.endpoints.rejected += 1
            attempt.release()
            attempt.leave(now, silent=0.0, deadline=1.0)
            line.drop(entry, refused=refused)
            raise

    async def _answer(self, entry: Entry, attempt: Attempt, line: Line) -> QueuedAnswer:
        call, stats = entry.call, entry.call.stats
        began = time.perf_counter()

        def note(size: int) -> None:
            line.passed(entry.id, size)

        while True:
            waiting = time.perf_counter()
            try:
                said = await entry.head()
            finally:
                stats.waited += time.perf_counter() - waiting
            head = _read_head(said, entry)
            line.place(entry, head.address)
            headed = time.perf_counter()
            if attempt.sent:  # Another worker had begun.
                stats.retries += 1
                stats.attempts += 1
            attempt.sent = True
            attempt.status = head.status
            attempt.endpoint = _place(entry.whose, head.worker)
            if not call.repeatable:
                stats.spent = True
            answer = QueuedAnswer(entry, head, attempt, now=self._now, note=note, end=lambda: line.drop(entry))
            try:
                await answer.open(self._now() + call.first_token_seconds)
            except StartedOver:
                line.place(entry, None)
                stats.waited += time.perf_counter() - headed
                continue
            break
        entry.inbox.committed = True
        done = time.perf_counter()
        stats.first_byte, stats.read = done - headed, 0.0
        self._metrics.queue_wait.at(entry.wish.name).observe(headed - began)
        if answer.status < CLIENT_ERROR and answer.opening is not None and answer.opening.fault is not None:
            attempt.blame(answer.opening.fault, self._now())
        return answer


def _read_head(said: bytes, entry: Entry) -> AnswerHead:
    try:
        return read_answer_head(said)
    except Unreadable as error:
        raise ProtocolError(entry.whose, f"the head of its answer cannot be read: {error}") from None


def _place(whose: str, worker: str = "") -> Endpoint:
    return Endpoint(id=f"{whose}/{worker}" if worker else whose, host=worker or _QUEUE, port=0)
