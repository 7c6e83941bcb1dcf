"""The guards of one stage look at the texts of a request or an answer, and one decision is made of what they say.

    cheap ones ─► on the loop where the texts are short, else beside it
        │ no block, and nobody failed who must not
    dear ones ──► beside the loop, together; each until its own deadline
        │ the same; what is to be redacted is redacted
    who asks ───► together; each until its own deadline

A block ends it: those that are still at work are cancelled, and nobody else is asked.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from operator import attrgetter
from typing import Final, TypeVar

from capstan_contract.guards import Action, OnError
from capstan_contract.guards import Stage as Stages
from capstan_gateway.guards.escapes import scan_source
from capstan_gateway.guards.patience import GaveUp, go_on
from capstan_gateway.guards.port import Cost, Detector, Finding, Scan
from capstan_gateway.life.threads import Busy
from capstan_gateway.pipeline.guards.compiled import CompiledGuard
from capstan_gateway.pipeline.guards.joined import told_once
from capstan_gateway.pipeline.guards.lanes import INLINE_CHARS, SHORT_CHARS, Lane, for_a_moment
from capstan_gateway.pipeline.guards.pieces import Piece, choose
from capstan_gateway.pipeline.guards.wholes import of_it, shown

PIECE_CHARS: Final = 100
"""What a text of its own costs beside its characters."""

_SOURCE: Final = attrgetter("source")
T = TypeVar("T")
Asking = Callable[[CompiledGuard, Sequence[Piece]], Awaitable[Sequence[Scan]]]
"""Has a guard that asks judge these pieces."""
Redacting = Callable[[Sequence[Piece], Sequence["Found"]], Sequence[Piece]]
"""Gives the pieces, as many and in their order, as those that ask are to see them."""


@dataclass(frozen=True, slots=True)
class Found:
    """What one guard has found."""

    guard: CompiledGuard
    findings: tuple[tuple[int, Finding], ...]
    """Each with the number of its piece."""
    later: bool = False
    """Whether its offsets are those of the pieces as they were redacted."""
    message: str | None = None
    """What a client may be told of a block, where the guard itself says so."""

    @property
    def action(self) -> Action:
        """The severest thing that is to be done."""
        actions = {self.guard.action_of(finding) for _, finding in self.findings}
        return next(action for action in (Action.BLOCK, Action.REDACT, Action.WARN) if action in actions)


@dataclass(frozen=True, slots=True)
class Failed:
    """A guard that could not decide."""

    guard: CompiledGuard
    reason: str
    """`timeout`, `busy`, or the name of what was raised."""

    @property
    def closes(self) -> bool:
        """Whether nothing may go on for it."""
        return self.guard.guard.onError is OnError.CLOSED


@dataclass(slots=True)
class Decision:
    """What the guards of a stage say together."""

    found: list[Found] = field(default_factory=list)
    failed: list[Failed] = field(default_factory=list)
    seconds: list[tuple[CompiledGuard, float]] = field(default_factory=list)
    """How long each was at work."""

    @property
    def blocks(self) -> Found | None:
        """What does not let it pass; the first one in the policy's order of those that have spoken."""
        return next((one for one in self.found if one.action is Action.BLOCK), None)

    @property
    def closes(self) -> Failed | None:
        """Who could not decide, and lets nothing pass for that."""
        return next((one for one in self.failed if one.closes), None)

    @property
    def is_over(self) -> bool:
        """Whether nobody else need be asked."""
        return self.blocks is not None or self.closes is not None


class Unjudged(Exception):
    """A guard has not said of each text what it found in it."""


_Told = Sequence[tuple[int, Scan]]
"""What is said of pieces, by their numbers; those that are not there have nothing in them."""
_Doubts = dict[CompiledGuard, _Told]
"""What is to be asked about, with what holds if nobody can be."""


@dataclass(frozen=True, slots=True)
class Stage:
    """Who looks, and with what."""

    guards: Sequence[CompiledGuard]
    lane: Lane
    ask: Asking
    redact: Redacting
    seconds_left: Callable[[], float]
    """Until the request's own deadline."""

    async def decide(self, pieces: Sequence[Piece]) -> Decision:
        """Give what the guards say of these pieces; raises nothing but CancelledError."""
        decision = Decision()
        own = [one for one in self.guards if one.detector is not None]
        doubts: _Doubts = {}
        await self._scan([one for one in own if one.is_cheap], pieces, decision, doubts)
        if not decision.is_over:
            await self._scan([one for one in own if not one.is_cheap], pieces, decision, doubts)
        asked = [one for one in self.guards if one.asking is not None and (one.detector is None or one in doubts)]
        if asked and not decision.is_over:
            await self._ask_all(asked, pieces, decision, doubts)
        order = {one: number for number, one in enumerate(self.guards)}
        decision.found.sort(key=lambda one: order[one.guard])
        return decision

    async def _ask_all(
        self, asked: Sequence[CompiledGuard], pieces: Sequence[Piece], decision: Decision, doubts: _Doubts
    ) -> None:
        try:
            seen = await self._redacted(pieces, decision)
        except (Busy, TimeoutError) as error:
            reason = "busy" if isinstance(error, Busy) else "timeout"
            for one in asked:
                decision.failed.append(Failed(one, reason))
                _take(one, doubts.get(one, ()), decision)
            return
        numbers = {one: [n for n, _ in doubts[one]] if one in doubts else list(_whole(pieces, one)) for one in asked}
        await self._all(
            [(one, partial(self._asked, one, [seen[n] for n in numbers[one]])) for one in asked],
            lambda one, scans: _take(one, zip(numbers[one], scans, strict=True), decision, later=True),
            decision,
        )
        for failed in tuple(decision.failed):
            _take(failed.guard, _seen_so(doubts.get(failed.guard, ()), pieces, seen), decision, later=True)

    async def _scan(
        self, guards: Sequence[CompiledGuard], pieces: Sequence[Piece], decision: Decision,
        doubts: _Doubts,
    ) -> None:  # fmt: skip
        work: list[tuple[CompiledGuard, Callable[[], Awaitable[_Told]]]] = []

        def heard(one: CompiledGuard, told: _Told) -> None:
            if one.asking is not None and (unsure := [(n, scan) for n, scan in told if scan.doubt is not None]):
                doubts[one] = unsure
                told = [(n, scan) for n, scan in told if scan.doubt is None]
            _take(one, told, decision)

        few = are_few(pieces)
        there = frozenset(map(_SOURCE, pieces))
        for one in guards:
            if there.isdisjoint(one.sources):
                continue
            if few and one.is_cheap and _size(one, pieces, each=PIECE_CHARS) <= INLINE_CHARS:
                began = time.perf_counter()
                try:
                    told = for_a_moment(_told, one, pieces)
                except GaveUp:
                    work.append((one, partial(self._beside, one, pieces)))
                except Exception as error:  # noqa: BLE001 - a detector that fails must not let anything pass
                    decision.failed.append(Failed(one, type(error).__name__))
                else:
                    heard(one, told)
                decision.seconds.append((one, time.perf_counter() - began))
                if decision.is_over:
                    return
            else:
                work.append((one, partial(self._beside, one, pieces)))
        await self._all(work, heard, decision)

    async def _beside(self, one: CompiledGuard, pieces: Sequence[Piece]) -> _Told:
        # NB: of many texts nothing is done for each of them on the loop, not even to find out how long they are.
        size = _size(one, pieces) if are_few(pieces) else SHORT_CHARS + 1
        return await self.lane.run(_told, one, pieces, size=size)

    async def _redacted(self, pieces: Sequence[Piece], decision: Decision) -> Sequence[Piece]:
        """Give the pieces as those that ask are to see them. Raises Busy and TimeoutError."""
        if not decision.found:
            return pieces
        size = sum(len(piece.text) for piece in pieces) if are_few(pieces) else INLINE_CHARS + 1
        if size <= INLINE_CHARS:
            return self.redact(pieces, decision.found)
        async with asyncio.timeout(max(0.0, self.seconds_left())):
            return await self.lane.run(self.redact, pieces, tuple(decision.found), size=size)

    async def _asked(self, one: CompiledGuard, pieces: Sequence[Piece]) -> Sequence[Scan]:
        scans = await self.ask(one, pieces)
        if len(scans) != len(pieces):
            raise Unjudged(f"{len(scans)} of {len(pieces)} texts")
        return scans

    async def _all(
        self,
        work: Sequence[tuple[CompiledGuard, Callable[[], Awaitable[T]]]],
        heard: Callable[[CompiledGuard, T], None],
        decision: Decision,
    ) -> None:
        """Have all of them work together, until one ends it."""
        if not work:
            return
        tasks = {asyncio.ensure_future(self._in_time(one, begin, decision)): one for one, begin in work}
        waiting = set(tasks)
        try:
            while waiting and not decision.is_over:
                done, waiting = await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
                for task in done:
                    said = task.result()
                    if said is not None:
                        heard(tasks[task], said)
        finally:
            for task in waiting:
                task.cancel()
            if waiting:
                await asyncio.gather(*waiting, return_exceptions=True)

    async def _in_time(self, one: CompiledGuard, begin: Callable[[], Awaitable[T]], decision: Decision) -> T | None:
        began = time.perf_counter()
        deadline = asyncio.timeout(max(0.0, min(one.seconds, self.seconds_left())))
        try:
            async with deadline:
                return await begin()
        except TimeoutError as error:
            reason = "timeout" if deadline.expired() else type(error).__name__
            decision.failed.append(Failed(one, reason))
        except Busy:
            decision.failed.append(Failed(one, "busy"))
        except Exception as error:  # noqa: BLE001 - whatever it is: who cannot decide does not let it pass
            decision.failed.append(Failed(one, type(error).__name__))
        finally:
            decision.seconds.append((one, time.perf_counter() - began))
        return None


def _whole(pieces: Sequence[Piece], one: CompiledGuard) -> Iterable[int]:
    """Give the numbers of what somebody is asked about: parts of one text are that text."""
    return shown(one.guard, pieces, (n for n in choose(pieces, one.sources) if not pieces[n].is_part))


def are_few(pieces: Sequence[Piece]) -> bool:
    """Whether so many texts may be gone through on the loop, each of them."""
    return len(pieces) * PIECE_CHARS <= INLINE_CHARS


def _size(one: CompiledGuard, pieces: Iterable[Piece], *, each: int = 0) -> int:
    return sum(len(piece.text) + each for piece in pieces if piece.source in one.sources)


def _told(one: CompiledGuard, pieces: Sequence[Piece]) -> _Told:
    """Have its detector look at those of the pieces that it is about. Raises GaveUp, or what the detector raises."""
    mine = shown(one.guard, pieces, choose(pieces, one.sources))
    scans = _scanned(one, [pieces[number] for number in mine])
    told = [
        (number, of_it(one.guard, pieces[number], scan))
        for number, scan in zip(mine, scans, strict=True)
        if scan.findings or scan.doubt is not None
    ]
    return told_once(pieces, told)


def _scanned(one: CompiledGuard, texts: Sequence[Piece]) -> list[Scan]:
    """Have its detector look at these texts, at each text once. Raises GaveUp, or what the detector raises."""
    detector = one.detector
    if detector is None:
        return []
    known: dict[tuple[str, str, bool], Scan] = {}
    scans: list[Scan] = []
    for piece in texts:
        go_on()
        key = piece.text, piece.source, piece.escaped
        scan = known.get(key)
        if scan is None:
            scan = known[key] = _scan_of(one, detector, piece)
        scans.append(scan)
    return scans


def _scan_of(one: CompiledGuard, detector: Detector, piece: Piece) -> Scan:
    if not piece.escaped:
        return detector.scan(piece.text, piece.source)
    # NB: a client parses arguments; a model may be shown them as they are written.
    return scan_source(detector, piece.text, piece.source, as_written=one.stage is Stages.INPUT)


def _take(one: CompiledGuard, told: Iterable[tuple[int, Scan]], decision: Decision, *, later: bool = False) -> None:
    given = list(told)
    findings = tuple((number, finding) for number, scan in given for finding in scan.findings)
    if findings:
        message = next((scan.message for _, scan in given if scan.message), None)
        decision.found.append(Found(one, findings, later, message))


def _seen_so(
    told: Iterable[tuple[int, Scan]], pieces: Sequence[Piece], seen: Sequence[Piece]
) -> Iterator[tuple[int, Scan]]:
    """Give what was found in pieces by places of what became of them: all of one that has changed meanwhile."""
    for number, scan in told:
        text = seen[number].text
        if text != pieces[number].text:
            scan = replace(scan, findings=[replace(one, start=0, end=len(text)) for one in scan.findings])
        yield number, scan


def is_dear(one: CompiledGuard) -> bool:
    """Whether what it does is done beside the loop."""
    return one.detector is not None and one.detector.cost is Cost.DEAR
