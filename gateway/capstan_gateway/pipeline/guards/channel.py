"""One text of a stream on its way through the guards of a policy.

NearChannel    guards that decide by themselves, at once, and say how much of a text is decided
FarChannel     guards that judge a text by and large, or ask somebody: by windows, for which the text waits
Restoring      no guard: what placeholders stand for is put in their places
Open           no guard looks at this text
"""

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Final, Protocol, cast

from capstan_contract.guards import Action
from capstan_gateway.guards.escapes import Unescaping
from capstan_gateway.guards.json_strings import JsonPlace, replacement, to_ends
from capstan_gateway.guards.patience import GaveUp
from capstan_gateway.guards.placeholders import Naming, Restorer, united
from capstan_gateway.guards.port import (
    Finding,
    Scan,
    StreamDetector,
    decided,
    follow_each_other,
    front_of,
    is_of_streams,
)
from capstan_gateway.guards.window import OVERLAP, Far, LookBack, Near, Part, View, Window, covered, moved, standing
from capstan_gateway.life.threads import Busy
from capstan_gateway.pipeline.guards.channels import Key, is_beside, is_json, source_of
from capstan_gateway.pipeline.guards.compiled import CompiledGuard
from capstan_gateway.pipeline.guards.lanes import INLINE_CHARS, Lane, for_a_moment
from capstan_gateway.pipeline.guards.pieces import Piece, Place
from capstan_gateway.pipeline.guards.reporting import Report
from capstan_gateway.pipeline.guards.stage import Decision, Failed

Findings = list[tuple[CompiledGuard, Finding]]
Decide = Callable[[Sequence[CompiledGuard], Piece], Awaitable[Decision]]
"""Has guards look at a piece. It raises nothing but CancelledError."""


class Blocked(Exception):
    """A guard does not let a text go on. What went on before it was given."""


class Channel(Protocol):
    """One text; what may go on of it is appended to `out`.

    Raises Blocked, and AnswerNotChecked where a guard has failed.
    """

    @property
    def held(self) -> int:
        """How much is kept because some of it may not go on yet."""
        ...

    def take(self, text: str, out: list[Part]) -> bool:
        """Take what follows, as `feed` does, if nobody need look at it now. False: nothing was taken."""
        ...

    async def feed(self, text: str, out: list[Part]) -> None:
        """Take what follows."""
        ...

    async def idle(self, out: list[Part]) -> None:
        """Nothing follows for the time being."""
        ...

    async def end(self, out: list[Part]) -> None:
        """The text is whole, as far as anybody knows: it may go on."""
        ...


class Open:
    """A text that goes on as it comes."""

    held: Final = 0

    def take(self, text: str, out: list[Part]) -> bool:
        """Let it go on."""
        out.append(Part(text, text))
        return True

    async def feed(self, text: str, out: list[Part]) -> None:
        """Let it go on."""
        self.take(text, out)

    async def idle(self, out: list[Part]) -> None:
        """There is nothing."""

    async def end(self, out: list[Part]) -> None:
        """There is nothing."""


class Restoring:
    """A text in which placeholders may stand, also in pieces."""

    def __init__(self, restorer: Restorer) -> None:
        self._restorer = restorer
        self._tail = ""

    @property
    def held(self) -> int:
        """How much of it may be the beginning of a placeholder."""
        return self._restorer.held

    def take(self, text: str, out: list[Part]) -> bool:
        """Take what follows."""
        given = self._restorer.feed(text)
        text = self._tail + text
        end = len(text) - self._restorer.held
        self._tail = text[end:]
        if end:
            out.append(Part(text[:end], given))
        return True

    async def feed(self, text: str, out: list[Part]) -> None:
        """Take what follows."""
        self.take(text, out)

    async def idle(self, out: list[Part]) -> None:
        """What may be the beginning of a placeholder waits."""

    async def end(self, out: list[Part]) -> None:
        """Give what is left."""
        self._tail, rest = "", self._restorer.end()
        if rest:
            out.append(Part(rest, rest))


@dataclass(frozen=True, slots=True, kw_only=True)
class Watch:
    """What the channels of a filter share."""

    report: Report
    lane: Lane
    decide: Decide
    naming: Naming = field(default_factory=Naming)
    """Names what is redacted: in all texts of the answer alike, and never as something of the request is named."""
    seconds_left: Callable[[], float] = field(default=lambda: 60.0)
    """Until the request's own deadline."""


class _Looking:
    """A text that is looked at where its marks are."""

    _looks_far = False
    """Whether one look at several marks gives what looks at each of them would."""

    def __init__(self, key: Key, choice: int, guards: Sequence[CompiledGuard], watch: Watch, window: Window) -> None:
        self._key = key
        self._choice = choice
        self._guards = guards
        self._watch = watch
        self._window = window
        self._came = JsonPlace() if is_json(key) else None
        reads = self._came is not None and any(one.detector is not None for one in guards)
        self._escapes = Unescaping() if reads else None
        """With it the window is of what is read in the source of JSON."""
        self._went = JsonPlace()

    @property
    def held(self) -> int:
        """How much is kept."""
        return self._window.held + (0 if self._escapes is None else self._escapes.held)

    def take(self, text: str, out: list[Part]) -> bool:  # noqa: ARG002 - nothing goes on without a look
        """Take what follows, if that reaches no mark."""
        window = self._window
        if self._came is not None or window.reaches(len(text)):
            return False
        window.add(text)
        return True

    async def feed(self, text: str, out: list[Part]) -> None:
        """Take what follows. Arguments of a call are whole where their JSON is."""
        came = self._came
        if came is None:
            self._window.add(text)
            await self._go(out)
            return
        for piece in to_ends(text):
            complete = came.complete
            self._window.add(piece if self._escapes is None else self._escapes.feed(piece))
            came.feed(piece)
            if came.complete and not complete:
                await self.end(out)
        await self._go(out)

    async def idle(self, out: list[Part]) -> None:
        """Let go on what is decided, without waiting for the next mark."""

    async def end(self, out: list[Part]) -> None:
        """Let all of it go on."""
        if self._escapes is not None:
            self._window.add(self._escapes.end())
        await self._go(out)
        if self._window.held:
            await self._look(self._window.end, out, ended=True)

    async def _go(self, out: list[Part]) -> None:
        """Look up to the last mark at once; up to one after the other where something is near that blocks."""
        window, far = self._window, self._looks_far
        while (mark := window.due(far=far)) is not None:
            blocked_at = await self._look(mark, out, tries=not window.is_next(mark))
            if blocked_at is None:
                window.looked(mark)
                continue
            far = False
            if before := window.mark_in_front(blocked_at):
                await self._look(before, out)
                window.looked(before)

    async def _look(self, end: int, out: list[Part], *, ended: bool = False, tries: bool = False) -> int | None:
        """Look at the text up to a place, and let go on what may.

        With `tries` nothing is done where something blocks, and it is given where the first such thing begins.
        """
        window = self._window
        view, done = window.view(end), window.done
        piece = self._piece(view)
        found, safe = await self._scan(view, piece, ended=ended)
        limit = self._limit(found, safe)
        blocking = [(guard, one) for guard, one in found if done < one.end and self._blocks(guard, one, limit)]
        if blocking and tries:
            return min(one.start for _, one in blocking)
        here = [(guard, one) for guard, one in found if done < one.end <= limit]
        for guard, one in blocking or self._told(found, here):
            blocks_instead = blocking and guard.action_of(one) is not Action.BLOCK
            said = replace(one, action=Action.BLOCK) if blocks_instead else one
            self._watch.report.found(guard, said, piece)
        if blocking:
            self._watch.report.tell()
            raise Blocked
        marked = [one for guard, one in here if guard.action_of(one) is Action.REDACT]
        self._let_go(view, limit, marked, out)
        return None

    def _told(self, found: Findings, here: Findings) -> Findings:  # noqa: ARG002 - what is decided, once
        """Give what is to be told of a look, of all that it found, and of what of that is in what goes on."""
        return here

    def _let_go(self, view: View, limit: int, marked: list[Finding], out: list[Part]) -> None:
        done = self._window.done
        text = self._window.release(limit)
        at = done
        for one in united(marked):
            start, end = max(one.start, at), min(one.end, limit)
            self._keep(text[at - done : start - done], out)
            value = view.text[max(one.start, view.offset) - view.offset : end - view.offset]
            self._replace(text[start - done : end - done], self._watch.naming.name(one.kind, value), out)
            at = end
        self._keep(text[at - done :], out)

    def _keep(self, text: str, out: list[Part]) -> None:
        if text:
            text = self._source_of(text)
            out.append(Part(text, text))
            if self._came is not None:
                self._went.feed(text)

    def _replace(self, text: str, name: str, out: list[Part]) -> None:
        if not text:
            return
        text = self._source_of(text)
        if self._came is not None:
            begins = self._went.in_string
            self._went.feed(text)
            name = replacement(name, begins, self._went.in_string)
        out.append(Part(text, name))

    def _source_of(self, text: str) -> str:
        return text if self._escapes is None else self._escapes.take(text)

    def _piece(self, view: View) -> Piece:
        place = Place(Place(Place(None, "choices"), self._choice), self._key[0])
        escaped = self._came is not None and self._escapes is None
        return Piece(view.text, source_of(self._key), place, escaped=escaped, aside=is_beside(self._key))

    async def _scan(self, view: View, piece: Piece, *, ended: bool) -> tuple[Findings, int]:
        """Give what guards find in a view, by places of the whole text, and up to where it is decided."""
        raise NotImplementedError

    def _limit(self, found: Findings, safe: int) -> int:
        """Give up to where the text goes on."""
        raise NotImplementedError

    def _blocks(self, guard: CompiledGuard, one: Finding, limit: int) -> bool:
        """Whether this ends the stream now."""
        raise NotImplementedError


class NearChannel(_Looking):
    """A text and the guards that decide by themselves."""

    _looks_far = True

    def __init__(self, key: Key, choice: int, guards: Sequence[CompiledGuard], watch: Watch) -> None:
        reach = max((one.detector.reach for one in guards if is_of_streams(one.detector)), default=0)
        super().__init__(key, choice, guards, watch, Window(reach, Near()))
        self._backs = {
            one: LookBack(front)
            for one in guards
            if is_of_streams(one.detector) and (front := front_of(one.detector)) < one.detector.reach
        }
        self._idled = 0
        self._torn = -1
        """Where the text went on before it was decided, because it seemed to be over."""

    async def end(self, out: list[Part]) -> None:
        """Let all of it go on."""
        await super().end(out)
        self._torn = self._window.done

    async def idle(self, out: list[Part]) -> None:
        """Let go on what is decided, without waiting for the next mark."""
        if self._window.held and self._idled != self._window.end:
            self._idled = self._window.end
            await self._look(self._window.end, out)

    async def _scan(self, view: View, piece: Piece, *, ended: bool) -> tuple[Findings, int]:
        found: Findings = []
        safe = view.end
        for guard in self._guards:
            began = time.perf_counter()
            try:
                found_here, end = await self._placed(guard, view, piece)
            except TimeoutError:
                self._watch.report.failed(Failed(guard, "timeout"))
                continue
            except Busy:
                self._watch.report.failed(Failed(guard, "busy"))
                continue
            except Exception as error:  # noqa: BLE001 - a detector that fails must not let anything pass
                self._watch.report.failed(Failed(guard, type(error).__name__))
                continue
            finally:
                self._watch.report.took(guard, time.perf_counter() - began)
            safe = min(safe, end)
            found += [(guard, one) for one in found_here]
        return found, view.end if ended else safe

    async def _placed(self, guard: CompiledGuard, view: View, piece: Piece) -> tuple[list[Finding], int]:
        """Give what one guard finds, and up to where that is decided, by places of the whole text."""
        done = self._window.done
        detector = cast(StreamDetector, guard.detector)
        back = self._backs.get(guard)
        offset = view.offset if back is None else max(view.offset, back.start(done))
        shown = piece if offset == view.offset else replace(piece, text=piece.text[offset - view.offset :])
        scan, end = await self._scanned(guard, shown)
        if back is not None and end > len(shown.text) - detector.reach:
            back.decided(end + offset)
        found = moved(scan.findings, offset)
        if follow_each_other(guard.detector) and done != self._torn and _go_over(found, done):
            # In the whole text nothing matches there. Of matches that follow each other without a gap others were seen
            # because the view begins amid one: they are looked for anew from where one has ended.
            scan, end = await self._scanned(guard, replace(piece, text=piece.text[done - view.offset :]))
            return moved(scan.findings, done), end + done
        return found, end + offset

    async def _scanned(self, guard: CompiledGuard, piece: Piece) -> tuple[Scan, int]:
        detector = cast(StreamDetector, guard.detector)
        look = partial(decided, detector, piece.text, piece.source)
        if len(piece.text) <= INLINE_CHARS:
            with suppress(GaveUp):
                return for_a_moment(look)
        async with asyncio.timeout(max(0.0, min(guard.seconds, self._watch.seconds_left()))):
            return await self._watch.lane.run(look, size=len(piece.text))

    def _limit(self, found: Findings, safe: int) -> int:
        return standing((one for _, one in found), safe, self._window.done)

    def _blocks(self, guard: CompiledGuard, one: Finding, limit: int) -> bool:
        # NB: of what goes over a place up to which the text went on undecided, a part is with the client: the rest
        # must not follow as a placeholder.
        action = guard.action_of(one)
        torn = action is Action.REDACT and one.start < self._torn < one.end
        return one.end <= limit and (torn or action is Action.BLOCK)


def _go_over(found: Iterable[Finding], place: int) -> bool:
    return any(one.start < place < one.end for one in found)


class FarChannel(_Looking):
    """A text and the guards that judge windows of it."""

    def __init__(self, key: Key, choice: int, guards: Sequence[CompiledGuard], watch: Watch) -> None:
        super().__init__(key, choice, guards, watch, Window(OVERLAP, Far()))
        self._known: tuple[View, Findings] | None = None
        """The newest look: the same one is not paid for twice."""
        self._warned: dict[tuple[CompiledGuard, str], int] = {}
        """Up to where the newest look has warned, by guard and kind."""

    async def _scan(self, view: View, piece: Piece, *, ended: bool) -> tuple[Findings, int]:
        known = self._known
        if known is None or known[0] != view:
            decision = await self._watch.decide(self._guards, piece)
            for guard, seconds in decision.seconds:
                self._watch.report.took(guard, seconds)
            found: Findings = [
                (one.guard, finding)
                for one in decision.found
                for finding in moved([finding for _, finding in one.findings], view.offset)
            ]
            if not any(guard.action_of(one) is Action.BLOCK for guard, one in found):
                for failed in decision.failed:
                    self._watch.report.failed(failed)
            self._known = known = view, found
        return known[1], view.end if ended else max(self._window.done, view.end - OVERLAP)

    def _limit(self, found: Findings, safe: int) -> int:
        marked = [one for guard, one in found if guard.action_of(one) is Action.REDACT]
        return max(safe, min(covered(marked, safe), self._window.end))

    def _blocks(self, guard: CompiledGuard, one: Finding, limit: int) -> bool:  # noqa: ARG002 - as a whole, it blocks
        return guard.action_of(one) is Action.BLOCK

    def _told(self, found: Findings, here: Findings) -> Findings:
        """Give what goes on, and all that is warned of and was not told: it may be longer than what goes on at once."""
        warnings = [(guard, one) for guard, one in found if guard.action_of(one) is Action.WARN]
        before, self._warned = self._warned, {}
        for guard, one in warnings:
            self._warned[guard, one.kind] = max(one.end, self._warned.get((guard, one.kind), 0))
        fresh = [(guard, one) for guard, one in warnings if before.get((guard, one.kind), 0) < one.end]
        return [(guard, one) for guard, one in here if guard.action_of(one) is not Action.WARN] + fresh
