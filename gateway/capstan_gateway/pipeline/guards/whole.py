"""An answer in one piece: read, judged, rewritten, or withheld."""

import re
from collections.abc import Callable, Sequence
from functools import partial
from typing import Final, TypeVar

import orjson

from capstan_gateway.documents import to_json
from capstan_gateway.errors import AnswerNotChecked, UpstreamFailed
from capstan_gateway.guards.placeholders import Placeholders
from capstan_gateway.pipeline.answers import admit
from capstan_gateway.pipeline.beside import LARGE_BYTES, beside
from capstan_gateway.pipeline.guards.needs import Judging
from capstan_gateway.pipeline.guards.output import (
    Document,
    answer_pieces,
    is_withheld,
    may_be_restored,
    texts_of,
    withheld,
    without_echoes,
)
from capstan_gateway.pipeline.guards.pieces import Piece, TooManyTexts, changes, with_texts
from capstan_gateway.pipeline.guards.redaction import Redactor
from capstan_gateway.pipeline.guards.stage import Decision
from capstan_gateway.pipeline.guards.told import not_checked
from capstan_gateway.pipeline.reply import WholeReply
from capstan_gateway.pipeline.request import CHAT_PATH
from capstan_gateway.quality.logprobs import without_logprobs

ANSWERING: Final = frozenset((CHAT_PATH, b"/completions"))
"""Where answers are texts of a model."""
_PLACEHOLDER: Final = re.compile(rb"\[[A-Z][A-Z0-9_]{1,60}\]")
"""Whatever is written as placeholders are."""
T = TypeVar("T")


async def let_out(judging: Judging, reply: WholeReply, placeholders: Placeholders) -> WholeReply:
    """Give what of an answer may be given; raises what keeps it back."""
    judges = bool(judging.policy.output) and judging.ask.request.route.upstream_path in ANSWERING
    if judging.ask.request.route.counts or not (judges or (placeholders and await _may_name(judging, reply))):
        return reply
    document = await read(judging, reply)
    changed, is_withheld = await judged(judging, document, size=len(reply.body)) if judges else (document, False)
    if placeholders:
        changed = await _where(judging, len(reply.body), partial(restored, changed, placeholders))
    if judging.adds_logprobs:
        changed = without_logprobs(changed)
    return await written(judging, reply, changed, withheld=is_withheld)


async def _may_name(judging: Judging, reply: WholeReply) -> bool:
    """Whether placeholders may stand in an answer. One that no model has written has them as they were sent, if at all:
    where none is, as in vectors, it is not read."""
    if judging.ask.request.route.upstream_path in ANSWERING:
        return True
    look = partial(_PLACEHOLDER.search, reply.body)
    found = look() if len(reply.body) <= LARGE_BYTES else await beside(judging.shared.deps.executor, look)
    return found is not None


async def read(judging: Judging, reply: WholeReply) -> Document:
    """Read an answer within the process' bounds. UpstreamFailed when it is none."""
    ask, executor = judging.ask, judging.shared.deps.executor
    await admit(reply.body, ask.memory, executor, whose=ask.model.id)
    try:
        document = await _where(judging, len(reply.body), partial(orjson.loads, reply.body))
    except orjson.JSONDecodeError:
        document = None
    if not isinstance(document, dict):
        raise UpstreamFailed("the model's engine answered with something that is not a JSON object")
    return document


async def written(judging: Judging, reply: WholeReply, document: Document, *, withheld: bool) -> WholeReply:
    """Give the reply that says this."""
    body = await _where(judging, len(reply.body), partial(to_json, document))
    return WholeReply(reply.status, reply.content_type, body, withheld=reply.withheld or withheld)


async def _where(judging: Judging, size: int, work: Callable[[], T]) -> T:
    """Give what this gives: beside the loop where it is about something large."""
    return work() if size <= LARGE_BYTES else await beside(judging.shared.deps.executor, work)


async def judged(judging: Judging, document: Document, *, size: int = 0) -> tuple[Document, bool]:
    """Give the answer as guards let it pass, and whether it is withheld; raises when one that must could not say.

    `size`: in bytes, how large it is.
    """
    try:
        pieces = await _where(judging, size, partial(answer_pieces, document))
    except TooManyTexts:
        raise AnswerNotChecked("the answer could not be checked: it has more texts than may be") from None
    if not pieces and is_withheld(document):
        return document, False
    redactor = Redactor(judging.ask.names())
    decision = await judging.decide(judging.policy.output, pieces, redactor=redactor, answer=document)
    judging.record(decision, pieces)
    return await concluded(judging, document, decision, pieces, redactor, size=size)


async def concluded(
    judging: Judging, document: Document, decision: Decision, pieces: Sequence[Piece], redactor: Redactor,
    *, size: int,
) -> tuple[Document, bool]:  # fmt: skip
    """Give what follows from a decision for an answer of so many bytes; raises AnswerNotChecked."""
    if decision.blocks is not None:
        return withheld(document), True
    if (failed := decision.closes) is not None:
        raise not_checked(failed.guard)
    texts = await judging.rewritten(redactor, pieces, decision)
    if redactor.unwritable is not None:
        judging.blocked_instead(redactor.unwritable.guard)
        return withheld(document), True
    if texts is pieces:
        return document, False
    return await _where(judging, size, partial(_with_changed, document, texts, pieces)), False


def _with_changed(document: Document, texts: Sequence[Piece], pieces: Sequence[Piece]) -> Document:
    changed = changes(texts, pieces)
    return without_echoes(with_texts(document, changed)) if changed else document


def restored(document: Document, placeholders: Placeholders) -> Document:
    """Give an answer with the values in the places of their placeholders."""
    pieces = answer_pieces(document) if "choices" in document else texts_of(document)
    texts = [(one, placeholders.restore(one.text, escaped=one.escaped)) for one in pieces if may_be_restored(one)]
    changes = [(one.place, text) for one, text in texts if text != one.text]
    return with_texts(document, changes) if changes else document
