"""One CachePolicy around one model.

    request ─► its key ─► memory ─► a flight: one for all who ask the same now ─► Redis ─► the model
                             │ hit                                                   │ hit       │ whole: kept
                             └───────────────► the same answer again ◄───────────────┘           ▼
                                                                                          memory, Redis

It stands inside of guards: what it keeps is what the model said, and whoever gets it again gets it through the guards
that are in force then.
"""

import asyncio
from contextlib import suppress
from functools import partial
from typing import Final

from capstan_gateway.caches.key import model_of
from capstan_gateway.caches.port import CacheKey, Entry, Form, Found, Looked, Tier
from capstan_gateway.config.runtime import ServedModel
from capstan_gateway.errors import GatewayError, NotCached, Overloaded
from capstan_gateway.headers import Header
from capstan_gateway.pipeline.ask import Ask
from capstan_gateway.pipeline.beside import beside
from capstan_gateway.pipeline.cache_notes import HITS, CacheNote, Word
from capstan_gateway.pipeline.caches.embeddings import PerInput
from capstan_gateway.pipeline.caches.flights import Flight, Joined, brought
from capstan_gateway.pipeline.caches.needs import Room, Shared, note_answer
from capstan_gateway.pipeline.caches.question import Question, control_of, question_of
from capstan_gateway.pipeline.caches.replay import fits, replayed
from capstan_gateway.pipeline.caches.seen import Seen
from capstan_gateway.pipeline.caches.storing import entry_of
from capstan_gateway.pipeline.caches.streamed import form_of
from capstan_gateway.pipeline.layers import AnswerFunction, Order, Reads
from capstan_gateway.pipeline.reply import Reply, WholeReply
from capstan_gateway.pipeline.request import Request
from capstan_gateway.telemetry.cells import Number
from capstan_gateway.tokens.bill import Bill

WAIT_SECONDS: Final = 10.0
"""How long who has an answer in one piece waits for another replica that makes it."""
STREAM_WAIT_SECONDS: Final = 1.0
"""The same of a stream, of which nothing is seen before all of it is there."""
PAUSE_SECONDS: Final = 0.05
LONG_BYTES: Final = 64 * 1024
"""Of an answer; a longer one is written as a stream beside the loop: 2 MB take some 17 ms."""
MOST_MAKING: Final = 10_000
"""Answers in the making that a policy in mode Shadow knows of."""


class CacheLayer:
    """What a policy does with the requests to one model; `layers.Layer`, and `layers.PerModel`: it acts around one name
    of the model, its own or an adapter's, and where it is around none, as on a router, it does nothing."""

    order = Order.CACHE
    reads = Reads.EVERYTHING

    def __init__(
        self, room: Room, shared: Shared, *, model_id: str, identity: bytes, enforces: bool = True,
        model: ServedModel | None = None,
    ) -> None:  # fmt: skip
        self.room: Final = room
        self._shared: Final = shared
        self._model_id: Final = model_id
        self._model_digest: Final = model_of(model_id)
        self._identity: Final = identity
        self._enforces: Final = enforces
        self._model: Final = model
        self._per_input: Final = PerInput(room, shared, is_of=self._is_of)

    def around(self, model: ServedModel) -> "CacheLayer":
        """Give what acts around this name. Of a virtual model each member has a cache of its own, or none."""
        own = model if model.plan is None and model.id == self._model_id else None
        return CacheLayer(
            self.room, self._shared, model_id=self._model_id, identity=self._identity, enforces=self._enforces,
            model=own,
        )  # fmt: skip

    async def answer(self, ask: Ask, inner: AnswerFunction) -> Reply:
        """Give an answer that is there, or that of `inner`."""
        model = self._model
        if model is None or ask.own or ask.request.route.counts:
            return await inner(ask)
        question = question_of(
            ask, self.room.body, model, identity=self._identity, of=self._model_digest, secret=self.room.secret
        )
        if question is None:
            return await self._bypassed(ask, inner)
        vectors, alike = self.room.vectors, question.alike
        if vectors is not None and alike is not None:
            question = question._replace(alike=alike._replace(vector_of=partial(vectors.of, ask)))
        if not self._enforces:
            return await self._watched(ask, question, inner)
        if question.inputs is not None:
            return await self._per_input.answer(ask, model, question, question.inputs, inner)
        found, stale = self._at_hand(ask, question)
        if found is not None:
            return await self._hit(ask, model, found)
        if question.control.only_if_cached:
            return await self._only_if_cached(ask, model, question, stale=stale)
        return await self._asked(ask, model, question, inner, stale=stale)

    async def _bypassed(self, ask: Ask, inner: AnswerFunction) -> Reply:
        self.room.cells.bypassed.value += 1
        if not self._enforces:
            return await inner(ask)
        if control_of(ask, self.room.body).only_if_cached:
            raise NotCached(headers=_headers(Word.BYPASS))
        ask.cached = CacheNote(Word.BYPASS)
        return await inner(ask)

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

    async def _only_if_cached(self, ask: Ask, model: ServedModel, question: Question, *, stale: bool) -> Reply:
        found = None
        if question.control.look:
            found, looked = await self._in_store(ask.request, question, lease=False)
            stale = stale or (found is None and looked.entry is not None)
            found = found or await self._alike(question)
        if found is None:
            (self.room.cells.stale if stale else self.room.cells.misses).value += 1
            raise NotCached(headers=_headers(Word.STALE_REFUSED if stale else Word.MISS))
        return await self._hit(ask, model, found)

    def _is_stale(self, entry: Entry, question: Question) -> bool:
        most = question.control.max_age
        return most is not None and self._age_ms(entry) > most * 1000

    def _suits(self, question: Question, found: Found) -> bool:
        """Whether what somebody else has found is also what this one takes."""
        alike = question.alike
        similar = found.similarity is None or (alike is not None and found.similarity >= alike.least)
        return similar and not self._is_stale(found.entry, question)

    def _age_ms(self, entry: Entry) -> int:
        return max(self._shared.now_ms() - entry.created_ms, 0)

    async def _hit(self, ask: Ask, model: ServedModel, found: Found) -> Reply:
        entry = found.entry
        self.room.cells.hit(found)
        ask.bill.add_cached(entry.usage, entry.nano_dollars)
        ask.answered_by = model
        if len(ask.inside) > 1:
            ask.forget_if_withheld(partial(self._forget, found.key, None))
        if self.room.live is not None and found.tier is Tier.SEMANTIC:
            self.room.live.note(found)
        note_answer(
            self.room, self._shared.answered, ask.request_id, found.key, id=entry.id, similarity=found.similarity
        )
        ask.cached = CacheNote(HITS[found.tier], found.key.text, self._age_ms(entry) // 1000, found.similarity)
        work = partial(replayed, entry, ask.request, model_id=model.id)
        if ask.request.stream and len(entry.body) > LONG_BYTES:
            with suppress(Overloaded):
                return await beside(self._shared.deps.executor, work)
        return work()

    # --- what is not --------------------------------------------------------------------------------------------------

    async def _asked(
        self, ask: Ask, model: ServedModel, question: Question, inner: AnswerFunction, *, stale: bool
    ) -> Reply:
        joined = await brought(partial(self._joined, ask, question, inner), partial(self._suits, question))
        if joined is not None:
            found, live = joined.flight.found, self.room.live
            if live is not None and joined.leads and found is not None and found.tier is Tier.SEMANTIC:
                live.given(ask, question, found, inner)
            return await self._landed(ask, model, question, joined, stale=stale)
        self.room.cells.misses.value += 1
        ask.cached = CacheNote(Word.MISS)
        return await inner(ask)

    def _joined(self, ask: Ask, question: Question, inner: AnswerFunction) -> Joined | None:
        """Join who asks the same already, or be the one who asks; None where there is no room for that."""
        flights = self.room.flights
        # NB: who wants it anew does not want what somebody asked for before. A fallback may answer as well: so all who
        # share a call have come the same way, and may use the same models.
        bound = None if ask.governed is None else ask.governed.bound
        joins = question.control.look and bound is None
        key = (question.key, form_of(ask.request), ask.inside, ask.runtime) if joins else None
        flight = flights.find(key, ask) if key is not None else None
        # NB: what was asked for before a purge is no answer to what is asked after it.
        if flight is not None and not self.room.purged(question.key, flight.started_ms):
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
        return await self._alike(question) or await inner(flight.ask)

    async def _alike(self, question: Question) -> Found | None:
        """Look for what means the same, where nothing is known against it."""
        alike, live = self.room.alike, self.room.live
        if alike is None or question.alike is None or not question.control.look:
            return None
        if live is not None and not await live.is_on() and self._enforces:
            return None  # Who only looks on goes on to count.
        found = await alike.find(question.alike)
        if found is None or self._is_stale(found.entry, question):
            return None
        return found if live is None or live.admits(found) else None

    async def _landed(self, ask: Ask, model: ServedModel, question: Question, joined: Joined, *, stale: bool) -> Reply:
        """Give what a flight has brought to one who has joined it."""
        flight = joined.flight
        if flight.found is not None:
            return await self._hit(ask, model, flight.found)
        cells = self.room.cells
        flight.tell(joined)
        note_answer(self.room, self._shared.answered, ask.request_id, question.key)
        if joined.leads:
            (cells.stale if stale else cells.misses).value += 1
            ask.cached = CacheNote(Word.STALE_REFUSED if stale else Word.MISS, question.key.text)
        else:
            cells.joined.value += 1
            ask.cached = CacheNote(Word.HIT_MEMORY, question.key.text)
            ask.on_end(partial(self._count_saved, ask.bill))
        if len(ask.inside) > 1:
            ask.forget_if_withheld(partial(self._forget, question.key, flight))
        reply = flight.reply
        if isinstance(reply, WholeReply):
            return WholeReply(reply.status, reply.content_type, reply.body, reply.native, reply.withheld)
        return joined.stream()

    def _count_saved(self, bill: Bill) -> None:
        if bill.cached is not None:
            self.room.cells.saved(*bill.cached)

    async def _keep(self, question: Question, flight: Flight, whole: WholeReply | None, frames: bytes | None) -> None:
        """Keep an answer that came whole, if it is one to keep."""
        ask, room = flight.ask, self.room
        entry = await self._entry(question, ask, whole, frames, started_ms=flight.started_ms)
        if entry is None or flight.withheld:
            return
        if room.purged(question.key, flight.started_ms):
            return
        room.memory.put(question.key, entry)
        room.cells.stored.value += 1
        note_answer(room, self._shared.answered, ask.request_id, question.key, id=entry.id)
        if room.shared is not None:
            await room.shared.put(question.key, entry)
            if flight.withheld:  # NB: a guard may have found that out meanwhile.
                await room.shared.drop((question.key,))
        if flight.withheld:
            return
        if room.alike is not None and question.alike is not None and entry.form is Form.ANSWER:
            await room.alike.put(question.alike, question.key, entry._replace(question=question.alike.text))

    async def _entry(
        self, question: Question, ask: Ask, whole: WholeReply | None, frames: bytes | None, *, started_ms: int
    ) -> Entry | None:
        """Make the entry of an answer; None where it is none to keep."""
        usage = ask.bill.answer
        if not question.control.store or not self._is_of(ask, question):
            return None
        if usage is None or not usage.prompt_tokens + usage.completion_tokens:
            return None  # Nobody has counted it: nothing was sent, or no model has answered.
        return await entry_of(
            question, ask.request, whole, frames, usage=usage,
            nano_dollars=ask.bill.nano_dollars if ask.bill.priced else None, created_ms=started_ms,
            ttl_ms=self.room.body.ttlSeconds * 1000, executor=self._shared.deps.executor,
        )  # fmt: skip

    def _is_of(self, ask: Ask, question: Question) -> bool:
        """Whether this very model has answered, and what it runs is what it ran when it was asked."""
        model, tried = self._model, ask.stats.tried
        if model is None or ask.answered_by is not model or model.endpoints.contents != question.contents:
            return False
        return all(one.endpoint.template == question.contents for one in tried if one.sent)

    def _forget(self, key: CacheKey, flight: Flight | None) -> None:
        """Let go of an answer that a guard does not let through."""
        room = self.room
        if flight is not None:
            flight.withheld = True
        was_kept = room.memory.drop(key)
        if room.alike is not None and (was_kept or flight is None):
            room.alike.drop(key)
        if room.shared is not None:
            with suppress(Overloaded):
                self._shared.deps.background.start(room.shared.drop((key,)))

    # --- Shadow -------------------------------------------------------------------------------------------------------

    async def _watched(self, ask: Ask, question: Question, inner: AnswerFunction) -> Reply:
        """Count what would have been there, and ask all the same. Nothing of the request or its answer changes."""
        cells, making = self.room.cells, self.room.making
        found, stale = self._at_hand(ask, question)
        key = question.key if question.control.look else None
        if found is not None:
            cells.hit(found)
            return await inner(ask)
        if key is not None and key in making:
            cells.joined.value += 1
            return await inner(ask)
        if key is not None and len(making) < MOST_MAKING:
            making.add(key)
            ask.on_end(partial(making.discard, key))
        missed = cells.stale if stale else cells.misses
        started_ms = self._shared.now_ms()
        settled = len(ask.bill.settled)
        try:
            reply = await inner(ask)
        except BaseException:
            missed.value += 1
            raise
        seen = Seen(reply, share=ask.share)
        ask.on_end(partial(self._seen, ask, question, seen, started_ms, settled, missed))
        return seen.reply

    def _seen(self, ask: Ask, question: Question, seen: Seen, started_ms: int, settled: int, missed: Number) -> None:
        """Keep what has gone on, in this policy's own memory, when it is over."""
        # NB: what means the same is looked for now as well: nobody waits for that in vain.
        looks = self.room.alike is not None and question.alike is not None
        if not looks:
            missed.value += 1
        if not seen.is_whole and not looks:
            return
        try:
            self._shared.deps.background.start(self._keep_seen(ask, question, seen, started_ms, settled, missed))
        except Overloaded:
            missed.value += looks

    async def _keep_seen(
        self, ask: Ask, question: Question, seen: Seen, started_ms: int, settled: int, missed: Number
    ) -> None:
        alike, live = self.room.alike, self.room.live
        found = None
        if alike is not None and question.alike is not None:
            found = await self._alike(question)
            if found is None:
                missed.value += 1
            else:
                self.room.cells.hit(found)
        entry = None
        with suppress(GatewayError):
            if seen.is_whole:
                entry = await self._entry(question, ask, seen.whole, seen.frames(), started_ms=started_ms)
        if entry is not None:
            cost = ask.bill.since(settled)
            self.room.memory.put(question.key, entry._replace(nano_dollars=cost.nano_dollars))
            self.room.cells.stored.value += 1
            if alike is not None and question.alike is not None and entry.form is Form.ANSWER:
                await alike.put(question.alike, question.key, entry._replace(question=question.alike.text))
        if found is not None and live is not None:
            await live.would_be(ask, question, found, entry)


def _headers(word: Word) -> tuple[Header, ...]:
    return ((b"x-cache", word.value.encode()),)
