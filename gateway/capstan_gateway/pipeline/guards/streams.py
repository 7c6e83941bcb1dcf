"""Guards of answers that come in pieces.

    engine ─► cheap guards ─► dear guards ─► guards that ask ─► placeholders undone ─► the client's dialect
              near windows    far windows    far windows

    engine ─► held to its end ─► all guards, as on an answer in one piece ─► placeholders undone ─► ...
              where one of them is about the answer as a whole (Format, Grounding, Confidence)

Each kind has a filter of its own, so that who asks somebody is shown what the others have redacted. Placeholders are
undone last: guards judge what the model has written, and what the client itself has said in its request is not redacted
in the answer to it, only because a model repeats it.
"""

from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from typing import Final

from capstan_contract.guards import ConfidenceGuard, FormatGuard, GroundingGuard
from capstan_gateway.guards.placeholders import Naming, Placeholders
from capstan_gateway.guards.port import is_of_streams
from capstan_gateway.pipeline.filtered import filtered
from capstan_gateway.pipeline.guards.channel import Channel, FarChannel, NearChannel, Open, Restoring, Watch
from capstan_gateway.pipeline.guards.channels import Key, is_beside, is_json, source_of
from capstan_gateway.pipeline.guards.compiled import CompiledGuard
from capstan_gateway.pipeline.guards.needs import Judging
from capstan_gateway.pipeline.guards.pieces import Piece
from capstan_gateway.pipeline.guards.redaction import Redactor
from capstan_gateway.pipeline.guards.reporting import Report
from capstan_gateway.pipeline.guards.stage import Decision, Found
from capstan_gateway.pipeline.guards.text_filter import TextFilter
from capstan_gateway.pipeline.guards.watching import Watched, WatchingRelay, read_stream
from capstan_gateway.pipeline.guards.whole import judged
from capstan_gateway.pipeline.guards.whole_filter import WholeFilter
from capstan_gateway.pipeline.reply import Reply, StreamReply
from capstan_gateway.quality.logprobs import without_logprobs
from capstan_gateway.streaming.filters import Document, HoldLimits, StreamFilter

FAR_SECONDS: Final = 120.0
"""How long text may wait where windows are long: a slow model needs its time to fill one."""
_ABOUT_THE_WHOLE: Final = (FormatGuard, GroundingGuard, ConfidenceGuard)


async def guarded_stream(reply: StreamReply, judging: Judging, placeholders: Placeholders) -> Reply:
    """Give the stream with the guards of the policy's output on it, and with what placeholders stand for.

    What they do with the first chunks is known when this returns. Raises AnswerNotChecked where a guard fails by then.
    """
    filters, limits = guards_of(judging, placeholders)
    return await filtered(reply, filters, ask=judging.ask, limits=limits)


def guards_of(judging: Judging, placeholders: Placeholders) -> tuple[list[StreamFilter], HoldLimits]:
    """Make the filters, and say how much they may hold back."""
    guards = judging.policy.output
    filters: list[StreamFilter] = []
    limits = HoldLimits()
    if any(isinstance(one.guard, _ABOUT_THE_WHOLE) for one in guards):
        filters.append(WholeFilter(partial(_judged, judging), waited=_waited(judging), now=_now(judging)))
        limits = HoldLimits(seconds=_seconds_left(judging))
    elif guards:
        made = _filters(judging, guards)
        filters += made
        if any(not _is_near(one) for one in guards):
            limits = HoldLimits(seconds=max(limits.seconds, min(FAR_SECONDS, _seconds_left(judging))))
    if placeholders:
        filters.append(_text_filter(judging, partial(_restoring, placeholders)))
    return filters, limits


def _filters(judging: Judging, guards: Sequence[CompiledGuard]) -> list[StreamFilter]:
    report = Report(judging.record)
    judging.ask.on_end(report.tell)
    watch = Watch(
        report=report, lane=judging.lane, decide=partial(_decide, judging),
        naming=Naming(taken=judging.ask.names()),
        seconds_left=partial(_seconds_left, judging),
    )  # fmt: skip
    kinds = (
        (NearChannel, [one for one in guards if _is_near(one)]),
        (FarChannel, [one for one in guards if not _is_near(one) and one.detector is not None]),
        (FarChannel, [one for one in guards if one.detector is None]),
    )
    return [_text_filter(judging, partial(_looking, kind, own, watch)) for kind, own in kinds if own]


def _is_near(guard: CompiledGuard) -> bool:
    return guard.is_cheap and guard.asking is None and is_of_streams(guard.detector)


def _looking(
    kind: type[NearChannel | FarChannel], guards: Sequence[CompiledGuard], watch: Watch, key: Key, choice: int
) -> Channel:
    own = [one for one in guards if source_of(key) in one.sources]
    return kind(key, choice, own, watch) if own else Open()


def _restoring(placeholders: Placeholders, key: Key, choice: int) -> Channel:  # noqa: ARG001 - of all alike
    if is_beside(key):
        return Open()
    return Restoring(placeholders.restorer(escaped=is_json(key)))


def _text_filter(judging: Judging, make: Callable[[Key, int], Channel]) -> TextFilter:
    in_parts = judging.ask.request.route.dialect is not None
    return TextFilter(make, in_parts=in_parts, waited=_waited(judging), now=_now(judging))


async def _judged(judging: Judging, document: Document, size: int) -> Document:
    found, _ = await judged(judging, document, size=size)
    return without_logprobs(found) if judging.adds_logprobs else found


def _decide(judging: Judging, guards: Sequence[CompiledGuard], piece: Piece) -> Awaitable[Decision]:
    return judging.decide(guards, (piece,), redactor=_Leaving())


class _Leaving(Redactor):
    """Redacts nothing: places in a window stay what they are. Who came before has redacted in a filter of its own."""

    def redacted(self, pieces: Sequence[Piece], found: Sequence[Found]) -> list[Piece]:  # noqa: ARG002 - see above
        """Give the pieces."""
        return list(pieces)


def _waited(judging: Judging) -> Callable[[float], None]:
    return judging.shared.deps.metrics.guard_held.at().observe


def _now(judging: Judging) -> Callable[[], float]:
    return judging.shared.deps.clock


def _seconds_left(judging: Judging) -> float:
    return max(0.0, judging.ask.expires_at - judging.shared.deps.loop_time())


def watched_stream(reply: StreamReply, judging: Judging) -> Reply:
    """Give the stream as it is, and have it looked at by a policy that changes nothing, when it is over."""
    watched = Watched(judging.ask.budget.share())
    watched.take(reply.first)
    judging.ask.on_end(partial(_look, judging, watched, native=reply.native))
    relay = WatchingRelay(reply.relay, watched.take)
    return StreamReply(reply.first, reply.source, relay, native=reply.native, broken=reply.broken)


def _look(judging: Judging, watched: Watched, *, native: bool) -> None:
    size, body = watched.size, watched.give()
    if watched.lost:
        judging.counts.dropped()
    elif body:
        judging.look(judging.policy.output, partial(read_stream, body, native=native), size=size)
