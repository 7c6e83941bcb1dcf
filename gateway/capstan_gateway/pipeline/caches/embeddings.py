"""Embeddings out of a cache, input by input: only those that are not there are asked for.

inputs ─► memory ─► Redis, many at once ─► all there: put together, and no model is asked
                                        └► some missing: a flight asks for those alone ─► put together ─► kept
"""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, Final, NamedTuple

from capstan_gateway.caches.inputs import Inputs, Parts, put_together, shared_out, taken_apart
from capstan_gateway.caches.port import Entry, Form, Found, Tier
from capstan_gateway.config.runtime import ServedModel
from capstan_gateway.errors import NotCached, Overloaded
from capstan_gateway.headers import JSON
from capstan_gateway.pipeline.ask import Ask
from capstan_gateway.pipeline.beside import beside
from capstan_gateway.pipeline.cache_notes import HITS, CacheNote, Word
from capstan_gateway.pipeline.caches.flights import Flight, Joined, brought
from capstan_gateway.pipeline.caches.needs import Room, Shared, note_answer
from capstan_gateway.pipeline.caches.question import Question
from capstan_gateway.pipeline.caches.storing import INLINE_BYTES, MOST_BYTES, OK
from capstan_gateway.pipeline.layers import AnswerFunction
from capstan_gateway.pipeline.reply import Reply, StreamReply, WholeReply
from capstan_gateway.tokens.usage import Usage

AT_ONCE: Final = 64
"""So many entries are asked for, or written, in one call: some 2 MB of vectors."""
LOOK_SECONDS: Final = 1.0
"""How long a Redis that is slow is asked for more of them."""
Places = Sequence[Found | None]


class There(NamedTuple):
    """What the inputs that were there come to."""

    number: int
    usage: Usage
    nano_dollars: int
    tier: Tier
    created_ms: int
    """Of the oldest."""


class PerInput:
    """What one policy does with requests for embeddings to one model."""

    def __init__(self, room: Room, shared: Shared, *, is_of: Callable[[Ask, Question], bool]) -> None:
        self._room: Final = room
        self._shared: Final = shared
        self._is_of: Final = is_of

    async def answer(
        self, ask: Ask, model: ServedModel, question: Question, inputs: Inputs, inner: AnswerFunction
    ) -> Reply:
        """Give the answer of what is there and of what the model says of the rest."""
        places = await self._look(question, inputs)
        there = _there(places)
        if there is not None and there.number == len(places):
            return self._hit(ask, model, inputs, places, there)
        if question.control.only_if_cached:
            self._room.cells.misses.value += 1
            raise NotCached(headers=((b"x-cache", Word.MISS.value.encode()),))
        asked = inputs if there is None else inputs.missing([place is not None for place in places])
        joined = await brought(partial(self._joined, ask, question, asked, inner, there), lambda _: True)
        if joined is None:
            self._room.cells.misses.value += 1
            ask.cached = CacheNote(Word.MISS)
            return await inner(ask)
        return await self._landed(ask, inputs, asked, joined, places, there, inner)

    # --- what is there ------------------------------------------------------------------------------------------------

    async def _look(self, question: Question, inputs: Inputs) -> list[Found | None]:
        if not question.control.look:
            return [None] * len(inputs.keys)
        found: dict[bytes, Found] = {}
        for key in inputs.keys:
            entry = self._room.memory.get(key)
            if entry is not None and self._fits(entry, question):
                found[key.digest] = Found(entry, Tier.MEMORY, key)
        shared = self._room.shared
        wanted = list({key.digest: key for key in inputs.keys if key.digest not in found}.values())
        if shared is not None:
            loop_time = self._shared.deps.loop_time
            until = loop_time() + LOOK_SECONDS
            for at in range(0, len(wanted), AT_ONCE):
                some = wanted[at : at + AT_ONCE]
                for key, entry in zip(some, await shared.find(some), strict=True):
                    if entry is not None and self._fits(entry, question):
                        self._room.memory.put(key, entry)
                        found[key.digest] = Found(entry, Tier.REDIS, key)
                if shared.is_down or loop_time() > until:
                    break
        return [found.get(key.digest) for key in inputs.keys]

    def _fits(self, entry: Entry, question: Question) -> bool:
        most = question.control.max_age
        fresh = most is None or self._shared.now_ms() - entry.created_ms <= most * 1000
        return entry.form is Form.EMBEDDING and fresh

    def _hit(self, ask: Ask, model: ServedModel, inputs: Inputs, places: Places, there: There) -> Reply:
        key = inputs.keys[0]
        summed = Entry(Form.EMBEDDING, b"", JSON, there.created_ms, 0, there.usage, there.nano_dollars)
        self._room.cells.hit(Found(summed, there.tier, key))
        ask.bill.add_cached(there.usage, there.nano_dollars)
        ask.answered_by = model
        age = max(self._shared.now_ms() - there.created_ms, 0) // 1000
        if len(places) == 1:
            note_answer(self._room, self._shared.answered, ask.request_id, key)
        ask.cached = CacheNote(HITS[there.tier], key.text if len(places) == 1 else "", age)
        prompt, head = there.usage.prompt_tokens, {"object": "list", "model": model.name}
        return _written(ask, head, [one.entry.body for one in places if one is not None], prompt, prompt)

    # --- what is not --------------------------------------------------------------------------------------------------

    def _joined(
        self, ask: Ask, question: Question, asked: Inputs, inner: AnswerFunction, there: There | None
    ) -> Joined | None:
        """Join who asks for the very same inputs, or be the one who asks."""
        flights = self._room.flights
        bound = None if ask.governed is None else ask.governed.bound
        key = (asked.keys, ask.inside, ask.runtime) if question.control.look and bound is None else None
        flight = flights.find(key, ask) if key is not None else None
        # NB: what was asked for before a purge is no answer to what is asked after it.
        if flight is not None and not any(self._room.purged(one, flight.started_ms) for one in asked.keys):
            return flight.join(ask)
        document = ask.request.document
        request = None if there is None else ask.request.rewritten({**document, "input": list(asked.values)})
        work, keep = partial(self._work, asked=asked, inner=inner), partial(self._keep, question, asked)
        try:
            return flights.begin(key, ask, work, keep, now_ms=self._shared.now_ms(), request=request)
        except Overloaded:
            return None

    async def _work(self, flight: Flight, *, asked: Inputs, inner: AnswerFunction) -> Reply:
        reply = await inner(flight.ask)
        if flight.ask.request.raw is None:  # Only a part is asked for: nobody can be given it as it is.
            flight.parts = await self._taken_apart(reply, asked)
        return reply

    async def _taken_apart(self, reply: Reply | None, asked: Inputs) -> Parts | None:
        if not isinstance(reply, WholeReply) or reply.status != OK or reply.withheld:
            return None
        work = partial(taken_apart, reply.body, len(asked.keys))
        return work() if len(reply.body) <= INLINE_BYTES else await beside(self._shared.deps.executor, work)

    async def _landed(
        self, ask: Ask, inputs: Inputs, asked: Inputs, joined: Joined, places: Places, there: There | None,
        inner: AnswerFunction,
    ) -> Reply:  # fmt: skip
        flight, cells = joined.flight, self._room.cells
        flight.tell(joined)
        reply, used = flight.reply, flight.ask.bill.answer or Usage(0, 0)
        if joined.leads:
            (cells.misses if there is None else cells.partial).value += 1
        else:
            cells.joined.value += 1
            cells.saved(used, flight.ask.bill.nano_dollars)
        word = Word.MISS if joined.leads else Word.HIT_MEMORY
        count = 0 if there is None else there.number
        key = inputs.keys[0].text if len(places) == 1 else ""
        if key:
            note_answer(self._room, self._shared.answered, ask.request_id, inputs.keys[0])
        ask.cached = CacheNote(word, key, inputs=f"{count}/{len(places)}" if len(places) > 1 else "")
        if there is None:
            if isinstance(reply, StreamReply):
                return joined.stream()
            return reply if reply is not None else await inner(ask)
        parts = flight.parts or await self._taken_apart(reply, asked)
        if parts is None:
            return await inner(ask)  # It is no list of what was asked: all is asked, as the client has asked it.
        ask.bill.add_cached(there.usage, there.nano_dollars)
        cells.saved(there.usage, there.nano_dollars)
        made = {key.digest: item for key, item in zip(asked.keys, parts.items, strict=True)}
        items = [
            made[key.digest] if one is None else one.entry.body for key, one in zip(inputs.keys, places, strict=True)
        ]
        cached = there.usage.prompt_tokens
        return _written(ask, parts.head, items, cached + used.prompt_tokens, cached)

    async def _keep(
        self, question: Question, asked: Inputs, flight: Flight, whole: WholeReply | None, _: bytes | None
    ) -> None:
        """Keep what the model says of each input."""
        bill, body = flight.ask.bill, self._room.body
        usage = bill.answer
        if whole is None or not question.control.store or not self._is_of(flight.ask, question):
            return
        parts = flight.parts or await self._taken_apart(whole, asked)
        if parts is None or usage is None or not usage.prompt_tokens:
            return
        tokens = shared_out(usage.prompt_tokens, asked.weights)
        prices = shared_out(bill.nano_dollars, asked.weights) if bill.priced else [None] * len(asked.keys)
        created, expires = flight.started_ms, flight.started_ms + body.ttlSeconds * 1000
        kept = [
            (key, Entry(Form.EMBEDDING, item, JSON, created, expires, Usage(prompt, 0), price))
            for key, item, prompt, price in zip(asked.keys, parts.items, tokens, prices, strict=True)
            if len(item) <= MOST_BYTES
        ]
        for key, entry in kept:
            self._room.memory.put(key, entry)
        self._room.cells.stored.value += len(kept)
        shared = self._room.shared
        for at in range(0, len(kept) if shared is not None else 0, AT_ONCE):
            if shared is not None and not shared.is_down:
                await shared.put_all(kept[at : at + AT_ONCE])


def _there(places: Places) -> There | None:
    found = [one for one in places if one is not None]
    if not found:
        return None
    entries = [one.entry for one in found]
    return There(
        len(found),
        Usage(sum(entry.usage.prompt_tokens for entry in entries if entry.usage is not None), 0),
        sum(entry.nano_dollars or 0 for entry in entries),
        Tier.REDIS if any(one.tier is Tier.REDIS for one in found) else Tier.MEMORY,
        min(entry.created_ms for entry in entries),
    )


def _written(ask: Ask, head: Mapping[str, Any], items: Sequence[bytes], prompt: int, cached: int) -> WholeReply:
    """Put the answer together, of the process' budget."""
    if not ask.memory().grow(sum(map(len, items))):
        raise Overloaded("the gateway has no room for the answer; try again")
    return WholeReply(OK, JSON, put_together(head, items, prompt=prompt, cached=cached))
