"""One call for all who ask the same at once, on one replica.

    ask A ──► joins ─┐
    ask B ──► joins ─┼── the flight's own ask ──► a task of its own ──► the shared store, else the model
    ask C ──► joins ─┘         │
                               └─► an answer in one piece, or the recording of a stream, read from its beginning

That A's client goes takes nothing from B. When the last one has left, the task is cancelled and the upstream with it.
What the call costs is on the bill of the one who has waited longest when it is over; to the others it is an answer that
was there. When it fails before a model has said anything, one of those who only waited asks, and the others wait again.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Final

from capstan_gateway.caches.inputs import Parts
from capstan_gateway.caches.port import Found
from capstan_gateway.errors import OUT_OF_TIME, GatewayError, ShuttingDown, UpstreamTimeout
from capstan_gateway.pipeline.ask import Ask
from capstan_gateway.pipeline.background import Background
from capstan_gateway.pipeline.caches.recording import Reader, Recording
from capstan_gateway.pipeline.caches.streamed import frames_of, given_on, is_metered, mark_of
from capstan_gateway.pipeline.estimates import asked_tokens
from capstan_gateway.pipeline.frame_room import FrameRoom
from capstan_gateway.pipeline.read_end import read_end
from capstan_gateway.pipeline.reply import Reply, StreamReply, WholeReply
from capstan_gateway.pipeline.request import Request
from capstan_gateway.pipeline.watch import OVERTIME_SECONDS
from capstan_gateway.routing.verdicts import CLIENT_ERROR, SERVER_ERROR
from capstan_gateway.streaming.errors import StreamBroken
from capstan_gateway.tokens.bill import Bill, weigh
from capstan_gateway.tokens.usage import Usage

KEEP_SECONDS: Final = 5.0
"""How long it may take to keep an answer; nobody waits for that."""
STOP_SECONDS: Final = 1.0
"""How long who leaves last waits for what it stops, to know what that has used."""
MOST_JOINED: Final = 4096
"""Who waits for one answer at once; the next one begins another flight."""
ROUNDS: Final = 3
"""So many calls one may have waited for in vain, before it is told that there is no answer."""
log: Final = logging.getLogger(__name__)
_WAITS: Final = frozenset((408, 429))
"""Refusals that are not about what the request says."""
Work = Callable[["Flight"], Awaitable[Found | Reply]]
"""Finds or makes the answer, with the flight's own ask."""
Landed = Callable[["Flight", WholeReply | None, bytes | None], Awaitable[None]]
"""Takes an answer that came whole: in one piece, or as the frames of a stream."""


class Joined:
    """One ask that waits for a flight."""

    __slots__ = ("ask", "flight", "leads", "left", "reader", "told")

    def __init__(self, ask: Ask, flight: "Flight", *, leads: bool) -> None:
        self.ask: Final = ask
        self.flight: Final = flight
        self.leads: Final = leads
        """Whether the call was begun for it."""
        self.left = False
        self.reader: Reader | None = None
        """Reads the recording, from the moment on that there is one: so its beginning stays."""
        self.told: asyncio.Future[None] | None = None
        """Set while it waits."""

    async def begun(self) -> None:
        """Wait until there is a reply, or the beginning of one. Raises why there is none.

        Who is stopped meanwhile has left when that is raised; if it was the last one, what the call has used is on its
        bill.
        """
        flight = self.flight
        if not flight.has_begun:
            self.told = asyncio.get_running_loop().create_future()
            try:
                await self.told
            except asyncio.CancelledError:
                await flight.stop_if_last()
                self.leave()
                raise
            finally:
                self.told = None
        flight.check()

    def stream(self) -> StreamReply:
        """Give the stream of the flight, from its beginning. RuntimeError where it has brought none."""
        reply = self.flight.reply
        if not isinstance(reply, StreamReply) or self.reader is None:
            raise RuntimeError("the flight has brought no stream")
        return given_on(reply, self.reader, self.ask, self.leave)

    def leave(self) -> None:
        """Wait no more: a closer of its ask."""
        if not self.left:
            self.left = True
            if self.reader is not None:
                self.reader.close()
            self.flight.without(self)


class Flight:
    """One answer in the making. Begin it with `Flights.begin`; only the loop's thread touches it."""

    def __init__(self, ask: Ask, *, over: Callable[[], None]) -> None:
        self.ask: Final = ask
        """Its own, with a bill of its own."""
        self.started_ms = 0
        """Unix time."""
        self.found: Found | None = None
        """Set where it came out of a cache."""
        self.reply: Reply | None = None
        self.recording: Recording | None = None
        self.withheld = False
        """Whether a guard of somebody who has joined does not let the answer through: it is not kept."""
        self.parts: Parts | None = None
        """An answer about several inputs, taken apart, where that was of use to whoever made it."""
        self.has_begun = False
        """Whether there is a reply, or the beginning of one, or there will be none."""
        self.closers: list[Callable[[], object]] = []
        """Called when it is over, and what it brought is kept. They do not wait."""
        self._over = over
        self._joined: dict[Joined, None] = {}
        self._error: BaseException | None = None
        self._failed = False
        self._ended = False
        self._led = False
        self._task: asyncio.Task[None] | None = None

    @property
    def joinable(self) -> bool:
        """Whether one more may join: also while an answer that is whole is on its way into the cache."""
        recording = self.recording
        return not self._failed and len(self._joined) < MOST_JOINED and (recording is None or recording.is_kept)

    def lasts_for(self, ask: Ask) -> bool:
        """Whether it has about as much time as this one has: who comes late to a long answer begins another one. What a
        batch asks waits for all others, so that nobody else waits with it."""
        if self.ask.principal.batch and not ask.principal.batch:
            return False
        now = asyncio.get_running_loop().time()
        return self._ended or self.ask.expires_at - now >= (ask.expires_at - now) / 2

    def start(self, background: Background, work: Work, landed: Landed) -> None:
        """Begin to work. Raises Overloaded."""
        self._task = background.start(self._run(work, landed))
        self._task.add_done_callback(self._let_go)

    def join(self, ask: Ask) -> Joined:
        """Wait on behalf of an ask, until that ends."""
        joined = Joined(ask, self, leads=not self._led)
        self._led = True
        self._joined[joined] = None
        if self.recording is not None:
            joined.reader = self.recording.reader()
        ask.on_end(joined.leave)
        cached = _as_cached(self.ask.bill) if self._ended else None
        if cached is not None:
            ask.bill.add_cached(*cached)
        return joined

    def check(self) -> None:
        """Raise why there is no answer, if there is none."""
        if self._failed:
            # NB: many raise it, and each would add its frames to those of all others.
            raise (self._error or ShuttingDown()).with_traceback(None)

    def tell(self, joined: Joined) -> None:
        """Have one who waited know what was done for the answer: whoever led did it."""
        ask, mine = joined.ask, self.ask
        if joined.leads:
            ask.join(mine, answers=not self._failed)
        elif not self._failed:
            ask.answered_by = mine.answered_by
        if self._failed:
            return
        ask.route_note = mine.route_note or ask.route_note
        ask.take_notes(mine)

    async def stop_if_last(self) -> None:
        """Stop the work if nobody else waits, and wait until it has stopped and what it has used is known."""
        task = self._task
        if task is None or self._ended or len(self._joined) > 1:
            return
        self._over()
        task.cancel()
        await asyncio.wait((task,), timeout=STOP_SECONDS)

    def without(self, joined: Joined) -> None:
        """One fewer waits; the last one stops the work, and bears what it has cost so far."""
        last = len(self._joined) == 1
        if last and not self._ended:
            self._end(ShuttingDown())
            if self._task is not None:
                self._task.cancel()
        elif not last and not self._ended:
            _note_so_far(self, joined.ask.bill)
        self._joined.pop(joined, None)
        if last:
            self._error = None  # Its traceback holds frames that hold this.

    async def _run(self, work: Work, landed: Landed) -> None:
        deadline = asyncio.timeout_at(self.ask.expires_at + OVERTIME_SECONDS)
        frames = None
        try:
            async with deadline:
                found = await work(self)
                if isinstance(found, Found):
                    self.found = found
                else:
                    self.reply = found
                    frames = await self._record(found) if isinstance(found, StreamReply) else None
        except TimeoutError as error:
            self._end(UpstreamTimeout(OUT_OF_TIME) if deadline.expired() else error)
        except asyncio.CancelledError:
            self._end(ShuttingDown())
            raise
        except Exception as error:  # noqa: BLE001 - it is raised where somebody waits
            self._end(error)
        else:
            # NB: from here on nobody who leaves stops it: what was paid for is kept.
            self._end(None)
            if isinstance(found, StreamReply):
                await _finish(found)
            self.ask.end()
            await asyncio.sleep(0)  # Those who wait go first.
            await self._keep(landed, found if isinstance(found, WholeReply) else None, frames)

    def _let_go(self, _: asyncio.Task[None]) -> None:
        """The work is over, or was stopped: perhaps before it began."""
        self._end(ShuttingDown())
        self._over()
        self.ask.end()
        if self.recording is not None:
            self.recording.close()
        for close in self.closers:
            close()

    async def _record(self, reply: StreamReply) -> bytes | None:
        """Take the frames of a stream as they come; give all of them, None where they are no answer to keep."""
        source = reply.source
        # NB: its share outlives the ask: who reads slowly reads on when the engine has said all.
        recording = self.recording = Recording(self.ask.budget.share(), whose=source.endpoint.id)
        for joined in self._joined:
            joined.reader = recording.reader()
        metered = is_metered(self.ask)
        recording.add(reply.first, mark_of(reply.relay) if metered else None)
        self._tell_begun()
        try:
            if reply.broken is not None:
                raise reply.broken
            await self._receive(reply, recording, metered=metered)
        except StreamBroken as broken:
            source.blame(type(broken).__name__)
            recording.add(broken.before)
            broken.before = b""
            raise
        return None if reply.relay.error is not None else recording.body()

    async def _receive(self, reply: StreamReply, recording: Recording, *, metered: bool) -> None:
        relay, source = reply.relay, reply.source
        room = FrameRoom(self.ask.share, whose=source.endpoint.id)
        while not relay.done:
            await recording.room()
            if metered:
                await recording.wanted()
            data = await source.receive()
            if metered and data:
                for part in frames_of(data):
                    await recording.wanted()
                    recording.add(relay.feed(part), mark_of(relay))
                    if relay.done:
                        break
            else:
                recording.add(relay.feed(data) if data else relay.finish())
            room.reckon(relay.kept)

    async def _keep(self, landed: Landed, whole: WholeReply | None, frames: bytes | None) -> None:
        if whole is None and frames is None:
            return
        try:
            async with asyncio.timeout(KEEP_SECONDS):
                await landed(self, whole, frames)
        except Exception as error:  # noqa: BLE001 - whoever asked has the answer; only the next one misses it
            log.warning(
                "an answer was not kept",
                extra={"request_id": self.ask.request_id.decode(), "reason": type(error).__name__},
            )

    def _tell_begun(self) -> None:
        self.has_begun = True
        for joined in self._joined:
            if joined.told is not None and not joined.told.done():
                joined.told.set_result(None)

    def _end(self, error: BaseException | None) -> None:
        """It is over, once: what it has used is settled and given to who bears it, and those who wait are told."""
        if self._ended:
            return
        self._ended = True
        self._error, self._failed = error, error is not None
        if error is not None:
            self._over()
            self.ask.end()
        self.ask.bill.settle_streams()
        self._charge()
        if self.recording is not None:
            self.recording.end(error)
        self._tell_begun()

    def _charge(self) -> None:
        bearer = next(iter(self._joined), None)
        if bearer is None:
            return
        bill = self.ask.bill
        _move(bill, bearer.ask.bill)
        if bill.cached is not None:  # That of a fallback, which has a cache of its own.
            bearer.ask.bill.add_cached(*bill.cached)
        if not self._failed:
            cached = _as_cached(bill)
            for joined in self._joined:
                if joined is not bearer and cached is not None:
                    joined.ask.bill.add_cached(*cached)


def _note_so_far(flight: Flight, bill: Bill) -> None:
    """Have one who leaves while others wait be told of as given what has come so far, as if it had been there."""
    reply, model, request = flight.reply, flight.ask.answered_by, flight.ask.request
    if not isinstance(reply, StreamReply) or model is None:
        return
    relay = reply.relay
    usage, _ = weigh(
        relay.usage, whole=relay.counted, prompt=partial(asked_tokens, request, model), output=lambda: relay.text.tokens
    )
    bill.add_cached(usage, None if model.rates is None else model.rates.cost(usage))


async def _finish(reply: StreamReply) -> None:
    """Let go of the engine behind its last frame."""
    source, error = reply.source, reply.relay.error
    if error is not None and error.status >= SERVER_ERROR:
        source.blame("error-event")
    source.finish()
    if not source.complete:
        await read_end(source)


def _move(bill: Bill, to: Bill) -> None:
    for usage, how, answered, nano_dollars, model in bill.settled:
        to.add(usage, how, nano_dollars, answered, model)


def _as_cached(bill: Bill) -> tuple[Usage, int] | None:
    for usage, _, answered, nano_dollars, _ in reversed(bill.settled):
        if answered:
            return usage, nano_dollars or 0
    return None


class Flights:
    """Those that are under way, by what they are about."""

    def __init__(self, background: Background) -> None:
        self._background = background
        self._flights: dict[object, Flight] = {}

    def __len__(self) -> int:
        return len(self._flights)

    def find(self, key: object, ask: Ask) -> Flight | None:
        """Give the one that this one may join; None when there is none."""
        flight = self._flights.get(key)
        return flight if flight is not None and flight.joinable and flight.lasts_for(ask) else None

    def begin(
        self, key: object, ask: Ask, work: Work, landed: Landed, *, now_ms: int, request: Request | None = None
    ) -> Joined:
        """Begin one on behalf of an ask, which joins it. `key` None: nobody else may. Raises Overloaded.

        It asks for the same, or for `request` instead.
        """
        flight = Flight(ask.fork(request, settles=True), over=lambda: self._forget(key, flight))
        flight.ask.may_wait = ask.may_wait
        flight.started_ms = now_ms
        flight.start(self._background, work, landed)
        if key is not None:
            self._flights[key] = flight
        return flight.join(ask)

    def _forget(self, key: object, flight: Flight) -> None:
        if self._flights.get(key) is flight:
            del self._flights[key]


async def brought(join: Callable[[], Joined | None], suits: Callable[[Found], bool]) -> Joined | None:
    """Join a flight, and wait until it has brought something that suits; None: who asks has to ask for itself.

    `join` gives None where there is no room. Raises why there is no answer: at once to who has led, and to all when it
    is because of what they ask; else one of those who waited leads the next flight, some `ROUNDS` times.
    """
    failed: Exception | None = None
    try:
        for _ in range(ROUNDS):
            joined = join()
            if joined is None:
                return None
            try:
                await joined.begun()
            except Exception as error:
                joined.flight.tell(joined)
                joined.leave()
                if joined.leads or is_of_the_request(error):
                    raise
                failed = error
                continue
            found = joined.flight.found
            if found is None or joined.leads or suits(found):
                return joined
            joined.leave()
        if failed is not None:
            raise failed
        return None
    finally:
        failed = None  # NB: its traceback holds this frame.


def is_of_the_request(error: BaseException) -> bool:
    """Whether the same request would fail again, whoever asks."""
    return (
        isinstance(error, GatewayError) and CLIENT_ERROR <= error.status < SERVER_ERROR and error.status not in _WAITS
    )
