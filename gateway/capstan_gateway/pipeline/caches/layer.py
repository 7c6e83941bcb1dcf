"""One CachePolicy around one model.

    request ─► its key ─► memory ─► a flight: one for all who ask the same now ─► Redis ─► the model
                             │ hit                                                   │ hit       │ whole: kept
                             └───────────────► the same answer again ◄───────────────┘           ▼
                                                                                          memory, Redis

It stands inside of guards: what it keeps is what the model said, and whoever gets it again gets it through the guards
that are in force then.
"""

import asyncio
from functools import partial
from typing import Final

from capstan_gateway.caches.port import Entry, Form, Found, Looked, Tier
from capstan_gateway.config.runtime import ServedModel
from capstan_gateway.errors import NotCached, Overloaded
from capstan_gateway.pipeline.ask import Ask
from capstan_gateway.pipeline.cache_notes import HITS, CacheNote, Word
from capstan_gateway.pipeline.caches.flights import Flight, Joined, is_of_the_request, stream_of
from capstan_gateway.pipeline.caches.needs import Room, Shared
from capstan_gateway.pipeline.caches.question import Question, question_of
from capstan_gateway.pipeline.caches.replay import fits, replayed
from capstan_gateway.pipeline.caches.storing import entry_of
from capstan_gateway.pipeline.layers import AnswerFunction, Order, Reads
from capstan_gateway.pipeline.reply import Reply, StreamReply, WholeReply
from capstan_gateway.pipeline.request import Request
from capstan_gateway.tokens.usage import Usage

ROUNDS: Final = 2
"""How often who only waited begins anew, or joins who does, before it asks for itself."""


WAIT_SECONDS: Final = 10.0
"""How long who has an answer in one piece waits for another replica that makes it."""
STREAM_WAIT_SECONDS: Final = 1.0
"""The same of a stream, of which nothing is seen before all of it is there."""
PAUSE_SECONDS: Final = 0.05


class CacheLayer:
    """What a policy does with the requests to one model; `layers.Layer`."""

    order = Order.CACHE
    reads = Reads.EVERYTHING

    def __init__(self, room: Room, shared: Shared, *, model_id: str, identity: bytes, enforces: bool = True) -> None:
        self.room: Final = room
        self._shared: Final = shared
        self._model_id: Final = model_id
        self._identity: Final = identity
        self._enforces: Final = enforces

    async def answer(self, ask: Ask, inner: AnswerFunction) -> Reply:
        """Give an answer that is there, or that of `inner`."""
        model = ask.runtime.whole.by_id.get(self._model_id)
        if model is None or model.plan is not None:
            return await inner(ask)  # Of a virtual model each member has a cache of its own, or none.
        question = question_of(ask, self.room.body, model, identity=self._identity, secret=self.room.secret)
        if question is None:
            self.room.cells.bypassed.value += 1
            ask.cached = CacheNote(Word.BYPASS)
            return await inner(ask)
        if not self._enforces:
            return await self._watched(ask, question, inner)
        found, stale = self._at_hand(ask, question)
        if found is not None:
            return self._hit(ask, model, found)
        if question.control.only_if_cached:
            return await self._only_if_cached(ask, model, question)
        return await self._asked(ask, model, question, inner, stale=stale)

    # --- what is there ------------------------------------------------------------------------------------------------

    def _at_hand(self, ask: Ask, question: Question) -> tuple[Found | None, bool]:
        """Give what is in memory; and whether something was that is too old for the client."""
        if not question.control.look:
            return None, False
        entry = self.room.memory.get(question.key)
        if entry is None or not fits(entry, ask.request):
            return None, False
        if self._is_stale(entry, question):
            return None, True
        return Found(entry, Tier.MEMORY, question.key), False

    async def _in_store(self, request: Request, question: Question, *, lease: bool) -> tuple[Found | None, Looked]:
        """Look where replicas share entries; what is found there is at hand from then on."""
        shared = self.room.shared
        if shared is None:
            return None, Looked()
        looked = await shared.look(question.key, lease=lease)
        entry = looked.entry
        if entry is None or not fits(entry, request) or self._is_stale(entry, question):
            return None, looked
        self.room.memory.put(question.key, entry)
        return Found(entry, Tier.REDIS, question.key), looked

    async def _only_if_cached(self, ask: Ask, model: ServedModel, question: Question) -> Reply:
        found, _ = await self._in_store(ask.request, question, lease=False)
        if found is None:
            self.room.cells.misses.value += 1
            raise NotCached
        return self._hit(ask, model, found)

    def _is_stale(self, entry: Entry, question: Question) -> bool:
        most = question.control.max_age
        return most is not None and self._age_ms(entry) > most * 1000

    def _age_ms(self, entry: Entry) -> int:
        return max(self._shared.now_ms() - entry.created_ms, 0)

    def _hit(self, ask: Ask, model: ServedModel, found: Found) -> Reply:
        entry = found.entry
        self.room.cells.hit(found)
        ask.bill.cached = entry.usage or Usage(0, 0), entry.nano_dollars or 0
        ask.answered_by = model
        ask.cached = CacheNote(HITS[found.tier], found.key.text, self._age_ms(entry) // 1000, found.similarity)
        return replayed(entry, ask.request, model_id=model.id)

    # --- what is not --------------------------------------------------------------------------------------------------

    async def _asked(
        self, ask: Ask, model: ServedModel, question: Question, inner: AnswerFunction, *, stale: bool
    ) -> Reply:
        for _ in range(ROUNDS):
            joined = self._joined(ask, question, inner)
            if joined is None:
                break
            try:
                await joined.flight.begun()
            except Exception as error:
                joined.flight.tell(joined)
                joined.leave()
                if joined.leads or is_of_the_request(error):
                    raise
                continue
            return self._landed(ask, model, question, joined, stale=stale)
        self.room.cells.misses.value += 1
        ask.cached = CacheNote(Word.MISS)
        return await inner(ask)

    def _joined(self, ask: Ask, question: Question, inner: AnswerFunction) -> Joined | None:
        """Join who asks the same already, or be the one who asks; None where there is no room for that."""
        flights = self.room.flights
        # NB: who wants it anew does not want what somebody asked for before.
        key = (question.key, ask.request.stream) if question.control.look else None
        flight = flights.find(key) if key is not None else None
        if flight is not None:
            return flight.join(ask)
        work = partial(self._work, question=question, inner=inner)
        try:
            return flights.begin(key, ask, work, partial(self._keep, question), now_ms=self._shared.now_ms())
        except Overloaded:
            return None

    async def _work(self, flight: Flight, *, question: Question, inner: AnswerFunction) -> Found | Reply:
        """Find the answer where replicas share them, or have it made: on behalf of all who wait for it."""
        if question.control.look and self.room.shared is not None:
            found, looked = await self._in_store(flight.ask.request, question, lease=True)
            loop_time = self._shared.deps.loop_time
            until = loop_time() + (STREAM_WAIT_SECONDS if flight.ask.request.stream else WAIT_SECONDS)
            while found is None and looked.waits and loop_time() < until:
                await asyncio.sleep(PAUSE_SECONDS)
                found, looked = await self._in_store(flight.ask.request, question, lease=True)
            if found is not None:
                return found
            if looked.lease is not None:
                flight.closers.append(looked.lease.release)
        alike = self.room.alike
        if alike is not None and question.alike is not None and question.control.look:
            found = await alike.find(question.alike)
            if found is not None and not self._is_stale(found.entry, question):
                return found
        return await inner(flight.ask)

    def _landed(self, ask: Ask, model: ServedModel, question: Question, joined: Joined, *, stale: bool) -> Reply:
        """Give what a flight has brought to one who has joined it."""
        flight = joined.flight
        if flight.found is not None:
            return self._hit(ask, model, flight.found)
        cells = self.room.cells
        flight.tell(joined)
        if joined.leads:
            (cells.stale if stale else cells.misses).value += 1
            ask.cached = CacheNote(Word.STALE_REFUSED if stale else Word.MISS, question.key.text)
        else:
            cells.joined.value += 1
            ask.cached = CacheNote(Word.HIT_MEMORY, question.key.text)
        reply = flight.reply
        if isinstance(reply, WholeReply):
            return WholeReply(reply.status, reply.content_type, reply.body, reply.native, reply.withheld)
        return stream_of(joined, ask.request)

    async def _keep(self, question: Question, flight: Flight, whole: WholeReply | None, frames: bytes | None) -> None:
        """Keep an answer that came whole, if it is one to keep."""
        ask, room = flight.ask, self.room
        if not question.control.store or not self._is_of(ask, question):
            return
        entry = await entry_of(
            question, ask.request, whole, frames,
            created_ms=flight.started_ms, ttl_ms=room.body.ttlSeconds * 1000, executor=self._shared.deps.executor,
        )  # fmt: skip
        if entry is None:
            return
        usage, price = ask.bill.answer, ask.bill.nano_dollars if ask.bill.priced else None
        entry = entry._replace(usage=usage, nano_dollars=price)
        room.memory.put(question.key, entry)
        room.cells.stored.value += 1
        if room.shared is not None:
            await room.shared.put(question.key, entry)
        if room.alike is not None and question.alike is not None and entry.form is Form.ANSWER:
            await room.alike.put(question.alike, question.key, entry._replace(question=question.alike.text))

    def _is_of(self, ask: Ask, question: Question) -> bool:
        """Whether this model has answered, and what it runs is what it ran when it was asked."""
        answered = ask.answered_by
        return (
            answered is not None and answered.id == self._model_id and answered.endpoints.contents == question.contents
        )

    # --- Shadow -------------------------------------------------------------------------------------------------------

    async def _watched(self, ask: Ask, question: Question, inner: AnswerFunction) -> Reply:
        """Count what would have been there, and ask all the same."""
        found, _ = self._at_hand(ask, question)
        if found is not None:
            self.room.cells.hit(found)
            return await inner(ask)
        self.room.cells.misses.value += 1
        work = partial(_answered, inner=inner)
        joined = self.room.flights.begin(None, ask, work, partial(self._keep, question), now_ms=self._shared.now_ms())
        await joined.flight.begun()
        joined.flight.tell(joined)
        reply = joined.flight.reply
        return stream_of(joined, ask.request) if isinstance(reply, StreamReply) else _whole(reply)


async def _answered(flight: Flight, *, inner: AnswerFunction) -> Reply:
    return await inner(flight.ask)


def _whole(reply: Reply | None) -> Reply:
    if not isinstance(reply, WholeReply):
        raise RuntimeError("the flight has brought nothing")
    return reply
