"""A model that is asked once more, because its answer has not the form that it must have.

Its answer is had as a whole: one that is to stream is given as a stream when it is good.
"""

import asyncio
from collections.abc import Iterable, Sequence
from functools import partial
from typing import Final, Protocol, runtime_checkable

from capstan_contract.guards import FormatGuard
from capstan_gateway.errors import GatewayError, UpstreamFailed
from capstan_gateway.guards.placeholders import Placeholders
from capstan_gateway.guards.plain.again import asked_again
from capstan_gateway.guards.plain.format import Lack
from capstan_gateway.life.threads import Busy
from capstan_gateway.pipeline.ask import Ask
from capstan_gateway.pipeline.guards.compiled import CompiledGuard, CompiledPolicy
from capstan_gateway.pipeline.guards.counting import FAILED
from capstan_gateway.pipeline.guards.needs import Judging
from capstan_gateway.pipeline.guards.output import Document, is_withheld
from capstan_gateway.pipeline.guards.whole import let_out, read
from capstan_gateway.pipeline.held import HeldSource
from capstan_gateway.pipeline.layers import AnswerFunction
from capstan_gateway.pipeline.reply import Reply, StreamReply, WholeReply
from capstan_gateway.pipeline.request import CHAT_PATH, Request
from capstan_gateway.routing.unroutable import RoutingError
from capstan_gateway.streaming.relay import StreamRelay
from capstan_gateway.streaming.replay import to_frames
from capstan_gateway.upstream.errors import UpstreamError

AGAIN: Final = "asked-again"
"""What is told of a guard that has had the model asked once more."""


@runtime_checkable
class Telling(Protocol):
    """A detector that says in words what is wrong with an answer."""

    def lacks(self, text: str) -> Iterable[Lack]:
        """Give what the text lacks of the form that it must have."""
        ...


def asks_again(policy: CompiledPolicy, request: Request) -> bool:
    """Whether this request may be asked twice."""
    return request.route.upstream_path == CHAT_PATH and any(map(_asks_again, policy.output))


def _asks_again(one: CompiledGuard) -> bool:
    return isinstance(one.guard, FormatGuard) and one.guard.askAgain


async def formed(judging: Judging, inner: AnswerFunction, placeholders: Placeholders) -> Reply:
    """Give the answer in the form that it must have, the second one if need be, as all guards let it pass."""
    ask = judging.ask
    request = ask.request
    fields = {name: value for name, value in request.document.items() if name not in ("stream", "stream_options")}
    whole = request.rewritten(fields)
    reply = await _one(ask, inner, whole)
    document = await read(judging, reply)
    # NB: what a filter has ended is not asked for once more: that would be a way around it.
    guard, lacks = (None, ()) if is_withheld(document) else await _lacking(judging, document)
    again = asked_again(whole.document, document, lacks) if lacks else None
    if again is not None and guard is not None:
        second = await _second(ask, inner, whole.rewritten(again))
        ask.note_guard(guard.name, FAILED if second is None else AGAIN)
        reply = second or reply
    reply = await let_out(judging, reply, placeholders)
    return await _streamed(judging, reply, usage=request.usage_asked) if request.stream else reply


async def _second(ask: Ask, inner: AnswerFunction, request: Request) -> WholeReply | None:
    """Give the answer to a second question; None where there is none: the first one is there, and is judged."""
    try:
        if ask.governed is not None:
            await ask.governed.cover(ask, ask.model)
        return await _one(ask, inner, request)
    except (RoutingError, UpstreamError, GatewayError):
        return None


async def _one(ask: Ask, inner: AnswerFunction, request: Request) -> WholeReply:
    child = ask.fork(request)
    child.may_wait = ask.may_wait
    child.hold()
    answers = False
    try:
        reply = await inner(child)
        answers = True
    finally:
        ask.join(child, answers=answers)
        ask.route_note = child.route_note or ask.route_note
        child.leave()
    if not isinstance(reply, WholeReply):
        raise UpstreamFailed("the model's engine answered in another form than was asked for")
    return reply


async def _lacking(judging: Judging, document: Document) -> tuple[CompiledGuard | None, Sequence[Lack]]:
    """Give the first guard that would have the model asked again, and what it says; what fails says nothing."""
    text = _text(document)
    for one in filter(_asks_again, judging.policy.output):
        if text is None or not isinstance(one.detector, Telling):
            continue
        look = partial(_lacks, one.detector, text)
        try:
            async with asyncio.timeout(one.seconds):
                lacks = await judging.lane.run(look, size=len(text))
        except (TimeoutError, Busy):
            continue
        if lacks:
            return one, lacks
    return None, ()


def _lacks(detector: Telling, text: str) -> Sequence[Lack]:
    try:
        return tuple(detector.lacks(text))
    except Exception:  # noqa: BLE001 - the guard itself judges the answer behind this, and fails by its own rules
        return ()


def _text(document: Document) -> str | None:
    choices = document.get("choices")
    first = choices[0] if isinstance(choices, list) and choices else None
    message = first.get("message") if isinstance(first, dict) else None
    content = message.get("content") if isinstance(message, dict) else None
    return content if isinstance(content, str) else None


async def _streamed(judging: Judging, reply: WholeReply, *, usage: bool) -> StreamReply:
    """Give a whole answer as the stream that the client asked for."""
    document = await read(judging, reply)
    relay = StreamRelay(strip_usage=not usage)
    first = relay.feed(to_frames(document, usage=usage))
    return StreamReply(first, HeldSource((judging.ask.answered_by or judging.ask.model).id), relay)
