"""The guards of a stage: the cheap before the dear before those that ask, each in its time, and one decision."""

import asyncio
import threading
import time
from collections.abc import AsyncIterator, Iterable, Sequence
from dataclasses import replace
from typing import Any

import pytest

from capstan_contract.guards import Action, OnError, Source
from capstan_contract.guards import Stage as Stages
from capstan_gateway.guards.patience import go_on
from capstan_gateway.guards.port import NOTHING, Cost, Finding, Scan
from capstan_gateway.life.threads import Busy
from capstan_gateway.pipeline.guards import stage
from capstan_gateway.pipeline.guards.compiled import CompiledGuard
from capstan_gateway.pipeline.guards.lanes import INLINE_CHARS, SHORT_CHARS, SHORT_THREADS, Lane, Lanes
from capstan_gateway.pipeline.guards.pieces import Piece, choose, pieces_of
from capstan_gateway.pipeline.guards.port import Case
from capstan_gateway.pipeline.guards.redaction import Redactor
from capstan_gateway.pipeline.guards.stage import PIECE_CHARS, Decision, Found, Stage
from capstan_gateway.pipeline.guards.told import blocked
from support.guards import Asked, Words, guard, piece
from support.wait import eventually

DEAR = Cost.DEAR


@pytest.fixture
async def threads() -> AsyncIterator[Lane]:
    """Where dear guards work."""
    lanes = Lanes()
    yield lanes.of("a tenant")
    lanes.close()


async def decide(
    threads: Lane, guards: Sequence[CompiledGuard], *pieces: Piece, seconds_left: float = 60.0
) -> Decision:
    """Have guards decide about these texts."""

    async def ask(one: CompiledGuard, given: Sequence[Piece]) -> Sequence[Scan]:
        assert one.asking is not None
        return await one.asking.judge(Case(stage=one.stage, ask=None, pieces=given))  # type: ignore[arg-type]

    async with asyncio.timeout(30):
        return await Stage(guards, threads, ask, Redactor().redacted, lambda: seconds_left).decide(pieces)


async def test_a_block_of_a_cheap_one_asks_nobody_else(threads: Lane) -> None:
    """What blocks at once keeps the dear ones, and those that ask, from being asked."""
    dear, asked = Words(["bad"], DEAR), Asked(["bad"])
    guards = [guard("asks", None, asked), guard("dear", dear), guard("cheap", Words(["bad"]))]
    decision = await decide(threads, guards, piece("a bad text"))
    assert decision.blocks is not None
    assert decision.blocks.guard.name == "cheap"
    assert (dear.texts, asked.cases) == ([], [])


async def test_dear_ones_work_beside_the_loop(threads: Lane) -> None:
    """A short text is looked at on the loop by the cheap alone; a long one is looked at beside it by all."""
    cheap, dear = Words(["bad"]), Words(["bad"], DEAR)
    await decide(threads, [guard("cheap", cheap), guard("dear", dear)], piece("good"))
    assert (cheap.on_loop, dear.on_loop) == ([True], [False])
    cheap.on_loop.clear()
    await decide(threads, [guard("cheap", cheap)], piece("g" * (INLINE_CHARS + 1)))
    assert cheap.on_loop == [False]


async def test_many_short_texts_are_as_long_as_a_long_one(threads: Lane) -> None:
    """Each text costs something beside its characters: thousands of them are not looked at on the loop."""
    cheap = Words(["bad"])
    await decide(threads, [guard("cheap", cheap)], *(piece(f"{n}") for n in range(INLINE_CHARS // PIECE_CHARS + 1)))
    assert set(cheap.on_loop) == {False}


async def test_of_many_texts_nothing_is_gone_through_on_the_loop(
    threads: Lane, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither to choose them nor to see what was found in them: a client would hold the loop with a list of letters."""
    on_loop: list[bool] = []

    def noted(pieces: Sequence[Piece], sources: frozenset[Source]) -> Iterable[int]:
        on_loop.append(threading.current_thread() is threading.main_thread())
        return choose(pieces, sources)

    monkeypatch.setattr(stage, "choose", noted)
    many = [piece(f"{n}") for n in range(INLINE_CHARS // PIECE_CHARS + 1)]
    decision = await decide(threads, [guard("cheap", Words(["7"])), guard("dear", Words(["x"], DEAR))], *many)
    assert [number for number, _ in decision.found[0].findings][:2] == [7, 17]
    assert set(on_loop) == {False}


async def test_a_block_of_a_dear_one_ends_the_others(threads: Lane) -> None:
    """The others are not waited for, and those in a thread stop at their next text."""
    going, go_on = threading.Event(), threading.Event()

    def wait() -> None:
        going.set()
        go_on.wait(30)

    slow, quick = Words(["bad"], DEAR, before=wait), Words(["bad"], DEAR, before=going.wait)
    try:
        decision = await decide(
            threads, [guard("slow", slow), guard("quick", quick)], piece("a bad text"), piece("another bad text")
        )
        assert [one.guard.name for one in decision.found] == ["quick"]
    finally:
        go_on.set()
    await threads.run(bool)
    await threads.run(bool)
    assert slow.texts == ["a bad text"]


async def test_who_asks_is_asked_together_and_cancelled_by_a_block(threads: Lane) -> None:
    """One that hangs does not keep another one's block waiting."""
    hangs, blocks = Asked(hangs=True), Asked(["bad"])
    decision = await decide(threads, [guard("hangs", None, hangs), guard("blocks", None, blocks)], piece("bad"))
    assert decision.blocks is not None
    assert (len(hangs.cases), hangs.cancelled) == (1, 1)


@pytest.mark.parametrize("on_error", OnError)
async def test_each_has_its_own_deadline(threads: Lane, on_error: OnError) -> None:
    """One that is too slow has failed by its own time; whether that closes says its guard. Others go on."""
    other = Asked(["bad"])
    guards = [guard("hangs", None, Asked(hangs=True), on_error=on_error, millis=20), guard("other", None, other)]
    decision = await decide(threads, guards, piece("good"))
    (failed,) = decision.failed
    assert (failed.guard.name, failed.reason, failed.closes) == ("hangs", "timeout", on_error is OnError.CLOSED)
    assert len(other.cases) == 1


async def test_the_deadline_of_the_request_is_above_all(threads: Lane) -> None:
    """When the request has no time left, nobody is asked for longer than that."""
    decision = await decide(threads, [guard("hangs", None, Asked(hangs=True))], piece("x"), seconds_left=0.02)
    assert [one.reason for one in decision.failed] == ["timeout"]


@pytest.mark.parametrize("cost", Cost)
async def test_a_detector_that_fails_has_not_decided(threads: Lane, cost: Cost) -> None:
    """What it raises is no permission: it is a failure of that guard, with the name of what was raised."""

    def fail() -> None:
        raise RuntimeError("broken")

    decision = await decide(threads, [guard("broken", Words([], cost, before=fail))], piece("x"))
    assert decision.closes is not None
    assert decision.closes.reason == "RuntimeError"


async def test_what_fails_while_asking_has_not_decided(threads: Lane) -> None:
    """Whatever it raises."""
    decision = await decide(threads, [guard("broken", None, Asked(raises=KeyError("x")))], piece("x"))
    assert decision.closes is not None


async def test_a_full_queue_is_a_failure() -> None:
    """When no thread is free and none may be waited for, the guard has not decided."""
    lanes, go_on = Lanes(queued=0), threading.Event()
    threads = lanes.of("a tenant")
    busy = [asyncio.create_task(threads.run(go_on.wait, 30)) for _ in range(SHORT_THREADS - 1)]
    await asyncio.sleep(0)
    try:
        decision = await decide(threads, [guard("dear", Words([], DEAR))], piece("x"))
        assert [one.reason for one in decision.failed] == ["busy"]
    finally:
        go_on.set()
        await asyncio.gather(*busy)
        lanes.close()


async def test_a_deadline_ends_the_work(threads: Lane) -> None:
    """A scan of one text that goes on and on ends soon after its guard's time, and leaves its thread to others."""

    def work() -> None:
        while True:
            go_on()

    decision = await decide(threads, [guard("slow", Words([], DEAR, before=work), millis=20)], piece("x"))
    assert [one.reason for one in decision.failed] == ["timeout"]
    # All threads that its tenant may have at once are free again.
    together = threading.Barrier(SHORT_THREADS - 1)
    await asyncio.gather(*(threads.run(together.wait, 30) for _ in range(SHORT_THREADS - 1)))


@pytest.mark.parametrize("long", [False, True])
async def test_a_tenant_holds_up_no_other_tenant(*, long: bool) -> None:
    """However many dear texts of one tenant are looked at, short or long, another tenant's is looked at as well."""
    lanes, open_ = Lanes(), threading.Event()
    text = piece("x" * (SHORT_CHARS + 1) if long else "x")
    slow = guard("slow", Words([], DEAR, before=lambda: open_.wait(30)), millis=30_000)
    first = [asyncio.create_task(decide(lanes.of("a"), [slow], text)) for _ in range(8)]
    await asyncio.sleep(0.01)
    try:
        decision = await decide(lanes.of("b"), [guard("quick", Words(["x"], DEAR))], text)
        assert [one.guard.name for one in decision.found] == ["quick"]
    finally:
        open_.set()
        await asyncio.gather(*first)
        lanes.close()


async def test_long_texts_hold_up_no_short_ones() -> None:
    """While all long texts that may be looked at are, a short one of the same tenant is looked at too."""
    lanes, open_ = Lanes(), threading.Event()
    slow = guard("slow", Words([], DEAR, before=lambda: open_.wait(30)), millis=30_000)
    long = piece("x" * (SHORT_CHARS + 1))
    first = [asyncio.create_task(decide(lanes.of("a"), [slow], long)) for _ in range(8)]
    await asyncio.sleep(0.01)
    try:
        decision = await decide(lanes.of("a"), [guard("quick", Words(["x"], DEAR))], piece("x"))
        assert len(decision.found) == 1
    finally:
        open_.set()
        await asyncio.gather(*first)
        lanes.close()


async def test_a_text_that_holds_the_loop_is_looked_at_beside_it(threads: Lane) -> None:
    """A cheap guard that takes longer than a moment for a short text leaves the loop, and what it finds counts once."""

    def work() -> None:
        while threading.current_thread() is threading.main_thread():
            go_on()

    words = Words(["bad"], before=work)
    decision = await decide(threads, [guard("cheap", words)], piece("bad"))
    assert words.on_loop == [True, False]
    assert [len(one.findings) for one in decision.found] == [1]
    assert [one.name for one, _ in decision.seconds].count("cheap") == 2


async def test_many_small_texts_do_not_hold_the_loop(threads: Lane) -> None:
    """Between two texts it is asked whether the loop was held for long enough."""

    def work() -> None:
        if threading.current_thread() is threading.main_thread():
            time.sleep(0.003)  # Longer than the moment that the loop is held for.

    words = Words(["b"], before=work)
    decision = await decide(threads, [guard("cheap", words)], *(piece(f"b{number}") for number in range(50)))
    assert len(words.on_loop) == 51
    assert sum(words.on_loop) == 1
    assert [len(one.findings) for one in decision.found] == [50]


async def test_what_is_shown_of_long_texts_is_redacted_beside_the_loop(threads: Lane) -> None:
    """Who asks waits for the redaction of a long text; the loop does not."""
    on_loop: list[bool] = []

    def redact(pieces: Sequence[Piece], found: Sequence[Found]) -> Sequence[Piece]:
        on_loop.append(threading.current_thread() is threading.main_thread())
        return pieces

    async def ask(one: CompiledGuard, given: Sequence[Piece]) -> Sequence[Scan]:
        return [Scan() for _ in given]

    guards = [guard("warns", Words(["bad"]), action=Action.WARN), guard("asks", None, Asked())]
    for size in (0, INLINE_CHARS):
        await Stage(guards, threads, ask, redact, lambda: 60.0).decide([piece("bad" + "x" * size)])
    assert on_loop == [True, False]


async def test_doubts_are_asked_about_and_nothing_else(threads: Lane) -> None:
    """Who has a detector and somebody to ask asks about the texts that the detector is in doubt of; what that one says
    stands in its place."""
    asked = Asked(["maybe worse"])
    one = guard("both", Words(["bad", "maybe"], doubtful=["maybe"]), asked)
    decision = await decide(threads, [one], piece("good"), piece("maybe"), piece("maybe worse"))
    assert [piece.text for case in asked.cases for piece in case.pieces] == ["maybe", "maybe worse"]
    assert [number for found in decision.found for number, _ in found.findings] == [2]


async def test_without_doubt_nobody_is_asked(threads: Lane) -> None:
    """What the detector knows needs no second opinion."""
    asked = Asked()
    decision = await decide(threads, [guard("both", Words(["bad"]), asked)], piece("bad"), piece("good"))
    assert decision.blocks is not None
    assert asked.cases == []


async def test_who_cannot_be_asked_leaves_what_the_detector_takes_it_for(threads: Lane) -> None:
    """A guard that may fail open goes by its detector when whom it asks fails."""
    broken = Asked(raises=OSError())
    one = guard("both", Words(["maybe"], doubtful=["maybe"]), broken, on_error=OnError.OPEN)
    decision = await decide(threads, [one], piece("maybe"))
    assert decision.blocks is not None
    assert decision.closes is None


async def test_who_asks_sees_what_is_redacted(threads: Lane) -> None:
    """What others redact is not shown to whom a guard asks."""
    asked = Asked()
    guards = [guard("hides", Words(["secret"]), action=Action.REDACT), guard("asks", None, asked)]
    await decide(threads, guards, piece("a secret"))
    (shown,) = asked.cases[0].pieces
    assert "secret" not in shown.text


@pytest.mark.parametrize("given", [0, 1, 3])
async def test_who_does_not_judge_each_text_has_not_judged(threads: Lane, given: int) -> None:
    """A guard that gives fewer scans than it was shown texts, or more, has failed: nothing passes for that."""

    class Few:
        async def judge(self, case: Case) -> Sequence[Scan]:
            return [NOTHING] * given

    decision = await decide(threads, [guard("few", None, Few())], piece("a"), piece("b"))
    assert decision.closes is not None
    assert (decision.closes.guard.name, decision.closes.reason) == ("few", "Unjudged")


async def test_what_holds_of_a_doubt_is_redacted_where_it_stands(threads: Lane) -> None:
    """Where a doubt cannot be asked about, what holds of it is redacted, also in a text that another has changed."""
    doubtful = Words(["attack"], doubtful=["attack"])
    guards = [
        guard("hides", Words(["secret"]), action=Action.REDACT),
        guard("doubts", doubtful, Asked(raises=OSError("down")), action=Action.REDACT, on_error=OnError.OPEN),
        guard("asks", None, Asked(["bad"]), action=Action.REDACT),
    ]
    texts = [piece("secret attack bad"), piece("an attack, bad")]
    decision = await decide(threads, guards, *texts)
    changed, other = Redactor().rewritten(texts, decision.found)
    assert not any(word in changed.text for word in ("secret", "attack", "bad"))
    assert not any(word in other.text for word in ("attack", "bad"))
    assert other.text.startswith("an [")


async def test_sources_that_a_guard_is_not_for_are_not_shown(threads: Lane) -> None:
    """Each guard sees the texts of its own sources."""
    words, asked = Words(["x"]), Asked()
    guards = [guard("own", words, sources=[Source.USER]), guard("asks", None, asked, sources=[Source.DOCUMENTS])]
    await decide(threads, guards, piece("u", Source.USER), piece("s", Source.SYSTEM), piece("d", Source.DOCUMENTS))
    assert words.texts == ["u"]
    assert [one.text for one in asked.cases[0].pieces] == ["d"]


async def test_the_first_of_the_policy_is_told(threads: Lane) -> None:
    """Of several that block, the client is told the first in the policy's order, whoever was quicker."""
    guards = [guard("first", Words(["bad"], DEAR)), guard("second", Words(["bad"], DEAR))]
    decision = Decision()
    for _ in range(5):
        decision = await decide(threads, guards, piece("bad"))
        names = [one.guard.name for one in decision.found]
        assert names == sorted(names)
    assert decision.blocks is not None


async def test_a_text_that_comes_twice_is_looked_at_once(threads: Lane) -> None:
    """In one request; both places are found."""
    words = Words(["bad"])
    decision = await decide(threads, [guard("one", words)], piece("bad"), piece("bad"))
    assert words.texts == ["bad"]
    assert [number for number, _ in decision.found[0].findings] == [0, 1]


async def test_who_gives_up_leaves_nothing_behind(threads: Lane) -> None:
    """A request that is cancelled cancels everybody that it asks."""
    hangs = Asked(hangs=True)
    task = asyncio.create_task(decide(threads, [guard("hangs", None, hangs)], piece("x")))
    await eventually(lambda: bool(hangs.cases), what="the question")
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert hangs.cancelled == 1


@pytest.mark.parametrize("stage", list(Stages))
async def test_arguments_are_looked_at_as_they_are_read(threads: Lane, stage: Stages) -> None:
    """A word that is written with escapes is found where it stands in the source, in requests and in answers."""
    text = r'{"a":"\n\u0062ad"}'
    found = await decide(threads, [guard("words", Words(["bad"]), stage=stage)], replace(piece(text), escaped=True))
    ((_, one),) = found.found[0].findings
    assert text[one.start : one.end] == r"\u0062ad"


async def test_one_text_that_is_read_in_two_ways_is_looked_at_in_both(threads: Lane) -> None:
    """As it stands in a message, and as who parses it reads it in the arguments of a call."""
    text = r"b\u006fmb"
    texts = [piece(text), replace(piece(text), escaped=True)]
    decision = await decide(threads, [guard("one", Words(["bomb"]))], *texts)
    assert [(number, one.start, one.end) for number, one in decision.found[0].findings] == [(1, 0, len(text))]


@pytest.mark.parametrize("stage", list(Stages))
async def test_what_is_written_is_looked_at_where_a_model_reads_it(threads: Lane, stage: Stages) -> None:
    """A request's arguments are shown to a model as they are written; those of an answer somebody parses."""
    given = replace(piece(r"b\u006fmb"), escaped=True)
    decision = await decide(threads, [guard("one", Words(["u006f"]), stage=stage)], given)
    assert bool(decision.found) is (stage is Stages.INPUT)


async def test_what_holds_of_a_doubt_is_told_by_places_of_the_text_as_it_is_then(threads: Lane) -> None:
    """All of a text that another guard has changed meanwhile: it is shorter, or longer, than the one that was seen."""
    doubtful = Words(["attack"], doubtful=["attack"])
    guards = [
        guard("hides", Words(["a very long secret"]), action=Action.REDACT),
        guard("doubts", doubtful, Asked(raises=OSError("down")), action=Action.REDACT, on_error=OnError.OPEN),
    ]
    text = piece("an attack, a very long secret and a very long secret")
    decision = await decide(threads, guards, text)
    (found,) = [one for one in decision.found if one.later]
    ((_, finding),) = found.findings
    seen = Redactor().redacted([text], [one for one in decision.found if not one.later])[0].text
    assert (finding.start, finding.end) == (0, len(seen))


async def test_parts_of_a_text_are_asked_about_once(threads: Lane) -> None:
    """Who is asked is shown the whole text, and not its parts as well."""
    asked = Asked()
    found = pieces_of(
        {"messages": [{"role": "user", "content": [{"type": "text", "text": one} for one in ("ab", "cd")]}]}
    )
    await decide(threads, [guard("asks", None, asked)], *found.texts)
    assert [one.text for case in asked.cases for one in case.pieces] == ["abcd"]


@pytest.mark.parametrize("on_error", OnError)
async def test_where_there_is_no_room_to_redact_nobody_is_asked(threads: Lane, on_error: OnError) -> None:
    """Who would be asked has not decided; what the detector took its doubt for holds."""

    class Full(Lane):
        async def run(self, work: Any, *arguments: Any, size: int = 0) -> Any:
            if work is redact:
                raise Busy
            return await threads.run(work, *arguments, size=size)

    def redact(pieces: Sequence[Piece], found: Sequence[Found]) -> Sequence[Piece]:
        raise AssertionError((pieces, found))

    async def ask(one: CompiledGuard, given: Sequence[Piece]) -> Sequence[Scan]:
        raise AssertionError((one, given))

    guards = [
        guard("warns", Words(["bad"]), action=Action.WARN),
        guard("doubts", Words(["maybe"], doubtful=["maybe"]), Asked(), on_error=on_error),
    ]
    judging = Stage(guards, Full(threads.lanes, "a tenant"), ask, redact, lambda: 60.0)
    decision = await judging.decide([piece("bad maybe" + "x" * INLINE_CHARS)])
    assert [(one.guard.name, one.reason) for one in decision.failed] == [("doubts", "busy")]
    assert (decision.closes is not None) is (on_error is OnError.CLOSED)
    assert decision.blocks is not None
    assert decision.blocks.guard.name == "doubts"


async def test_there_is_no_time_to_redact_behind_the_requests_deadline(threads: Lane) -> None:
    """Who would be asked has not decided then."""

    class Slow(Lane):
        async def run(self, work: Any, *arguments: Any, size: int = 0) -> Any:
            if work is redact:
                await asyncio.Event().wait()
            return await threads.run(work, *arguments, size=size)

    def redact(pieces: Sequence[Piece], found: Sequence[Found]) -> Sequence[Piece]:
        raise AssertionError((pieces, found))

    async def ask(one: CompiledGuard, given: Sequence[Piece]) -> Sequence[Scan]:
        raise AssertionError((one, given))

    guards = [guard("warns", Words(["bad"]), action=Action.WARN), guard("asks", None, Asked())]
    left = iter((60.0,))  # For the one that warns; then there is hardly any.
    judging = Stage(guards, Slow(threads.lanes, "a tenant"), ask, redact, lambda: next(left, 0.05))
    decision = await judging.decide([piece("bad" + "x" * INLINE_CHARS)])
    assert ("asks", "timeout") in [(one.guard.name, one.reason) for one in decision.failed]


async def test_what_is_said_of_redacted_texts_is_told_to_be(threads: Lane) -> None:
    """Who is asked says where something is in what it was shown: that is redacted behind what was redacted before."""
    guards = [
        guard("hides", Words(["secret"]), action=Action.REDACT),
        guard("asks", None, Asked(["bad"]), action=Action.REDACT),
    ]
    text = piece("a secret, a secret, and bad")
    decision = await decide(threads, guards, text)
    assert [(one.guard.name, one.later) for one in decision.found] == [("hides", False), ("asks", True)]
    (changed,) = Redactor().rewritten([text], decision.found)
    assert changed.text == "a [SECRET_1], a [SECRET_1], and [BAD_1]"


def test_of_what_one_guard_has_found_the_severest_counts() -> None:
    """A block before what is replaced, and that before a warning."""
    found = [(0, Finding(kind, 0, 1, action=kind)) for kind in (Action.WARN, Action.REDACT, Action.BLOCK)]
    one = guard("one", Words([]))
    assert [Found(one, tuple(found[:count])).action for count in (1, 2, 3)] == [
        Action.WARN,
        Action.REDACT,
        Action.BLOCK,
    ]


def test_what_a_client_is_told_of_a_block() -> None:
    """The words of the policy, else those of who has judged, else which guard it was."""
    plain = guard("one", Words([]))
    said = replace(plain, guard=plain.guard.model_copy(update={"message": "ask the desk"}))
    assert blocked(said, said="by the service").message == "ask the desk"
    assert blocked(plain, said="by the service").message == "by the service"
    assert "`one`" in blocked(plain).message
