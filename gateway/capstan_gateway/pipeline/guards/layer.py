"""One GuardPolicy around the models that it is in force on.

    request ─► its texts ─► guards of the input ─┬─ one blocks: 400    one that must could not say: 503
                                                 └─ redacted ─► the model ─► guards of the output ─► placeholders undone

Nothing is sent before the guards of the input have said what they have to say. A policy that only looks on (Shadow)
does so beside the request, and changes nothing.
"""

from functools import partial
from typing import Final

import orjson

from capstan_contract.guards import Unchecked
from capstan_gateway.documents import to_json
from capstan_gateway.guards.placeholders import Placeholders
from capstan_gateway.pipeline.answers import admit
from capstan_gateway.pipeline.ask import Ask
from capstan_gateway.pipeline.beside import LARGE_BYTES, beside
from capstan_gateway.pipeline.guards.compiled import CompiledPolicy
from capstan_gateway.pipeline.guards.counting import BLOCKED, PolicyCounts
from capstan_gateway.pipeline.guards.needs import Judging, Shared
from capstan_gateway.pipeline.guards.output import Document, answer_pieces, texts_of, withheld, without_echoes
from capstan_gateway.pipeline.guards.pieces import IDS, OTHER_MEDIA, Piece, Pieces, pieces_of, with_texts
from capstan_gateway.pipeline.guards.redaction import Redactor
from capstan_gateway.pipeline.guards.stage import Decision
from capstan_gateway.pipeline.guards.streams import guarded_stream, watched_stream
from capstan_gateway.pipeline.guards.told import blocked, not_checked, unavailable, unreadable
from capstan_gateway.pipeline.layers import AnswerFunction, Order, Reads
from capstan_gateway.pipeline.reply import Reply, StreamReply, WholeReply
from capstan_gateway.pipeline.request import CHAT_PATH

_ANSWERING: Final = frozenset((CHAT_PATH, b"/completions"))
"""Where answers are texts of a model."""


class GuardLayer:
    """What a policy does with requests; `layers.Layer`. One object for all models that it is in force on."""

    order = Order.GUARDS

    def __init__(self, policy: CompiledPolicy, counts: PolicyCounts, shared: Shared) -> None:
        self.policy: Final = policy
        self.counts: Final = counts
        self.shared: Final = shared
        self.reads: Reads = Reads.DOCUMENT if policy.enforces else Reads.NOTHING

    async def answer(self, ask: Ask, inner: AnswerFunction) -> Reply:
        """Give the reply of `inner` if all guards let it pass; raises what refuses the request."""
        judging = Judging(policy=self.policy, shared=self.shared, counts=self.counts, ask=ask)
        if not self.policy.enforces:
            return await self._watched(judging, inner)
        if self.policy.input:
            await self._let_in(judging)
        reply = await inner(ask)
        placeholders = judging.redactor.restorable()
        if isinstance(reply, StreamReply):
            if self.policy.output or placeholders:
                return await guarded_stream(reply, judging, placeholders)
            return reply
        return await self._let_out(judging, reply, placeholders)

    # --- the request --------------------------------------------------------------------------------------------------

    async def _let_in(self, judging: Judging) -> None:
        """Have the ask hold what of its request may be sent; raises what refuses it."""
        ask = judging.ask
        pieces = await self._pieces(ask)
        self._check_readable(ask, pieces)
        texts = pieces.texts
        decision = await judging.decide(self.policy.input, texts, redactor=judging.redactor)
        judging.record(decision, texts)
        if (found := decision.blocks) is not None:
            raise blocked(found.guard, param=_field_of(texts, found.findings[0][0]))
        if (failed := decision.closes) is not None:
            raise unavailable(failed.guard)
        written = judging.redactor.rewritten(texts, decision.found)
        if (fixed := judging.redactor.unwritable) is not None:
            self.counts.count(fixed.guard, BLOCKED, mode=self.policy.body.mode.value)
            raise blocked(fixed.guard, param=fixed.piece.field)
        changed = [(new.place, new.text) for new, old in zip(written, texts, strict=True) if new is not old]
        if changed:
            ask.request = ask.request.rewritten(with_texts(ask.request.document, changed))

    async def _pieces(self, ask: Ask) -> Pieces:
        read = partial(pieces_of, ask.request.document)
        return read() if ask.request.came <= LARGE_BYTES else await beside(self.shared.deps.executor, read)

    def _check_readable(self, ask: Ask, pieces: Pieces) -> None:
        """Refuse what nobody can read where that is a way around the guards, or the policy says so."""
        if IDS in pieces.unchecked:
            field = "prompt" if "prompt" in ask.request.document else "input"
            raise unreadable(f"token ids in `{field}`, instead of texts,", field)
        if OTHER_MEDIA in pieces.unchecked:
            if self.policy.body.unchecked is Unchecked.BLOCK:
                raise unreadable("images, audio or files", None)
            ask.note_unchecked()

    # --- the answer ---------------------------------------------------------------------------------------------------

    async def _let_out(self, judging: Judging, reply: WholeReply, placeholders: Placeholders) -> WholeReply:
        """Give what of an answer may be given; raises what keeps it back."""
        route = judging.ask.request.route
        judges = bool(self.policy.output) and route.upstream_path in _ANSWERING
        if route.counts or not (judges or placeholders):
            return reply
        ask, executor = judging.ask, self.shared.deps.executor
        await admit(reply.body, ask.memory, executor, whose=ask.model.id)
        large = len(reply.body) > LARGE_BYTES
        document = await beside(executor, partial(orjson.loads, reply.body)) if large else orjson.loads(reply.body)
        changed = document
        if judges:
            pieces = answer_pieces(document)
            redactor = Redactor(judging.redactor.names)
            decision = await judging.decide(self.policy.output, pieces, redactor=redactor, answer=document)
            judging.record(decision, pieces)
            changed = self._judged(document, decision, pieces, redactor)
        if placeholders:
            changed = _restored(changed, placeholders)
        if changed is document:
            return reply
        body = await beside(executor, partial(to_json, changed)) if large else to_json(changed)
        return WholeReply(
            reply.status, reply.content_type, body, withheld=reply.withheld or bool(judges and decision.blocks)
        )

    def _judged(self, document: Document, decision: Decision, pieces: list[Piece], redactor: Redactor) -> Document:
        if decision.blocks is not None:
            return withheld(document)
        if (failed := decision.closes) is not None:
            raise not_checked(failed.guard)
        written = redactor.rewritten(pieces, decision.found)
        if redactor.unwritable is not None:
            return withheld(document)
        changes = [(new.place, new.text) for new, old in zip(written, pieces, strict=True) if new is not old]
        return without_echoes(with_texts(document, changes)) if changes else document

    # --- Shadow -------------------------------------------------------------------------------------------------------

    async def _watched(self, judging: Judging, inner: AnswerFunction) -> Reply:
        reply = await inner(judging.ask)
        if isinstance(reply, StreamReply):
            return watched_stream(reply, judging)
        return reply


def _field_of(pieces: list[Piece], number: int) -> str | None:
    return pieces[number].field


def _restored(document: Document, placeholders: Placeholders) -> Document:
    pieces = answer_pieces(document) if "choices" in document else texts_of(document)
    texts = [(one, placeholders.restore(one.text, escaped=one.escaped)) for one in pieces if not one.fixed]
    changes = [(one.place, text) for one, text in texts if text != one.text]
    return with_texts(document, changes) if changes else document
