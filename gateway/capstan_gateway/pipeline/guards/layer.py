"""One GuardPolicy around the models that it is in force on.

    request ─► its texts ─► guards of the input ─┬─ one blocks: 400    one that must could not say: 503
                                                 └─ redacted ─► the model ─► guards of the output ─► placeholders undone

Nothing is sent before the guards of the input have said what they have to say. A policy that only looks on (Shadow)
does so beside the request, and changes nothing.
"""

from functools import partial
from typing import Final

from capstan_contract.guards import Unchecked
from capstan_gateway.errors import GuardBlocked, InvalidRequest, UpstreamRejected
from capstan_gateway.pipeline.ask import Ask
from capstan_gateway.pipeline.guards.again import asks_again, formed
from capstan_gateway.pipeline.guards.compiled import CompiledPolicy
from capstan_gateway.pipeline.guards.counting import PolicyCounts
from capstan_gateway.pipeline.guards.heard import check_form, let_out_heard, read_heard
from capstan_gateway.pipeline.guards.needs import Judging, Shared
from capstan_gateway.pipeline.guards.output import read_body
from capstan_gateway.pipeline.guards.pieces import (
    IDS,
    OTHER_MEDIA,
    Pieces,
    pieces_of,
    texts_changed,
)
from capstan_gateway.pipeline.guards.reading import read_pieces, with_pieces
from capstan_gateway.pipeline.guards.streams import guarded_stream, watched_stream
from capstan_gateway.pipeline.guards.told import blocked, unavailable, unreadable
from capstan_gateway.pipeline.guards.vocabulary import NAMES
from capstan_gateway.pipeline.guards.whole import ANSWERING, let_out
from capstan_gateway.pipeline.layers import AnswerFunction, Order, Reads
from capstan_gateway.pipeline.reply import Reply, StreamReply
from capstan_gateway.pipeline.request import CHAT_PATH
from capstan_gateway.quality.logprobs import ask_for_logprobs, asks_for_logprobs

_REFUSED: Final = 400


class GuardLayer:
    """What a policy does with requests; `layers.Layer`. One object for all models that it is in force on."""

    order = Order.GUARDS

    def __init__(
        self, policy: CompiledPolicy, counts: PolicyCounts, shared: Shared, *, everywhere: bool = False
    ) -> None:
        """Make it. `everywhere`: the policy is the installation's, and names no model."""
        self.policy: Final = policy
        self.counts: Final = counts
        self.shared: Final = shared
        self.everywhere: Final = everywhere
        self.redacts: Final = tuple(one.of_all for one in policy.input if one.redacts) if policy.enforces else ()
        """The guards that make other texts of those that are asked, and ask nobody for it; whosever texts they are."""
        self.reads: Reads = Reads.DOCUMENT if policy.enforces else Reads.NOTHING

    async def answer(self, ask: Ask, inner: AnswerFunction) -> Reply:
        """Give the reply of `inner` if all guards let it pass; raises what refuses the request."""
        judging = Judging(
            policy=self.policy, shared=self.shared, counts=self.counts, ask=ask,
            everywhere=self.everywhere, adds_logprobs=self._adds_logprobs(ask),
        )  # fmt: skip
        if not self.policy.enforces:
            return await self._watched(judging, inner)
        if ask.request.form is not None and self.policy.output:
            check_form(ask.request)
        if self.policy.input:
            await self._let_in(judging)
        placeholders = judging.redactor.restorable()
        asked = partial(self._with_logprobs, inner=inner) if judging.adds_logprobs else inner
        if asks_again(self.policy, ask.request):
            return await formed(judging, asked, placeholders)
        reply = await asked(ask)
        if ask.request.form is not None:
            return await let_out_heard(judging, reply, placeholders)
        if isinstance(reply, StreamReply):
            if self.policy.output or placeholders:
                return await guarded_stream(reply, judging, placeholders)
            return reply
        return await let_out(judging, reply, placeholders)

    # --- the request --------------------------------------------------------------------------------------------------

    async def _let_in(self, judging: Judging) -> None:
        """Have the ask hold what of its request may be sent; raises what refuses it."""
        ask = judging.ask
        pieces = await read_pieces(ask.request.document, ask.request.came, self.shared.deps.executor)
        self._check_readable(ask, pieces)
        texts = pieces.texts
        decision = await judging.decide(self.policy.input, texts, redactor=judging.redactor)
        judging.record(decision, texts)
        if (found := decision.blocks) is not None:
            raise blocked(found.guard, param=texts[found.findings[0][0]].field, said=found.message)
        if (failed := decision.closes) is not None:
            raise unavailable(failed.guard)
        written = await judging.rewritten(judging.redactor, texts, decision)
        if (fixed := judging.redactor.unwritable) is not None:
            judging.blocked_instead(fixed.guard)
            raise blocked(fixed.guard, param=fixed.piece.field)
        changed = await with_pieces(ask.request.document, written, texts, ask.request.came, self.shared.deps.executor)
        if changed is not None:
            ask.names().update(name.strip("[]") for name in judging.redactor.names)
            ask.note_replaced(texts_changed(written, texts), judging.redactor.values.values())
            ask.request = ask.request.rewritten(changed)

    def _check_readable(self, ask: Ask, pieces: Pieces) -> None:
        """Refuse what nobody can read where that is a way around the guards, or the policy says so."""
        if IDS in pieces.unchecked:
            field = pieces.ids_at if pieces.ids_at in NAMES else None
            raise unreadable(f"token ids in `{field or 'a field of its own'}`, instead of texts,", field)
        if OTHER_MEDIA in pieces.unchecked or ask.request.form is not None:
            if self.policy.body.unchecked is Unchecked.BLOCK:
                raise unreadable("images, audio or files", None)
            ask.note_unchecked()

    def _adds_logprobs(self, ask: Ask) -> bool:
        return (
            self.policy.wants_logprobs
            and self.policy.enforces
            and ask.request.route.upstream_path in ANSWERING
            and not asks_for_logprobs(ask.request.document, chat=ask.request.route.upstream_path == CHAT_PATH)
        )

    async def _with_logprobs(self, ask: Ask, inner: AnswerFunction) -> Reply:
        """Ask for the probabilities of tokens as well, and without them where the model has none to tell."""
        plain = ask.request
        document = ask_for_logprobs(plain.document, chat=plain.route.upstream_path == CHAT_PATH)
        ask.request = plain.rewritten(document)
        try:
            return await inner(ask)
        except (UpstreamRejected, InvalidRequest) as error:
            # NB: of some APIs it is known here that they tell none. A guard's own refusal is about something else.
            is_it = error.status == _REFUSED and "logprob" in f"{error.param} {error.message}"
            if not is_it or isinstance(error, GuardBlocked):
                raise
        ask.request = plain
        return await inner(ask)

    # --- Shadow -------------------------------------------------------------------------------------------------------

    async def _watched(self, judging: Judging, inner: AnswerFunction) -> Reply:
        """Give the reply of `inner`, and have both looked at beside it."""
        request, policy = judging.ask.request, self.policy
        if policy.input and request.untranslatable is not None:
            judging.counts.dropped()
        elif policy.input:
            judging.look(policy.input, lambda: (pieces_of(request.document).texts, None), size=request.came)
        reply = await inner(judging.ask)
        if not policy.output or (request.route.upstream_path not in ANSWERING and request.form is None):
            return reply
        if request.form is not None and isinstance(reply, StreamReply):
            judging.counts.dropped()
            return reply
        if isinstance(reply, StreamReply):
            return watched_stream(reply, judging)
        read = read_body if request.form is None else read_heard
        judging.look(policy.output, partial(read, reply.body), size=len(reply.body))
        return reply
